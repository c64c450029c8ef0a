"""Pictures as driver: those of a folder in the order of their names, or a single one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from puppet.capture import Frame
from puppet.input_file import pictures_in
from puppet.picture import SUFFIXES, decode


class ImageFolder:
    """Pictures of a folder, or one picture, at a constant rate.

    Raises:
        InputError: the folder can't be read or holds no pictures.
    """

    is_live = False

    def __init__(self, path: Path, *, fps: float) -> None:
        self.name, self.fps = str(path), fps
        self._paths = pictures_in(path, SUFFIXES) if path.is_dir() else [path]

    def frames(self) -> Iterator[Frame]:
        """All pictures.

        Raises:
            InputError: one of them can't be read.
        """
        for index, path in enumerate(self._paths):
            yield Frame(decode(path), index, index / self.fps, time.perf_counter())

    def close(self) -> None:
        """Nothing is held open."""
