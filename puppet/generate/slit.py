"""Slit: an opening of the face whose two edges part: the mouth between its lips, an eye between its lids.

A single smooth field smears what lies at such an edge. So near a slit the motion is known twice, once as the upper
edge's side goes on across the opening and once as the lower one's; each pixel takes the side of the slit it lies on, and
what is between the edges is drawn by the slit's own interior (`eyes`, `mouth`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from puppet.generate.anatomy import Anatomy
from puppet.generate.field import Grid, PortraitField
from puppet.generate.motion import HeadPose, forward_displacement, invert

_WINDOW_MARGIN = 0.22  # share of the window over which it fades into the head's field
_SPLINE_STEPS = 6


@dataclass(frozen=True)
class Side:
    """One edge's motion on the slit's grid: basis of the columns that matter here."""

    columns: np.ndarray  # indices into the K actions
    basis: np.ndarray  # (len(columns), 3 * rows * columns)


@dataclass(frozen=True)
class Opening:
    """Where the slit stands in one frame, in canvas pixels.

    `window` (x0, y0, x1, y1) whole pixels; `upper_y`, `lower_y` `(x1 - x0,)` edge heights per pixel column;
    `mask` `(rows, columns)` float32 0-1, how much of the pixel lies between the edges; `inside` marks the columns
    between the corners.
    """

    window: tuple[int, int, int, int]
    upper_y: np.ndarray
    lower_y: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Slit:
    """Built once per portrait; `upper` and `lower` are landmark indices from corner to corner."""

    upper: tuple[int, ...]
    lower: tuple[int, ...]
    grid: Grid
    position: np.ndarray  # (3, rows, columns)
    follow: np.ndarray
    sides: tuple[Side, Side]  # upper, lower
    anchor_px: np.ndarray  # (3,) middle of the slit at rest
    fade: np.ndarray  # (rows, columns) window weight
    is_closed_at_rest: bool
    edge_inset_px: float  # the upper edge is drawn this much lower: lashes go with the lid

    def contours(
        self, anatomy: Anatomy, weights: np.ndarray, pose: HeadPose, follow: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Upper and lower edge `(n, 2)` px of this frame, corner to corner, left to right in the image."""
        moved = []
        for edge in (self.upper, self.lower):
            rest = anatomy.points_px[list(edge)].astype(np.float32)
            if self.is_closed_at_rest:
                other = anatomy.points_px[list(self.lower if edge is self.upper else self.upper)]
                rest = (rest + other) / 2
            shift = anatomy.displacement(weights, edge)
            at = rest + shift @ pose.linear.T + (pose.move(rest) - rest) * follow
            moved.append(at[:, :2] if at[0, 0] <= at[-1, 0] else at[::-1, :2])
        return moved[0], moved[1]


def build_slit(
    field: PortraitField,
    upper: tuple[int, ...],
    lower: tuple[int, ...],
    *,
    upper_side: tuple[int, ...],
    lower_side: tuple[int, ...],
    reach: tuple[float, float, float],
    cells: int,
    is_closed_at_rest: bool,
    edge_inset: float = 0.0,
) -> Slit:
    """A slit with the motion of both sides.

    `upper_side` and `lower_side` are all landmarks that belong to one edge alone and are left out of the other's
    field. `reach` is how far the window goes (sideways, above, below) in slit widths, `cells` its grid's width,
    `edge_inset` in slit widths.
    """
    points = field.anatomy.points_px
    own = points[list(upper + lower), :2]
    low, high = own.min(0), own.max(0)
    width = float(high[0] - low[0])
    x0, x1 = low[0] - reach[0] * width, high[0] + reach[0] * width
    y0, y1 = low[1] - reach[1] * width, high[1] + reach[2] * width
    cell = (x1 - x0) / (cells - 1)
    grid = Grid((float(x0), float(y0)), float(cell), (int((y1 - y0) / cell) + 1, cells))
    position = grid.positions_px()
    queries = position.reshape(-1, 2)
    surface = field.interpolate
    head = field.head
    at = ((queries - np.array(head.grid.origin_px)) / head.grid.cell_px).astype(np.float32).reshape(position.shape)
    depth = cv2.remap(head.position[2], at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    sides = tuple(
        _side(surface.actions(queries, without=tuple(left_out)), 0.02 * width) for left_out in (lower_side, upper_side)
    )
    return Slit(
        upper=upper,
        lower=lower,
        grid=grid,
        position=np.stack([position[..., 0], position[..., 1], depth]).astype(np.float32),
        follow=surface.follow(queries).reshape(grid.shape).astype(np.float32),
        sides=sides,
        anchor_px=points[list(upper + lower)].mean(0).astype(np.float32),
        fade=_window_fade(grid.shape),
        is_closed_at_rest=is_closed_at_rest,
        edge_inset_px=edge_inset * width,
    )


def _side(moved: np.ndarray, least_px: float) -> Side:
    """Keep the actions that move anything here by at least `least_px`; `moved` is `(K, 3, Q)`."""
    columns = np.flatnonzero(np.abs(moved).max((1, 2)) > least_px)
    return Side(columns, np.ascontiguousarray(moved[columns].reshape(len(columns), -1)))


def _window_fade(shape: tuple[int, int]) -> np.ndarray:
    """`(rows, columns)` 1 in the middle, 0 on the border, smooth."""
    ramps = []
    for n in shape:
        distance = np.minimum(np.arange(n), np.arange(n)[::-1]) / max(1.0, _WINDOW_MARGIN * n)
        t = np.clip(distance, 0, 1)
        ramps.append(t * t * (3 - 2 * t))
    return np.outer(*ramps).astype(np.float32)


def open_slit(
    slit: Slit, field: PortraitField, weights: np.ndarray, pose: HeadPose, size: tuple[int, int]
) -> tuple[Opening, np.ndarray, np.ndarray]:
    """The opening of one frame, and the backward displacement `(rows, columns, 2)` px of its window with its fade.

    Pixels above the slit's middle line take the upper side's motion, the others the lower side's.
    """
    follow = _at(slit.follow, slit.grid, slit.anchor_px)
    travel = np.round(((pose.move(slit.anchor_px) - slit.anchor_px) * follow)[:2]).astype(np.float32)
    grid, cell = slit.grid, slit.grid.cell_px
    x0 = max(0, int(np.ceil(grid.origin_px[0] + travel[0])))
    y0 = max(0, int(np.ceil(grid.origin_px[1] + travel[1])))
    x1 = min(size[0], int(grid.origin_px[0] + cell * (grid.shape[1] - 1) + travel[0]))
    y1 = min(size[1], int(grid.origin_px[1] + cell * (grid.shape[0] - 1) + travel[1]))
    if x1 - x0 < 4 or y1 - y0 < 4:
        return _empty_opening(), np.zeros((0, 0, 2), np.float32), np.zeros((0, 0), np.float32)
    at = pixel_map(grid, travel, (x0, y0, x1, y1))
    backward = []
    for side in slit.sides:
        moved = (weights[side.columns] @ side.basis).reshape(slit.position.shape) if len(side.columns) else None
        forward = forward_displacement(slit.position, slit.follow, moved, pose) - travel
        on_grid = invert(forward / cell) * cell - travel
        backward.append(cv2.remap(on_grid, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    fade = cv2.remap(slit.fade, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    upper, lower = slit.contours(field.anatomy, weights, pose, follow)
    opening, middle = _cover(upper, lower, (x0, y0, x1, y1), slit.edge_inset_px)
    rows = np.arange(y0, y1, dtype=np.float32)[:, None]
    below = (rows > middle)[..., None]
    return opening, np.where(below, backward[1], backward[0]), fade


def pixel_map(grid: Grid, travel: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """`(rows, columns, 2)` float32 grid coordinates of each canvas pixel of a window shifted by `travel`."""
    x0, y0, x1, y1 = window
    x = (np.arange(x0, x1, dtype=np.float32) - np.float32(grid.origin_px[0] + travel[0])) / np.float32(grid.cell_px)
    y = (np.arange(y0, y1, dtype=np.float32) - np.float32(grid.origin_px[1] + travel[1])) / np.float32(grid.cell_px)
    out = np.empty((len(y), len(x), 2), np.float32)
    out[..., 0], out[..., 1] = x[None], y[:, None]
    return out


def _cover(
    upper: np.ndarray, lower: np.ndarray, window: tuple[int, int, int, int], inset_px: float
) -> tuple[Opening, np.ndarray]:
    """Edge heights per pixel column, their coverage mask and the slit's middle line."""
    x0, y0, x1, y1 = window
    columns = np.arange(x0, x1, dtype=np.float32)
    upper_y, lower_y = _height(upper, columns), _height(lower, columns)
    crossed = upper_y > lower_y
    middle = (upper_y + lower_y) / 2
    upper_y, lower_y = np.where(crossed, middle, upper_y), np.where(crossed, middle, lower_y)
    gap = lower_y - upper_y
    top = upper_y + np.minimum(inset_px, 0.35 * gap)
    rows = np.arange(y0, y1, dtype=np.float32)[:, None]
    mask = np.clip(rows - top + 0.5, 0, 1) * np.clip(lower_y - rows + 0.5, 0, 1)
    mask *= np.clip(gap - 0.5, 0, 1)
    inside = (columns >= min(upper[0, 0], lower[0, 0])) & (columns <= max(upper[-1, 0], lower[-1, 0]))
    mask *= inside
    return Opening(window, upper_y, lower_y, mask.astype(np.float32)), middle.astype(np.float32)


def _height(edge: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """y of an edge at pixel columns: a Catmull-Rom curve through its points, level beyond its ends."""
    padded = np.concatenate([2 * edge[:1] - edge[1:2], edge, 2 * edge[-1:] - edge[-2:-1]])
    t = np.linspace(0, 1, _SPLINE_STEPS, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    curve = np.concatenate([curve.reshape(-1, 2), edge[-1:]])
    x = np.maximum.accumulate(curve[:, 0])
    return np.interp(columns, x, curve[:, 1]).astype(np.float32)


def _at(values: np.ndarray, grid: Grid, point: np.ndarray) -> float:
    """Value at the cell nearest to a canvas position."""
    row = int(np.clip(round((point[1] - grid.origin_px[1]) / grid.cell_px), 0, grid.shape[0] - 1))
    column = int(np.clip(round((point[0] - grid.origin_px[0]) / grid.cell_px), 0, grid.shape[1] - 1))
    return float(values[row, column])


def _empty_opening() -> Opening:
    return Opening((0, 0, 0, 0), np.zeros(0), np.zeros(0), np.zeros((0, 0), np.float32))
