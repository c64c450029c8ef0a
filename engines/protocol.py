"""What every engine promises and what it may expect from its caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from engines.errors import EngineError

PRECISIONS = ("fp32", "fp16", "bf16")
FULL = "fp32"
"""The precision that every device has."""


Shapes = Mapping[str, tuple[int | None, ...]]
"""Sizes for dynamic axes of inputs, by name; None leaves an axis as it is."""


@dataclass(frozen=True)
class Placement:
    """Where and how a model is to run."""

    device: str  # "cpu", "cuda", "cuda:1"; OpenVINO knows "gpu" and "npu" as well
    precision: str = "fp32"  # of the arithmetic: "fp32", "fp16", "bf16"
    threads: int = 1  # for one inference, on a CPU
    shapes: Shapes = field(default_factory=dict)


@dataclass(frozen=True)
class TensorSpec:
    """Shape and type of one named tensor; a None in `shape` is a dynamic axis."""

    shape: tuple[int | None, ...]
    dtype: np.dtype

    def accepts(self, array: np.ndarray) -> bool:
        """Whether `array` has this type and a shape that fits."""
        return (
            array.dtype == self.dtype
            and array.ndim == len(self.shape)
            and all(want is None or want == have for want, have in zip(self.shape, array.shape, strict=True))
        )

    def __str__(self) -> str:
        return f"{self.dtype.name} ({', '.join('any' if n is None else str(n) for n in self.shape)})"


@dataclass(frozen=True)
class EngineInfo:
    """What is running: shown at start, in statistics and by `doctor`."""

    backend: str  # "openvino"
    device: str  # "cpu", "cuda:0"
    precision: str  # "fp32", "fp16", "bf16": what arithmetic runs in; inputs and outputs keep the model's types
    model: str  # file name
    version: str  # the library's, "openvino 2026.4.1"
    device_name: str = ""  # "AMD EPYC", "NVIDIA GeForce RTX 4070"
    threads: int = 0  # intra-op threads on a CPU, 0 where it does not apply
    metadata: Mapping[str, str] = field(default_factory=dict)  # the model file's own: licence, AU order, version
    run_ms: float = 0.0  # of one run, measured when it was loaded

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' if self.threads != 1 else ''}" if self.threads else ""
        run = f", {self.run_ms:.2f} ms" if self.run_ms else ""
        return f"{self.model}: {self.version} on {self.device_name or self.device}, {self.precision}{threads}{run}"


class Engine(Protocol):
    """One loaded model.

    The engine guarantees: outputs are new arrays that the caller owns; `run` gives every output, by name; whatever the
    library throws comes out as `EngineError`; `close` may be called twice. The caller guarantees: inputs named and
    typed as in `inputs`, one `run` at a time, no `run` after `close`. Input arrays are not kept and not changed.
    """

    info: EngineInfo
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One inference. Raises EngineError."""
        ...

    def compiled(self) -> bytes:
        """What the cache keeps to load this engine faster; empty where only the passed check is worth keeping."""
        ...

    def close(self) -> None: ...


def with_shapes(model: str, specs: Mapping[str, TensorSpec], shapes: Shapes) -> dict[str, TensorSpec]:
    """The specs with dynamic axes fixed as asked; a None in `shapes` leaves an axis as it is.

    Raises:
        EngineError: an unknown input, or a shape that does not fit.
    """
    fixed = dict(specs)
    for name, shape in shapes.items():
        spec = specs.get(name)
        fits = spec is not None and len(shape) == len(spec.shape)
        if not fits or any(
            None not in (have, want) and have != want for have, want in zip(spec.shape, shape, strict=True)
        ):
            known = ", ".join(f"{n}: {s}" for n, s in specs.items())
            raise EngineError(f"{model}: shape {tuple(shape)} for input {name!r} does not fit: inputs are {known}.")
        merged = tuple(have if want is None else want for have, want in zip(spec.shape, shape, strict=True))
        fixed[name] = TensorSpec(merged, spec.dtype)
    return fixed


def contiguous_inputs(
    model: str, specs: Mapping[str, TensorSpec], arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The arrays in C order after checking names, types and shapes.

    Raises:
        EngineError: a missing or unknown name, a type or a shape that does not fit.
    """
    if arrays.keys() != specs.keys():
        raise EngineError(f"{model}: inputs {sorted(arrays)} were given: expected {sorted(specs)}.")
    for name, spec in specs.items():
        array = arrays[name]
        if not spec.accepts(array):
            raise EngineError(f"{model}: input {name!r} is {array.dtype.name} {array.shape}: expected {spec}.")
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}
