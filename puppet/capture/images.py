"""A folder of pictures as driver, in the order of their names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2

from puppet.capture import IMAGE_SUFFIXES, Frame
from puppet.errors import InputError


class ImageFolder:
    """Pictures of a folder at a constant rate.

    Raises:
        InputError: the folder holds no pictures.
    """

    is_live = False

    def __init__(self, path: Path, *, fps: float) -> None:
        self.name, self.fps = str(path), fps
        self._paths = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not self._paths:
            raise InputError(f"{path} holds no pictures: expected files that end in {', '.join(IMAGE_SUFFIXES)}.")

    def frames(self) -> Iterator[Frame]:
        """All pictures.

        Raises:
            InputError: one of them can't be read.
        """
        for index, path in enumerate(self._paths):
            bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if bgr is None:
                raise InputError(f"{path} can't be read as a picture. Remove it, or save it again as PNG or JPEG.")
            yield Frame(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), index, index / self.fps, time.perf_counter())

    def close(self) -> None:
        """Nothing is held open."""
