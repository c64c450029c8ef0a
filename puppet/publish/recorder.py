"""`--record`: H.264 in an mp4 that ordinary players open, also when the process is killed."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from puppet.errors import DeviceError
from puppet.memory import give_back
from puppet.provenance import Provenance
from puppet.publish import Command, Rendering

log = logging.getLogger(__name__)

TIME_BASE = Fraction(1, 90_000)
BT709 = 1  # H.264 table E-3: what players assume for pictures of this size when nothing is said, so we say it
KEYFRAME_S = 1.0  # a killed process loses at most this much
WAITING_FRAMES = 8

Sign = Callable[[Path, Sequence[Provenance]], None]
"""Puts credentials into a finished recording of these portraits; raises nothing that the recorder must know."""


class Recorder:
    """Encodes in a thread of its own.

    `may_drop=True` (live): a slow disk loses frames of the recording, never of the show. Otherwise `publish` waits.
    `sign` is called in that thread once the file is whole.

    Raises:
        DeviceError: the file can't be written; in `publish` and `close`, what was written before is kept.
    """

    def __init__(
        self, path: Path, *, size: tuple[int, int], fps: float, may_drop: bool, sign: Sign | None = None
    ) -> None:
        self.name, self.path, self.dropped = str(path), path, 0
        self._may_drop, self._sign = may_drop, sign
        self._portraits: list[Provenance] = []  # in the order in which they were seen
        try:
            # Flushed, so that a fragment that is finished lies in the file whole.
            flags = {"movflags": _movflags(), "flush_packets": "1"}
            self._container = av.open(str(path), "w", format="mp4", options=flags)
            self._stream = _add_stream(self._container, size, fps)
            self._container.start_encoding()  # opens the file
        except (av.error.FFmpegError, OSError) as error:
            raise DeviceError(f"--record {path} can't be written: {_reason(error)}. Choose another place.") from error
        self._last_pts = -1
        self._error: BaseException | None = None
        self._is_told = self._is_finishing = False
        self._waiting: queue.Queue[Rendering | None] = queue.Queue(WAITING_FRAMES)
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    def publish(self, rendering: Rendering) -> None:
        self._raise_error()
        try:
            self._waiting.put(rendering, block=not self._may_drop)
        except queue.Full:
            if not self.dropped:
                log.warning("recording %s can't keep up: frames are left out of it.", self.path)
            self.dropped += 1

    def commands(self) -> Sequence[Command]:
        return ()

    def close(self) -> None:
        """Write what waits, finish the file and sign it."""
        self.finish()
        self._thread.join()
        self._raise_error()

    def finish(self) -> None:
        """Begin what `close` waits for."""
        if not self._is_finishing:
            self._is_finishing = True
            self._waiting.put(None)

    @property
    def is_finished(self) -> bool:
        """Whether `close` would return at once."""
        return not self._thread.is_alive()

    def _raise_error(self) -> None:
        error = self._error
        if error is not None and not self._is_told:
            self._is_told = True
            raise DeviceError(
                f"recording {self.path} stopped: {_reason(error)}. What was written before can be played."
            ) from error

    def _run(self) -> None:
        """Encode until told to stop; after an error, only empty the queue, so that `publish` never waits for us."""
        is_writing = True
        while (item := self._waiting.get()) is not None:
            if not is_writing:
                continue
            try:
                self._encode(item)
            except (av.error.FFmpegError, OSError) as error:
                self._error, is_writing = error, False
        try:
            if is_writing:
                self._container.mux(self._stream.encode(None))
            self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            self._error = self._error or error
        if self._error is None and self._sign is not None:
            self._sign(self.path, self._portraits)
        give_back()

    def _encode(self, rendering: Rendering) -> None:
        if rendering.portrait is not None and rendering.portrait not in self._portraits:
            self._portraits.append(rendering.portrait)
        frame = av.VideoFrame.from_ndarray(_labelled(rendering), format="rgb24").reformat(
            format="yuv420p",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
        )
        self._last_pts = frame.pts = max(round(rendering.time_s / TIME_BASE), self._last_pts + 1)
        frame.time_base = TIME_BASE
        self._container.mux(self._stream.encode(frame))


def _labelled(rendering: Rendering) -> np.ndarray:
    """The picture, with a bar that says so where it is not the portrait but the driver's own camera."""
    if rendering.own_camera is None:
        return rendering.rgb
    from puppet.publish.overlay import Overlay

    return Overlay().alarm(rendering.rgb, "THE DRIVER'S OWN CAMERA")


def _add_stream(container: av.container.OutputContainer, size: tuple[int, int], fps: float) -> av.VideoStream:
    rate = Fraction(fps).limit_denominator(1001)
    stream = container.add_stream("libx264", rate=rate, options={"preset": "superfast", "crf": "18"})
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.gop_size = max(1, round(fps * KEYFRAME_S))
    context = stream.codec_context
    context.time_base = TIME_BASE
    context.thread_count = 1  # 1.5 instead of 1.8 ms of processor time a frame at 512 x 512
    context.max_b_frames = 0  # they would delay the first frame's time, as fragments have no edit list
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = ColorRange.MPEG
    return stream


def _movflags() -> str:
    """Fragments while recording, so that a cut file plays; a plain mp4 once it is finished, where FFmpeg 7.1 is."""
    flags = "frag_keyframe+empty_moov+default_base_moof"
    return f"{flags}+hybrid_fragmented" if av.library_versions["libavformat"] >= (61, 7) else flags


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
