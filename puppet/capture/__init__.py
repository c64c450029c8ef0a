"""Capture: pictures of the driver, or a track that stands in for them.

A driver gives `Frame`s (camera, video, folder: they are tracked next) or `Observation`s (demo, AU track: they are not).
`open_driver` makes one from the `--driver` text; modules are imported when their driver is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from puppet.errors import InputError
from puppet.input_file import kind_of
from puppet.picture import SUFFIXES


@dataclass(frozen=True)
class Frame:
    """One picture of the driver."""

    rgb: np.ndarray  # (H, W, 3) uint8, owned by the frame
    index: int  # 0 for the first
    time_s: float  # on the driver's own clock: a clip's presentation time, a camera's time since it was opened
    captured_s: float  # time.perf_counter() when it was captured, or read from the file


@dataclass(frozen=True)
class Observation:
    """What was seen in one frame, or one row of a track."""

    control: np.ndarray | None  # (SIZE,) float32 absolute estimate, or a track's performance; None: no face
    confidence: float  # 0-1
    index: int
    time_s: float
    captured_s: float


class FrameDriver(Protocol):
    """Pictures of a driver."""

    name: str  # as shown to the user
    fps: float | None  # None: not known before frames come
    is_live: bool  # a camera: it can't be read faster than it gives, and never ends by itself

    def frames(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


class TrackDriver(Protocol):
    """A performance that was recorded or scripted: needs neither tracker nor calibration."""

    name: str
    fps: float

    def observations(self) -> Iterator[Observation]: ...

    def close(self) -> None: ...


def open_driver(text: str, *, camera_size: tuple[int, int], fps: float | None) -> FrameDriver | TrackDriver:
    """The driver named by `--driver`; `fps` is asked from a camera and given to images and the demo (None: 30).

    Raises:
        InputError: a file that is missing or can't be read.
        DeviceError: a camera that is missing or busy.
    """
    kind, _, number = text.partition(":")
    if kind == "camera" and (not number or number.isdecimal()):
        from puppet.capture.camera import Camera

        return Camera(int(number) if number else None, size=camera_size, fps=fps or 30.0)
    if text == "demo":
        from puppet.capture.recorded import DemoTrack

        return DemoTrack(fps=fps or 30.0)
    path = Path(text)
    kind = kind_of(path)
    if kind == "missing":
        raise InputError(
            f"--driver {text}: no such file. Expected camera, camera:N, demo, a video, a folder or a .csv."
        )
    if kind == "special":
        raise InputError(
            f"--driver {text} is a pipe or a device: expected a file. A camera is camera or camera:N; "
            "`python -m puppet devices` lists them."
        )
    if kind == "folder" or path.suffix.lower() in SUFFIXES:
        from puppet.capture.images import ImageFolder

        return ImageFolder(path, fps=fps or 30.0)
    if path.suffix.lower() == ".csv":
        from puppet.capture.recorded import RecordedTrack

        return RecordedTrack(path)
    from puppet.capture.video import VideoFile

    return VideoFile(path)
