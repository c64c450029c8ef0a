"""Lids: AU45 says what share of the eye is closed, whatever cheeks, brows and gaze do to the lids besides.

A smile that relaxes opens the eye, a raised lid lifts it from its rest: full closure closes it all the same.
"""

from __future__ import annotations

import numpy as np

from puppet import facs
from puppet.generate.anatomy import Anatomy
from puppet.landmarks import LIDS


class Lids:
    """Closes the lids of one portrait."""

    def __init__(self, anatomy: Anatomy) -> None:
        self._eyes = []  # the closing column, its place in a control, what each action adds in heights at rest
        for side in LIDS:
            if (lid := lid_openings(anatomy, side)) is not None:
                rest, opens = lid
                name = f"AU45_{side}"
                self._eyes.append((anatomy.actions.index(name), facs.INDEX[name], opens / rest))

    def close(self, weights: np.ndarray, control: np.ndarray) -> np.ndarray:
        """`(K,)` weights whose lid closure takes the asked share of the opening that the other actions leave."""
        out = weights.copy()
        for column, place, opens in self._eyes:
            out[column] = 0.0
            # Where the others leave the eye widest decides: elsewhere lids may press on each other.
            left = 1 + float((out @ opens).max())
            out[column] = control[place] / facs.MAX_INTENSITY * max(left, 0.0)
        return out


def lid_openings(anatomy: Anatomy, side: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Height `(n,)` px of an eye along its middle at rest, and what each action adds `(K, n)`; None: it is shut."""
    upper, lower = LIDS[side]
    above, below = list(upper[2:-2]), list(lower[2:-2])
    rest = anatomy.points_px[below, 1] - anatomy.points_px[above, 1]
    if rest.min() < 1.0:
        return None
    return rest, anatomy.action_px[:, below, 1] - anatomy.action_px[:, above, 1]
