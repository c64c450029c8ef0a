"""A golden input beside an exported texture network: crops of people kept from training, and what it answers to them.

`engines` refuses an engine that answers it otherwise. Made-up numbers, which would serve where no golden file lies,
drive such a network far from where pictures do, and refuse lower precisions that pictures bear.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from trainer.texture_data import Batch


def write_golden(stem: Path, batch: Batch) -> Path:
    """`<stem>_paint.golden.npz` for the two files of `stem`, by ONNX Runtime in fp32; the batch is the program's."""
    features = _run(f"{stem}_portrait.onnx", {"rest": batch.rest})
    inputs = {"moved": batch.moved, "actions": batch.actions, **features}
    outputs = _run(f"{stem}_paint.onnx", inputs)
    path = stem.parent / f"{stem.name}_paint.golden.npz"
    np.savez_compressed(
        path, **{f"in:{n}": a for n, a in inputs.items()}, **{f"out:{n}": a for n, a in outputs.items()}
    )
    return path


def _run(path: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))
