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
    """What the motion step hands on.

    `rgb` `(H, W, 3)` uint8 is the warped canvas with the interiors drawn. `openings` and `corners` have the eyes ('R'
    and 'L') and the 'mouth'; an opening is missing where it has left the canvas. `corners` `(2, 2)` px are where the
    slit's resting corners stand when the head alone moves: the person's right and left of the mouth, the outer and
    inner of an eye.
    """

    rgb: np.ndarray
    openings: dict[str, Opening]
    corners: dict[str, np.ndarray]


@dataclass(frozen=True)
class Patch:
    """`colour` `(h, w, 3)` float32 0-255, finite, and `attention` `(h, w)` float32 0-1 for the rectangle at `origin`
    (x, y)."""

    origin: tuple[int, int]
    colour: np.ndarray
    attention: np.ndarray


class TextureStep(Protocol):
    """Repaints part of the picture of one portrait."""

    def paint(self, picture: MotionPicture, control: np.ndarray) -> list[Patch]:
        """Colour and attention for some rectangles of the picture, which is not written to."""
        ...

    def close(self) -> None: ...


class TextureModel(Protocol):
    """What serves any portrait."""

    def prepare(self, rest: MotionPicture) -> TextureStep:
        """The step for one portrait, which is given at rest: what depends on it alone is computed here."""
        ...
