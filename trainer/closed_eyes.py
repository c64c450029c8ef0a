"""Closed eyes as answers: a face whose eyes are shut is given the open ones of another person, lids and all.

That picture serves as a portrait which may close its eyes, and the original is what should come out. So every still
with closed eyes is one more person who shows how lids look: pairs of stills hardly ever have one.

Lids and the crease above them come from the other person, too, as one seamless patch (Pérez et al. 2003). Opening the
face's own lids by motion instead, and lending it the eyeballs alone, was tried first: motion gives such lids back as
they were, and a network learnt to leave creases that a lid which really closes loses.
"""

from __future__ import annotations

import cv2
import numpy as np

from puppet import facs
from puppet.generate.anatomy import LID_SKIN
from puppet.generate.mouth import skin_colour
from puppet.landmarks import LEFT_IRIS, LIDS, RIGHT_IRIS
from puppet.lid_closure import AU45
from trainer.face_sources import TrackedStill

CLOSED, WIDE = 0.12, (0.24, 0.45)  # height by width of eyes that are shut, and of those that may be lent
_IRIS = {"R": RIGHT_IRIS, "L": LEFT_IRIS}
_MOST_LIGHT = 2.0  # by which lent eyes are made lighter or darker
_TURN_COUNTS = 2.0  # a face turned otherwise by so many radians is as bad as one e times as light


def awaken(still: TrackedStill, donor: TrackedStill) -> TrackedStill:
    """A still with shut eyes as it would look with the eyes and lids of `donor`."""
    light = skin_colour(still.rgb, still.landmarks_px) / np.maximum(skin_colour(donor.rgb, donor.landmarks_px), 1)
    light = np.clip(light, 1 / _MOST_LIGHT, _MOST_LIGHT)
    lit = np.clip(donor.rgb * light, 0, 255).astype(np.uint8)
    rgb, points = still.rgb, still.landmarks_px.copy()
    for side, lids in LIDS.items():
        still_from_donor = _by_corners(donor.landmarks_px, still.landmarks_px, side)
        lent = [*LID_SKIN[side], *lids[0], *lids[1], *_IRIS[side]]
        points[lent, :2] = cv2.transform(donor.landmarks_px[None, lent, :2], still_from_donor)[0]
        rgb = _cloned(rgb, cv2.warpAffine(lit, still_from_donor, still.size), points[list(LID_SKIN[side]), :2])
    return TrackedStill(rgb, points, still.person)


def shut_control(control: np.ndarray) -> np.ndarray:
    """A reading `(SIZE,)` with both eyes shut: from one picture the regressor reads shut eyes low."""
    out = control.copy()
    out[AU45] = facs.MAX_INTENSITY
    return out


def awake_control(control: np.ndarray) -> np.ndarray:
    """A reading `(SIZE,)` with both eyes open."""
    out = control.copy()
    out[AU45] = 0
    return out


def unlike(still: TrackedStill, donor: TrackedStill) -> float:
    """How badly two faces match: in brightness, as a logarithm, and in how far they are turned."""
    own, lent = (float(skin_colour(one.rgb, one.landmarks_px).mean()) for one in (still, donor))
    turned = _turn_rad(still.landmarks_px) - _turn_rad(donor.landmarks_px)
    return abs(np.log(max(own, 1.0) / max(lent, 1.0))) + _TURN_COUNTS * abs(turned)


def _cloned(rgb: np.ndarray, patch: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """`patch` `(H, W, 3)` in `rgb` inside the hull of `outline` `(n, 2)` px, with the colours of what is round it."""
    mask = np.zeros(rgb.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(outline).astype(np.int32)), 255)
    mask[[0, -1]] = mask[:, [0, -1]] = 0
    if not mask.any():
        return rgb
    x, y, width, height = cv2.boundingRect(mask)
    return cv2.seamlessClone(patch, rgb, mask, (x + width // 2, y + height // 2), cv2.NORMAL_CLONE)


def _by_corners(source: np.ndarray, target: np.ndarray, side: str) -> np.ndarray:
    """`(2, 3)` similarity that lays an eye's corners of one face on those of another, landmarks `(478, 3)` px."""
    corners = [LIDS[side][0][0], LIDS[side][0][-1]]
    return cv2.estimateAffinePartial2D(source[corners, :2], target[corners, :2], method=cv2.LMEDS)[0]


def _turn_rad(landmarks_px: np.ndarray) -> float:
    """About how far a face is turned to its left: from the depth of the eyes' outer corners."""
    across, _, deep = landmarks_px[263] - landmarks_px[33]
    return float(np.arctan2(deep, across))
