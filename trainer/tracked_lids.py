"""Where lids really are: the tracker sees a slit where an eye is shut, as high as a fifth of the open eye.

Examples whose lids stood as it says taught a network that a slit is a shut eye, so that it shut eyes which, driven by
AU45, stood a third open.
"""

from __future__ import annotations

import numpy as np

from puppet.generate.anatomy import LIDS

SEEN_WHEN_SHUT = 0.2  # of an open eye's height


def closure(landmarks_px: np.ndarray, awake_px: np.ndarray) -> dict[str, float]:
    """By side, what share of an eye is really closed, 0-1: landmarks `(478, 3)` against the person's open eyes."""
    left = {side: _height(landmarks_px, side) / max(_height(awake_px, side), 1e-3) for side in LIDS}
    return {side: float(np.clip((1 - share) / (1 - SEEN_WHEN_SHUT), 0, 1)) for side, share in left.items()}


def lowered(landmarks_px: np.ndarray, awake_px: np.ndarray, closed: dict[str, float]) -> np.ndarray:
    """The landmarks `(478, 3)` with upper lids so far down that this share of each eye is closed."""
    out = landmarks_px.copy()
    for side, (upper, lower) in LIDS.items():
        seen, wanted = _height(landmarks_px, side), (1 - closed[side]) * _height(awake_px, side)
        share = min(1.0, wanted / max(seen, 1e-3)) if closed[side] > 0 else 1.0  # opened wide it may stay
        below = landmarks_px[list(lower)]
        out[list(upper)] = below + (landmarks_px[list(upper)] - below) * np.float32(share)
    return out


def _height(landmarks_px: np.ndarray, side: str) -> float:
    """Of the eye's middle, in widths of the eye."""
    upper, lower = LIDS[side]
    high = np.linalg.norm(landmarks_px[list(lower[3:6]), :2] - landmarks_px[list(upper[3:6]), :2], axis=1).mean()
    return float(high / max(np.linalg.norm(landmarks_px[upper[-1], :2] - landmarks_px[upper[0], :2]), 1e-3))
