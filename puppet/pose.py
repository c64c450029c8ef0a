"""Head rotation: yaw, pitch and roll as the person feels them.

The head frame is the rig's: x to the person's left, y up, z forward out of the face. A person who faces the camera has
their left on the picture's right, so picture x grows with head x and picture y falls with head y. Positive yaw turns
left (AU51), positive pitch lifts the chin (AU53), positive roll tilts to the left shoulder (AU55).
The rotation is intrinsic yaw, then pitch, then roll: `R = Ry(yaw) @ Rx(-pitch) @ Rz(-roll)`.
"""

from __future__ import annotations

import numpy as np


def rotation_from_angles(yaw_rad: float, pitch_rad: float, roll_rad: float) -> np.ndarray:
    """`(3, 3)` rotation of column vectors in the head frame."""
    cy, sy = np.cos(yaw_rad), np.sin(yaw_rad)
    cp, sp = np.cos(-pitch_rad), np.sin(-pitch_rad)
    cr, sr = np.cos(-roll_rad), np.sin(-roll_rad)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return yaw @ pitch @ roll


def angles_from_rotation(rotation: np.ndarray) -> tuple[float, float, float]:
    """`(yaw_rad, pitch_rad, roll_rad)` of a `(3, 3)` rotation; the inverse of `rotation_from_angles`."""
    yaw = np.arctan2(rotation[0, 2], rotation[2, 2])
    pitch = np.arcsin(np.clip(rotation[1, 2], -1.0, 1.0))
    roll = np.arctan2(-rotation[1, 0], rotation[1, 1])
    return float(yaw), float(pitch), float(roll)


def align_similarity(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation and shift with `target ~ scale * source @ rotation.T + shift` (weighted; Umeyama 1991).

    `source` and `target` are `(N, 3)`, `weight` is `(N,)` and not negative.
    """
    w = (weight / weight.sum())[:, None]
    mean_source, mean_target = (source * w).sum(0), (target * w).sum(0)
    a, b = source - mean_source, target - mean_target
    u, singular, vt = np.linalg.svd((b * w).T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / ((a * a) * w).sum())
    return scale, rotation, mean_target - scale * rotation @ mean_source
