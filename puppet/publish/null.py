"""Publishes to nobody: to measure, or to write only a recording."""

from __future__ import annotations

from collections.abc import Sequence

from puppet.publish import Command, Rendering


class Null:
    """Takes renderings and drops them."""

    name = "null"

    def __init__(self, *, size: tuple[int, int], fps: float, device: str | None = None) -> None:
        pass

    def publish(self, rendering: Rendering) -> None:
        pass

    def commands(self) -> Sequence[Command]:
        return ()

    def close(self) -> None:
        pass
