"""Which engines there are, in which order `auto` tries them, and why it took the one it took."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.errors import EngineError
from engines.model_file import ModelFile
from engines.protocol import PRECISIONS, Engine

log = logging.getLogger(__name__)

BACKENDS = {
    "openvino": "engines.backends.openvino:OpenVinoEngine",
    "onnxruntime": "engines.backends.onnxruntime:OnnxRuntimeEngine",
}
INSTALL = {
    "openvino": "pip install openvino",
    "onnxruntime": "pip install onnxruntime",
}
AUTO_ORDER = (("openvino", "cpu"), ("onnxruntime", "cpu"))

SMALL_BYTES = 1 << 20
"""Models below this size run on one thread: a second one costs more in waking than it saves."""


@dataclass(frozen=True)
class Attempt:
    """One backend that was not taken, and why."""

    backend: str
    device: str
    reason: str


def load(
    path: str | Path,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    attempts: list[Attempt] | None = None,
) -> Engine:
    """Load an ONNX model into an engine.

    Args:
        backend: a name in `BACKENDS`, or "auto": the first of `AUTO_ORDER` that works.
        device: "cpu", "cuda", "cuda:1", ...; "auto": the backend's own choice.
        precision: "fp32", "fp16" or "bf16".
        threads: for one inference on a CPU; None: 1 for small models, else 2 (the tracker needs a core as well).
        attempts: a list that receives the backends that failed before one was taken, for `doctor`.

    Raises:
        EngineError: a file that is missing, cut or foreign; an unknown name; no backend that works, with all reasons.
    """
    if precision not in PRECISIONS:
        raise EngineError(f"unknown precision {precision!r}: expected one of {', '.join(PRECISIONS)}.")
    if threads is not None and threads < 1:
        raise EngineError(f"{threads} threads: expected 1 or more.")
    model = ModelFile.read(path)
    if threads is None:
        threads = 1 if model.size_bytes < SMALL_BYTES else min(2, os.cpu_count() or 1)
    candidates = _candidates(backend, device)
    failed: list[Attempt] = [] if attempts is None else attempts
    for name, place in candidates:
        try:
            engine = backend_class(name)(model, device=place, precision=precision, threads=threads)
        except EngineError as exc:
            if backend != "auto":
                raise
            failed.append(Attempt(name, place, str(exc)))
            continue
        log.info("engine %s%s", engine.info, _because(failed))
        return engine
    reasons = " ".join(f"{a.backend} on {a.device}: {a.reason}" for a in failed)
    raise EngineError(f"no engine can run {model.name}. {reasons} Run: python -m puppet doctor")


def backend_class(name: str) -> Callable[..., Engine]:
    """The class behind a backend's name, imported now.

    Raises:
        EngineError: an unknown name, or a library that is not installed.
    """
    if name not in BACKENDS:
        raise EngineError(f"unknown engine {name!r}: expected auto, {', '.join(BACKENDS)}.")
    module_name, class_name = BACKENDS[name].split(":")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except ImportError as exc:
        raise EngineError(f"engine {name!r} is not installed ({exc}). Install it with: {INSTALL[name]}") from exc


def _candidates(backend: str, device: str) -> Sequence[tuple[str, str]]:
    """(backend, device) pairs to try, in order."""
    if backend == "auto":
        pairs = [(name, place) for name, place in AUTO_ORDER if device in ("auto", place) or device.startswith(place)]
        return [(name, place if device == "auto" else device) for name, place in pairs]
    default = next((place for name, place in AUTO_ORDER if name == backend), "cpu")
    return [(backend, default if device == "auto" else device)]


def _because(failed: Sequence[Attempt]) -> str:
    if not failed:
        return ""
    return " (not " + "; not ".join(f"{a.backend} on {a.device}: {a.reason}" for a in failed) + ")"
