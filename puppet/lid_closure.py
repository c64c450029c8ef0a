"""How far lids have come down, seen from how high the tracked eye still stands against the same eye open.

The tracker never sees an eye quite shut: it leaves a slit a fifth as high as the open eye.
"""

from __future__ import annotations

import numpy as np

from puppet.landmarks import LIDS

SIDES = "RL"
SEEN_WHEN_SHUT = 0.2
"""Of an open eye's height."""
_MIDDLE = slice(3, 6)


def lid_closure(landmarks: np.ndarray, awake: np.ndarray) -> np.ndarray:
    """`(..., 2)` of the person's right and left eye: what share of it is really closed, 0-1.

    `landmarks` and `awake` `(..., 478, 2 or 3)` are of one person, the second with open eyes, in any unit.
    """
    left = lid_heights(landmarks) / np.maximum(lid_heights(awake), 1e-3)
    return np.clip((1 - left) / (1 - SEEN_WHEN_SHUT), 0, 1)


def lid_heights(landmarks: np.ndarray) -> np.ndarray:
    """`(..., 2)` of the right and left eye: height of its middle in widths of the eye, in the picture's plane."""
    points = np.asarray(landmarks)[..., :2]
    heights = []
    for side in SIDES:
        upper, lower = (points[..., list(lid), :] for lid in LIDS[side])
        high = np.linalg.norm(lower[..., _MIDDLE, :] - upper[..., _MIDDLE, :], axis=-1).mean(-1)
        wide = np.linalg.norm(upper[..., -1, :] - upper[..., 0, :], axis=-1)
        heights.append(high / np.maximum(wide, 1e-3))
    return np.stack(heights, -1)
