"""Motion: the head's displacement at one control, turned round. What `puppet.generate.motion` does."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puppet.generate.graph.control import Pose
from puppet.generate.graph.sampling import Region, constant, sample
from puppet.generate.motion import ITERATIONS
from puppet.generate.picture_edge import Edge


class Inversion(nn.Module):
    """Backward displacement, in cells, of a forward one; `motion.invert` for a fixed size of grid.

    Works in the coordinates of `grid_sample` (-1 to 1), so that a step is one sampling and little else.
    """

    def __init__(self, rows: int, columns: int, *, iterations: int = ITERATIONS, reach: int = 3) -> None:
        super().__init__()
        self._iterations, self._reach = iterations, reach
        x, y = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
        self.register_buffer("target", constant(np.stack([x, y], -1)[None]))
        scale = np.array([2 / (columns - 1), 2 / (rows - 1)])
        self.register_buffer("scale", constant(scale))
        self.register_buffer("plane_scale", constant(scale[:, None, None]))
        self.register_buffer("cells", constant(1 / scale[:, None, None]))

    def forward(self, displacement: Tensor) -> Tensor:
        """`(N, 2, rows, columns)` of the same."""
        across = displacement[:, :1, :, 2:] - displacement[:, :1, :, :-2]
        down = displacement[:, 1:, 2:] - displacement[:, 1:, :-2]
        stretch = 0.5 * torch.maximum(F.pad(across, (1, 1)), F.pad(down, (0, 0, 1, 1)))
        forward = displacement * self.plane_scale
        shift = -forward.permute(0, 2, 3, 1)
        local = _at(torch.relu(stretch), self.target + shift)
        local = F.max_pool2d(local, self._reach, stride=1, padding=self._reach // 2)
        damping = (1 / (1 + local)).permute(0, 2, 3, 1)
        for _ in range(self._iterations):
            error = _at(forward, self.target + shift).permute(0, 2, 3, 1) + shift
            shift = torch.addcmul(shift, error, damping, value=-1)
        return shift.permute(0, 3, 1, 2) * self.cells


def _at(picture: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=True)


def displace(position: Tensor, follow: Tensor, moved: Tensor, pose: Pose) -> Tensor:
    """Forward displacement `(N, 2, P)` px of positions `(N, 3, P)`, of which `follow` `(N, 1, P)` goes with the head.

    `moved` `(N, 3, P)` is what the actions add before the head turns.
    """
    travel = pose.travel(position.transpose(1, 2)).transpose(1, 2)[:, :2]
    return travel * follow + pose.linear[:2] @ moved


class HeldEdge(nn.Module):
    """What one edge of the picture holds of a backward displacement; a step of `picture_edge.hold`."""

    def __init__(self, edge: Edge, shape: tuple[int, int]) -> None:
        """`shape` is the head grid's, rows and columns."""
        super().__init__()
        self._axis, self._cell, self._sign, self._most = edge.axis, edge.cell, edge.sign, edge.most_px
        share = np.zeros((1, 2, *shape))
        share[(0, edge.axis, *edge.reach)] = edge.share
        self.register_buffer("share", constant(share))

    def forward(self, backward: Tensor) -> Tensor:
        """`(1, 2, rows, columns)` px of the same."""
        at_edge = backward[:, self._axis : self._axis + 1].narrow(3 - self._axis, self._cell, 1)
        return backward + (-self._sign * at_edge).clamp(0.0, self._most) * self.share


class HeadMotion(nn.Module):
    """The whole head: where each cell of its grid comes from, and the picture that the head alone makes."""

    def __init__(self, generator, region: Region) -> None:
        super().__init__()
        field = generator.field
        grid = field.head.grid
        rows, columns = grid.shape
        self.grid = grid
        self.register_buffer("position", constant(field.head.position.reshape(1, 3, -1)))
        self.register_buffer("follow", constant(field.head.follow.reshape(1, 1, -1)))
        face_rows, face_columns = field.face_window
        left, right, top, bottom = map(int, (face_columns.start, face_columns.stop, face_rows.start, face_rows.stop))
        self._face_shape = (bottom - top, right - left)
        self._around_face = (left, columns - right, top, rows - bottom)
        self.register_buffer("basis", constant(field.face_basis))
        self.invert = Inversion(rows, columns)
        self.edges = nn.Sequential(*(HeldEdge(edge, grid.shape) for edge in generator.edges))
        left, top = grid.left_top_px
        self._cut = (region.y0 - top, region.x0 - left, region.rows, region.columns)
        self.register_buffer("x", constant(np.arange(region.columns) + region.x0))
        self.register_buffer("y", constant(np.arange(region.rows)[:, None] + region.y0))

    def backward(self, weights: Tensor, pose: Pose) -> Tensor:
        """`(1, 2, rows, columns)` px: from each cell to the canvas position it shows, slits aside."""
        moved = (weights @ self.basis).reshape(1, 3, *self._face_shape)
        moved = F.pad(moved, self._around_face).reshape(1, 3, -1)
        forward = displace(self.position, self.follow, moved, pose)
        cell = self.grid.cell_px
        return self.edges(self.invert(forward.reshape(1, 2, *self.grid.shape) / cell) * cell)

    def shown(self, backward: Tensor) -> tuple[Tensor, Tensor]:
        """Canvas positions x, y `(1, h, w)` that the region's pixels show."""
        rows, columns = self.grid.shape
        size = (rows * self.grid.cell_px, columns * self.grid.cell_px)
        dense = F.interpolate(backward, size, mode="bilinear", align_corners=False)
        top, left, rows, columns = self._cut
        dense = dense[:, :, top : top + rows, left : left + columns]
        return dense[:, 0] + self.x, dense[:, 1] + self.y


class Texture(nn.Module):
    """The portrait's own pixels, sampled as densely as the canvas keeps them."""

    def __init__(self, canvas) -> None:
        super().__init__()
        self._scale = float(canvas.texture_scale)
        self.register_buffer("pixels", constant(canvas.texture.transpose(2, 0, 1)[None]))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """`(1, 3, h, w)` colours at canvas positions `(1, h, w)`."""
        return sample(self.pixels, x * self._scale, y * self._scale)
