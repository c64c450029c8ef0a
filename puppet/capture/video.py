"""A video file as driver, decoded by PyAV: every frame, in order, with its own time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from puppet.capture import Frame
from puppet.errors import InputError

log = logging.getLogger(__name__)

TRACKING_SIDE_PX = 960
"""Longer pictures are scaled down while decoding: the tracker looks at 256 x 256 of a face, and copies cost time."""


class VideoFile:
    """Frames of a video's first video stream.

    Raises:
        InputError: the file is not a video, or holds no pictures.
    """

    is_live = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._is_closed = False
        try:
            self._container = av.open(str(path))
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(
                f"{path} can't be read as a video: {error.strerror or error}. Expected a file that ffprobe can read."
            ) from error
        if not self._container.streams.video:
            self._container.close()
            raise InputError(f"{path} holds no video stream: give a clip of a face.")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate else None

    def frames(self) -> Iterator[Frame]:
        """All frames that can be decoded; damaged ones are left out with one warning.

        Raises:
            InputError: not a single frame can be decoded.
        """
        index, last_s, broken = 0, -1.0, 0
        for picture in self._decoded():
            if picture is None:
                broken += 1
                continue
            time_s = picture.time if picture.time is not None else index / (self.fps or 30.0)
            time_s = max(time_s, last_s + 1e-4)  # clips with broken clocks still go forward
            yield Frame(_rgb(picture), index, time_s, time.perf_counter())
            index, last_s = index + 1, time_s
            if self._is_closed:
                return
        if index == 0:
            raise InputError(
                f"{self.name} is damaged: none of its frames can be decoded. Give another copy of the clip."
            )
        if broken:
            log.warning(
                "%s is damaged: %d packets could not be decoded, %d frames were read.", self.name, broken, index
            )

    def close(self) -> None:
        """Frames end; the file itself is closed by the thread that reads it, or here if none does."""
        self._is_closed = True

    def _decoded(self) -> Iterator[av.VideoFrame | None]:
        """Decoded frames, None for each packet that is damaged."""
        with self._container:
            packets = self._container.demux(self._stream)
            while not self._is_closed:
                try:
                    packet = next(packets, None)
                    if packet is None:
                        return
                    pictures = packet.decode()
                except av.error.FFmpegError:
                    if packets.gi_frame is None:  # the demuxer itself gave up: a cut file
                        yield None
                        return
                    yield None
                    continue
                yield from pictures


def _rgb(picture: av.VideoFrame) -> np.ndarray:
    """`(H, W, 3)` uint8, upright, at most TRACKING_SIDE_PX long."""
    scale = min(1.0, TRACKING_SIDE_PX / max(picture.width, picture.height))
    width, height = round(picture.width * scale), round(picture.height * scale)
    rgb = picture.reformat(width=width, height=height, format="rgb24").to_ndarray()
    turns = round(picture.rotation / 90) % 4  # counter-clockwise, as phones write it
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb
