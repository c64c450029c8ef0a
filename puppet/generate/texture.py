"""Texture: the place of a learned step that paints what motion uncovers.

After GANimation (Pumarola et al. 2018) such a step returns a colour image C and an attention mask A, and the picture is
`A * C + (1 - A) * warped`. Without one, motion and the drawn interiors stand alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from puppet.generate.slit import Opening


@dataclass(frozen=True)
class MotionPicture:
    """What the motion step hands on: `rgb` `(H, W, 3)` uint8, the warped canvas with the interiors drawn, not to be
    written to, and the `openings` of the eyes ('R', 'L') and the 'mouth'."""

    rgb: np.ndarray
    openings: dict[str, Opening]


class TextureStep(Protocol):
    """A network that repaints part of the picture."""

    def paint(self, picture: MotionPicture, control: np.ndarray) -> list[Patch]:
        """Colour and attention for some rectangles of the picture."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Patch:
    """`colour` `(h, w, 3)` float32 0-255 and `attention` `(h, w)` float32 0-1 for the rectangle at `origin` (x, y)."""

    origin: tuple[int, int]
    colour: np.ndarray
    attention: np.ndarray
