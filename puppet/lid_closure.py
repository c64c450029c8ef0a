"""How far lids have come down, seen from how high the tracked eye still stands against the same eye open.

The tracker never sees an eye quite shut: it leaves a slit a fifth as high as the open eye.
"""

from __future__ import annotations

import numpy as np

from puppet import facs
from puppet.landmarks import LIDS

SIDES = "LR"
AU45 = [facs.INDEX[f"AU45_{side}"] for side in SIDES]
"""Where a control has what `lid_closure` says, in the same order."""
SEEN_WHEN_SHUT = 0.2
"""Of an open eye's height."""
_UPPER, _LOWER = (np.array(lids) for lids in zip(*(LIDS[side] for side in SIDES), strict=True))
_MIDDLE = slice(3, 6)


def lid_closure(landmarks: np.ndarray, awake: np.ndarray) -> np.ndarray:
    """`(..., 2)` of the person's left and right eye: what share of it is really closed, 0-1.

    `landmarks` and `awake` `(..., 478, 2 or 3)` are of one person, the second with open eyes, in any unit.
    """
    left_open = lid_heights(landmarks) / np.maximum(lid_heights(awake), 1e-3)
    return np.clip((1 - left_open) / (1 - SEEN_WHEN_SHUT), 0, 1)


def lid_heights(landmarks: np.ndarray) -> np.ndarray:
    """`(..., 2)` of the left and right eye: height of its middle in widths of the eye, in the picture's plane.

    `landmarks` `(..., 478, 2 or 3)`, in any unit.
    """
    points = landmarks[..., :2]
    upper, lower = points[..., _UPPER, :], points[..., _LOWER, :]
    apart = (lower - upper)[..., _MIDDLE, :]
    across = upper[..., -1, :] - upper[..., 0, :]
    return np.linalg.norm(apart, axis=-1).mean(-1) / np.maximum(np.linalg.norm(across, axis=-1), 1e-3)
