"""Slits: skin on both sides of the mouth and of the eyes, and the opening between. What `puppet.generate.slit` does.

Slits of one kind (both eyes) are one batch. Each is drawn in a window of fixed size that goes along with the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from puppet.generate import edges as reference_edges
from puppet.generate import slit as reference
from puppet.generate.graph.control import Pose
from puppet.generate.graph.motion import Inversion, Texture, displace
from puppet.generate.graph.sampling import Region, constant, sample, unit
from puppet.generate.slit import Slit


class Window(NamedTuple):
    """Whole canvas pixels of N windows: `x` `(N, 1, columns)`, `y` `(N, rows, 1)`, and where they lie in the region.

    `places` `(N * rows * columns,)`, see `Region.places`.
    """

    x: Tensor
    y: Tensor
    places: Tensor


class Opening(NamedTuple):
    """`slit.Opening` and what `slit.SlitMotion` adds, `(N, rows, columns)` of a window; `gap_px` `(N,)` the widest,
    `width_px` `(N, 1, 1)` from corner to corner."""

    mask: Tensor
    depth_px: Tensor
    gap: Tensor
    along: Tensor
    seam_px: Tensor
    in_band: Tensor
    gap_px: Tensor
    width_px: Tensor


class SlitBatch(nn.Module):
    """N slits of one kind."""

    def __init__(self, slits: Sequence[Slit], generator, region: Region) -> None:
        super().__init__()
        self.count = len(slits)
        self._canvas = generator.canvas.size
        self._head_cell = generator.field.head.grid.cell_px
        self._shape = shape = tuple(max(s.grid.shape[axis] for s in slits) for axis in (0, 1))
        window = tuple(max(s.grid.shape[axis] * s.grid.cell_px for s in slits) for axis in (0, 1))
        self.region = region
        self.invert = Inversion(2 * shape[0], shape[1], iterations=reference.ITERATIONS, reach=reference.REACH)
        actions = len(generator.anatomy.actions)
        buffers = {
            "position": [_padded_halves(s.position, s, shape).reshape(3, -1) for s in slits],
            "follow": [_padded_halves(s.follow[None], s, shape).reshape(1, -1) for s in slits],
            "cell_px": [np.full((1, 1, 1), s.grid.cell_px) for s in slits],
            "edges_px": [s.edges_px for s in slits],
            "anchor_px": [s.anchor_px for s in slits],
            "follow_at_anchor": [s.follow_at_anchor for s in slits],
            "inset_px": [np.full((1,), s.edge_inset_px) for s in slits],
            "left_top": [s.grid.left_top_px for s in slits],
            "fade": [_padded(s.fade.transpose(2, 0, 1), shape, mode="constant")[None] for s in slits],
            "size": [(s.grid.shape[1] * s.grid.cell_px, s.grid.shape[0] * s.grid.cell_px) for s in slits],
        }
        origin = np.array(generator.field.head.grid.origin_px, np.float32)
        for axis in (0, 1):
            at = [(_padded(s.cells_px[..., axis][None], shape)[0] - origin[axis]) / self._head_cell for s in slits]
            cells = [_pixel_cells(window[1 - axis], s.grid.cell_px, s.grid.shape[1 - axis]) for s in slits]
            buffers["xy"[axis] + "_in_head"] = at
            buffers["xy"[axis] + "_in_cells"] = [c[None] if axis == 0 else c[:, None] for c in cells]
        for name, values in buffers.items():
            self.register_buffer(name, constant(np.stack(values)))
        basis = np.zeros((actions, self.count, 3 * 2 * shape[0] * shape[1]), np.float32)
        for n, s in enumerate(slits):
            moved = s.basis.reshape(-1, *s.position.shape)
            basis[s.columns, n] = _padded_halves(moved, s, shape).reshape(len(moved), -1)
        self.register_buffer("basis", constant(basis.reshape(actions, -1)))
        edges = np.stack([s.edge_basis for s in slits], 1)  # [K, N, 2n * 3]
        self.register_buffer("edge_basis", constant(edges.reshape(actions, -1)))
        points = len(slits[0].upper)
        spline = reference_edges.spline_matrix(points)
        self.register_buffer("spline", constant(spline))
        knots = len(spline)
        self.register_buffer("before", constant(np.where(np.tri(knots), 0.0, -1e9)))
        self.register_buffer("steps", constant(np.linspace(0, 1, reference_edges.STATIONS)))
        self.register_buffer("columns_px", constant(np.arange(window[1])[None, None]))
        self.register_buffer("rows_px", constant(np.arange(window[0])[None, :, None]))
        self.register_buffer("soften", constant(np.outer(reference.SOFTEN, reference.SOFTEN)[None, None]))
        self._edges_part = any(s.edges_part for s in slits)
        if self._edges_part:
            rest = slits[0].rest
            self.register_buffer("rest_edges", constant(rest.table.T[None, :2, None]))
            self._rest_span = (rest.low_px, rest.high_px)
            self.register_buffer("rest_centre", constant(rest.centre[None]))
            self.register_buffer("rest_axes", constant(rest.axes[None]))
            self._off_line_px = reference.OFF_LINE * rest.width

    def forward(self, weights: Tensor, pose: Pose, around: Tensor, texture: Texture) -> tuple[Window, Tensor, Opening]:
        """Windows, their skin `(N, 3, rows, columns)` and openings; `around` is the head's backward displacement."""
        travel = (pose.travel(self.anchor_px) * self.follow_at_anchor[:, None])[:, :2].round()
        left_top = self.left_top + travel
        window = self._window(left_top)
        upper, lower = self._contours(weights, pose)
        shift = self._backward(weights, pose, around, travel)
        shown = sample(
            shift,
            self.x_in_cells.expand(-1, *shift_shape(window)),
            self.y_in_cells.expand(-1, *shift_shape(window)),
        )
        x, y = shown[:, 0::2] + window.x[:, None], shown[:, 1::2] + window.y[:, None]  # [N, side, rows, columns]
        opening, below = self._cover(upper, lower, window, left_top)
        if self._edges_part:
            x, y = self._keep_to_sides(x, y, opening, below)
        rows, columns = shift_shape(window)
        tall = (1, 2 * self.count * rows, columns)
        skin = texture(x.reshape(tall), y.reshape(tall)).reshape(3, self.count, 2, rows, columns)
        from_upper, from_lower = skin[:, :, 0].transpose(0, 1), skin[:, :, 1].transpose(0, 1)
        return window, from_upper + (from_lower - from_upper) * below[:, None], opening

    def _window(self, left_top: Tensor) -> Window:
        x = left_top[:, :1, None] + self.columns_px
        y = left_top[:, 1:, None] + self.rows_px
        # The batch's windows are as large as its largest: what is not a slit's own goes nowhere.
        own = (self.columns_px < self.size[:, :1, None]) & (self.rows_px < self.size[:, 1:, None])
        places = torch.where(own, self.region.places(x, y), 0)
        return Window(x, y, places.reshape(-1))

    def _backward(self, weights: Tensor, pose: Pose, around: Tensor, travel: Tensor) -> Tensor:
        """`(N, 4, rows, columns)` px: x, y of the upper side and x, y of the lower one, faded into `around`."""
        rows, columns = self._shape
        moved = (weights @ self.basis).reshape(self.count, 3, -1)
        forward = displace(self.position, self.follow, moved, pose) - travel[:, :, None]
        forward = forward.reshape(self.count, 2, 2 * rows, columns) / self.cell_px
        backward = self.invert(forward) * self.cell_px - travel[:, :, None, None]
        backward = backward.reshape(self.count, 2, 2, rows, columns).transpose(1, 2)  # [N, side, xy, rows, columns]
        shift = travel[:, :, None, None] / self._head_cell
        outside = sample(
            around.expand(self.count, -1, -1, -1), self.x_in_head + shift[:, 0], self.y_in_head + shift[:, 1]
        )[:, None]
        return (outside + (backward - outside) * self.fade).reshape(self.count, 4, rows, columns)

    def _contours(self, weights: Tensor, pose: Pose) -> tuple[Tensor, Tensor]:
        """Upper and lower edge `(N, n, 2)` px, corner to corner, left to right in the image."""
        shift = (weights @ self.edge_basis).reshape(self.edges_px.shape)
        carried = pose.travel(self.edges_px) * self.follow_at_anchor[:, None, None]
        upper, lower = (self.edges_px + shift @ pose.linear.T + carried)[..., :2].chunk(2, 1)
        is_leftward = (upper[:, :1, :1] > upper[:, -1:, :1]).expand_as(upper)
        return torch.where(is_leftward, upper.flip(1), upper), torch.where(is_leftward, lower.flip(1), lower)

    def _cover(self, upper: Tensor, lower: Tensor, window: Window, left_top: Tensor) -> tuple[Opening, Tensor]:
        """The opening between two edges, and the lower side's share `(N, rows, columns)` of the skin."""
        corners = torch.stack((upper[:, 0] + lower[:, 0], upper[:, -1] + lower[:, -1]), 1) / 2
        centre, line = corners.mean(1, keepdim=True), corners[:, 1] - corners[:, 0]
        width = (line * line).sum(1, keepdim=True).sqrt().clamp(min=1.0)
        axis = line / width
        normal = torch.stack((-axis[:, 1], axis[:, 0]), 1)
        to_slit = torch.stack((axis, normal), 2)  # [N, xy, along and across]
        upper_curve, lower_curve = (self.spline @ ((edge - centre) @ to_slit) for edge in (upper, lower))
        width, axis, normal, centre = width[..., None], axis[..., None], normal[..., None], centre[..., None]

        x, y = window.x - centre[:, :, 0], window.y - centre[:, :, 1]
        along = axis[:, :1] * x + axis[:, 1:] * y
        across = normal[:, :1] * x + normal[:, 1:] * y
        curves_y = (torch.cat((upper_curve, lower_curve), 1) @ to_slit[:, 1, :, None] + centre[:, :, 1])[..., 0]
        first, last = self._band(curves_y, axis[:, 1:], left_top)
        starts, ends = window.y >= first, window.y < last
        in_band = (starts & ends).to(along.dtype).expand_as(along)

        low = torch.minimum(upper_curve[:, 0, 0], lower_curve[:, 0, 0])[:, None] - reference_edges.BEYOND_PX
        high = torch.maximum(upper_curve[:, :, 0].amax(1), lower_curve[:, :, 0].amax(1))[:, None]
        high = high + reference_edges.BEYOND_PX
        places = low + (high - low) * self.steps
        top, bottom = self._heights(upper_curve, places), self._heights(lower_curve, places)  # [N, stations]
        # Where the edges have crossed they press on each other: neither may show what lies between them.
        widest = torch.relu(bottom - top)
        slants = (_slant(edge, high - low) for edge in (top, bottom))
        table = torch.stack(((top + bottom) / 2, widest, *slants), 1)[:, :, None]
        middle, gap, upper_slant, lower_slant = look_up(table, along, low[..., None], high[..., None])
        seam_px = across - middle
        below = unit(seam_px / reference.SEAM_PX + 0.5)
        # Beyond the corners both sides are one skin.
        below = below + (0.5 - below) * unit((along.abs() - width / 2) / reference.CORNER_PX)
        below = torch.where(starts, torch.where(ends, below, 1.0), 0.0)

        inset = torch.minimum(self.inset_px[..., None], reference.INSET_LIMIT * gap)
        inside = torch.minimum((gap / 2 + seam_px - inset) * upper_slant, (gap / 2 - seam_px) * lower_slant)
        drawn = unit((inside + reference.EDGE_OUT_PX) / reference.EDGE_PX + 0.5) * in_band
        drawn = torch.nn.functional.conv2d(drawn[:, None], self.soften, padding=1)[:, 0]
        mask = drawn * unit((gap - reference.LEAST_GAP_PX) / reference.FADING_GAP_PX) * in_band
        opening = Opening(mask, seam_px + gap / 2, gap, along * (2 / width), seam_px, in_band, widest.amax(1), width)
        return opening, below

    def _keep_to_sides(self, x: Tensor, y: Tensor, opening: Opening, below: Tensor) -> tuple[Tensor, Tensor]:
        """What the pixels show as the upper and as the lower side, x and y `(N, 2, rows, columns)`, off the line."""
        is_upper = below < 0.5
        own_x = torch.where(is_upper, x[:, 0], x[:, 1]) - self.rest_centre[:, :1, None]
        own_y = torch.where(is_upper, y[:, 0], y[:, 1]) - self.rest_centre[:, 1:, None]
        along = self.rest_axes[:, 0, :1, None] * own_x + self.rest_axes[:, 0, 1:, None] * own_y
        across = self.rest_axes[:, 1, :1, None] * own_x + self.rest_axes[:, 1, 1:, None] * own_y
        middle, gap = look_up(self.rest_edges, along, *self._rest_span)
        below_middle = across - middle
        inside = torch.where(is_upper, -below_middle, below_middle) - gap / 2
        kept = torch.relu(inside)
        change = (opening.gap - gap) / reference.FULLY_MOVED_PX
        between_corners = unit((1 - opening.along.abs()) * opening.width_px / (2 * reference.CORNER_PX))
        off_line = self._off_line_px * torch.exp(kept * (-0.5 / self._off_line_px)) * unit(change)
        back = ((kept - inside) * unit(change.abs()) + off_line) * between_corners * opening.in_band
        back = torch.where(is_upper, -back, back)[:, None]
        return x + back * self.rest_axes[:, 1, :1, None, None], y + back * self.rest_axes[:, 1, 1:, None, None]

    def _band(self, edges_y: Tensor, slope: Tensor, left_top: Tensor) -> tuple[Tensor, Tensor]:
        """First and last row `(N, 1, 1)` (canvas y) near the edges; above and below the skin is one side's alone."""
        x0, y0 = (left_top[:, axis].clamp(min=0) for axis in (0, 1))
        end = left_top + self.size
        x1, y1 = (end[:, axis].clamp(max=self._canvas[axis]) for axis in (0, 1))
        reach = reference.BAND_PX + slope[:, 0, 0].abs() * (x1 - x0) / 2
        first = torch.minimum(torch.maximum(edges_y.amin(1) - reach, y0), y1 - 1).floor()
        last = torch.minimum(torch.maximum((edges_y.amax(1) + reach).ceil() + 1, first + 1), y1)
        return first[:, None, None], last[:, None, None]

    def _heights(self, curve: Tensor, places: Tensor) -> Tensor:
        """`(N, P)` heights of curves `(N, m, 2)` at places along them, level beyond their ends (`np.interp`)."""
        x = (curve[:, None, :, 0] + self.before).amax(2)  # never falling
        start, step = x[:, None, :-1], (x[:, 1:] - x[:, :-1]).clamp(min=1e-4)[:, None]
        share = unit((places[:, :, None] - start) / step)
        rise = (curve[:, 1:, 1] - curve[:, :-1, 1])[:, :, None]
        return curve[:, :1, 1] + (share @ rise)[..., 0]


def shift_shape(window: Window) -> tuple[int, int]:
    """Rows and columns of a window."""
    return window.y.shape[1], window.x.shape[2]


def _slant(heights: Tensor, span_px: Tensor) -> Tensor:
    """`(N, n)` the cosine of the slope of heights that are evenly known over `span_px` `(N, 1)`."""
    slope = (heights[:, 2:] - heights[:, :-2]) * ((reference_edges.STATIONS - 1) / 2) / span_px
    slope = torch.cat((slope[:, :1], slope, slope[:, -1:]), 1)
    return (1 / (1 + slope * slope).sqrt()).clamp(min=reference_edges.LEAST_SLANT)


def look_up(table: Tensor, along: Tensor, low: Tensor | float, high: Tensor | float) -> tuple[Tensor, ...]:
    """Columns of tables `(N, C, 1, n)`, evenly known from `low` to `high`, at places along the slit `(N, h, w)`."""
    grid = (along - low) * 2 / (high - low) - 1
    grid = torch.stack((grid, torch.zeros_like(grid)), -1)
    found = torch.nn.functional.grid_sample(table, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return found.unbind(1)


def _padded(values: np.ndarray, shape: tuple[int, int], mode: str = "edge") -> np.ndarray:
    """`(..., rows, columns)` filled up to `shape` at its end."""
    missing = [(0, want - have) for want, have in zip(shape, values.shape[-2:], strict=True)]
    return np.pad(values, [(0, 0)] * (values.ndim - 2) + missing, mode=mode)


def _padded_halves(values: np.ndarray, slit: Slit, shape: tuple[int, int]) -> np.ndarray:
    """The same for arrays that hold the upper side's rows and then the lower side's."""
    halves = np.split(values, 2, axis=-2)
    return np.concatenate([_padded(half, shape) for half in halves], -2)


def _pixel_cells(pixels: int, cell_px: int, cells: int) -> np.ndarray:
    """`(pixels,)` positions of pixels among cells, as `cv2.resize` places them; the last cell goes on."""
    return np.clip((np.arange(pixels) + 0.5) / cell_px - 0.5, 0, cells - 1)
