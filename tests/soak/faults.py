"""The program's own parts, made to stall and fail as the script has it."""

from __future__ import annotations

import time

import numpy as np

from .script import Script

STALL_S = 3.0
SLOW_S = 0.12


class Broken(RuntimeError):
    """What an injected fault raises."""


class FaultyTracker:
    """A tracker that stalls once, or fails once, in the scenes for it."""

    def __init__(self, tracker, script: Script) -> None:
        self._tracker, self._script = tracker, script

    def track(self, rgb: np.ndarray):
        if self._script.enters("tracker", "tracker stalls"):
            time.sleep(STALL_S)
        if self._script.enters("tracker", "tracker fails"):
            raise Broken("the tracker was made to fail")
        return self._tracker.track(rgb)

    def close(self) -> None:
        self._tracker.close()


class FaultyEstimator:
    """An estimator that fails once in its scene."""

    def __init__(self, estimator, script: Script) -> None:
        self._estimator, self._script = estimator, script

    def __getattr__(self, name: str):
        return getattr(self._estimator, name)

    def estimate(self, face):
        if self._script.enters("estimator", "regressor fails"):
            raise Broken("the regressor was made to fail")
        return self._estimator.estimate(face)


class FaultyPuppet:
    """A portrait whose renderings all fail, or come late, in the scenes for it."""

    def __init__(self, puppet, script: Script) -> None:
        self._puppet, self._script = puppet, script

    def __getattr__(self, name: str):
        return getattr(self._puppet, name)

    def render(self, control: np.ndarray) -> np.ndarray:
        kind = self._script.now().kind
        if kind == "generator fails":
            raise Broken("the generator was made to fail")
        if kind == "generator slow":
            time.sleep(SLOW_S)
        return self._puppet.render(control)


class FaultyGallery:
    """A gallery of `FaultyPuppet`s."""

    def __init__(self, gallery, script: Script) -> None:
        self._gallery, self._script = gallery, script

    def __getattr__(self, name: str):
        return getattr(self._gallery, name)

    @property
    def current(self) -> FaultyPuppet:
        return FaultyPuppet(self._gallery.current, self._script)
