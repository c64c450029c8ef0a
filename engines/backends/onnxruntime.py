"""ONNX Runtime: runs everywhere, and is the reference that other engines are checked against."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as states

from engines.devices import cuda_card
from engines.errors import EngineError
from engines.model_file import ModelFile
from engines.protocol import FULL, EngineInfo, Placement, TensorSpec, contiguous_inputs, with_shapes

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_DTYPES = {"float": "float32", "double": "float64", "float16": "float16", "bool": "bool"}
# These share no base class below Exception.
_FAILURES = (
    states.Fail, states.InvalidArgument, states.InvalidGraph, states.InvalidProtobuf, states.NoModel,
    states.NoSuchFile, states.NotImplemented, states.RuntimeException, states.EPFail,
    RuntimeError, ValueError, TypeError,
)  # fmt: skip


class OnnxRuntimeEngine:
    """One model in an ONNX Runtime session."""

    def __init__(self, model: ModelFile, placement: Placement, blob: bytes = b"") -> None:
        """Open a session; cards need onnxruntime-gpu. A session takes any shapes: they are only checked.

        `blob` is always empty: a session loads as fast from the model itself.

        Raises:
            EngineError: the device is not there, another precision, or the model does not load.
        """
        if placement.precision != "fp32":  # it keeps the types of the file
            raise EngineError(f"ONNX Runtime runs {model.name} in fp32 only: {placement.precision} was asked for.")
        kind, _, index = placement.device.partition(":")
        self.fingerprint(placement.device)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = placement.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors come as exceptions
        # Spinning workers would take the tracker's core while they wait.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        place = _PROVIDERS[kind] if kind == "cpu" else (_PROVIDERS[kind], {"device_id": int(index or 0)})
        try:
            self._session = onnxruntime.InferenceSession(str(model.path), options, providers=[place])
            inputs = {arg.name: _spec(arg) for arg in self._session.get_inputs()}
            self.outputs: Mapping[str, TensorSpec] = {arg.name: _spec(arg) for arg in self._session.get_outputs()}
        except _FAILURES as exc:
            raise EngineError(f"ONNX Runtime can't load {model.name}: {_one_line(exc)}") from exc
        self.inputs: Mapping[str, TensorSpec] = with_shapes(model.name, inputs, placement.shapes)
        self.info = EngineInfo(
            backend="onnxruntime",
            device=placement.device,
            precision=placement.precision,
            model=model.name,
            version=f"onnxruntime {onnxruntime.__version__}",
            threads=placement.threads if kind == "cpu" else 0,
            metadata=model.metadata,
        )

    @staticmethod
    def fingerprint(device: str) -> dict[str, str]:
        kind = device.partition(":")[0]
        if _PROVIDERS.get(kind) not in onnxruntime.get_available_providers():
            raise EngineError(
                f"ONNX Runtime has no device {device!r}: expected cpu, or cuda with pip install onnxruntime-gpu."
            )
        about = {"onnxruntime": onnxruntime.__version__}
        if kind == "cuda":
            card = cuda_card(device)
            about |= {"device_name": card.name, "capability": card.capability, "driver": card.driver}
        return about

    @staticmethod
    def fast_precision(device: str) -> str:
        """Always fp32: ONNX Runtime computes a file in the types that it is written in."""
        return FULL

    def compiled(self) -> bytes:
        return b""

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._session is None:
            raise EngineError(f"{self.info.model}: run after close.")
        checked = contiguous_inputs(self.info.model, self.inputs, arrays)
        names = list(self.outputs)
        try:
            return dict(zip(names, self._session.run(names, checked), strict=True))
        except _FAILURES as exc:
            raise EngineError(f"ONNX Runtime failed in {self.info.model}: {_one_line(exc)}") from exc

    def close(self) -> None:
        self._session = None


def _spec(arg: onnxruntime.NodeArg) -> TensorSpec:
    name = arg.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(axis if isinstance(axis, int) else None for axis in arg.shape)
    return TensorSpec(shape, np.dtype(_DTYPES.get(name, name)))


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:300]
