"""The whole generator as one module: a control in, a finished picture out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from puppet.generate.generator import Generator
from puppet.generate.graph.control import HeadPoseStep, Pose, WeightsStep
from puppet.generate.graph.eyes import Eyes
from puppet.generate.graph.folds import FoldShading, shade
from puppet.generate.graph.motion import HeadMotion, Texture
from puppet.generate.graph.mouth import Mouth
from puppet.generate.graph.painter import RegionPainter, lay
from puppet.generate.graph.sampling import Region, constant
from puppet.generate.graph.slit import Opening, SlitBatch, Window
from puppet.generate.painter import PortraitPainter
from puppet.generate.region import SLITS

EYES = SLITS["eye"]


class _Drawn(NamedTuple):
    """The region's pixels `(3, P)` before networks repaint them, and what they have to know."""

    flat: Tensor
    pose: Pose
    slits: dict[str, tuple[Opening, Window]]


class GeneratorGraph(nn.Module):
    """One portrait, all its pictures and fields inside as constants.

    Made from a prepared generator (its baseline set), which it does not keep.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        canvas, slits = generator.canvas, generator.slits
        self.region = Region(generator.region)
        self.pose = HeadPoseStep(generator)
        self.weights = WeightsStep(generator)
        self.head = HeadMotion(generator, self.region)
        self.texture = Texture(canvas)
        self.folds = None if generator.folds is None else FoldShading(generator, self.region)
        self.mouth_slit = SlitBatch([slits["mouth"]], generator, self.region)
        self.mouth = Mouth(generator, slits["mouth"].follow_at_anchor)
        self.eye_slits = SlitBatch([slits[side] for side in EYES], generator, self.region)
        self.eyes = Eyes([generator.eyes[side] for side in EYES], [slits[side].follow_at_anchor for side in EYES])
        x0, y0, x1, y1 = generator.region
        still = constant(canvas.still)
        parts = {"above": still[:y0], "left": still[y0:y1, :x0], "right": still[y0:y1, x1:], "below": still[y1:]}
        for name, part in parts.items():
            self.register_buffer(name, part.clone(memory_format=torch.contiguous_format) if part.numel() else None)
        self.painters = nn.ModuleDict()
        if isinstance(generator.texture, PortraitPainter):
            for kind in generator.texture.memories:
                self.painters[kind] = RegionPainter(kind, generator, generator.texture, self.region)
        self.requires_grad_(False).eval()
        with torch.no_grad():
            drawn = self._draw(torch.from_numpy(generator.baseline))
            for kind, painter in self.painters.items():
                painter.settle(drawn.flat, *drawn.slits[kind], drawn.pose)

    def forward(self, control: Tensor) -> Tensor:
        """`(H, W, 3)` uint8 RGB of a control `(SIZE,)` float32."""
        return self.picture(control).to(torch.uint8)

    def picture(self, control: Tensor) -> Tensor:
        """The same as whole numbers in float32, for compilers that write no uint8."""
        drawn = self._draw(control)
        patches = []
        for kind, painter in self.painters.items():
            patches += painter(drawn.flat, control, *drawn.slits[kind], drawn.pose)
        return self._into_still(self.region.picture(lay(drawn.flat, patches)))

    def _draw(self, control: Tensor) -> _Drawn:
        """The motion step with its interiors."""
        pose, weights = self.pose(control), self.weights(control)
        around = self.head.backward(weights, pose)
        flat = self.region.flat(self.texture(*self.head.shown(around)))
        ratio = None if self.folds is None else self.folds(control, around)
        if ratio is not None:
            flat = shade(flat, ratio)
        window, skin, opening = self.mouth_slit(weights, pose, around, self.texture)
        skin = self._shade(skin, ratio, window.places)
        flat = self._lay(flat, window.places, self.mouth(skin, window, opening, weights, pose))
        slits = {"mouth": (opening, window)}
        window, skin, opening = self.eye_slits(weights, pose, around, self.texture)
        skin = self._shade(skin, ratio, window.places)
        flat = self._lay(flat, window.places, self.eyes(skin, window, opening, control, pose))
        slits["eye"] = (opening, window)
        return _Drawn(flat.round(), pose, slits)

    def _shade(self, windows: Tensor, ratio: Tensor | None, places: Tensor) -> Tensor:
        """Windows `(N, 3, rows, columns)` of skin with the folds that lie at their places."""
        if ratio is None:
            return windows
        count, _, rows, columns = windows.shape
        return shade(windows, self.region.read(ratio, places).reshape(3, count, rows, columns).transpose(0, 1))

    def _lay(self, flat: Tensor, places: Tensor, windows: Tensor) -> Tensor:
        return self.region.write(flat, places, windows.transpose(0, 1).reshape(3, -1))

    def _into_still(self, region: Tensor) -> Tensor:
        """`(H, W, 3)` picture: outside the region the portrait's own pixels."""
        moved = region[0].permute(1, 2, 0)
        row = [part for part in (self.left, moved, self.right) if part is not None]
        moved = torch.cat(row, 1) if len(row) > 1 else moved
        column = [part for part in (self.above, moved, self.below) if part is not None]
        moved = torch.cat(column, 0) if len(column) > 1 else moved
        return moved.contiguous()


class PictureStep(nn.Module):
    """The graph with whole numbers in float32 as its output."""

    def __init__(self, graph: GeneratorGraph) -> None:
        super().__init__()
        self.generator = graph  # an exported module has an attribute `graph` of its own

    def forward(self, control: Tensor) -> Tensor:
        return self.generator.picture(control)
