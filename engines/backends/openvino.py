"""OpenVINO: the fastest on CPUs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import openvino

from engines.errors import EngineError
from engines.model_file import ModelFile
from engines.protocol import EngineInfo, TensorSpec, contiguous_inputs

_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}


class OpenVinoEngine:
    """One model compiled by OpenVINO for lowest latency."""

    def __init__(self, model: ModelFile, *, device: str, precision: str, threads: int):
        """Compile.

        Args:
            device: "cpu", or an OpenVINO name such as "gpu" or "npu".
            precision: of the arithmetic.
            threads: for one inference, on "cpu".

        Raises:
            EngineError: the device is not there or the model does not compile.
        """
        core = openvino.Core()
        place = device.upper()
        if place.split(".")[0] not in {name.split(".")[0] for name in core.available_devices}:
            found = ", ".join(name.lower() for name in core.available_devices)
            raise EngineError(f"OpenVINO has no device {device!r}: expected one of {found}. Choose it with --device.")
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
        if place == "CPU":
            # Pinning would put the tracker's thread and ours on one core.
            settings |= {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        try:
            compiled = core.compile_model(core.read_model(model.path), place, settings)
            runs_in = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
            device_name = str(core.get_property(place, "FULL_DEVICE_NAME")).strip()
        except RuntimeError as exc:
            raise EngineError(f"OpenVINO can't load {model.name}: {_last_line(exc)}") from exc
        if runs_in != _HINTS[precision]:
            raise EngineError(
                f"OpenVINO on {device_name} runs {model.name} in {runs_in}: expected {precision}. Use fp32 here."
            )
        self._request = compiled.create_infer_request()
        self.inputs: Mapping[str, TensorSpec] = {port.get_any_name(): _spec(port) for port in compiled.inputs}
        self.outputs: Mapping[str, TensorSpec] = {port.get_any_name(): _spec(port) for port in compiled.outputs}
        self.info = EngineInfo(
            backend="openvino",
            device=device,
            precision=precision,
            model=model.name,
            version=f"openvino {openvino.__version__.split('-')[0]}",
            device_name=device_name,
            threads=threads if place == "CPU" else 0,
            metadata=model.metadata,
        )

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._request is None:
            raise EngineError(f"{self.info.model}: run after close.")
        checked = contiguous_inputs(self.info.model, self.inputs, arrays)
        try:
            results = self._request.infer(checked, share_inputs=True)
        except RuntimeError as exc:
            raise EngineError(f"OpenVINO failed in {self.info.model}: {_last_line(exc)}") from exc
        return {name: results[name] for name in self.outputs}

    def close(self) -> None:
        self._request = None


def _spec(port: openvino.ConstOutput) -> TensorSpec:
    shape = tuple(axis.get_length() if axis.is_static else None for axis in port.partial_shape)
    return TensorSpec(shape, np.dtype(port.element_type.to_dtype()))


def _last_line(exc: Exception) -> str:
    """The part of OpenVINO's several lines that says something."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip() and not line.startswith("Exception from")]
    return (lines or [str(exc)])[-1][:300]
