"""All sinks of a run together: opened with what is there, and one that fails does not stop the others."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from puppet.errors import DeviceError, PuppetError
from puppet.own_view import Lease
from puppet.publish import Command, Rendering, Sink, open_sink
from puppet.publish.badge import Badge

if TYPE_CHECKING:
    from puppet.publish.recorder import Recorder, Sign

log = logging.getLogger(__name__)


class Outputs:
    """Sinks of one run.

    `is_live`: a sink that fails is closed, remembered in `failures` and left out. Otherwise its error is raised.
    `has_badge`: every picture says "puppet" in a corner, whichever sink it goes to. `sign`: see `Recorder`.
    `publish` may be called in another thread than the rest. `opener` makes sinks as `open_sink` does.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int],
        fps: float,
        is_live: bool,
        has_badge: bool = False,
        sign: Sign | None = None,
        opener: Callable[..., Sink] | None = None,
    ) -> None:
        self._size, self._fps, self._is_live, self._sign = size, fps, is_live, sign
        self._open_sink = opener or open_sink
        self._badge = Badge(size) if has_badge else None
        self._badged: tuple[np.ndarray, np.ndarray] | None = None  # the last picture without and with it
        self._sinks: list[Sink] = []
        self._recorder: Recorder | None = None
        self._finishing: list[Recorder] = []
        self.failures: list[PuppetError] = []

    @property
    def names(self) -> list[str]:
        return [sink.name for sink in self._sinks]

    @property
    def is_recording(self) -> bool:
        return self._recorder is not None

    @property
    def has_windows(self) -> bool:
        return any(_is_window(sink) for sink in self._sinks)

    @property
    def lease(self) -> Lease | None:
        """What a sink has to show the driver's own camera, or None."""
        leases = (getattr(sink, "lease", None) for sink in list(self._sinks))
        return next((lease for lease in leases if lease is not None), None)

    def open(self, texts: Sequence[str], *, record: Path | None = None, au_log: Path | None = None) -> None:
        """Open what is asked for. A device that is missing is named and left out; a file has to open.

        Raises:
            DeviceError: a file can't be written, or nothing is left to publish to.
        """
        if record is not None:
            self.start_recording(record)
        if au_log is not None:
            from puppet.publish.au_log import AuLog

            self._sinks.append(AuLog(au_log))
        for text in texts:
            try:
                self._sinks.append(self._open_sink(text, size=self._size, fps=self._fps))
            except DeviceError as error:
                log.warning("%s", error)
        if not self._sinks:
            raise DeviceError(
                f"nothing is left to publish to: {', '.join(texts)} could not be opened. "
                "Add --record out.mp4 to write a file, or --output null to only measure."
            )

    def publish(self, rendering: Rendering) -> None:
        """To all sinks but windows, in order.

        Raises:
            PuppetError: a sink failed, and this is not live, or it was the last one.
        """
        self._close_finished()
        self._hand_out(rendering, to_windows=False)

    def show(self, rendering: Rendering) -> None:
        """To the windows; call it in the main thread.

        Raises:
            PuppetError: as `publish`.
        """
        self._hand_out(rendering, to_windows=True)

    def commands(self) -> list[Command]:
        """What the user asked for since the last call; call it in the main thread."""
        return [command for sink in list(self._sinks) for command in sink.commands()]

    def start_recording(self, path: Path | None = None) -> Path:
        """Record to `path`, or to a new file named after the time, in the working folder.

        Raises:
            DeviceError: it can't be written.
        """
        from puppet.publish.recorder import Recorder

        path = path or _new_name()
        self._recorder = Recorder(path, size=self._size, fps=self._fps, may_drop=self._is_live, sign=self._sign)
        self._sinks.append(self._recorder)
        return path

    def stop_recording(self) -> None:
        """Finish the file beside the show, which does not wait for it."""
        recorder, self._recorder = self._recorder, None
        if recorder in self._sinks:
            self._sinks.remove(recorder)
            self._finishing.append(recorder)
            recorder.finish()

    def close(self) -> None:
        """Finish all files. What fails now is remembered, after all others were finished."""
        while self._sinks:
            self._close(self._sinks.pop())
        while self._finishing:
            self._close(self._finishing.pop())

    def _close_finished(self) -> None:
        for recorder in [recorder for recorder in self._finishing if recorder.is_finished]:
            self._finishing.remove(recorder)
            self._close(recorder)

    def _hand_out(self, rendering: Rendering, *, to_windows: bool) -> None:
        sinks = [sink for sink in list(self._sinks) if _is_window(sink) is to_windows]
        if sinks and self._badge is not None and rendering.own_camera is None:
            rendering = replace(rendering, rgb=self._with_badge(rendering.rgb))
        for sink in sinks:
            try:
                sink.publish(rendering)
            except PuppetError as error:
                self._leave_out(sink, error)

    def _with_badge(self, rgb: np.ndarray) -> np.ndarray:
        """The picture with the badge: the same array again for the same picture again."""
        badged = self._badged
        if badged is None or badged[0] is not rgb:
            self._badged = badged = rgb, self._badge.on(rgb)
        return badged[1]

    def _leave_out(self, sink: Sink, error: PuppetError) -> None:
        if sink not in self._sinks:
            return  # it was stopped meanwhile
        self._sinks.remove(sink)
        if sink is self._recorder:
            self._recorder = None
        self._close(sink)
        if not self._is_live or not self._sinks:
            raise error
        log.warning("%s", error)
        self.failures.append(error)

    def _close(self, sink: Sink) -> None:
        try:
            sink.close()
        except PuppetError as error:
            log.warning("%s", error)
            self.failures.append(error)


def _new_name() -> Path:
    """A name after the time, in the working folder, that no recording has: one may still be being signed."""
    name = time.strftime("puppet-%Y%m%d-%H%M%S")
    names = itertools.chain([f"{name}.mp4"], (f"{name}-{i}.mp4" for i in itertools.count(2)))
    return next(path for path in map(Path, names) if not path.exists())


def _is_window(sink: Sink) -> bool:
    return getattr(sink, "is_window", False)
