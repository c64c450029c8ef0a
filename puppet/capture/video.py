"""A video file as driver, decoded by PyAV: every frame, in order, with its own time.

What a file claims is bounded before it is believed: which formats are opened at all (no playlists, which name other
files and addresses), how many pixels a picture has, how fast and how far its clock goes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from puppet.capture import Frame
from puppet.capture.pace import without_gaps
from puppet.errors import InputError
from puppet.input_file import reason, require_file

log = logging.getLogger(__name__)

TRACKING_SIDE_PX = 960
"""Longer pictures are scaled down while decoding: the tracker looks at 256 x 256 of a face, and copies cost time."""

MAX_PIXELS = 8192 * 4608  # 8K
MAX_BYTES = 1 << 40
FPS_RANGE = (1.0, 240.0)
_FORMATS = (
    "mov", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo", "m4v", "h264", "hevc", "av1", "obu", "ivf", "vvc",
    "flv", "ogg", "asf", "gif", "apng", "mjpeg", "mpjpeg", "mxf", "nut", "dv", "wtv", "rm", "yuv4mpegpipe",
)  # fmt: skip
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": ",".join(_FORMATS),
    "max_pixels": str(MAX_PIXELS),
    "max_streams": "64",
}
# Besides FFmpeg's errors: numbers of a file that Python can't hold, as a rate of 1/0.
_FAILURES = (av.error.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError)


class VideoFile:
    """Frames of a video's first video stream.

    Raises:
        InputError: the file is not a video, or holds no pictures.
    """

    is_live = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._is_closed = False
        require_file(path, expected="a video", max_bytes=MAX_BYTES)
        try:
            # With its scheme, or a name such as "concat:a|b" would be one.
            self._container = av.open(f"file:{path}", options=_OPTIONS, metadata_errors="replace")
        except _FAILURES as error:
            raise InputError(
                f"{path} can't be read as a video: {reason(error)}. Expected a file that ffprobe can read."
            ) from error
        if not self._container.streams.video:
            self._container.close()
            raise InputError(f"{path} holds no video stream: give a clip of a face.")
        self._stream = self._container.streams.video[0]
        if self._stream.codec_context is None:
            self._container.close()
            raise InputError(f"{path} is written in a way that can't be decoded here. Save it as H.264.")
        self._stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        self._stream.thread_type = "AUTO"
        self.fps = _rate(self._stream)

    def frames(self) -> Iterator[Frame]:
        """All frames that can be decoded; damaged ones are left out with one warning.

        Raises:
            InputError: not a single frame can be decoded.
        """
        yield from without_gaps(self._frames(), self.name)

    def close(self) -> None:
        """Frames end; the file itself is closed by the thread that reads it, or here if none does."""
        self._is_closed = True

    def _frames(self) -> Iterator[Frame]:
        index, last_s, broken = 0, -1.0, 0
        for picture in self._decoded():
            rgb = None if picture is None else _rgb(picture)
            if rgb is None:
                broken += 1
                continue
            time_s = _time_s(picture)
            time_s = index / (self.fps or 30.0) if time_s is None else time_s
            time_s = max(time_s, last_s + 1e-4)  # clips with broken clocks still go forward
            yield Frame(rgb, index, time_s, time.perf_counter())
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
                except _FAILURES:
                    if packets.gi_frame is None:  # the demuxer itself gave up: a cut file
                        yield None
                        return
                    yield None
                    continue
                yield from pictures


def _rate(stream: av.VideoStream) -> float | None:
    """Frames a second, None where the file says none or an absurd one."""
    try:
        rate = float(stream.average_rate or stream.guessed_rate or 0)
    except ArithmeticError:
        return None
    return rate if FPS_RANGE[0] <= rate <= FPS_RANGE[1] else None


def _time_s(picture: av.VideoFrame) -> float | None:
    try:
        return picture.time
    except ArithmeticError:
        return None


def _rgb(picture: av.VideoFrame) -> np.ndarray | None:
    """`(H, W, 3)` uint8, upright, at most TRACKING_SIDE_PX long; None where it can't be converted."""
    if picture.width * picture.height > MAX_PIXELS:
        return None
    scale = min(1.0, TRACKING_SIDE_PX / max(picture.width, picture.height, 1))
    width, height = (max(1, round(side * scale)) for side in (picture.width, picture.height))
    try:
        rgb = picture.reformat(width=width, height=height, format="rgb24").to_ndarray()
        turns = round(picture.rotation / 90) % 4  # counter-clockwise, as phones write it
    except _FAILURES:
        return None
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb
