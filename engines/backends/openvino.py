"""OpenVINO: the fastest on CPUs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import openvino

from engines.errors import EngineError
from engines.model_file import ModelFile
from engines.protocol import FULL, EngineInfo, Placement, Shapes, TensorSpec, contiguous_inputs, with_shapes

_VERSION = openvino.__version__.split("-")[0]
_FAILURES = (RuntimeError, ValueError, TypeError)  # ValueError: names that are no UTF-8, its own messages too
_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}


class OpenVinoEngine:
    """One model compiled by OpenVINO for lowest latency."""

    def __init__(self, model: ModelFile, placement: Placement, blob: bytes = b"") -> None:
        """Compile, or import what `compiled` gave.

        Raises:
            EngineError: the device is not there or the model does not compile.
        """
        core, place, precision = openvino.Core(), placement.device.upper(), placement.precision
        device_name = self.fingerprint(placement.device)["device_name"]
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
        if place == "CPU":
            # Pinning would put the tracker's thread and ours on one core.
            settings |= {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": placement.threads, "ENABLE_CPU_PINNING": False}
        try:
            if blob:
                compiled = core.import_model(io.BytesIO(blob), place, settings)
            else:
                compiled = core.compile_model(_read(core, model, placement.shapes), place, settings)
            runs_in = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
            self.inputs: Mapping[str, TensorSpec] = _specs(compiled.inputs)
            self.outputs: Mapping[str, TensorSpec] = _specs(compiled.outputs)
        except _FAILURES as exc:
            raise EngineError(f"OpenVINO can't load {model.name}: {_last_line(exc)}") from exc
        if runs_in != _HINTS[precision]:
            raise EngineError(
                f"OpenVINO on {device_name} runs {model.name} in {runs_in}: expected {precision}. Use fp32 here."
            )
        self._compiled, self._request = compiled, compiled.create_infer_request()
        self.info = EngineInfo(
            backend="openvino",
            device=placement.device,
            precision=precision,
            model=model.name,
            version=f"openvino {_VERSION}",
            device_name=device_name,
            threads=placement.threads if place == "CPU" else 0,
            metadata=model.metadata,
        )

    @staticmethod
    def fingerprint(device: str) -> dict[str, str]:
        core = openvino.Core()
        found = [name.lower() for name in core.available_devices]
        if device.split(".")[0] not in {name.split(".")[0] for name in found}:
            raise EngineError(
                f"OpenVINO has no device {device!r}: expected one of {', '.join(found)}. Choose it with --device."
            )
        return {
            "openvino": openvino.__version__,
            "device_name": str(core.get_property(device.upper(), "FULL_DEVICE_NAME")).strip(),
            "capability": " ".join(core.get_property(device.upper(), "OPTIMIZATION_CAPABILITIES")),
        }

    @staticmethod
    def fast_precision(device: str) -> str:
        """bf16 on processors that have instructions for it (AVX512_BF16, AMX)."""
        can = openvino.Core().get_property(device.upper(), "OPTIMIZATION_CAPABILITIES")
        return "bf16" if device == "cpu" and "BF16" in can else FULL

    def compiled(self) -> bytes:
        return self._compiled.export_model().getvalue()

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._request is None:
            raise EngineError(f"{self.info.model}: run after close.")
        checked = contiguous_inputs(self.info.model, self.inputs, arrays)
        try:
            results = self._request.infer(checked, share_inputs=True)
        except _FAILURES as exc:
            raise EngineError(f"OpenVINO failed in {self.info.model}: {_last_line(exc)}") from exc
        return {name: results[name] for name in self.outputs}

    def close(self) -> None:
        self._compiled = self._request = None


def _read(core: openvino.Core, model: ModelFile, shapes: Shapes) -> openvino.Model:
    graph = core.read_model(model.path)
    if shapes:
        fixed = with_shapes(model.name, _specs(graph.inputs), shapes)
        graph.reshape({name: [-1 if n is None else n for n in spec.shape] for name, spec in fixed.items()})
    return graph


def _specs(ports: Sequence[openvino.ConstOutput]) -> dict[str, TensorSpec]:
    return {port.get_any_name(): _spec(port) for port in ports}


def _spec(port: openvino.ConstOutput) -> TensorSpec:
    shape = tuple(axis.get_length() if axis.is_static else None for axis in port.partial_shape)
    return TensorSpec(shape, np.dtype(port.element_type.to_dtype()))


def _last_line(exc: Exception) -> str:
    """The part of OpenVINO's several lines that says something."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip() and not line.startswith("Exception from")]
    return (lines or [str(exc)])[-1][:300]
