"""The motion that takes a portrait to another picture of its person: how the head stands, what the face does.

The head turns as the tracked stiff part of the face does, which is how the program reads a driver's head; its size and
place are those that lay all skin but lips and outline, moved by what the actions do to it, on the other picture's. (A
head posed by a face model that is fitted to each picture anew put lips a tenth of the distance between the eyes aside.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import lsq_linear

from puppet import facs
from puppet.generate.generator import Generator
from puppet.generate.motion import HeadPose, head_pose
from puppet.landmarks import FACE_COUNT, LEFT_IRIS, LIDS, LIPS, OVAL, RIGHT_IRIS, STIFF
from puppet.pose import align_similarity

_RIDGE = 0.02  # of the mean squared action length: keeps actions that cancel each other small
_RIDGE_SHARES = {"AU26": 0.1, "upper_gap": 20.0, "lower_gap": 20.0, "seal": 20.0}
"""Lips part by the jaw where they can: the drawn teeth follow it, and clenched teeth behind open lips look wrong."""
_LOW, _HIGH = -1.0, 1.3  # weights: a smiling portrait relaxes, a strong laugh passes a FACS E
_ROUNDS = 3
_EYEBALL_RADIUS = 0.42  # of the eye's width, as the motion step moves the iris

_GAZE = [facs.INDEX[name] for name in facs.GAZE_NAMES]
_SKIN = np.array([i for i in range(FACE_COUNT) if i not in {*LIPS, *OVAL}])
"""Landmarks that lay the head."""


def still_pose(generator: Generator) -> HeadPose:
    """The head as the portrait holds it."""
    return head_pose(facs.rest(), generator.field)


def act(generator: Generator, landmarks_px: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, HeadPose, np.ndarray]:
    """Weights `(K,)` of a control's actions, the pose that lays them on landmarks `(478, 3)`, the control they drive.

    That is `control` `(SIZE,)` with the irises' gaze, which is against the head, in its limits.
    """
    control = facs.clip(control)
    for _ in range(2):  # lids go with the gaze
        pose = lay_head(generator, generator.weights_at(control), landmarks_px)
        control[_GAZE] = iris_gaze(generator, landmarks_px, pose)
        control = facs.clip(control)
    return generator.weights_at(control), pose, control


def imitate(
    generator: Generator, landmarks_px: np.ndarray, control: np.ndarray
) -> tuple[np.ndarray, HeadPose, np.ndarray]:
    """The same as `act` gives, by landmarks: weights solved so that the face goes where theirs is.

    Of `control` `(SIZE,)` the gaze alone is replaced.
    """
    weights, pose = solve_motion(generator, landmarks_px)
    control = control.copy()
    control[_GAZE] = iris_gaze(generator, landmarks_px, pose)
    return weights, pose, facs.clip(control)


def solve_motion(generator: Generator, landmarks_px: np.ndarray) -> tuple[np.ndarray, HeadPose]:
    """Action weights `(K,)` and head pose that take the portrait's landmarks to others `(478, 3)` of its canvas.

    Weights, size and place at once, lips and lids before the rest, by ridge on the weights within limits.
    """
    anatomy = generator.anatomy
    count = len(anatomy.actions)
    weights = np.zeros(count, np.float32)
    pose = lay_head(generator, weights, landmarks_px)
    root = np.repeat(np.sqrt(_importance()), 2)
    share = np.array([_RIDGE_SHARES.get(name, 1.0) for name in anatomy.actions])
    limits = np.repeat([[_LOW, -np.inf], [_HIGH, np.inf]], (count, 3), 1)
    for _ in range(_ROUNDS):
        moved = (anatomy.action_px.astype(np.float64) @ pose.linear[:2].T).reshape(count, -1) * root
        ridge = np.sqrt(_RIDGE * share * np.maximum((moved**2).sum(1), 1e-3))
        face = moved_landmarks(generator, weights, pose)[:, :2]
        place = _placing(face - pose.pivot_px[:2] - pose.shift_px[:2]) * root[:, None]
        missing = (landmarks_px[:FACE_COUNT, :2] - face).ravel() * root + weights @ moved
        system = np.block([[moved.T, place], [np.diag(ridge), np.zeros((count, 3))]])
        solved = lsq_linear(system, np.concatenate([missing, np.zeros(count)]), limits, tol=1e-3).x
        weights, pose = solved[:count].astype(np.float32), _placed(pose, solved[count:])
    return weights, pose


def lay_head(generator: Generator, weights: np.ndarray, landmarks_px: np.ndarray) -> HeadPose:
    """The pose that lays a portrait whose face does `weights` `(K,)` on landmarks `(478, 3)` of its canvas."""
    stiff = list(STIFF)
    _, turn, _ = align_similarity(generator.canvas.landmarks_px[stiff], landmarks_px[stiff], np.ones(len(stiff)))
    pose = replace(still_pose(generator), linear=turn.astype(np.float32))
    face = moved_landmarks(generator, weights, pose)[_SKIN, :2]
    missing = (landmarks_px[_SKIN, :2] - face).ravel()
    return _placed(pose, np.linalg.lstsq(_placing(face - pose.pivot_px[:2]), missing, rcond=None)[0])


def _placing(face: np.ndarray) -> np.ndarray:
    """`(2 n, 3)` how x and y of points `(n, 2)` about the pivot go as the head grows and shifts across and down."""
    return np.concatenate([face[..., None], np.tile(np.eye(2), (len(face), 1, 1))], 2).reshape(-1, 3)


def _placed(pose: HeadPose, step: np.ndarray) -> HeadPose:
    """A pose grown by a share and shifted by px across and down, `step` `(3,)`."""
    shift = pose.shift_px + np.array([*step[1:], 0.0])
    return replace(pose, linear=pose.linear * np.float32(1 + step[0]), shift_px=shift.astype(np.float32))


def moved_landmarks(generator: Generator, weights: np.ndarray, pose: HeadPose) -> np.ndarray:
    """`(468, 3)` px: where the motion step puts the skin's landmarks."""
    rest = generator.anatomy.points_px
    return pose.move(rest) + np.tensordot(weights, generator.anatomy.action_px, 1) @ pose.linear.T


def iris_gaze(generator: Generator, landmarks_px: np.ndarray, pose: HeadPose) -> np.ndarray:
    """Yaw and pitch, rad, relative to the portrait's own: how far the irises stand from where the head put them."""
    own = generator.canvas.landmarks_px
    shifts = []
    for iris, side in ((RIGHT_IRIS, "R"), (LEFT_IRIS, "L")):
        upper, lower = LIDS[side]
        depth = generator.anatomy.points_px[[*upper, *lower], 2].mean()
        rest = np.array([*own[iris[0], :2], depth])
        width = np.linalg.norm(generator.anatomy.points_px[upper[0], :2] - generator.anatomy.points_px[upper[-1], :2])
        shifts.append((landmarks_px[iris[0], :2] - pose.move(rest)[:2]) / (_EYEBALL_RADIUS * width))
    right, down = np.linalg.solve(pose.linear[:2, :2], np.mean(shifts, 0))
    return np.arcsin(np.clip([right, -down], -0.6, 0.6))


def _importance() -> np.ndarray:
    """`(468,)` of the landmarks."""
    out = np.ones(FACE_COUNT)
    out[list(OVAL)] = 0.3
    out[list(LIPS)] = 3.0
    out[[i for lids in LIDS.values() for lid in lids for i in lid]] = 4.0
    return out
