"""The driver of a benchmark: a clip of a face that plays for as long as it is wanted."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from puppet import facs
from puppet.capture import Frame
from puppet.capture.video import VideoFile
from puppet.demo import demo_track
from puppet.gallery import demo_portrait
from puppet.publish import Rendering
from puppet.publish.recorder import Recorder
from puppet.puppet import Puppet
from puppet.stats import Stats

FPS = 30.0


def act_demo(path: Path, *, seconds: float) -> None:
    """Write the astronaut acting the first seconds of the demo, 480 x 480, 30 frames a second."""
    puppet = Puppet.load(demo_portrait(), size=(480, 480), framing="head", read_actions=None)
    with closing(puppet):
        track = demo_track(FPS)[: max(2, round(seconds * FPS))]
        write_clip(path, (puppet.render(control) for control in track), fps=FPS)


def shorten(path: Path, clip: Path, *, frames: int) -> None:
    """Write the first frames of a clip as a clip of their own.

    Raises:
        InputError: the clip can't be read.
    """
    with closing(VideoFile(clip)) as driver:
        pictures = (frame.rgb for frame in itertools.islice(driver.frames(), frames))
        write_clip(path, pictures, fps=driver.fps or FPS)


def write_clip(path: Path, pictures: Iterable[np.ndarray], *, fps: float) -> None:
    """Encode `(H, W, 3)` uint8 RGB pictures, all of one size, cut to even sides."""
    recorder = None
    try:
        for index, rgb in enumerate(pictures):
            height, width = rgb.shape[0] // 2 * 2, rgb.shape[1] // 2 * 2
            recorder = recorder or Recorder(path, size=(width, height), fps=fps, may_drop=False)
            even = np.ascontiguousarray(rgb[:height, :width])
            recorder.publish(Rendering(even, index, index / fps, facs.rest(), facs.rest(), True))
    finally:
        if recorder is not None:
            recorder.close()


class LoopingClip:
    """A clip from start to end and over again, on one clock that goes on; `slice` gives the next frames as a driver.

    Raises:
        InputError: the file is no video.
    """

    is_live = False

    def __init__(self, path: Path) -> None:
        self.name, self._path, self._is_closed = str(path), path, False
        with closing(VideoFile(path)) as first:
            self.fps = first.fps or FPS
        self._frames = self._loop()

    def slice(self, frames: int, stats: Stats) -> ClipSlice:
        """The next frames; each one's decoding is timed as stage "decode"."""
        return ClipSlice(self, itertools.islice(self._frames, frames), stats)

    def frames(self) -> Iterator[Frame]:
        """All frames, without end."""
        return self._frames

    def close(self) -> None:
        self._frames.close()

    def _loop(self) -> Iterator[Frame]:
        index = 0
        while True:
            with closing(VideoFile(self._path)) as clip:
                for frame in clip.frames():
                    yield replace(frame, index=index, time_s=index / self.fps)
                    index += 1


class ClipSlice:
    """A few frames of a looping clip, as a driver that ends."""

    is_live = False

    def __init__(self, clip: LoopingClip, frames: Iterator[Frame], stats: Stats) -> None:
        self.name, self.fps, self._frames, self._stats = clip.name, clip.fps, frames, stats

    def frames(self) -> Iterator[Frame]:
        while True:
            start_s = time.perf_counter()
            frame = next(self._frames, None)
            if frame is None:
                return
            self._stats.add("decode", (time.perf_counter() - start_s) * 1e3)
            yield frame

    def close(self) -> None:
        """The clip stays open for the next slice."""
