"""What a run measured: milliseconds per stage, rates, counts, latency, memory, versions, hardware (`--stats`)."""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from puppet.errors import DeviceError

KEPT = 36_000  # newest samples a stage: twenty minutes at 30 fps, some ten MB for all stages
PERCENTILES = (50, 95, 99)
LATENCY_KNOWN_FROM, LATENCY_OVER = 150, 600  # samples: five seconds, twenty at 30 fps
PACKAGES = ("puppet-portrait", "numpy", "mediapipe", "opencv-contrib-python", "openvino", "onnxruntime", "av")


class Stats:
    """Collects from all threads; `report` reduces."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[float]] = {}
        self._lock = threading.Lock()
        self.frames_in = self.frames_out = self.dropped = self.without_face = self.errors = 0
        self.start_s: float | None = None  # from the start of the process to the first published frame
        self.engine: Mapping[str, Any] = {}
        self.generator = ""  # what renders: "numpy on cpu", "tensorrt on cuda"
        self._first_s = self._last_s = 0.0
        self._recent: deque[float] = deque(maxlen=512)
        self._latencies_ms: deque[float] = deque(maxlen=LATENCY_OVER)
        self._microphone_delay_ms: float | None = None

    def add(self, stage: str, milliseconds: float) -> None:
        with self._lock:
            self._samples.setdefault(stage, deque(maxlen=KEPT)).append(milliseconds)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a block of a stage."""
        start_s = time.perf_counter()
        yield
        self.add(stage, (time.perf_counter() - start_s) * 1e3)

    def published(self, now_s: float, latency_ms: float | None) -> None:
        """One frame went out; `latency_ms` from its capture, None where it shows nothing newly captured."""
        if self.frames_out:
            self.add("between_frames", (now_s - self._last_s) * 1e3)
        else:
            self._first_s = now_s
            self.start_s = process_age_s()
        self._last_s = now_s
        self.frames_out += 1
        self._recent.append(now_s)
        if latency_ms is not None:
            self.add("capture_to_publish", latency_ms)
            self._latencies_ms.append(latency_ms)
            if len(self._latencies_ms) >= LATENCY_KNOWN_FROM and self.frames_out % 30 == 0:
                self._microphone_delay_ms = float(np.median(self._latencies_ms))

    @property
    def microphone_delay_ms(self) -> float | None:
        """What sound has to be late by to go with the pictures: their usual way from capture to publish, of late.

        None before it is known. The camera's own delay and the call's come on top and can't be measured here.
        """
        return self._microphone_delay_ms

    def absorb(self, other: Stats) -> None:
        """Add another run's samples and counts; rates and times of start stay this one's own."""
        with self._lock, other._lock:
            for stage, samples in other._samples.items():
                self._samples.setdefault(stage, deque(maxlen=KEPT)).extend(samples)
        for count in ("frames_in", "frames_out", "dropped", "without_face", "errors"):
            setattr(self, count, getattr(self, count) + getattr(other, count))

    def recent_fps(self, over_s: float = 1.0) -> float:
        """Rate over the last second: intervals by their duration, not frames."""
        stamps = [s for s in self._recent if s >= self._last_s - over_s]
        return (len(stamps) - 1) / (stamps[-1] - stamps[0]) if len(stamps) > 1 else 0.0

    @property
    def fps(self) -> float:
        """Mean rate of the whole run."""
        duration_s = self._last_s - self._first_s
        return (self.frames_out - 1) / duration_s if duration_s > 0 else 0.0

    def report(self) -> dict[str, Any]:
        """All of it, ready for JSON; milliseconds, frames a second, MiB."""
        with self._lock:
            stages = {name: _percentiles(samples) for name, samples in sorted(self._samples.items())}
        latency = stages.pop("capture_to_publish", None)
        return {
            "fps": round(self.fps, 2),
            "start_s": None if self.start_s is None else round(self.start_s, 2),
            "frames": {
                "in": self.frames_in,
                "out": self.frames_out,
                "dropped": self.dropped,
                "without_face": self.without_face,
                "errors": self.errors,
            },
            "latency_ms": latency,
            "microphone_delay_ms": None if self._microphone_delay_ms is None else round(self._microphone_delay_ms),
            "stages_ms": stages,
            "peak_memory_mib": peak_memory_mib(),
            "engine": dict(self.engine),
            "generator": self.generator,
            "versions": versions(),
            "hardware": hardware(),
        }

    def write(self, path: Path) -> None:
        """The report as JSON.

        Raises:
            DeviceError: the file can't be written.
        """
        try:
            path.write_text(json.dumps(self.report(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise DeviceError(f"--stats {path} can't be written: {error.strerror}.") from error


def _percentiles(samples: deque[float]) -> dict[str, float]:
    values = np.percentile(np.array(samples), PERCENTILES)
    return {f"p{p}": round(float(v), 3) for p, v in zip(PERCENTILES, values, strict=True)} | {"count": len(samples)}


def peak_memory_mib() -> float | None:
    """Most memory this process held, None where the system does not say (Windows)."""
    if sys.platform == "win32":
        return None
    status = Path("/proc/self/status")  # Linux: getrusage counts what the process that started this one held, too
    if status.exists():
        held = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line).get("VmHWM")
        if held is not None:
            return round(int(held.split()[0]) / 2**10, 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def process_age_s() -> float | None:
    """Seconds since this process began, None where the system does not say (it does on Linux)."""
    stat = Path("/proc/self/stat")
    if not stat.exists():
        return None
    started_ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    return float(Path("/proc/uptime").read_text().split()[0]) - started_ticks / os.sysconf("SC_CLK_TCK")


def versions() -> dict[str, str]:
    """Python and the packages that matter to speed and results, where they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """The processor's name, the cores this process may use, the system."""
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": name, "cores": cores, "system": platform.platform()}
