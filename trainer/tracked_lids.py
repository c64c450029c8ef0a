"""Landmarks of faces whose lids come down, with the lids where they really are.

Examples whose lids stood as the tracker says taught a network that a slit is a shut eye, so that it shut eyes which,
driven by AU45, stood a third open.
"""

from __future__ import annotations

import numpy as np

from puppet.landmarks import LIDS
from puppet.lid_closure import SIDES, lid_closure, lid_heights


def as_they_are(landmarks_px: np.ndarray, awake_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The landmarks `(478, 3)` with their lids where they really are, and the share of each eye that is closed `(2,)`.

    `awake_px` `(478, 3)` is the same person with open eyes.
    """
    closed = lid_closure(landmarks_px, awake_px)
    return lowered(landmarks_px, awake_px, closed), closed


def lowered(landmarks_px: np.ndarray, awake_px: np.ndarray, closed: np.ndarray) -> np.ndarray:
    """The landmarks `(478, 3)` with upper lids so far down that the share `closed` `(2,)` of each eye is closed.

    `closed` is of the left and right eye, as `puppet.lid_closure` says it; `awake_px` `(478, 3)` has open eyes. An eye
    of which nothing is closed stays as it is.
    """
    out = landmarks_px.copy()
    seen, wanted = lid_heights(landmarks_px), (1 - closed) * lid_heights(awake_px)
    shares = np.where(closed > 0, np.minimum(wanted / np.maximum(seen, 1e-3), 1), 1)
    for side, share in zip(SIDES, shares, strict=True):
        upper, lower = (list(lid) for lid in LIDS[side])
        out[upper] = landmarks_px[lower] + (landmarks_px[upper] - landmarks_px[lower]) * np.float32(share)
    return out
