"""Edges of a slit in one frame: two smooth curves from corner to corner, and a table to look pixels up in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

_SPLINE_STEPS = 4
STATIONS = 256  # at which both edges are worked out for pixels to look up
_SHARES = np.linspace(0, 1, STATIONS)
BEYOND_PX = 1.0  # the first and the last one lie beyond the corners, where the edges have met
LEAST_SLANT = 0.5  # steeper edges are as sharp as softening leaves them


@dataclass(frozen=True)
class Edges:
    """Two edges measured along and across the line between their corners, so that a tilted head is like an upright one.

    `centre` `(2,)` px, `axes` `(2, 2)` rows along and across, `upper` and `lower` `(m, 2)` smooth curves in that frame.
    `table` `(STATIONS, 4)` has, evenly from `low_px` to `high_px` along the line, the edges' middle and gap and the
    slant of the upper and of the lower one: how far from its edge a point lies that is one pixel across from it (1
    where the edge is level, `LEAST_SLANT` where it is steep).
    """

    centre: np.ndarray
    axes: np.ndarray
    width: float
    upper: np.ndarray
    lower: np.ndarray
    low_px: float
    high_px: float
    table: np.ndarray

    @classmethod
    def between(cls, upper: np.ndarray, lower: np.ndarray) -> Edges:
        """From both edges' points `(n, 2)` px, left to right in the image."""
        left, right = (upper[0] + lower[0]) / 2, (upper[-1] + lower[-1]) / 2
        centre, (x, y) = (left + right) / 2, right - left
        width = max(math.hypot(x, y), 1.0)
        axes = np.array([[x, y], [-y, x]], np.float32) / np.float32(width)
        upper, lower = (_spline((edge - centre) @ axes.T) for edge in (upper, lower))
        low = float(min(upper[0, 0], lower[0, 0])) - BEYOND_PX
        high = float(max(upper[:, 0].max(), lower[:, 0].max())) + BEYOND_PX
        stations = low + (high - low) * _SHARES
        top, bottom = _height(upper, stations), _height(lower, stations)
        table = np.empty((STATIONS, 4), np.float32)
        table[:, 0] = (top + bottom) / 2
        # Where the edges have crossed they press on each other: neither may show what lies between them.
        table[:, 1] = np.maximum(bottom - top, 0)
        table[:, 2:] = _slants(np.stack([top, bottom], 1), (high - low) / (STATIONS - 1))
        return cls(centre.astype(np.float32), axes, width, upper, lower, low, high, table)

    def look_up(self, along: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The table's four columns at places along the line `(h, w)` px; beyond its ends they stay as they are."""
        at = (along - np.float32(self.low_px)) * np.float32((STATIONS - 1) / (self.high_px - self.low_px))
        found = cv2.remap(self.table[None], at, np.zeros_like(at), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return cv2.split(found)


def _slants(heights: np.ndarray, step_px: float) -> np.ndarray:
    """`(n, 2)` the cosine of the slope of heights known every `step_px`, not under `LEAST_SLANT`."""
    slope = np.empty_like(heights)
    slope[1:-1] = (heights[2:] - heights[:-2]) * (0.5 / step_px)
    slope[0], slope[-1] = slope[1], slope[-2]
    return np.maximum(1 / np.sqrt(1 + slope * slope), LEAST_SLANT)


def _spline(edge: np.ndarray) -> np.ndarray:
    """A Catmull-Rom curve `(m, 2)` through an edge's `(n, 2)` points."""
    return spline_matrix(len(edge)) @ edge


@lru_cache(maxsize=8)
def spline_matrix(n: int) -> np.ndarray:
    """`(m, n)` float32: weights of n points in the points of the curve through them."""
    edge = np.eye(n, dtype=np.float32)
    padded = np.concatenate([2 * edge[:1] - edge[1:2], edge, 2 * edge[-1:] - edge[-2:-1]])
    t = np.linspace(0, 1, _SPLINE_STEPS, endpoint=False, dtype=np.float32)[None, :, None]
    p0, p1, p2, p3 = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    return np.concatenate([curve.reshape(-1, n), edge[-1:]])


def _height(curve: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Height of a curve at positions along it, level beyond its ends."""
    return np.interp(along, np.maximum.accumulate(curve[:, 0]), curve[:, 1])
