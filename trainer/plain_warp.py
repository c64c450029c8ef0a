"""A portrait moved by its landmarks alone: the plainest motion step, for data before and beside the real generator."""

from __future__ import annotations

import cv2
import numpy as np

from puppet import facs
from puppet.landmarks import FACE_COUNT
from puppet.pose import rotation_from_angles
from puppet.rig import LandmarkRig, RigFit
from trainer.au_sampling import weights_of

_GRID = 128
_MARGIN = 0.4  # of the face's size, around it: the grid should be spent on the face
_FALL_OFF_STEPS = 80
_INVERSE_STEPS = 8


class PlainWarp:
    """Animates one picture by interpolated landmark displacements. `rest_control` is the fitted rig's own estimate."""

    def __init__(self, rgb: np.ndarray, landmarks_px: np.ndarray, rig: LandmarkRig) -> None:
        rgb, landmarks_px = _cropped(rgb, landmarks_px)
        self._rgb, self._rig, self._landmarks = rgb, rig, landmarks_px[:FACE_COUNT].astype(np.float64)
        self._fit: RigFit = rig.fit(landmarks_px)
        self._cell = np.array([rgb.shape[1], rgb.shape[0]]) / _GRID
        self._triangle, self._weight = _rasterise(self._landmarks[:, :2] / self._cell, rig.triangles)
        self._inside = self._triangle >= 0
        self.rest_control = facs.rest()
        for name, weight in zip(rig.actions, self._fit.weights, strict=True):
            self.rest_control[facs.INDEX[name]] = weight * facs.MAX_INTENSITY
        self.rest_control[facs.INDEX["AU25"]] = rig.lips_part(self._fit.weights)

    def render(self, control: np.ndarray) -> np.ndarray:
        """`(H, W, 3)` uint8: the picture doing `control` (actions absolute, head relative to the picture's own)."""
        forward = cv2.resize(self._displacement(control), self._rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        forward = forward * self._cell.astype(np.float32)
        height, width = self._rgb.shape[:2]
        grid = np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
        source = grid
        for _ in range(_INVERSE_STEPS):
            source = grid - cv2.remap(
                forward, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        return cv2.remap(self._rgb, source[..., 0], source[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    def close(self) -> None:
        """Nothing is held."""

    def _displacement(self, control: np.ndarray) -> np.ndarray:
        """`(128, 128, 2)` float32 forward displacement, in grid cells."""
        change = weights_of(control[: facs.INTENSITY_COUNT], self._rig) - self._fit.weights
        moved = self._fit.unproject(self._landmarks * [1, 1, 0] + [0, 0, 1] * self._depth())
        shape = moved + np.tensordot(change, self._rig.action_cm[:, :FACE_COUNT], 1)
        yaw, pitch, roll = (control[facs.INDEX[name]] for name in facs.HEAD_NAMES[:3])
        pivot = np.array([0.0, -6.0, -2.0])
        shape = (shape - pivot) @ rotation_from_angles(yaw, pitch, roll).T + pivot
        delta = ((self._fit.project(shape) - self._landmarks)[:, :2] / self._cell).astype(np.float32)
        corners = self._rig.triangles[self._triangle]
        dense = (delta[corners] * self._weight[..., None]).sum(2)
        field = np.where(self._inside[..., None], dense, 0).astype(np.float32)
        for _ in range(_FALL_OFF_STEPS):
            field = np.where(self._inside[..., None], dense, cv2.blur(field, (5, 5)))
            field[0] = field[-1] = field[:, 0] = field[:, -1] = 0
        return cv2.GaussianBlur(field.astype(np.float32), (0, 0), 0.6)

    def _depth(self) -> np.ndarray:
        """`(468, 1)` px depth of the fitted head: the tracker's own would fold on turned heads."""
        return self._fit.project(self._rig.points(self._fit.identity, self._fit.weights)[:FACE_COUNT])[:, 2:]


def _cropped(rgb: np.ndarray, landmarks_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = landmarks_px[:, :2].min(0), landmarks_px[:, :2].max(0)
    margin = _MARGIN * (high - low).max()
    x0, y0 = np.maximum(low - margin, 0).astype(int)
    x1, y1 = np.minimum(high + margin, np.array(rgb.shape[1::-1]) - 1).astype(int) + 1
    return np.ascontiguousarray(rgb[y0:y1, x0:x1]), landmarks_px - np.array([x0, y0, 0], np.float32)


def _rasterise(points: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangle (or -1) and barycentric weights of each grid cell's centre; `points` `(468, 2)` in cells."""
    triangle = np.full((_GRID, _GRID), -1)
    weight = np.zeros((_GRID, _GRID, 3), np.float32)
    for k, corners in enumerate(triangles):
        p = points[corners]
        (x0, y0), (x1, y1) = np.floor(p.min(0)).astype(int), np.ceil(p.max(0)).astype(int)
        x, y = np.meshgrid(np.arange(max(x0, 0), min(x1 + 1, _GRID)), np.arange(max(y0, 0), min(y1 + 1, _GRID)))
        edge = np.stack([p[1] - p[0], p[2] - p[0]], 1)
        if x.size == 0 or abs(np.linalg.det(edge)) < 1e-9:
            continue
        bc = np.stack([x + 0.5 - p[0, 0], y + 0.5 - p[0, 1]], -1) @ np.linalg.inv(edge).T
        full = np.concatenate([1 - bc.sum(-1, keepdims=True), bc], -1)
        hit = (full >= -1e-6).all(-1)
        triangle[y[hit], x[hit]], weight[y[hit], x[hit]] = k, full[hit]
    return triangle, weight
