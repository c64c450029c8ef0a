"""`--au-log`: one CSV row a frame, in OpenFace's columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from puppet.openface import TrackWriter
from puppet.publish import Command, Rendering


class AuLog:
    """Writes the performance, before gains and mutes, so that it can drive any portrait again.

    Raises:
        DeviceError: the file can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._writer = TrackWriter(path)

    def publish(self, rendering: Rendering) -> None:
        self._writer.write(
            rendering.performance,
            frame=rendering.index,
            time_s=rendering.time_s,
            confidence=rendering.confidence,
            has_face=rendering.has_face,
        )

    def commands(self) -> Sequence[Command]:
        return ()

    def close(self) -> None:
        self._writer.close()
