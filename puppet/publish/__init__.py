"""Publish: renderings to a virtual camera, a window, a file or nowhere.

A sink is a class with the two methods of `Sink`; a name in `SINKS` makes it one for `--output`. The loop knows no more.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from puppet.own_view import Lease
from puppet.provenance import Provenance


@dataclass(frozen=True)
class Rendering:
    """One published frame and what is known about it. Sinks read it and change nothing."""

    rgb: np.ndarray  # (H, W, 3) uint8, C-contiguous, of the size the sinks were opened with
    index: int
    time_s: float  # presentation time, increasing, 0 near the start
    performance: np.ndarray  # (SIZE,) float32, what the driver did, calibrated and smoothed, before retargeting
    control: np.ndarray  # (SIZE,) float32, what drove the portrait
    has_face: bool
    confidence: float = 1.0
    latency_ms: float | None = None  # capture to publish; None where nothing new was captured
    fps: float = 0.0  # measured over the last second
    note: str = ""  # one line for the user, as in "recording to out.mp4"
    portrait: Provenance | None = None  # the file behind it, where that is known
    captured_s: float | None = None  # time.perf_counter() of what it shows; None where nothing new was captured
    microphone_delay_ms: float | None = None  # what sound has to be late by to go with the picture; None: not known
    own_camera: Lease | None = None  # what lets it show the driver's own camera instead of the portrait


class Command(Enum):
    """What a user may ask for through a sink that has keys."""

    CALIBRATE = "set the driver's neutral face now"
    MIRROR = "mirror left and right"
    NEXT = "next portrait"
    PREVIOUS = "previous portrait"
    HEAD = "head motion on or off"
    RECORD = "start or stop recording"
    HIDE = "show the still portrait, or move again"
    QUIT = "quit"


class Sink(Protocol):
    """Takes renderings in order, from one thread.

    The loop promises one size for the sink's whole life. The sink promises to return soon, and not to keep `rgb`
    beyond the call unless it only reads it. A sink that fails raises a PuppetError; the others go on.

    Live, the thread that publishes is not the main one, and `commands` is asked in the main one. A sink that needs the
    main thread for both, as windows do, says so by a class attribute `is_window = True`. A sink with an attribute
    `lease` that is not None asks for the driver's own camera to be shown while that lives.
    """

    name: str

    def publish(self, rendering: Rendering) -> None: ...

    def commands(self) -> Sequence[Command]:
        """What the user asked for since the last call; most sinks have nothing to say."""
        ...

    def close(self) -> None: ...


SINKS = {
    "virtualcam": "puppet.publish.virtualcam:VirtualCamera",
    "preview": "puppet.publish.preview:Preview",
    "null": "puppet.publish.null:Null",
}
"""`--output` name -> class, imported when chosen; made with `size`, `fps` and `device` (the text after the colon)."""


def open_sink(text: str, *, size: tuple[int, int], fps: float) -> Sink:
    """The sink named by `--output`, as in 'virtualcam:/dev/video2'.

    Raises:
        DeviceError: no driver, no display, or busy.
    """
    kind, _, device = text.partition(":")
    module, _, name = SINKS[kind].partition(":")
    return getattr(importlib.import_module(module), name)(size=size, fps=fps, device=device or None)
