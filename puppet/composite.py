"""Composite: lay what was generated into the full portrait; everything else keeps the portrait's own pixels."""

from __future__ import annotations

import numpy as np

from puppet.generate.texture import Patch


def blend(rgb: np.ndarray, patch: Patch) -> None:
    """`A * C + (1 - A) * rgb` on the patch's rectangle, in place; `rgb` is `(H, W, 3)` uint8."""
    x, y = patch.origin
    height, width = patch.attention.shape
    under = rgb[y : y + height, x : x + width]
    mixed = under + (patch.colour - under) * patch.attention[..., None]
    # Where nothing was painted the pixel stays as it is, to the bit.
    np.copyto(under, np.clip(np.rint(mixed), 0, 255).astype(np.uint8), where=patch.attention[..., None] > 0)


def into_still(still: np.ndarray, region: tuple[int, int, int, int], moved: np.ndarray) -> np.ndarray:
    """A new `(H, W, 3)` uint8 picture: the still with `moved` in `region` (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = region
    out = still.copy()
    out[y0:y1, x0:x1] = moved
    return out
