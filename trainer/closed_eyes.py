"""Closed eyes as answers: a picture whose eyes are shut is opened by motion, with another person's eyes in it.

The opened picture serves as a portrait that may close its eyes again, and the original is what should come out. So
every still with closed eyes is one more person who shows how lids look: pairs of stills hardly ever have one.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from puppet import facs
from puppet.composite import blend
from puppet.generate.anatomy import LID_SKIN, LIDS, Anatomy, read_anatomy
from puppet.generate.mouth import skin_colour
from puppet.generate.texture import Patch
from puppet.landmarks import FACE_COUNT, LEFT_IRIS, RIGHT_IRIS
from trainer.face_sources import TrackedStill
from trainer.texture_pairs import Toolbox, moved_landmarks, still_pose

CLOSED, WIDE = 0.14, (0.24, 0.45)  # height by width of eyes that are shut, and of those that may be lent
_SEEN_WHEN_SHUT = 0.25  # of an open eye's height: what the tracker still sees of a shut one
_IRIS = {"R": RIGHT_IRIS, "L": LEFT_IRIS}
_MOST_STRETCH = 2.5  # of the rig's own motion of the skin round the eye
_MOST_LIGHT = 2.0  # by which lent eyes are made lighter or darker


def awaken(still: TrackedStill, donor: TrackedStill, tools: Toolbox) -> TrackedStill:
    """A still with shut eyes as it would look with the eyes of `donor`, lids drawn up to where the donor has them."""
    lent = {side: _lent_eye(still, donor, side) for side in LIDS}
    own = read_anatomy(still.landmarks_px, tools.rig)
    generator = tools.generator(still.rgb, still.landmarks_px, anatomy=_opening(own, lent, tools))
    weights = np.zeros(len(own.actions), np.float32)
    weights[[own.actions.index(f"AU45_{side}") for side in LIDS]] = 1
    picture = generator.move(weights, still_pose(generator), facs.rest())
    light = skin_colour(still.rgb, still.landmarks_px) / np.maximum(skin_colour(donor.rgb, donor.landmarks_px), 1)
    light = np.clip(light, 1 / _MOST_LIGHT, _MOST_LIGHT)
    points = still.landmarks_px.copy()
    points[:FACE_COUNT, :2] = moved_landmarks(generator, weights, still_pose(generator))[:, :2]
    for side, (still_from_donor, _) in lent.items():
        opening = picture.openings.get(side)
        if opening is not None and opening.mask.size:
            x0, y0, x1, y1 = opening.window
            to_window = still_from_donor.copy()
            to_window[:, 2] -= (x0, y0)
            eye = cv2.warpAffine(donor.rgb, to_window, (x1 - x0, y1 - y0), borderMode=cv2.BORDER_REPLICATE)
            blend(picture.rgb, Patch((x0, y0), np.clip(eye * light, 0, 255).astype(np.float32), opening.mask))
        iris = list(_IRIS[side])
        points[iris, :2] = _through(still_from_donor, donor.landmarks_px[iris, :2])
    return TrackedStill(picture.rgb, points, still.person)


def shut_control(control: np.ndarray, asleep: np.ndarray, awake: np.ndarray) -> np.ndarray:
    """A reading `(SIZE,)` with AU45 as high as lids stand in `asleep` against `awake`, both `(478, 3)` landmarks.

    The regressor does not know a face's open eyes from one picture, and reads shut ones low.
    """
    out = control.copy()
    for side in LIDS:
        left = _height(asleep, side) / max(_height(awake, side), 1e-3)
        closed = np.clip((1 - left) / (1 - _SEEN_WHEN_SHUT), 0, 1)
        out[facs.INDEX[f"AU45_{side}"]] = facs.MAX_INTENSITY * closed
    return out


def unlike_light(still: TrackedStill, donor: TrackedStill) -> float:
    """How far apart two faces are in brightness, as a logarithm."""
    own, lent = (skin_colour(one.rgb, one.landmarks_px).mean() for one in (still, donor))
    return abs(float(np.log(max(own, 1.0) / max(lent, 1.0))))


def _lent_eye(still: TrackedStill, donor: TrackedStill, side: str) -> tuple[np.ndarray, np.ndarray]:
    """`(2, 3)` still_from_donor that lays the donor's corners of an eye on the still's, and where that puts the donor's
    upper and then lower lid, `(2 * n, 2)` px."""
    upper, lower = (list(lid) for lid in LIDS[side])
    corners = [upper[0], upper[-1]]
    source, target = donor.landmarks_px[corners, :2], still.landmarks_px[corners, :2]
    (sx, sy), (tx, ty) = source[1] - source[0], target[1] - target[0]
    turn = np.array([[sx * tx + sy * ty, sy * tx - sx * ty], [sx * ty - sy * tx, sx * tx + sy * ty]]) / (sx**2 + sy**2)
    matrix = np.concatenate([turn, (target[0] - turn @ source[0])[:, None]], 1)
    return matrix, _through(matrix, donor.landmarks_px[upper + lower, :2])


def _opening(anatomy: Anatomy, lent: dict[str, tuple[np.ndarray, np.ndarray]], tools: Toolbox) -> Anatomy:
    """The same face whose AU45 opens the eyes as far as the lent ones, and pulls the skin round them along."""
    to_px = anatomy.fit.scale_px_per_cm * anatomy.fit.rotation
    action_px = anatomy.action_px.copy()
    for side, (_, lids_px) in lent.items():
        upper, lower = (list(lid) for lid in LIDS[side])
        column = anatomy.actions.index(f"AU45_{side}")
        closes = (tools.rig.action_cm[column, :FACE_COUNT] @ to_px.T) * (1.0, -1.0, -1.0)
        travel = lids_px - anatomy.points_px[upper + lower, :2]
        ratio = travel[3:6, 1].mean() / closes[upper][3:6, 1].mean()
        opens = closes * np.clip(ratio, -_MOST_STRETCH, _MOST_STRETCH)
        action_px[column] = 0
        action_px[column, list(LID_SKIN[side])] = opens[list(LID_SKIN[side])]
        action_px[column, upper + lower, :2] = travel
    return replace(anatomy, action_px=action_px)


def _height(landmarks_px: np.ndarray, side: str) -> float:
    upper, lower = (list(lid[3:6]) for lid in LIDS[side])
    return float(np.linalg.norm(landmarks_px[lower, :2] - landmarks_px[upper, :2], axis=1).mean())


def _through(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]
