"""Slit: an opening of the face whose two edges part: the mouth between its lips, an eye between its lids.

A single smooth field smears what lies at such an edge. So near a slit the motion is known twice, once as the upper
edge's side goes on across the opening and once as the lower one's; each pixel takes the side of the slit it lies on,
and what is between the edges is drawn by the slit's own interior (`eyes`, `mouth`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from puppet.easing import smooth_step
from puppet.generate.canvas import Canvas
from puppet.generate.edges import Edges
from puppet.generate.field import Grid, PortraitField
from puppet.generate.motion import HeadPose, forward_displacement, invert

_WINDOW_MARGIN = 0.22  # share of the window over which it fades into the head's field
SEAM_PX = 1.5  # closed edges melt into each other over this
CORNER_PX = 3.0
BAND_PX = 3
LEAST_GAP_PX = 0.4
FADING_GAP_PX = 1.2  # from the least gap on; a thinner one fades away instead of drawing a line
EDGE_PX = 2.0  # an opening's edge is so wide before it is softened
EDGE_OUT_PX = 0.66  # and lies so far out on the skin
SOFTEN = np.array([0.25, 0.5, 0.25], np.float32)  # along rows and columns
INSET_LIMIT = 0.35  # of the gap: no edge is drawn further in
FULLY_MOVED_PX = 4.0  # edges that are so much further apart than at rest, or closer, show nothing of what is between
OFF_LINE = 0.03  # of the slit's width: so wide is either side of the line where lips meet
ITERATIONS, REACH = 12, 9  # skin next to an edge may stretch to three times its length


@dataclass(frozen=True)
class Opening:
    """Where the slit stands in one frame, in canvas pixels.

    `window` (x0, y0, x1, y1) whole pixels, tight, empty when closed; the arrays are `(rows, columns)` float32 of that
    window: `mask` 0-1 how much of the pixel lies between the edges, `depth_px` how far it lies below the upper edge,
    `gap_px` the edges' distance there, `along` its place from corner (-1) to corner (1).
    """

    window: tuple[int, int, int, int]
    mask: np.ndarray
    depth_px: np.ndarray
    gap_px: np.ndarray
    along: np.ndarray


@dataclass(frozen=True)
class SlitMotion:
    """Skin near the slit in one frame.

    `window` (x0, y0, x1, y1) canvas px. Rows above `band` (first, last; relative to the window) are the upper edge's
    side, rows below it the lower one's; within it `below` `(last - first, columns)` 0-1 is the lower's share, `seam_px`
    the distance below the middle between the edges and `along` the place from corner (-1) to (1). `from_upper`
    `(last, columns, 2)` and `from_lower` `(rows - first, columns, 2)` are the texels that the pixels show as the upper
    side (down to the band's last row) and as the lower one (from its first on). `gap_px` is the edges' greatest
    distance.
    """

    window: tuple[int, int, int, int]
    from_upper: np.ndarray
    from_lower: np.ndarray
    band: tuple[int, int]
    below: np.ndarray
    seam_px: np.ndarray
    along: np.ndarray
    gap_px: float


@dataclass(frozen=True)
class Slit:
    """Built once per portrait; `upper` and `lower` are landmark indices from corner to corner.

    Arrays on the grid hold the upper side's rows and then the lower side's, one picture of `2 * rows`.
    """

    upper: tuple[int, ...]
    lower: tuple[int, ...]
    grid: Grid
    position: np.ndarray  # (3, 2 * rows, columns)
    follow: np.ndarray  # (2 * rows, columns)
    columns: np.ndarray  # which of the K actions move anything here
    basis: np.ndarray  # (len(columns), 3 * 2 * rows * columns)
    edges_px: np.ndarray  # (2 * n, 3) both edges at rest
    edge_basis: np.ndarray  # (K, 2 * n * 3)
    anchor_px: np.ndarray  # (3,) middle of the slit at rest
    cells_px: np.ndarray  # (rows, columns, 2) canvas positions of the grid
    fade: np.ndarray  # (rows, columns, 1) the window's weight against the head's own field
    follow_at_anchor: float
    rest: Edges  # of the portrait itself
    edges_part: bool  # far enough to stretch the skin next to them, which then keeps to its side of the line
    edge_inset_px: float  # the upper edge is drawn this much lower: lashes go with the lid

    def contours(self, weights: np.ndarray, pose: HeadPose) -> tuple[np.ndarray, np.ndarray]:
        """Upper and lower edge `(n, 2)` px of this frame, corner to corner, left to right in the image."""
        rest = self.edges_px
        shift = (weights @ self.edge_basis).reshape(rest.shape)
        at = (rest + shift @ pose.linear.T + (pose.move(rest) - rest) * self.follow_at_anchor)[:, :2]
        upper, lower = at[: len(self.upper)], at[len(self.upper) :]
        return _left_to_right(upper, lower)


def _left_to_right(upper: np.ndarray, lower: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (upper, lower) if upper[0, 0] <= upper[-1, 0] else (upper[::-1], lower[::-1])


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
    edges_part: bool = False,
    edge_inset: float = 0.0,
) -> Slit:
    """A slit with the motion of both sides.

    `upper_side` and `lower_side` are all landmarks that belong to one edge alone and are left out of the other's
    field. `reach` is how far the window goes (sideways, above, below) in slit widths, `cells` its grid's longer
    side, `edge_inset` in slit widths.
    """
    points = field.anatomy.points_px
    own = points[list(upper + lower), :2]
    low, high = own.min(0), own.max(0)
    width = float(high[0] - low[0])
    x0, x1 = low[0] - reach[0] * width, high[0] + reach[0] * width
    y0, y1 = low[1] - reach[1] * width, high[1] + reach[2] * width
    grid = Grid.covering((x0, y0, x1, y1), cells)
    position = grid.positions_px()
    queries = position.reshape(-1, 2)
    surface = field.interpolate
    head = field.head
    at = ((queries - np.array(head.grid.origin_px)) / head.grid.cell_px).astype(np.float32).reshape(position.shape)
    depth = cv2.remap(head.position[2], at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    moved = [surface.actions(queries, without=tuple(left_out)) for left_out in (lower_side, upper_side)]
    stacked = np.concatenate([m.reshape(*m.shape[:2], *grid.shape) for m in moved], 2)  # [K, 3, 2 * rows, columns]
    columns = np.flatnonzero(np.abs(stacked).max((1, 2, 3)) > 0.02 * width)
    follow = surface.follow(queries).reshape(grid.shape).astype(np.float32)
    place = np.stack([position[..., 0], position[..., 1], depth]).astype(np.float32)
    edges = points[list(upper + lower)].astype(np.float32)
    if is_closed_at_rest:
        middle = (edges[: len(upper)] + edges[len(upper) :]) / 2
        edges = np.concatenate([middle, middle])
    edge_basis = field.anatomy.action_px[:, list(upper + lower)]
    return Slit(
        upper=upper,
        lower=lower,
        grid=grid,
        position=np.concatenate([place, place], 1),
        follow=np.concatenate([follow, follow]),
        columns=columns,
        basis=np.ascontiguousarray(stacked[columns].reshape(len(columns), stacked[0].size)),
        edges_px=edges,
        edge_basis=np.ascontiguousarray(edge_basis.reshape(len(edge_basis), -1)),
        anchor_px=points[list(upper + lower)].mean(0).astype(np.float32),
        cells_px=position,
        fade=_window_fade(grid.shape)[..., None],
        follow_at_anchor=float(surface.follow(points[list(upper + lower), :2].mean(0)[None])[0]),
        rest=Edges.between(*_left_to_right(edges[: len(upper), :2], edges[len(upper) :, :2])),
        edges_part=edges_part,
        edge_inset_px=edge_inset * width,
    )


def _window_fade(shape: tuple[int, int]) -> np.ndarray:
    """`(rows, columns)` 1 in the middle, 0 on the border, smooth."""
    ramps = []
    for n in shape:
        distance = np.minimum(np.arange(n), np.arange(n)[::-1]) / max(1.0, _WINDOW_MARGIN * n)
        ramps.append(smooth_step(distance))
    return np.outer(*ramps).astype(np.float32)


def open_slit(
    slit: Slit,
    field: PortraitField,
    weights: np.ndarray,
    pose: HeadPose,
    around: np.ndarray,
    canvas: Canvas,
) -> tuple[Opening, SlitMotion] | None:
    """The opening of one frame and the skin's motion on both sides of it; None where the slit has left the canvas.

    `around` `(rows, columns, 2)` px is the backward displacement on the head's grid; the slit's own motion fades into
    it toward the window's border. (Displacements are interpolated, not positions: what does not move stays exact.)
    """
    follow = slit.follow_at_anchor
    travel = np.round(((pose.move(slit.anchor_px) - slit.anchor_px) * follow)[:2]).astype(np.float32)
    grid, cell = slit.grid, np.float32(slit.grid.cell_px)
    left, top = (int(edge + shift) for edge, shift in zip(grid.left_top_px, travel, strict=True))
    size = canvas.size
    x0, x1 = max(0, left), min(size[0], left + grid.shape[1] * grid.cell_px)
    y0, y1 = max(0, top), min(size[1], top + grid.shape[0] * grid.cell_px)
    if x1 - x0 < 4 or y1 - y0 < 4:
        return None
    moved = (weights[slit.columns] @ slit.basis).reshape(slit.position.shape)
    forward = forward_displacement(slit.position, slit.follow, moved, pose)
    forward -= travel
    forward *= 1 / cell
    backward = invert(forward, iterations=ITERATIONS, reach=REACH)
    backward *= cell
    backward -= travel
    head = field.head.grid
    at = (slit.cells_px + (travel - np.array(head.origin_px, np.float32))) / np.float32(head.cell_px)
    outside = cv2.remap(around, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    seam = _seam(Edges.between(*slit.contours(weights, pose)), (x0, y0, x1, y1))
    first, last = seam.band
    shown = []
    for half, wanted in zip(np.split(backward, 2), ((0, last), (first, y1 - y0)), strict=True):
        half -= outside
        half *= slit.fade
        half += outside
        rows = (y0 - top + wanted[0], y0 - top + wanted[1])
        texels = grid.sources(half, scale=canvas.texture_scale, travel=(int(travel[0]), int(travel[1])), rows=rows)
        shown.append(texels[:, x0 - left : x1 - left])
    if slit.edges_part and max(seam.gap.max(), slit.rest.table[:, 1].max()) > LEAST_GAP_PX:
        _keep_to_sides(slit.rest, shown[0][first:], shown[1][: last - first], seam, canvas.texture_scale)
    return _opening(seam, slit.edge_inset_px), SlitMotion(
        seam.window,
        *shown,
        seam.band,
        seam.below,
        seam.seam_px,
        seam.along * np.float32(2 / seam.edges.width),
        float(seam.gap.max()),
    )


@dataclass(frozen=True)
class _Seam:
    """The pixels near the edges of one frame: rows `band` (first, last) of `window`; arrays `(last - first, columns)`.

    `along` px from the slit's centre to the right, `seam_px` below the middle between the edges, the edges' `gap` there
    and the slant of either (see `Edges`), `below` 0-1 the lower side's part.
    """

    edges: Edges
    window: tuple[int, int, int, int]
    band: tuple[int, int]
    along: np.ndarray
    seam_px: np.ndarray
    gap: np.ndarray
    upper_slant: np.ndarray
    lower_slant: np.ndarray
    below: np.ndarray


def _seam(edges: Edges, window: tuple[int, int, int, int]) -> _Seam:
    x0, y0, x1, y1 = window
    heights = np.concatenate([edges.upper, edges.lower]) @ edges.axes[:, 1] + edges.centre[1]
    tilt = abs(float(edges.axes[0, 1])) * (x1 - x0) / 2
    first = min(max(math.floor(heights.min() - BAND_PX - tilt), y0), y1 - 1) - y0
    last = min(max(math.ceil(heights.max() + BAND_PX + tilt) + 1, y0 + first + 1), y1) - y0
    offset = np.array([x0, y0 + first], np.float32) - edges.centre
    along, across = (
        axis[0] * (np.arange(x1 - x0, dtype=np.float32) + offset[0])
        + (axis[1] * (np.arange(last - first, dtype=np.float32) + offset[1]))[:, None]
        for axis in edges.axes
    )
    middle, gap, *slants = edges.look_up(along)
    seam_px = across - middle
    below = _unit(seam_px / SEAM_PX + 0.5)
    # Beyond the corners both sides are one skin.
    below += (0.5 - below) * _unit((np.abs(along) - edges.width / 2) / CORNER_PX)
    return _Seam(edges, window, (first, last), along, seam_px, gap, *slants, below)


def _keep_to_sides(rest: Edges, upper: np.ndarray, lower: np.ndarray, seam: _Seam, scale: int) -> None:
    """Move the texels of a seam that lie on or beyond the portrait's line between the edges back to their own side.

    `upper` and `lower` `(rows, columns, 2)` are changed in place. Near the corners of a wide opening the skin's motion
    is so stretched that it does not end quite where the edge does; the shadow between lips is theirs no more once they
    part; and lips that close show nothing of what was between them.
    """
    is_upper = seam.below < 0.5
    texels = cv2.copyTo(upper, is_upper.astype(np.uint8), lower.copy())
    along, across = cv2.split(cv2.transform(texels, np.c_[rest.axes / scale, -rest.axes @ rest.centre]))
    middle, gap, *_ = rest.look_up(along)
    below_middle = across - middle
    inside = np.where(is_upper, -below_middle, below_middle) - gap / 2
    kept = np.maximum(inside, 0)
    off_line = OFF_LINE * np.float32(rest.width)
    change = (seam.gap - gap) * np.float32(1 / FULLY_MOVED_PX)
    between_corners = _unit((seam.edges.width / 2 - np.abs(seam.along)) / CORNER_PX)
    # Off the line the skin closes up within a few times as much: nothing is smeared.
    back = (kept - inside) * _unit(np.abs(change)) + off_line * cv2.exp(kept * (-0.5 / off_line)) * _unit(change)
    back *= between_corners
    back = np.where(is_upper, -back, back)[..., None] * (rest.axes[1] * np.float32(scale))
    upper += back
    lower += back


def _opening(seam: _Seam, inset_px: float) -> Opening:
    """What lies between the edges."""
    if seam.gap.max() <= LEAST_GAP_PX:
        nothing = np.zeros((0, 0), np.float32)
        return Opening((0, 0, 0, 0), nothing, nothing, nothing, nothing)
    gap = seam.gap
    cover = _cover(seam, inset_px)
    left, top, columns, rows = cv2.boundingRect((cover > 0).astype(np.uint8))
    box = (slice(top, top + rows), slice(left, left + columns))
    x0, y0 = seam.window[0] + left, seam.window[1] + seam.band[0] + top
    depth = seam.seam_px[box] + gap[box] / 2
    return Opening(
        (x0, y0, x0 + columns, y0 + rows),
        cover[box],
        depth,
        gap[box],
        seam.along[box] * np.float32(2 / seam.edges.width),
    )


def _cover(seam: _Seam, inset_px: float) -> np.ndarray:
    """`(rows, columns)` 0-1 how much of a pixel lies between the edges.

    By its distance from both edges: a polygon's outline would be snapped to whole rows by OpenCV where it is level.
    """
    half = seam.gap * np.float32(0.5)
    inset = np.minimum(seam.gap * np.float32(INSET_LIMIT), inset_px) if inset_px else 0
    inside = np.minimum((half + seam.seam_px - inset) * seam.upper_slant, (half - seam.seam_px) * seam.lower_slant)
    drawn = _unit(inside * np.float32(1 / EDGE_PX) + np.float32(EDGE_OUT_PX / EDGE_PX + 0.5))
    drawn = cv2.sepFilter2D(drawn, -1, SOFTEN, SOFTEN, borderType=cv2.BORDER_REPLICATE)
    return drawn * _unit((seam.gap - LEAST_GAP_PX) / FADING_GAP_PX)


def _unit(values: np.ndarray) -> np.ndarray:
    """`(rows, columns)` float32 limited to 0-1, faster than by NumPy."""
    _, limited = cv2.threshold(values, 1, 0, cv2.THRESH_TRUNC)
    return cv2.threshold(limited, 0, 0, cv2.THRESH_TOZERO)[1]
