"""Which engines there are, in which order `auto` tries them, and why it took the one it took."""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from engines import golden
from engines.cache import CacheKey, EngineCache
from engines.devices import cuda_card
from engines.errors import EngineError, RefusedError
from engines.model_file import ModelFile
from engines.program import Program, as_file
from engines.protocol import FULL, PRECISIONS, Engine, Placement, Shapes

log = logging.getLogger(__name__)

BACKENDS = {
    "tensorrt": "engines.backends.tensorrt:TensorRtEngine",
    "openvino": "engines.backends.openvino:OpenVinoEngine",
    "onnxruntime": "engines.backends.onnxruntime:OnnxRuntimeEngine",
    "torch": "engines.backends.torch:TorchEngine",
}
PROGRAM_BACKENDS = {
    "tensorrt": "engines.backends.tensorrt:TensorRtProgram",
    "torch": "engines.backends.torch:TorchProgram",
}
"""Those that take a `Program` as it is; the others get the file that it is exported to."""

INSTALL = {
    "tensorrt": 'pip install "puppet-portrait[tensorrt]"',
    "openvino": "pip install openvino",
    "onnxruntime": "pip install onnxruntime",
    "torch": 'pip install "puppet-portrait[torch]"',
}
AUTO_ORDER = (("tensorrt", "cuda"), ("torch", "cuda"), ("openvino", "cpu"), ("onnxruntime", "cpu"), ("torch", "cpu"))
REFERENCE = ("onnxruntime", "cpu")
"""What a new engine is checked against where no golden file lies beside the model."""

SMALL_INPUT = 128 * 128
"""Models whose inputs are all smaller than this many numbers (landmarks, not pictures) run on one thread and, with
`auto`, on the CPU: waking a second thread or copying to a card costs more than it saves."""


class Backend(Protocol):
    """What a class in `BACKENDS` (with a model file) or `PROGRAM_BACKENDS` (with a program) has besides `Engine`."""

    @staticmethod
    def fingerprint(device: str) -> dict[str, str]:
        """Device name and capability, driver and library versions. Raises EngineError where the device is missing."""
        ...

    @staticmethod
    def fast_precision(device: str) -> str:
        """The precision below fp32 that this device computes networks faster in, or "fp32" where there is none."""
        ...

    def __call__(self, model: ModelFile | Program, placement: Placement, blob: bytes = b"") -> Engine:
        """Load `blob`, what `compiled` gave before, or compile the model where it is empty. Raises EngineError."""
        ...


# Two models opened at once in two threads lock each other out inside OpenVINO, for good.
_OPENING = threading.Lock()


@dataclass(frozen=True)
class Attempt:
    """One backend that was tried: why it was not taken, or None where it works."""

    backend: str
    device: str
    reason: str | None


def load(
    model: str | Path | Program,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: str = FULL,
    threads: int | None = None,
    shapes: Shapes | None = None,
    cache: EngineCache | None = None,
    attempts: list[Attempt] | None = None,
) -> Engine:
    """Load an ONNX model, or a program made at run time, into an engine; the first time it is compiled, checked, kept.

    Args:
        model: path of an .onnx file, or a program, which runs in fp32 only.
        backend: a name in `BACKENDS`, or "auto": the first of `AUTO_ORDER` that works and answers rightly.
        device: "cpu", "cuda", "cuda:1", ...; "auto": the backend's own choice.
        precision: "fp32", "fp16" or "bf16"; "auto": the lower one that the device is made for, where the model's answer
            stays right in it, else fp32.
        threads: for one inference on a CPU; None: 1 for small models, else 2 (the tracker needs a core as well).
        shapes: sizes for dynamic axes of inputs, by name, None for an axis that stays as it is; fixed shapes compile to
            faster code.
        cache: None is the user's cache folder.
        attempts: a list that receives the backends that were not taken before one was, with the reasons.

    Raises:
        EngineError: a file that is missing, cut or foreign; an unknown name; no backend that works, with all reasons.
    """
    if precision not in ("auto", *PRECISIONS):
        raise EngineError(f"unknown precision {precision!r}: expected one of {', '.join(('auto', *PRECISIONS))}.")
    if threads is not None and threads < 1:
        raise EngineError(f"{threads} threads: expected 1 or more.")
    if not isinstance(model, Program):
        model = ModelFile.read(model)
    elif precision != FULL:
        raise EngineError(f"{model.name} runs in fp32 only: {precision} was asked for.")
    threads = threads or (1 if model.input_elements < SMALL_INPUT else min(2, os.cpu_count() or 1))
    cache = cache or EngineCache()
    failed: list[Attempt] = []
    attempts = [] if attempts is None else attempts
    for name, place in _candidates(backend, device):
        if (backend, device, place) == ("auto", "auto", "cuda") and model.input_elements < SMALL_INPUT:
            attempts.append(Attempt(name, place, "its inputs are so small that copying them to a card costs more."))
            continue
        try:
            with _OPENING:
                engine = _open_in(precision, name, Placement(place, FULL, threads, shapes or {}), model, cache)
        except EngineError as exc:
            if backend != "auto":
                raise
            failed.append(Attempt(name, place, str(exc)))
            attempts.append(failed[-1])
            log.debug("engine %s on %s not taken for %s: %s", name, place, model.name, exc)
            continue
        log.info("engine %s%s", engine.info, _because(failed))
        return engine
    reasons = " ".join(f"{a.backend} on {a.device}: {a.reason}" for a in attempts) or f"None knows device {device!r}."
    raise EngineError(f"no engine can run {model.name}. {reasons} Run: python -m puppet doctor")


def survey() -> list[Attempt]:
    """Every entry of `AUTO_ORDER` with the reason why it can't run here, or None where it can. Loads the libraries."""
    found = []
    for name, place in AUTO_ORDER:
        try:
            _require_card(place)
            backend_class(name).fingerprint(place)
            found.append(Attempt(name, place, None))
        except EngineError as exc:
            found.append(Attempt(name, place, str(exc)))
    return found


def backend_class(name: str, *, for_program: bool = False) -> Backend:
    """The class behind a backend's name, imported now; `for_program` the one that takes programs, if there is one.

    Raises:
        EngineError: an unknown name, or a library that is not installed.
    """
    if name not in BACKENDS:
        raise EngineError(f"unknown engine {name!r}: expected auto, {', '.join(BACKENDS)}.")
    place = PROGRAM_BACKENDS.get(name, BACKENDS[name]) if for_program else BACKENDS[name]
    module_name, class_name = place.split(":")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except (ImportError, OSError) as exc:  # OSError: a library's own shared libraries are missing
        raise EngineError(f"engine {name!r} is not installed ({exc}). Install it with: {INSTALL[name]}") from exc


def _open_in(precision: str, name: str, placement: Placement, model: ModelFile | Program, cache: EngineCache) -> Engine:
    """An engine in one precision; with "auto" in the device's fast one or, where that is refused, in full."""
    if precision != "auto":
        return _open(name, replace(placement, precision=precision), model, cache)
    _require_card(placement.device)
    backend = backend_class(name)
    if (fast := backend.fast_precision(placement.device)) != FULL:
        faster = replace(placement, precision=fast)
        reason = cache.refusal(_key(name, backend, faster, model))
        if reason is None:
            try:
                return _open(name, faster, model, cache)
            except RefusedError as exc:
                reason = str(exc)
                cache.put_refusal(_key(name, backend, faster, model), reason)
            except EngineError as exc:
                reason = str(exc)
        log.debug("engine %s does not run %s in %s: %s", name, model.name, fast, reason)
    return _open(name, placement, model, cache)


def _key(name: str, backend: Backend, placement: Placement, model: ModelFile | Program) -> CacheKey:
    return CacheKey(
        model=model.name,
        model_sha256=model.sha256,
        backend=name,
        device=placement.device,
        precision=placement.precision,
        shapes=dict(placement.shapes),
        threads=placement.threads,
        fingerprint=backend.fingerprint(placement.device),
    )


def _open(name: str, placement: Placement, model: ModelFile | Program, cache: EngineCache) -> Engine:
    """An engine from the cache, or a new one that passed its check."""
    _require_card(placement.device)
    is_program = isinstance(model, Program)
    backend = backend_class(name, for_program=is_program)
    if (name, placement.device) == REFERENCE and not is_program and not golden.golden_path(model).exists():
        return _measured(backend(model, placement))
    key = _key(name, backend, placement, model)
    if (kept := cache.get(key)) is not None:
        try:
            return _measured(_made(name, backend, model, placement, cache, kept[0]))
        except EngineError as exc:
            log.warning("cached engine %s does not load (%s). It is built anew.", key.file_stem, exc)
            cache.drop(key)
    start = time.perf_counter()
    log.info("engine %s for %s: building, once ...", name, model.name)
    engine = _made(name, backend, model, placement, cache)
    try:
        record = golden.check(engine, _expected(model, engine, placement.shapes), model)
        _measured(engine)
        cache.put(key, engine.compiled(), record | {"run_ms": round(engine.info.run_ms, 3)})
    except EngineError:
        engine.close()
        raise
    log.info("engine %s for %s: built in %.1f s", name, model.name, time.perf_counter() - start)
    return engine


def _made(
    name: str, backend: Backend, model: ModelFile | Program, placement: Placement, cache: EngineCache, blob: bytes = b""
) -> Engine:
    """An engine, from a file where its library knows nothing else."""
    if not isinstance(model, Program) or name in PROGRAM_BACKENDS:
        return backend(model, placement, blob)
    with as_file(model, cache, is_needed=not blob) as file:
        return backend(file, placement, blob)


def _expected(model: ModelFile | Program, engine: Engine, shapes: Shapes) -> golden.Golden:
    """What the reference engine says of the model's golden input."""
    if isinstance(model, Program):
        return model.reference()
    name, place = REFERENCE
    return golden.golden_for(model, engine.inputs, lambda: backend_class(name)(model, Placement(place, shapes=shapes)))


def _measured(engine: Engine) -> Engine:
    engine.info = replace(engine.info, run_ms=golden.measure_ms(engine, golden.seeded_inputs(engine.inputs)))
    return engine


def _require_card(place: str) -> None:
    """Ask the driver before a library that takes seconds to load."""
    if place.split(":")[0] == "cuda":
        cuda_card(place)


def _candidates(backend: str, device: str) -> Sequence[tuple[str, str]]:
    """(backend, device) pairs to try, in order."""
    if backend == "auto":
        return [
            (name, place if device == "auto" else device)
            for name, place in AUTO_ORDER
            if device == "auto" or device.split(":")[0] == place
        ]
    if device != "auto":
        return [(backend, device)]
    places = [place for name, place in AUTO_ORDER if name == backend] or ["cpu"]
    if len(places) > 1:  # torch runs on both: the card where there is one
        try:
            _require_card(places[0])
        except EngineError:
            return [(backend, places[-1])]
    return [(backend, places[0])]


def _because(failed: Sequence[Attempt]) -> str:
    return "".join(f"; not {a.backend} on {a.device}: {a.reason.rstrip('.')}" for a in failed)
