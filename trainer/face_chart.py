"""Chart of the face: skin unrolled from a cylinder, so that a place on it is the same place of every face."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
from scipy.interpolate import RBFInterpolator

from puppet.easing import smooth_step
from puppet.landmarks import FACE_COUNT
from puppet.rig import LandmarkRig

_RADIUS_CM = 9.0  # of the cylinder, which touches the face at its foremost point
_BORDER_PX = 2
_SMOOTHEST_PX = 16.0  # broader changes of the light are the room's
_FADE_PX = 5.0
_OUTLINE_FADE_PX = 21.0  # hair, shadows and ears come and go there as the tracker's outline slides over the skin
_GRAIN_PX = 1.2  # finer than this, means over faces show the tracker's triangles
_OFF_CHART = -1


class FaceChart:
    """`height` x `width` px, symmetric: the person's left is on the right."""

    def __init__(self, rig: LandmarkRig, *, height: int = 144, width: int = 128) -> None:
        self.height, self.width = height, width
        mean = rig.mean_cm[:FACE_COUNT].astype(np.float64)
        self._axis_z = mean[:, 2].max() - _RADIUS_CM
        flat = self._unroll(mean)
        half = np.abs(flat[:, 0]).max()
        low, high = np.array([-half, flat[:, 1].min()]), np.array([half, flat[:, 1].max()])
        size = np.array([width, height])
        self.landmarks = (flat - low) / (high - low) * (size - 1 - 2 * _BORDER_PX) + _BORDER_PX
        """`(468, 2)` px."""
        self._triangles = rig.triangles
        self._skin_count = len(rig.triangles) - rig.fill_count
        self._at, self._share = rasterize(self.landmarks, rig.triangles, (height, width))

    @cached_property
    def skin(self) -> np.ndarray:
        """`(height, width)` bool: neither off the face nor in an opening, on both sides."""
        own = (self._at != _OFF_CHART) & (self._at < self._skin_count)
        return own & own[:, ::-1]

    @cached_property
    def mirrored(self) -> np.ndarray:
        """`(P,)` int: of each of the skin's pixels, in their order, the one that mirrors it."""
        numbers = np.full(self.skin.shape, -1)
        numbers[self.skin] = np.arange(self.skin.sum())
        return numbers[:, ::-1][self.skin]

    def details(self, plane: np.ndarray) -> np.ndarray:
        """`(P,)` what of a plane `(height, width)` float32 is finer than the light in a room, on the skin."""
        skin = self.skin.astype(np.float32)
        broad = cv2.GaussianBlur(plane * skin, (0, 0), _SMOOTHEST_PX)
        broad /= np.maximum(cv2.GaussianBlur(skin, (0, 0), _SMOOTHEST_PX), 1e-3)
        return (plane - broad)[self.skin]

    def lay(self, values: np.ndarray) -> np.ndarray:
        """`(N, height, width)` float32 of values `(N, P)` on the skin, without the edges of triangles, fading towards
        openings and, more slowly, the face's border."""
        planes = np.zeros((len(values), *self.skin.shape), np.float32)
        planes[:, self.skin] = values
        face = self._at != _OFF_CHART
        inside = smooth_step(_distance(face & face[:, ::-1]) - 1, 0, _OUTLINE_FADE_PX)
        fade = np.clip((_distance(self.skin) - 1) / _FADE_PX, 0, 1) * inside
        return np.stack([cv2.GaussianBlur(plane, (0, 0), _GRAIN_PX) * fade for plane in planes])

    def spread(self, values: np.ndarray) -> np.ndarray:
        """`(height, width, ...)` of values at the landmarks `(468, ...)`, linear in each triangle."""
        corners = values[self._triangles[np.maximum(self._at, 0)]]
        return np.einsum("hwk,hwk...->hw...", self._share, corners).astype(np.float32)

    def unwrap(self, rgb: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
        """`(height, width, 3)` uint8: a picture's face on the chart."""
        zoom = self.width / float(np.ptp(landmarks_px[:, 0]))
        if zoom < 0.7:  # cv2.remap does not filter when shrinking
            rgb = cv2.GaussianBlur(rgb, (0, 0), 0.4 / zoom)
        at = self.spread(landmarks_px[:FACE_COUNT, :2].astype(np.float64))
        return cv2.remap(rgb, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def place(self, points_cm: np.ndarray, landmarks_cm: np.ndarray) -> np.ndarray:
        """`(n, 2)` px of a head's points `(n, 3)`, of which landmarks `(468, 3)` lie where the chart has them."""
        warp = RBFInterpolator(self._unroll(landmarks_cm), self.landmarks, kernel="thin_plate_spline", smoothing=1e-3)
        return warp(self._unroll(points_cm))

    def _unroll(self, points_cm: np.ndarray) -> np.ndarray:
        across = np.arctan2(points_cm[:, 0], points_cm[:, 2] - self._axis_z) * _RADIUS_CM
        return np.stack([across, -points_cm[:, 1]], 1)


def _distance(mask: np.ndarray) -> np.ndarray:
    """`(h, w)` float32 px from what is not in a mask, nor in the picture."""
    return cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]


def rasterize(
    corners: np.ndarray, triangles: np.ndarray, shape: tuple[int, int], *, nearness: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The triangle that covers each pixel, `(h, w)` int, -1 for none, and the share of its corners `(h, w, 3)`.

    `corners` `(n, 2)` px; where triangles overlap the one whose corners have more `nearness` `(n,)` is taken, else the
    last.
    """
    height, width = shape
    at = np.full(shape, _OFF_CHART)
    share, nearest = np.zeros((*shape, 3)), np.full(shape, -np.inf)
    for number, triangle in enumerate(triangles):
        a, b, c = corners[triangle]
        low = np.maximum(np.floor(np.minimum(np.minimum(a, b), c)), 0).astype(int)
        high = np.minimum(np.ceil(np.maximum(np.maximum(a, b), c)), [width - 1, height - 1]).astype(int)
        sides = np.stack([a - c, b - c], 1)
        if (low > high).any() or abs(np.linalg.det(sides)) < 1e-9:
            continue
        x, y = (grid.ravel() for grid in np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1)))
        some = np.linalg.solve(sides, np.stack([x - c[0], y - c[1]]))
        some = np.stack([*some, 1 - some.sum(0)], 1)
        inside = (some >= -1e-6).all(1)
        x, y, some = x[inside], y[inside], some[inside]
        if nearness is not None:
            near = some @ nearness[triangle]
            is_nearer = near > nearest[y, x]
            x, y, some = x[is_nearer], y[is_nearer], some[is_nearer]
            nearest[y, x] = near[is_nearer]
        at[y, x], share[y, x] = number, some
    return at, share
