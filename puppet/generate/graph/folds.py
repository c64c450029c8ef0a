"""Folds: how much brighter or darker each pixel's skin becomes. What `puppet.generate.folds` does."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puppet import facs
from puppet.generate import folds as reference
from puppet.generate.graph.sampling import Region, constant, sample


class FoldShading(nn.Module):
    """The ratio of every pixel of the region, for its colours."""

    def __init__(self, generator, region: Region) -> None:
        super().__init__()
        folds, head = generator.folds, generator.field.head.grid
        rows, columns = (slice(int(part.start), int(part.stop)) for part in generator.field.face_window)
        self._window = (slice(None), slice(None), rows, columns)
        self._shape = folds.grid.shape
        self._fine = tuple(reference.FINER * (part.stop - part.start) for part in (rows, columns))
        self.register_buffer("places", torch.from_numpy(folds.places.astype(np.int64)))
        self.register_buffer("baseline", constant(generator.baseline[folds.places]))
        self.register_buffer("basis", constant(folds.basis))
        self.register_buffer("most_bright", constant(folds.most_bright[None, None]))
        self.register_buffer("shares", constant(folds.shares[:, None, None]))
        cells = head.positions_px()[rows, columns] - folds.grid.origin_px
        self.register_buffer("cells", constant(cells.transpose(2, 0, 1)[None]))
        self._cell_px = folds.grid.cell_px
        x0, y0, x1, y1 = folds.box
        self._box = (y1 - y0, x1 - x0)
        left, top = max(x0, region.x0), max(y0, region.y0)
        right, bottom = min(x1, region.x0 + region.columns), min(y1, region.y0 + region.rows)
        self._inside = (slice(None), slice(top - y0, bottom - y0), slice(left - x0, right - x0))
        # Round the part that is shaded, and round the region, everything keeps its colours.
        before, above = left - region.x0, top - region.y0
        after, below = region.columns - before - (right - left), region.rows - above - (bottom - top)
        self._around = (before + 1, after + 1, above + 1, below + 1)

    def forward(self, control: Tensor, backward: Tensor) -> Tensor:
        """`(3, P)` of a control `(SIZE,)`; `backward` `(1, 2, rows, columns)` px of the head's grid."""
        amounts = (control.index_select(0, self.places) - self.baseline) * (1 / facs.MAX_INTENSITY)
        change = (amounts @ self.basis).reshape(1, 1, *self._shape)
        most = torch.where(change < 0, reference.MOST_DARK, self.most_bright)
        change = most * torch.tanh(change / most)
        shown = (self.cells + backward[self._window]) * (1 / self._cell_px)
        shown = F.interpolate(shown, self._fine, mode="bilinear", align_corners=False)
        ratio = torch.exp(sample(change, shown[:, 0], shown[:, 1], padding="zeros") * self.shares)
        ratio = F.interpolate(ratio, self._box, mode="bilinear", align_corners=False)[0]
        return F.pad(ratio[self._inside], self._around, value=1.0).reshape(3, -1)


def shade(skin: Tensor, ratio: Tensor) -> Tensor:
    """Skin of any shape with its ratio, within a picture's range."""
    return (skin * ratio).clamp(max=255.0)
