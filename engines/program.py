"""Networks that are made while the program runs, from a picture for instance, rather than read from a file.

They go the way of model files: the same backends, cache, golden check and order.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.cache import CacheKey, EngineCache
from engines.errors import EngineError
from engines.golden import Golden
from engines.model_file import ModelFile
from engines.protocol import TensorSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Program:
    """A torch module of fixed shapes with its identity.

    `module` is on the CPU and takes and gives float32 tensors in the order of `inputs` and `outputs`; what an output's
    spec says otherwise (uint8) is cast after it. It is not changed. `code` identifies what made it: the same code and
    the same buffers are the same program. `golden` is an input by name whose answer every engine must give.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    golden: Mapping[str, np.ndarray]
    code: str
    metadata: Mapping[str, str]

    @functools.cached_property
    def sha256(self) -> str:
        """Of the code's identity and all buffers."""
        digest = hashlib.sha256(self.code.encode())
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def input_elements(self) -> int:
        """Size of the largest tensor that goes in or out: what decides whether a card is worth it."""
        return max(math.prod(spec.shape) for spec in (*self.inputs.values(), *self.outputs.values()))

    def reference(self) -> Golden:
        """What torch answers to the golden input on the CPU."""
        import torch

        with torch.no_grad():
            results = self.typed()(*(torch.from_numpy(self.golden[name]) for name in self.inputs))
        results = results if isinstance(results, tuple) else (results,)
        outputs = {name: r.numpy() for name, r in zip(self.outputs, results, strict=True)}
        return Golden(self.golden, outputs, f"torch {torch.__version__} on cpu")

    def typed(self) -> nn.Module:
        """The module with its outputs in the types that their specs say."""
        from engines.typed import Typed

        return Typed(self.module, [spec.dtype for spec in self.outputs.values()])


@contextlib.contextmanager
def as_file(program: Program, cache: EngineCache, *, is_needed: bool) -> Iterator[ModelFile]:
    """The program as an ONNX file while this lasts, for libraries that read files; exported once and kept.

    `is_needed` False: what is known of it without a file.

    Raises:
        EngineError: it can't be exported.
    """
    about = {"sha256": program.sha256, "input_elements": program.input_elements, "metadata": program.metadata}
    if not is_needed:
        yield ModelFile(path=Path(f"{program.name}.onnx"), size_bytes=0, opset=0, **about)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{program.name}.onnx"
        path.write_bytes(onnx_bytes(program, cache))
        read = ModelFile.read(path)
        yield ModelFile(path=path, size_bytes=read.size_bytes, opset=read.opset, **about)


def onnx_bytes(program: Program, cache: EngineCache) -> bytes:
    """The program as ONNX: from the cache, or exported, compared with torch and kept there.

    Raises:
        EngineError: it can't be exported (the `train` extra is missing, an operator is unknown).
    """
    try:
        import onnx
        import onnxscript
        import torch
    except ImportError as exc:
        raise EngineError(
            f'{program.name} can\'t be exported ({exc}). Install with: pip install "puppet-portrait[train]"'
        ) from exc
    from engines.export import OPSET, export_onnx

    key = CacheKey(
        model=program.name,
        model_sha256=program.sha256,
        backend="onnx",
        device="cpu",
        precision="fp32",
        shapes={name: spec.shape for name, spec in program.inputs.items()},
        threads=0,
        fingerprint={"torch": torch.__version__, "onnx": onnx.__version__, "onnxscript": onnxscript.__version__},
    )
    if (kept := cache.get(key)) is not None:
        return kept[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{program.name}.onnx"
        example = {name: torch.from_numpy(program.golden[name]) for name in program.inputs}
        worst = export_onnx(
            program.typed(), example, list(program.outputs), path, metadata=program.metadata, dynamic_batch=False
        )
        data = path.read_bytes()
    cache.put(key, data, {"reference": f"torch {torch.__version__} on cpu", "max_error": worst, "opset": OPSET})
    return data
