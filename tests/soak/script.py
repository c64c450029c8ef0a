"""What happens to the driver, by the clock: a cycle of scenes that repeats."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scene:
    """`kind` is what happens; parts of the run ask for the kinds that concern them."""

    kind: str
    duration_s: float


CALM = "driving"
"""The driver sits before the camera and talks."""

WITHOUT_FAULTS = (Scene(CALM, 60.0),)
WITH_FAULTS = (
    Scene(CALM, 10.0),
    Scene("face covered", 3.0),
    Scene(CALM, 5.0),
    Scene("black frames", 4.0),
    Scene(CALM, 5.0),
    Scene("several faces", 5.0),
    Scene(CALM, 4.0),
    Scene("camera unplugged", 5.0),
    Scene(CALM, 8.0),
    Scene("tracker stalls", 3.0),
    Scene(CALM, 5.0),
    Scene("tracker fails", 3.0),
    Scene(CALM, 5.0),
    Scene("regressor fails", 3.0),
    Scene(CALM, 5.0),
    Scene("recording", 1.0),
    Scene(CALM, 4.0),
    Scene("generator fails", 1.0),
    Scene(CALM, 4.0),
    Scene("next portrait", 4.0),
    Scene(CALM, 5.0),
    Scene("generator slow", 3.0),
    Scene(CALM, 4.0),
    Scene("recalibrate", 3.0),
    Scene("mirror", 2.0),
    Scene("mirror", 2.0),
    Scene("hide", 2.0),
    Scene("hide", 2.0),
    Scene("recording", 1.0),
    Scene("driver leaves", 10.0),
)
"""Two minutes. `recording`, `mirror` and `hide` switch on the first time and off the second."""


class Script:
    """Scenes on a clock that starts with the first question; may be asked from any thread."""

    def __init__(self, scenes: Sequence[Scene], *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._scenes, self._clock = tuple(scenes), clock
        self.cycle_s = sum(scene.duration_s for scene in scenes)
        self._start_s: float | None = None
        self._entered: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def elapsed_s(self) -> float:
        with self._lock:
            if self._start_s is None:
                self._start_s = self._clock()
            return self._clock() - self._start_s

    def at(self, elapsed_s: float) -> tuple[int, Scene]:
        """The scene played then, and how many were played before it."""
        cycles, rest_s = divmod(elapsed_s, self.cycle_s)
        for place, scene in enumerate(self._scenes):
            if rest_s < scene.duration_s:
                return int(cycles) * len(self._scenes) + place, scene
            rest_s -= scene.duration_s
        return int(cycles + 1) * len(self._scenes), self._scenes[0]

    def now(self) -> Scene:
        return self.at(self.elapsed_s)[1]

    def enters(self, who: str, kind: str) -> bool:
        """True once in each scene of that kind, for each `who`."""
        number, scene = self.at(self.elapsed_s)
        with self._lock:
            is_new = scene.kind == kind and self._entered.get(who + kind) != number
            if is_new:
                self._entered[who + kind] = number
        return is_new
