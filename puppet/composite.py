"""Composite: lay what was generated into the full portrait; everything else keeps the portrait's own pixels."""

from __future__ import annotations

import cv2
import numpy as np

from puppet.generate.layers import mix
from puppet.generate.texture import Patch


def blend(rgb: np.ndarray, patch: Patch) -> None:
    """`A * C + (1 - A) * rgb` on the patch's rectangle, in place; `rgb` is `(H, W, 3)` uint8.

    Where nothing was painted the pixel stays as it is, to the bit.
    """
    x, y = patch.origin
    height, width = patch.attention.shape
    if not height * width:
        return
    under = rgb[y : y + height, x : x + width]
    before = under.astype(np.float32)
    mixed = mix(before, np.ascontiguousarray(patch.colour, np.float32), np.asarray(patch.attention, np.float32))
    under[...] = cv2.add(mixed, 0.0, dtype=cv2.CV_8U)  # rounded and limited


def into_still(still: np.ndarray, region: tuple[int, int, int, int], moved: np.ndarray) -> np.ndarray:
    """A new `(H, W, 3)` uint8 picture: the still with `moved` in `region` (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = region
    out = still.copy()
    out[y0:y1, x0:x1] = moved
    return out
