"""Plain torch: for NVIDIA cards without TensorRT, and the last resort on a CPU.

It runs the same ONNX file as the others, turned into a module by `engines.onnx_module`.
"""

from __future__ import annotations

import contextlib
import copy
import platform
from collections.abc import Mapping

import numpy as np
import onnx
import torch

from engines.devices import cuda_card
from engines.errors import EngineError
from engines.model_file import ModelFile
from engines.onnx_module import OnnxModule, reading
from engines.program import Program
from engines.protocol import FULL, EngineInfo, Placement, TensorSpec, contiguous_inputs, with_shapes

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class TorchEngine:
    """One model in eager torch."""

    def __init__(self, model: ModelFile, placement: Placement, blob: bytes = b"") -> None:
        """Load; weights and arithmetic are in the placement's precision, its shapes are only checked.

        `blob` is always empty: there is nothing compiled.

        Raises:
            EngineError: the device is not there, or an operator that has no counterpart.
        """
        self.info = _info(model, placement)
        self._device, self._dtype = torch.device(placement.device), DTYPES[placement.precision]
        self._module = OnnxModule(model).eval().requires_grad_(False).to(self._device, self._dtype)
        inputs, self.outputs = tensor_specs(model)
        self.inputs: Mapping[str, TensorSpec] = with_shapes(model.name, inputs, placement.shapes)

    @staticmethod
    def fingerprint(device: str) -> dict[str, str]:
        if device == "cpu":
            return {"torch": torch.__version__, "device_name": platform.processor() or platform.machine()}
        card = cuda_card(device)
        if not torch.cuda.is_available():
            raise EngineError(
                f"torch {torch.__version__} can't use {card.name}: expected a CUDA build. "
                "Install one as https://pytorch.org/get-started says."
            )
        return {
            "torch": torch.__version__,
            "device_name": card.name,
            "capability": card.capability,
            "driver": card.driver,
        }

    @staticmethod
    def fast_precision(device: str) -> str:
        """Always fp32: on CPUs bf16 and fp16 are slower, and no card has been measured."""
        return FULL

    def compiled(self) -> bytes:
        return b""

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._module is None:
            raise EngineError(f"{self.info.model}: run after close.")
        checked = contiguous_inputs(self.info.model, self.inputs, arrays)
        # Torch has one setting a thread for all models.
        if self.info.threads and torch.get_num_threads() != self.info.threads:
            torch.set_num_threads(self.info.threads)
        with torch.inference_mode(), translated(self.info.model):
            tensors = [to_device(checked[name], self._device, self._dtype) for name in self._module.input_names]
            results = self._module(*tensors)
            return {
                name: to_array(result, self.outputs[name])
                for name, result in zip(self._module.output_names, results, strict=True)
            }

    def close(self) -> None:
        self._module = None


class TorchProgram:
    """One program in eager torch; on a card recorded as a CUDA graph."""

    def __init__(self, model: Program, placement: Placement, blob: bytes = b"") -> None:
        """Load, in fp32; a program has its own shapes.

        Raises:
            EngineError: the device is not there, or the program can't be recorded on it.
        """
        self.info = _info(model, placement)
        place = torch.device(placement.device)
        self._typed = copy.deepcopy(model.typed()).eval().to(place)
        self.inputs, self.outputs = model.inputs, model.outputs
        self.recorded = None
        if place.type == "cuda":
            from engines.recorded import RecordedModule

            with translated(model.name):
                self.recorded = RecordedModule(self._typed, model.golden, list(self.outputs), place)

    fingerprint = staticmethod(TorchEngine.fingerprint)

    def compiled(self) -> bytes:
        return b""

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._typed is None:
            raise EngineError(f"{self.info.model}: run after close.")
        checked = contiguous_inputs(self.info.model, self.inputs, arrays)
        with translated(self.info.model):
            if self.recorded is not None:
                return self.recorded.run(checked)
            if torch.get_num_threads() != self.info.threads:
                torch.set_num_threads(self.info.threads)
            with torch.inference_mode():
                results = self._typed(*(to_device(checked[n], torch.device("cpu"), torch.float32) for n in self.inputs))
            results = results if isinstance(results, tuple) else (results,)
            return {n: to_array(r, spec) for (n, spec), r in zip(self.outputs.items(), results, strict=True)}

    def close(self) -> None:
        self._typed = self.recorded = None


def _info(model: ModelFile | Program, placement: Placement) -> EngineInfo:
    """EngineError where the device is not there."""
    return EngineInfo(
        backend="torch",
        device=placement.device,
        precision=placement.precision,
        model=model.name,
        version=f"torch {torch.__version__}",
        device_name=TorchEngine.fingerprint(placement.device)["device_name"],
        threads=placement.threads if placement.device == "cpu" else 0,
        metadata=model.metadata,
    )


def tensor_specs(model: ModelFile) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Inputs and outputs as the file declares them."""
    with reading(model) as graph:
        given = {tensor.name for tensor in graph.initializer}
        inputs = {v.name: _spec(v) for v in graph.input if v.name not in given}
        return inputs, {v.name: _spec(v) for v in graph.output}


def to_device(array: np.ndarray, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """An array on the device; floats in `dtype`. Does not keep the array."""
    # The caller's arrays may be read-only, which torch.from_numpy warns about.
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def to_array(tensor: torch.Tensor, spec: TensorSpec) -> np.ndarray:
    """An own array of the type the model declares."""
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    return np.array(tensor.cpu().numpy(), dtype=spec.dtype, order="C")


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim)
    return TensorSpec(shape, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)))


@contextlib.contextmanager
def translated(model: str):
    """What torch throws, as EngineError."""
    try:
        yield
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as exc:
        if isinstance(exc, EngineError):
            raise
        raise EngineError(f"torch failed in {model}: {' '.join(str(exc).split())[:300]}") from exc
