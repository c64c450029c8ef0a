"""Motion: the field at one control, turned round: where in the portrait does each published pixel come from?

The forward displacement of source x is `F(x) = follow * (R (X - pivot) + pivot + t - X) + R * sum_k w_k E_k(x)`.
Its inverse solves `x = y - F(x)` by a damped fixed point: each step is divided by one plus the local stretch, so that
skin stretched to twice its length (a lid that closes) converges like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from puppet import facs
from puppet.generate.field import PortraitField
from puppet.pose import rotation_from_angles

ITERATIONS = 6
SETTLED_CELLS = 1 / 64  # half of what `cv2` rounds positions by: a step that corrects less is the last one

_FLIP = np.diag([1.0, -1.0, -1.0])  # head frame (y up, z to the viewer) to image (y down, z away)
_YAW, _PITCH, _ROLL, _SHIFT_X, _SHIFT_Y, _SCALE = (facs.INDEX[n] for n in facs.HEAD_NAMES)


@dataclass(frozen=True)
class HeadPose:
    """Linear part `(3, 3)` and shift `(3,)` px of the head's motion about the portrait's pivot, in image axes."""

    linear: np.ndarray
    shift_px: np.ndarray
    pivot_px: np.ndarray

    def move(self, points_px: np.ndarray) -> np.ndarray:
        """`(..., 3)` points after the motion."""
        return (points_px - self.pivot_px) @ self.linear.T + self.pivot_px + self.shift_px


def head_pose(control: np.ndarray, field: PortraitField) -> HeadPose:
    """The head's motion that a control asks for, relative to the portrait's own pose."""
    rotation = _FLIP @ rotation_from_angles(control[_YAW], control[_PITCH], control[_ROLL]) @ _FLIP
    ocular = field.anatomy.ocular_px
    shift = np.array([control[_SHIFT_X] * ocular, -control[_SHIFT_Y] * ocular, 0.0])
    return HeadPose((rotation * control[_SCALE]).astype(np.float32), shift.astype(np.float32), field.pivot_px)


def forward_displacement(
    position: np.ndarray, follow: np.ndarray, moved: np.ndarray | None, pose: HeadPose
) -> np.ndarray:
    """`(rows, columns, 2)` px displacement of a patch.

    `position` `(3, rows, columns)`, `follow` `(rows, columns)`, `moved` the actions' summed `(3, rows, columns)`.
    """
    linear, pivot = pose.linear, pose.pivot_px
    turn = linear - np.eye(3, dtype=np.float32)
    constant = pose.shift_px - turn @ pivot
    shape = position.shape[1:]
    flat = position.reshape(3, -1)
    out = (turn[:2] @ flat + constant[:2, None]) * follow.reshape(1, -1)
    if moved is not None:
        out += linear[:2] @ moved.reshape(3, -1)
    return cv2.merge([*out.reshape(2, *shape)])


def invert(displacement: np.ndarray, *, iterations: int = ITERATIONS, reach: int = 3) -> np.ndarray:
    """Backward displacement `(rows, columns, 2)`, in cells, of a forward one: `B(y) = x - y` with `x + F(x) = y`.

    `iterations` are the most; calm faces settle in a third of them.

    Each step is damped by the greatest stretch within `reach` cells (odd) of where it starts. Several patches may be
    stacked along the rows: each keeps to its own as long as nothing leaves its patch.
    """
    rows, columns = displacement.shape[:2]
    across, down = cv2.split(displacement)
    stretch = cv2.max(cv2.Sobel(across, -1, 1, 0, ksize=1, scale=0.5), cv2.Sobel(down, -1, 0, 1, ksize=1, scale=0.5))
    target = cell_positions(rows, columns)
    source = target - displacement
    local = cv2.remap(cv2.max(stretch, 0), source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    damping = 1.0 / (1.0 + cv2.dilate(local, np.ones((reach, reach), np.uint8)))
    damping = cv2.merge([damping, damping])
    for _ in range(iterations):
        error = cv2.remap(displacement, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        error += source
        error -= target
        is_settled = cv2.norm(error, cv2.NORM_INF) < SETTLED_CELLS
        error *= damping
        source -= error
        if is_settled:
            break
    return source - target


@lru_cache(maxsize=16)
def cell_positions(rows: int, columns: int) -> np.ndarray:
    """`(rows, columns, 2)` float32 (column, row) of every cell; shared and read-only."""
    x, y = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
    cells = np.dstack([x, y])
    cells.flags.writeable = False
    return cells


def head_displacement(field: PortraitField, weights: np.ndarray, pose: HeadPose) -> np.ndarray:
    """Forward displacement `(rows, columns, 2)` px on the head grid."""
    head = field.head
    out = forward_displacement(head.position, head.follow, None, pose)
    if np.any(weights):
        rows, columns = field.face_window
        shape = (3, rows.stop - rows.start, columns.stop - columns.start)
        moved = (weights @ field.face_basis).reshape(shape)
        out[rows, columns] += cv2.merge([*(pose.linear[:2] @ moved.reshape(3, -1)).reshape(2, *shape[1:])])
    return out
