"""A golden input through a new engine, against a reference: an engine that answers wrongly is refused.

The reference is `MODEL.golden.npz` beside the model (arrays `in:NAME` and `out:NAME`, as the trainer wrote them from
the network itself), else ONNX Runtime in fp32 on the CPU with seeded inputs.
"""

from __future__ import annotations

import math
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.errors import EngineError, RefusedError
from engines.model_file import ModelFile
from engines.protocol import Engine, TensorSpec

MAX_GOLDEN_BYTES = 1 << 28
TOLERANCE = {"fp32": 2 / 255, "fp16": 4 / 255, "bf16": 4 / 255}
"""Largest error as a share of the output's own range (at least 1); metadata `tolerance_fp16` in a model overrides."""

MEASURED_S = 0.2  # of a start, spent on saying how fast an engine is


@dataclass(frozen=True)
class Golden:
    """Inputs with the outputs they must give."""

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    source: str  # "small.golden.npz", "onnxruntime 1.31.1 on cpu"


def seeded_inputs(specs: Mapping[str, TensorSpec]) -> dict[str, np.ndarray]:
    """Always the same arrays: floats in 0-1, integers in 0-255 of their type; dynamic axes are 1."""
    random = np.random.default_rng(20)
    arrays = {}
    for name in sorted(specs):
        shape, dtype = tuple(n or 1 for n in specs[name].shape), specs[name].dtype
        if dtype.kind == "f":
            arrays[name] = random.random(shape).astype(dtype)
        else:
            arrays[name] = random.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)
    return arrays


def golden_path(model: ModelFile) -> Path:
    """Where a model's golden file lies, if it has one."""
    return model.path.with_suffix(".golden.npz")


def golden_for(model: ModelFile, specs: Mapping[str, TensorSpec], reference: Callable[[], Engine]) -> Golden:
    """The reference answer; `reference` is called only where no file lies beside the model.

    Raises:
        EngineError: the golden file is damaged, or the reference does not run.
    """
    path = golden_path(model)
    if path.exists():
        try:
            _refuse_bomb(path)
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, LookupError, RuntimeError, zipfile.BadZipFile, zlib.error) as exc:
            raise EngineError(f"golden file {path} can't be read ({exc}). Export the model again.") from exc
        return Golden(
            {name[3:]: a for name, a in arrays.items() if name.startswith("in:")},
            {name[4:]: a for name, a in arrays.items() if name.startswith("out:")},
            path.name,
        )
    engine = reference()
    inputs = seeded_inputs(specs)
    outputs = engine.run(inputs)
    source = f"{engine.info.version} on {engine.info.device}"
    engine.close()
    return Golden(inputs, outputs, source)


def _refuse_bomb(path: Path) -> None:
    """ValueError where the arrays, unpacked, or what their headers claim, is absurdly large."""
    with zipfile.ZipFile(path) as archive:
        total = sum(member.file_size for member in archive.infolist())
        if total > MAX_GOLDEN_BYTES:
            raise ValueError(f"{total >> 20} MB unpacked, expected at most {MAX_GOLDEN_BYTES >> 20}")
        for member in archive.infolist():
            with archive.open(member) as file:
                if np.lib.format.read_magic(file) != (1, 0):
                    raise ValueError(f"{member.filename} is no array of this version")
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if math.prod(shape) * dtype.itemsize > member.file_size:
                raise ValueError(f"{member.filename} claims more than it has")


def check(engine: Engine, golden: Golden, model: ModelFile) -> dict[str, object]:
    """Run the golden input; the record that goes into the cache.

    Raises:
        RefusedError: an output is missing, misshapen, not finite, or further off than the tolerance.
    """
    precision = engine.info.precision
    tolerance = _tolerance(model, precision)
    outputs = engine.run(golden.inputs)
    worst = 0.0
    for name, expected in golden.outputs.items():
        found = outputs.get(name)
        if found is None or found.shape != expected.shape:
            shape = "missing" if found is None else str(found.shape)
            raise RefusedError(f"refused: output {name!r} is {shape}: expected {expected.shape} as in {golden.source}.")
        if not np.isfinite(found).all():
            raise RefusedError(f"refused: output {name!r} is not finite, against {golden.source}.")
        scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
        worst = max(worst, float(np.abs(found.astype(np.float64) - expected).max(initial=0.0)) / scale)
        if worst > tolerance:
            raise RefusedError(
                f"refused: output {name!r} is off by {worst:.4f} of its range in {precision}: "
                f"expected at most {tolerance:.4f}, against {golden.source}."
            )
    return {"reference": golden.source, "max_error": worst, "tolerance": tolerance}


def measure_ms(
    engine: Engine, inputs: Mapping[str, np.ndarray], *, runs: int = 5, within_s: float = MEASURED_S
) -> float:
    """Median milliseconds of one `run` after a first one to warm up; fewer runs, at least one, of a slow engine."""
    engine.run(inputs)
    times: list[float] = []
    while len(times) < runs and sum(times) < within_s:
        start = time.perf_counter()
        engine.run(inputs)
        times.append(time.perf_counter() - start)
    return 1000.0 * float(np.median(times))


def _tolerance(model: ModelFile, precision: str) -> float:
    text = model.metadata.get(f"tolerance_{precision}", "")
    try:
        value = float(text) if text else TOLERANCE[precision]
    except ValueError:
        value = -1.0
    if not 0.0 < value < 1.0:
        raise EngineError(f"model {model.name}: tolerance_{precision}={text!r} in its metadata: expected 0 to 1.")
    return value
