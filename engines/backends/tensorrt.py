"""TensorRT through torch_tensorrt: ONNX -> torch -> `torch.export` -> one compiled engine.

Works with `torch-tensorrt-rtx` (RTX cards, all from the index; what the extra installs) and with `torch-tensorrt`,
which share the module name; both need exactly their torch minor version. Needs fixed shapes: dynamic axes are 1.
Precision is a matter of the weights' type ("strong typing"), so fp16 means a module in half.
"""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch_tensorrt

from engines import golden
from engines.backends.torch import DTYPES, tensor_specs, to_array, to_device
from engines.devices import cuda_card
from engines.errors import EngineError
from engines.model_file import ModelFile
from engines.onnx_module import OnnxModule
from engines.program import Program
from engines.protocol import FULL, EngineInfo, Placement, TensorSpec, contiguous_inputs, with_shapes
from engines.recorded import RecordedModule
from engines.typed import Typed
from engines.whole_graph import left_over


class TensorRtEngine:
    """One model compiled as a whole: a graph of which a part would fall back to torch is refused."""

    def __init__(self, model: ModelFile, placement: Placement, blob: bytes = b"") -> None:
        """Compile (minutes, once), or load what `compiled` gave. Dynamic axes that the placement gives no size are 1.

        Raises:
            EngineError: no card, or the model does not compile as a whole.
        """
        self.info = _info(model, placement)
        self._device, self._dtype = torch.device(placement.device), DTYPES[placement.precision]
        self._blob = blob
        inputs, self.outputs = tensor_specs(model)
        fixed = with_shapes(model.name, inputs, placement.shapes)
        self.inputs: Mapping[str, TensorSpec] = {
            name: TensorSpec(tuple(n or 1 for n in spec.shape), spec.dtype) for name, spec in fixed.items()
        }
        with _refused(model.name):
            self._module = _load_whole(blob) if blob else self._compile(model)

    @staticmethod
    def fingerprint(device: str) -> dict[str, str]:
        card = cuda_card(device)
        if not torch.cuda.is_available():
            raise EngineError(f"torch {torch.__version__} can't use {card.name}: expected a CUDA build.")
        return {
            "torch": torch.__version__,
            "torch_tensorrt": torch_tensorrt.__version__,
            "device_name": card.name,
            "capability": card.capability,
            "driver": card.driver,
        }

    @staticmethod
    def fast_precision(device: str) -> str:
        """Always fp32: no card has been measured."""
        return FULL

    def compiled(self) -> bytes:
        return self._blob

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._module is None:
            raise EngineError(f"{self.info.model}: run after close.")
        checked = contiguous_inputs(self.info.model, self.inputs, arrays)
        try:
            with torch.inference_mode():
                results = self._module(*self._tensors(checked))
                results = results if isinstance(results, (tuple, list)) else (results,)
                return {
                    name: to_array(result, spec)
                    for (name, spec), result in zip(self.outputs.items(), results, strict=True)
                }
        except RuntimeError as exc:
            raise EngineError(f"TensorRT failed in {self.info.model}: {' '.join(str(exc).split())[:300]}") from exc

    def close(self) -> None:
        self._module = None

    def _tensors(self, arrays: Mapping[str, np.ndarray]) -> Sequence[torch.Tensor]:
        return [to_device(arrays[name], self._device, self._dtype) for name in self.inputs]

    def _compile(self, model: ModelFile) -> torch.nn.Module:
        module = OnnxModule(model).eval().requires_grad_(False).to(self._device, self._dtype)
        example = tuple(self._tensors(golden.seeded_inputs(self.inputs)))
        with torch.no_grad():
            module.fix(*example)
        compiled, self._blob = _compile_whole(model.name, module, example)
        return compiled


class TensorRtProgram:
    """One program compiled as a whole; see `TensorRtEngine`.

    It is launched anew for each run. Outputs are cast after the engine (TensorRT writes no uint8), still on the card.
    """

    def __init__(self, model: Program, placement: Placement, blob: bytes = b"") -> None:
        """Compile (minutes, once), or load what `compiled` gave; in fp32, a program has its own shapes.

        Raises:
            EngineError: no card, or the program does not compile as a whole.
        """
        self.info = _info(model, placement)
        place = torch.device(placement.device)
        self.inputs, self.outputs, self._blob = model.inputs, model.outputs, blob
        with _refused(model.name):
            if blob:
                compiled = _load_whole(blob)
            else:
                example = tuple(to_device(model.golden[name], place, torch.float32) for name in model.inputs)
                module = copy.deepcopy(model.module).eval().requires_grad_(False).to(place)
                # Positions of pixels need all bits of a float: tf32 has eleven.
                compiled, self._blob = _compile_whole(model.name, module, example, disable_tf32=True)
            typed = Typed(compiled, [spec.dtype for spec in self.outputs.values()])
            self.recorded = RecordedModule(typed, model.golden, list(self.outputs), place, is_recorded=False)

    fingerprint = staticmethod(TensorRtEngine.fingerprint)

    def compiled(self) -> bytes:
        return self._blob

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.recorded is None:
            raise EngineError(f"{self.info.model}: run after close.")
        checked = contiguous_inputs(self.info.model, self.inputs, arrays)
        try:
            return self.recorded.run(checked)
        except RuntimeError as exc:
            raise EngineError(f"TensorRT failed in {self.info.model}: {' '.join(str(exc).split())[:300]}") from exc

    def close(self) -> None:
        self.recorded = None


def _info(model: ModelFile | Program, placement: Placement) -> EngineInfo:
    """EngineError where there is no card."""
    return EngineInfo(
        backend="tensorrt",
        device=placement.device,
        precision=placement.precision,
        model=model.name,
        version=f"torch_tensorrt {torch_tensorrt.__version__}",
        device_name=TensorRtEngine.fingerprint(placement.device)["device_name"],
        metadata=model.metadata,
    )


@contextlib.contextmanager
def _refused(model: str):
    """Whatever the compiler throws (it has no common error type) means that this engine is not to be had."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError, OSError) as exc:
        if isinstance(exc, EngineError):
            raise
        raise EngineError(f"TensorRT can't load {model}: {' '.join(str(exc).split())[:300]}") from exc


def _compile_whole(
    name: str, module: torch.nn.Module, example: tuple[torch.Tensor, ...], **settings: bool
) -> tuple[torch.nn.Module, bytes]:
    """The compiled module and what is kept of it; EngineError where a part would fall back to torch."""
    with torch.no_grad():
        program = torch.export.export(module, example)
    compiled = torch_tensorrt.dynamo.compile(
        program, arg_inputs=list(example), require_full_compilation=True, min_block_size=1, **settings
    )
    if rest := left_over(compiled):
        raise EngineError(f"TensorRT did not take {name} as a whole: {', '.join(rest)} stayed outside.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine.ep"
        torch_tensorrt.save(compiled, str(path), arg_inputs=list(example))
        return compiled, path.read_bytes()


def _load_whole(blob: bytes) -> torch.nn.Module:
    """From our own cache only, whose checksum was compared before."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine.ep"
        path.write_bytes(blob)
        return torch_tensorrt.load(str(path)).module()
