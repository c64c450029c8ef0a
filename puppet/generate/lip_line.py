"""Lip line: the shadow where lips meet which the portrait shows apart.

A mouth that smiles in its picture has no such line to be moved: closed, its lips would be one piece of skin.
"""

from __future__ import annotations

import cv2
import numpy as np

from puppet.generate.slit import CORNER_PX, FULLY_MOVED_PX, Slit, SlitMotion

LINE_DARK = np.array([0.26, 0.35, 0.36], np.float32)
"""Share of red, green and blue that it takes away."""
LINE_WIDTH = 0.018  # standard deviation, of the mouth's width
MEETING_PX = (0.5, 3.5)  # lips that are nearer than the first have met, at the second there is no line yet


class LipLine:
    """Of one portrait; `None` from `of` where its own lips meet."""

    def __init__(self, slit: Slit) -> None:
        self.rest_gap_px = float(slit.rest.table[:, 1].max())
        self.width_px = slit.rest.width

    @classmethod
    def of(cls, slit: Slit) -> LipLine | None:
        line = cls(slit)
        return line if line.rest_gap_px > 0 else None

    def amount(self, gap_px: float) -> float:
        """0 to 1 for lips that are `gap_px` apart at most."""
        left, met = MEETING_PX[1] - gap_px, MEETING_PX[1] - MEETING_PX[0]
        closed = (self.rest_gap_px - gap_px) / FULLY_MOVED_PX
        return float(np.clip(closed, 0, 1) * np.clip(left / met, 0, 1))

    def draw(self, moved: np.ndarray, motion: SlitMotion, region: tuple[int, int, int, int]) -> None:
        """Darken skin `moved` `(h, w, 3)` uint8, which is the canvas's `region` (x0, y0, x1, y1), in place."""
        amount = self.amount(motion.gap_px)
        if not amount:
            return
        x0, y0, x1, _ = motion.window
        left, top, right, bottom = region
        first, last = (y0 + row for row in motion.band)
        x_from, y_from, x_to, y_to = max(x0, left), max(first, top), min(x1, right), min(last, bottom)
        if x_to <= x_from or y_to <= y_from:
            return
        shown = (slice(y_from - first, y_to - first), slice(x_from - x0, x_to - x0))
        away = motion.seam_px[shown] * np.float32(1 / (LINE_WIDTH * self.width_px))
        line = cv2.exp(away * away * np.float32(-0.5))
        corner = (1 - np.abs(motion.along[shown])) * np.float32(self.width_px / (2 * CORNER_PX))
        line *= np.clip(corner, 0, 1) * np.float32(amount)
        skin = moved[y_from - top : y_to - top, x_from - left : x_to - left]
        skin[...] = cv2.multiply(skin, 1 - line[..., None] * LINE_DARK, dtype=cv2.CV_8U)
