"""The sink that watches: what came out, when, how late, and whether any of it was the driver."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from puppet.publish import Command, Rendering

from .script import Script

LEAK_MARGIN = 24.0  # greenness beyond the portraits' that no rounding or codec explains
LEAK_PIXELS = 24
LEAST_LIKENESS = 0.5  # correlation with the portrait it should be, 32 x 32
THUMB = (32, 32)
_GREENNESS = np.array([[-0.5, 1.0, -0.5]], np.float32)  # linear: no mixture of colours is greener than the greenest
_KEYS = {"next portrait": Command.NEXT, "recalibrate": Command.CALIBRATE, "mirror": Command.MIRROR,
         "hide": Command.HIDE, "recording": Command.RECORD}  # fmt: skip


def greenness(rgb: np.ndarray) -> np.ndarray:
    """`(H, W)` float32: green above the mean of red and blue."""
    return cv2.transform(rgb.astype(np.float32), _GREENNESS)


class LeakCheck:
    """Tells pictures made from the portraits from pictures with anything of the driver in them."""

    def __init__(self, stills: Sequence[np.ndarray]) -> None:
        self.limit = max(float(greenness(still).max()) for still in stills) + LEAK_MARGIN
        self._thumbs = [_thumb(still) for still in stills]

    def sees(self, driver_rgb: np.ndarray) -> float:
        """Share of a driver's picture that would be noticed."""
        return float((greenness(driver_rgb) > self.limit).mean())

    def leaks(self, rgb: np.ndarray) -> bool:
        """Whether enough pixels are greener than any portrait to be the driver's."""
        return int((greenness(rgb) > self.limit).sum()) >= LEAK_PIXELS

    def likeness(self, rgb: np.ndarray) -> float:
        """Correlation with the nearest portrait, -1 to 1; 0 for a picture of one colour."""
        thumb = _thumb(rgb)
        return max(float((thumb * still).mean()) for still in self._thumbs)


def _thumb(rgb: np.ndarray) -> np.ndarray:
    small = cv2.cvtColor(cv2.resize(rgb, THUMB, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).astype(np.float32)
    small -= small.mean()
    return small / max(float(small.std()), 1e-3)


class Watch:
    """A sink. Samples are kept as plain numbers, so that an hour takes a few megabytes."""

    name = "watch"

    def __init__(self, script: Script, check: LeakCheck, *, quit_after_s: float) -> None:
        self._script, self._check, self._quit_after_s = script, check, quit_after_s
        self.time_s, self.latency_ms, self.scene = array("d"), array("f"), array("l")
        self.has_face, self.is_new = array("b"), array("b")
        self.leaks, self.foreign, self.leak_files = 0, 0, 0
        self.opened, self.closed_s = 0, None
        self._last: np.ndarray | None = None
        self._keys: set[int] = set()

    def open(self) -> Watch:
        self.opened += 1
        return self

    def publish(self, rendering: Rendering) -> None:
        self.time_s.append(time.perf_counter())
        latency = rendering.latency_ms
        self.latency_ms.append(np.nan if latency is None else latency)
        self.scene.append(self._script.at(self._script.elapsed_s)[0])
        self.has_face.append(rendering.has_face)
        self.is_new.append(rendering.rgb is not self._last)
        if rendering.rgb is not self._last:
            self._last = rendering.rgb
            self.leaks += self._check.leaks(rendering.rgb)
            self.foreign += self._check.likeness(rendering.rgb) < LEAST_LIKENESS

    def commands(self) -> Sequence[Command]:
        """The keys a user would press in this scene."""
        number, scene = self._script.at(self._script.elapsed_s)
        if self._script.elapsed_s > self._quit_after_s:
            return [Command.QUIT]
        if scene.kind in _KEYS and number not in self._keys:
            self._keys.add(number)
            return [_KEYS[scene.kind]]
        return ()

    def close(self) -> None:
        self.closed_s = time.perf_counter()


def recording_leaks(path: Path, check: LeakCheck) -> tuple[int, int, int]:
    """(frames, frames with something of the driver, frames unlike any portrait) of a recording."""
    import av

    frames = leaks = foreign = 0
    with av.open(str(path)) as container:
        for picture in container.decode(video=0):
            rgb = picture.to_ndarray(format="rgb24")
            frames += 1
            leaks += check.leaks(rgb)
            foreign += check.likeness(rgb) < LEAST_LIKENESS
    return frames, leaks, foreign
