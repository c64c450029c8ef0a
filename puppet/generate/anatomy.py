"""Anatomy: how far each action moves each landmark of this portrait, in canvas pixels.

The landmark rig says what an action does to an average face of this shape. Two things it can't know are solved per
portrait: how far these lids must travel to meet (AU45 = 5 closes this eye), and how far these lips are apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from puppet import facs
from puppet.easing import smooth_step
from puppet.landmarks import (
    FACE_COUNT,
    LIDS,
    LIP_CORNERS,
    LOWER_INNER_LIP,
    LOWER_LIP,
    LOWER_OUTER_LIP,
    OVAL,
    UPPER_INNER_LIP,
    UPPER_LIP,
    UPPER_OUTER_LIP,
)
from puppet.rig import LandmarkRig, RigFit

LID_SKIN = {
    "R": (
        247, 30, 29, 27, 28, 56, 190, 130, 25, 110, 24, 23, 22, 26, 112, 243, 226, 113, 225, 224, 223, 222, 221, 189,
    ),
    "L": (
        467, 260, 259, 257, 258, 286, 414, 359, 255, 339, 254, 253, 252, 256, 341, 463, 446, 342, 445, 444, 443, 442,
        441, 413,
    ),
}  # fmt: skip
"""Skin round each eye that a closing lid pulls along."""

_LOWER_LIP_EDGE, _CHIN = 17, 152
_ABOVE_LIPS = {0.35: (164, 167, 165, 92, 393, 391, 322)}
_BELOW_LIPS = {0.4: (18, 83, 182, 106, 313, 406, 335), 0.2: (200, 201, 194, 204, 421, 418, 424)}
"""Skin that a lip's rise or fall pulls along, by its share."""

EXTRA_ACTIONS = ("look_left", "look_right", "look_up", "look_down", "seal", "upper_gap", "lower_gap")
"""More columns after the rig's actions: what lids and brows do as the eyes turn, lips that stay sealed over an open
jaw, and the upper lip's rise and the lower lip's fall by the widest gap (`open_gap_px`)."""

OPEN_GAP_JAW = 0.85
"""AU25 = 5 is the gap between the inner lips at this weight of the jaw drop."""

_JAW_MOVES_CHIN = 0.6
"""Share of the rig's jaw drop by which the skin of the chin goes down, all of it at the lower lip: people who talk part
their lips by less of the jaw than the rig does."""
_CLOSING_LINE = 0.15  # lids meet this far up from the lower lid: it is the upper one that travels
_CLOSED_LIPS = 0.035  # an inner gap under this share of the mouth's width is a closed mouth
_TO_IMAGE = np.array([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Anatomy:
    """One portrait's landmarks and their motion.

    `points_px` `(N, 3)`: skin landmarks in canvas pixels (x right, y down, z away from the camera; x and y as tracked,
    z from the fitted rig). `action_px` `(K, N, 3)`: displacement at weight 1 for the rig's actions, then
    `EXTRA_ACTIONS`.
    """

    points_px: np.ndarray
    action_px: np.ndarray
    actions: tuple[str, ...]
    fit: RigFit
    face_height_px: float
    ocular_px: float
    rest_gap_px: float  # between the inner lips, 0 for a closed mouth
    open_gap_px: float  # at AU25 = 5
    look_rad: float  # turn of the eyes at weight 1 of the look columns

    @property
    def rig_count(self) -> int:
        """How many columns are the rig's actions."""
        return len(self.actions) - len(EXTRA_ACTIONS)

    @cached_property
    def rig_places(self) -> np.ndarray:
        """Places of the rig's actions in a control."""
        return np.array([facs.INDEX[name] for name in self.actions[: self.rig_count]])

    def displacement(self, weights: np.ndarray, points: tuple[int, ...]) -> np.ndarray:
        """`(n, 3)` px: how `points` move at `weights` `(K,)`."""
        return np.tensordot(weights, self.action_px[:, list(points)], 1)


def read_anatomy(landmarks_px: np.ndarray, rig: LandmarkRig) -> Anatomy:
    """Fit the rig to `(478, 3)` canvas landmarks and solve lids and lips for this face."""
    fit = rig.fit(landmarks_px)
    posed = fit.project(rig.points(fit.identity, fit.weights)[:FACE_COUNT])
    points = posed.copy()
    points[:, :2] = landmarks_px[:FACE_COUNT, :2]
    to_px = fit.scale_px_per_cm * fit.rotation
    action = (rig.action_cm[:, :FACE_COUNT] @ to_px.T) * _TO_IMAGE
    for side in "LR":
        _close_lids(action[rig.actions.index(f"AU45_{side}")], points, side)
    extra = np.concatenate([rig.look_cm, rig.seal_cm[None]])[:, :FACE_COUNT] @ to_px.T * _TO_IMAGE
    jaw = action[rig.actions.index("AU26")]
    jaw *= _moved_by_jaw(points)[:, None]
    middle = len(UPPER_INNER_LIP) // 2
    down = _mouth_down(points)
    open_gap = OPEN_GAP_JAW * float((jaw[LOWER_INNER_LIP[middle]] - jaw[UPPER_INNER_LIP[middle]])[:2] @ down)
    gaps = open_gap * _gap_actions(points)
    rest_gap = float((points[LOWER_INNER_LIP[middle]] - points[UPPER_INNER_LIP[middle]])[:2] @ down)
    width = float(np.linalg.norm((points[308] - points[78])[:2]))
    eyes = [landmarks_px[list(upper + lower), :2].mean(0) for upper, lower in LIDS.values()]
    return Anatomy(
        points_px=points.astype(np.float32),
        action_px=np.concatenate([action, extra, gaps]).astype(np.float32),
        actions=(*rig.actions, *EXTRA_ACTIONS),
        fit=fit,
        face_height_px=float(np.linalg.norm((points[152] - points[10])[:2])),
        ocular_px=float(np.linalg.norm(eyes[0] - eyes[1])),
        rest_gap_px=0.0 if rest_gap < _CLOSED_LIPS * width else rest_gap,
        open_gap_px=open_gap,
        look_rad=rig.look_rad,
    )


def _moved_by_jaw(points: np.ndarray) -> np.ndarray:
    """`(468,)` share of the rig's jaw drop: 1 down to the lower lip, less from there to the chin and along the jaw."""
    down = _mouth_down(points)
    height, lip, chin = points[:, :2] @ down, points[_LOWER_LIP_EDGE, :2] @ down, points[_CHIN, :2] @ down
    return 1 - (1 - _JAW_MOVES_CHIN) * smooth_step(height, lip, max(chin, lip + 1))


def _close_lids(action: np.ndarray, points: np.ndarray, side: str) -> None:
    """Make weight 1 of lid closure bring this eye's own lids together; `action` `(468, 3)` is changed in place."""
    upper, lower = (list(lid) for lid in LIDS[side])
    meet = points[lower] + _CLOSING_LINE * (points[upper] - points[lower])
    travel = (meet - points[upper])[:, :2]
    middle = slice(3, 6)
    rig_travel = np.abs(action[upper][middle, 1]).mean()
    ratio = np.clip(np.abs(travel[middle, 1]).mean() / max(rig_travel, 1e-3), 0.4, 2.5)
    action[list(LID_SKIN[side])] *= ratio
    action[upper, 2] *= ratio
    action[upper, :2] = travel
    action[lower, :2] = (meet - points[lower])[:, :2]


def _mouth_down(points: np.ndarray) -> np.ndarray:
    """Unit vector across the mouth, from the upper lip to the lower, in the image."""
    across = (points[308] - points[78])[:2]
    across = across / np.linalg.norm(across)
    return np.array([-across[1], across[0]])


def _gap_actions(points: np.ndarray) -> np.ndarray:
    """`(2, 468, 3)`: one pixel of lip opening in the middle, fading to nothing at the corners and over the skin."""
    across = (points[308] - points[78])[:2]
    width = np.linalg.norm(across)
    axis, down = across / width, _mouth_down(points)
    centre = (points[308] + points[78])[:2] / 2
    t = np.clip((points[:, :2] - centre) @ axis / (width / 2), -1, 1)
    profile = (1 - t**2) ** 0.7
    out = np.zeros((2, FACE_COUNT, 3))
    for row, lip, inner, outer, skin, sign in (
        (0, UPPER_LIP, UPPER_INNER_LIP, UPPER_OUTER_LIP, _ABOVE_LIPS, -1.0),
        (1, LOWER_LIP, LOWER_INNER_LIP, LOWER_OUTER_LIP, _BELOW_LIPS, 1.0),
    ):
        amount = np.zeros(FACE_COUNT)
        for share, beside in skin.items():
            amount[list(beside)] = share
        amount[list(lip)] = 0.85
        amount[list(inner)] = 1.0
        amount[list(outer)] = 0.6
        amount[list(LIP_CORNERS)] = 0.0
        out[row, :, :2] = sign * (amount * profile)[:, None] * down
    return out


def ring(points_px: np.ndarray, *, sides: float, chin: float) -> np.ndarray:
    """`(36, 2)`: the face's outline blown up about its centre by `sides`, and by `chin` below the mouth."""
    centre = points_px[[234, 454, 10, 152], :2].mean(0)
    outline = points_px[list(OVAL), :2]
    down = (points_px[152] - points_px[10])[:2]
    down = down / np.linalg.norm(down)
    depth = (outline - centre) @ down
    share = np.clip(depth / max(depth.max(), 1e-6), 0, 1)
    return centre + (outline - centre) * (sides + (chin - sides) * share)[:, None]


def weights_of(control: np.ndarray, baseline: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """Weights `(K,)` that take a portrait which shows `baseline` to `control`: actions and the lids' share in the gaze.

    The lips' columns are left 0; see `lips.Lips`.
    """
    places = anatomy.rig_places
    weights = np.zeros(len(anatomy.actions), np.float32)
    weights[: len(places)] = (control[places] - baseline[places]) / facs.MAX_INTENSITY
    yaw, pitch = (control[facs.INDEX[name]] / anatomy.look_rad for name in facs.GAZE_NAMES)
    look = anatomy.actions.index("look_left")
    weights[look : look + 4] = np.maximum([yaw, -yaw, pitch, -pitch], 0)
    return weights
