"""Painter: the texture networks inside the graph. What `puppet.generate.painter` and `puppet.generate.region` do.

One deviation: by how much a crop is shrunk before it is sampled is decided once, for the portrait at rest, instead of
for every size that the head takes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.model_file import ModelFile
from engines.onnx_module import OnnxModule
from puppet import facs
from puppet.generate import painter as reference
from puppet.generate.graph.control import Pose
from puppet.generate.graph.sampling import Region, blend, constant, sample, unit
from puppet.generate.graph.slit import Opening, Window
from puppet.generate.painter import PortraitPainter
from puppet.generate.region import FEWEST_PX, SHAPES, SLITS, action_columns, region_frame, shrink_step

_ROOM = 1.25
"""A window takes the whole crop of a head so much larger than at rest, tilted as it may be."""


class RegionPainter(nn.Module):
    """Repaints one kind of region ("mouth" or "eye"); both eyes are one batch.

    Call `settle` once, so that it knows the portrait's own crops and paints nothing on them.
    """

    def __init__(self, kind: str, generator, painter: PortraitPainter, region: Region) -> None:
        super().__init__()
        self._kind, self._shape, self.region = kind, SHAPES[kind], region
        sides = SLITS[kind]
        memory = painter.memories[kind]
        slits = [generator.slits[side] for side in sides]
        corners = [generator.anatomy.points_px[[s.upper[0], s.upper[-1]]] for s in slits]
        frames = [
            region_frame(c[:, :2], self._shape, is_mirrored=side == "L") for c, side in zip(corners, sides, strict=True)
        ]
        zoom = [float(np.sqrt(abs(np.linalg.det(frame[:, :2])))) for frame in frames]
        self._step = max(1, *(shrink_step(z) for z in zoom))
        side_px = int(np.ceil(np.hypot(self._shape.width, self._shape.height) / min(zoom) * _ROOM))
        columns = [action_columns(is_mirrored=side == "L") for side in sides]
        height, width = self._shape.height, self._shape.width
        buffers = {
            "corners_px": corners,
            "follow": [np.full((1, 1), s.follow_at_anchor) for s in slits],
            "mirror": [np.full((1, 1), -1.0 if side == "L" else 1.0) for side in sides],
            "action_scale": [scale for _, scale in columns],
            "rest_cover": [max(float(crop.mask.sum()), 1.0) for crop in memory.rest],
            "rest_rgb": np.zeros((len(sides), 3, height, width)),
            "crop_x": np.broadcast_to(np.arange(width) - self._shape.slit_centre[0], (1, 1, width)),
            "crop_y": (np.arange(height) - self._shape.slit_centre[1])[None, :, None],
            "window_px": np.arange(side_px) - side_px // 2,
        }
        for name, values in buffers.items():
            self.register_buffer(name, constant(np.stack(values)))
        self.register_buffer("action_places", torch.tensor(np.stack([places for places, _ in columns])))
        if kind == "eye":
            self._gaze_place = facs.INDEX["gaze_pitch_rad"]
            self.register_buffer("lid_places", torch.tensor([facs.INDEX[f"AU45_{side}"] for side in sides]))
        self.network = OnnxModule(ModelFile.read(painter.model_paths[kind]))
        for name, values in memory.features.items():
            self.register_buffer(f"feature_{name}", constant(values))
        moved = torch.zeros(len(sides), 5, *self._shape.seen_size)
        self.network.fix(*self._inputs(moved, torch.zeros(len(sides), self.action_places.shape[1])))

    def settle(self, flat: Tensor, opening: Opening, window: Window, pose: Pose) -> None:
        """Keep the crops of the portrait at rest."""
        self.rest_rgb.copy_(self._crop(flat, self._frame(pose)[0], opening, window)[:, :3])

    def forward(self, flat: Tensor, control: Tensor, opening: Opening, window: Window, pose: Pose) -> list[tuple]:
        """Patches to lay: `(places, colour (3, n), attention (1, n))` for each crop, the picture untouched."""
        frame, distance = self._frame(pose)
        crop = self._crop(flat, frame, opening, window)
        rows, columns = self._shape.seen
        seen = crop[:, :, rows, columns]
        colours = seen[:, :3] / 127.5 - 1
        actions = control[self.action_places] * self.action_scale
        out = dict(
            zip(self.network.output_names, self._run(torch.cat((colours, seen[:, 3:]), 1), actions), strict=True)
        )
        amount = self._amount(crop, control) * (distance >= FEWEST_PX).to(crop.dtype)
        attention = out["attention"] * amount[:, None, None, None]
        planes = torch.cat((out["change"], attention), 1)
        return [self._patch(flat, planes[n : n + 1], frame[n : n + 1], n, pose) for n in range(len(planes))]

    def _frame(self, pose: Pose) -> tuple[Tensor, Tensor]:
        """Canvas from crop, `(N, 2, 3)`, and the distance of the corners `(N,)` px."""
        corners = (self.corners_px + pose.travel(self.corners_px) * self.follow)[..., :2]
        centre = corners.mean(1)
        line = corners[:, 1] - corners[:, 0]
        distance = (line * line).sum(1).sqrt()
        across = line / distance.clamp(min=1e-3)[:, None]
        down = torch.stack((-across[:, 1], across[:, 0]), 1) * self.mirror[:, 0]
        linear = torch.stack((across, down), 2) * (distance / self._shape.slit_width)[:, None, None]
        return torch.cat((linear, centre[:, :, None]), 2), distance

    def _crop(self, flat: Tensor, frame: Tensor, opening: Opening, window: Window) -> Tensor:
        """`(N, 5, h, w)`: colours 0-255, mask, depth between the edges 0-1."""
        x = frame[:, :1, :1] * self.crop_x + frame[:, :1, 1:2] * self.crop_y + frame[:, :1, 2:]
        y = frame[:, 1:, :1] * self.crop_x + frame[:, 1:, 1:2] * self.crop_y + frame[:, 1:, 2:]
        picture = self.region.picture(flat)
        step = self._step
        if step >= 2:
            picture = F.avg_pool2d(picture, step)
        middle = (step - 1) / 2
        rows, columns = self._shape.height, self._shape.width
        tall = (1, len(frame) * rows, columns)
        at_x, at_y = (x - self.region.x0 - middle) / step, (y - self.region.y0 - middle) / step
        rgb = sample(picture, at_x.reshape(tall), at_y.reshape(tall)).reshape(3, len(frame), rows, columns)
        depth = unit(opening.depth_px / opening.gap.clamp(min=1.0)) * opening.mask
        planes = torch.stack((opening.mask, depth), 1)
        shown = sample(planes, x - window.x[:, :, :1], y - window.y[:, :1], padding="zeros")
        return torch.cat((rgb.transpose(0, 1).round(), shown), 1)

    def _amount(self, crop: Tensor, control: Tensor) -> Tensor:
        """`(N,)` 0-1: how much of each crop is painted; see `painter.Memory.amounts`."""
        cover = crop[:, 3].sum((1, 2))
        if self._kind == "eye":
            down = _smooth_step(-control[self._gaze_place], *reference.CAST_DOWN_RAD)
            closing = 1 - down * (1 - _smooth_step(control[self.lid_places], *reference.SHUTTING))
            amount = _smooth_step(1 - cover / self.rest_cover, *reference.CLOSING_EYE) * closing
        else:
            amount = _smooth_step(cover, *reference.OPENING_MOUTH_PX)
        return amount * ((crop[:, :3] - self.rest_rgb).abs().amax((1, 2, 3)) > 0.5).to(crop.dtype)

    def _inputs(self, moved: Tensor, actions: Tensor) -> list[Tensor]:
        given = {"moved": moved, "actions": actions}
        return [given[n] if n in given else getattr(self, f"feature_{n}") for n in self.network.input_names]

    def _run(self, moved: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        return self.network(*self._inputs(moved, actions))

    def _patch(self, flat: Tensor, planes: Tensor, frame: Tensor, n: int, pose: Pose) -> tuple[Tensor, Tensor, Tensor]:
        centre = frame[:, :, 2].round()
        x = centre[:, :1, None] + self.window_px  # [1, 1, side]
        y = centre[:, 1:, None] + self.window_px[:, None]
        linear = frame[:, :, :2]
        a, b, c, d = (linear[:, i, j, None, None] for i in (0, 1) for j in (0, 1))
        scale = 1 / (a * d - b * c)
        dx, dy = x - frame[:, :1, 2:], y - frame[:, 1:, 2:]
        left, top = (place - edge for place, edge in zip(self._shape.slit_centre, self._shape.margin, strict=True))
        laid = sample(planes, (d * dx - b * dy) * scale + left, (a * dy - c * dx) * scale + top, padding="zeros")
        laid = laid.reshape(4, -1)
        places = self.region.places(x, y).reshape(-1)
        attention = torch.where(laid[3:] < reference.LEAST_ATTENTION, 0.0, laid[3:])
        return places, self.region.read(flat, places) + laid[:3], attention


def _smooth_step(values: Tensor, low: float, high: float) -> Tensor:
    """`easing.smooth_step`."""
    t = unit((values - low) / (high - low))
    return t * t * (3 - 2 * t)


def lay(flat: Tensor, patches: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The region's pixels with patches blended in, one after another."""
    for places, colour, attention in patches:
        flat = Region.write(flat, places, blend(Region.read(flat, places), colour, attention).round())
    return flat
