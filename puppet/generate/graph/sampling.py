"""Pictures read and written at positions that are known only at run time; axes [N, C, rows, columns]."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sample(picture: Tensor, x: Tensor, y: Tensor, *, mode: str = "bilinear", padding: str = "border") -> Tensor:
    """`(N, C, h, w)` values of pictures `(N, C, H, W)` at pixel positions x, y `(N, h, w)`.

    What `cv2.remap` gives with BORDER_REPLICATE ("border") or a border of 0 ("zeros"), without its rounding of
    positions to 1/32 pixel.
    """
    rows, columns = picture.shape[-2:]
    grid = torch.stack((x * (2 / (columns - 1)) - 1, y * (2 / (rows - 1)) - 1), -1)
    return F.grid_sample(picture, grid, mode=mode, padding_mode=padding, align_corners=True)


def unit(values: Tensor) -> Tensor:
    """Limited to 0-1."""
    return values.clamp(0.0, 1.0)


def blend(under: Tensor, colour: Tensor, attention: Tensor) -> Tensor:
    """`A * C + (1 - A) * under`, within a picture's range."""
    return (under + (colour - under) * attention).clamp(0.0, 255.0)


def constant(values: np.ndarray | tuple | float) -> Tensor:
    """A float32 tensor of its own, to be registered as a buffer."""
    return torch.from_numpy(np.array(values, np.float32, order="C"))


class Region(nn.Module):
    """The rectangle of the canvas that is drawn anew, as one flat row of pixels `(3, P)` per colour.

    Round it runs a ring of pixels that takes what is written beyond its border, so that windows may reach out anywhere
    without a condition.
    """

    def __init__(self, box: tuple[int, int, int, int]) -> None:
        """`box` (x0, y0, x1, y1) canvas pixels."""
        super().__init__()
        self.x0, self.y0 = box[0], box[1]
        self.columns, self.rows = box[2] - box[0], box[3] - box[1]

    def flat(self, picture: Tensor) -> Tensor:
        """`(3, P)` of `(1, 3, rows, columns)`."""
        return F.pad(picture, (1, 1, 1, 1)).reshape(picture.shape[1], -1)

    def picture(self, flat: Tensor) -> Tensor:
        """`(1, 3, rows, columns)` of `(3, P)`."""
        framed = flat.reshape(1, -1, self.rows + 2, self.columns + 2)
        return framed[:, :, 1 : self.rows + 1, 1 : self.columns + 1]

    def places(self, x: Tensor, y: Tensor) -> Tensor:
        """int64 places in the row of canvas pixels x, y (whole numbers, any shape that broadcasts)."""
        column = (x - (self.x0 - 1)).clamp(0, self.columns + 1)
        row = (y - (self.y0 - 1)).clamp(0, self.rows + 1)
        return (row * (self.columns + 2) + column).to(torch.int64)

    @staticmethod
    def read(flat: Tensor, places: Tensor) -> Tensor:
        """`(3, n)` pixels at `(n,)` places."""
        return flat.index_select(1, places)

    @staticmethod
    def write(flat: Tensor, places: Tensor, pixels: Tensor) -> Tensor:
        """The row with `(3, n)` pixels at `(n,)` places."""
        return flat.scatter(1, places[None].expand(pixels.shape[0], -1), pixels)
