"""Performances that need no camera: an AU track read from a CSV, and the scripted demo."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from puppet.capture import Observation
from puppet.capture.pace import without_gaps
from puppet.openface import Track, read_track


class RecordedTrack:
    """An AU track in OpenFace columns (`puppet.openface`).

    Raises:
        InputError: the file can't be read as a track.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._track = read_track(path)
        self.fps = self._track.fps

    def observations(self) -> Iterator[Observation]:
        yield from without_gaps(_observations(self._track), self.name)

    def close(self) -> None:
        """Nothing is held open."""


class DemoTrack:
    """The scripted demo: neutral, smile, laugh, frown, surprise, winks, pucker, gaze sweep, head turn."""

    name = "demo"

    def __init__(self, *, fps: float) -> None:
        from puppet.demo import demo_track

        self.fps = fps
        control = np.asarray(demo_track(fps), np.float32)
        count = len(control)
        self._track = Track(control, np.arange(count) / fps, np.ones(count, np.float32), np.ones(count, bool))

    def observations(self) -> Iterator[Observation]:
        yield from _observations(self._track)

    def close(self) -> None:
        """Nothing is held open."""


def _observations(track: Track) -> Iterator[Observation]:
    for index, (control, time_s) in enumerate(zip(track.control, track.time_s, strict=True)):
        given = control if track.success[index] else None
        yield Observation(given, float(track.confidence[index]), index, float(time_s), time.perf_counter())
