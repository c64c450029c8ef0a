"""Lids: AU45 says what share of the eye is closed, whatever cheeks, brows and gaze do to the lids besides.

A smile that relaxes opens the eye, a raised lid lifts it from its rest: full closure closes it all the same.
"""

from __future__ import annotations

import numpy as np

from puppet import facs
from puppet.generate.anatomy import LIDS, Anatomy


def close_lids(weights: np.ndarray, control: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """`(K,)` weights whose lid closure takes the asked share of the opening that the other actions leave."""
    out = weights.copy()
    for side in LIDS:
        column = anatomy.actions.index(f"AU45_{side}")
        if (lid := lid_openings(anatomy, side)) is None:
            continue
        rest, opens = lid
        out[column] = 0.0
        # Where the others leave the eye widest decides: elsewhere lids may press on each other.
        left = float(((rest + out @ opens) / rest).max())
        share = control[facs.INDEX[f"AU45_{side}"]] / facs.MAX_INTENSITY
        out[column] = share * max(left, 0.0)
    return out


def lid_openings(anatomy: Anatomy, side: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Height `(n,)` px of an eye along its middle at rest, and what each action adds `(K, n)`; None: it is shut."""
    upper, lower = LIDS[side]
    above, below = list(upper[2:-2]), list(lower[2:-2])
    rest = anatomy.points_px[below, 1] - anatomy.points_px[above, 1]
    if rest.min() < 1.0:
        return None
    return rest, anatomy.action_px[:, below, 1] - anatomy.action_px[:, above, 1]
