"""Mouth: what shows between the lips. What `puppet.generate.mouth` does."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from puppet import facs
from puppet.generate import lip_line
from puppet.generate import mouth as reference
from puppet.generate.anatomy import weights_of
from puppet.generate.graph.control import Pose
from puppet.generate.graph.eyes import unwarp
from puppet.generate.graph.sampling import blend, constant, sample, unit
from puppet.generate.graph.slit import Opening, Window
from puppet.generate.own_mouth import AT_REST_PX
from puppet.generate.slit import CORNER_PX, FULLY_MOVED_PX


class Mouth(nn.Module):
    """Draws teeth, gums and tongue into the opening of a mouth; a batch of one."""

    def __init__(self, generator, follow: float) -> None:
        super().__init__()
        mouth = generator.mouth
        self._follow, self._px_per_cm = follow, mouth.px_per_cm
        self._count = generator.anatomy.rig_count
        own_weights = weights_of(generator.baseline, facs.rest(), generator.anatomy)[: self._count]
        layers = {name: layer.transpose(2, 0, 1)[None] for name, layer in mouth.layers.items()}
        buffers = {
            "own_weights": own_weights,
            "anchors_px": mouth.anchors_px,
            "upper_action_px": mouth.upper_action_px.reshape(self._count, -1),
            "lower_action_px": mouth.lower_action_px.reshape(self._count, -1),
            **layers,
            "cavity": (reference.CAVITY * mouth.light)[None, :, None, None],
            "layer_solver": _solver(mouth.layer_anchors),
        }
        line = generator.lip_line
        self._line = None
        if line is not None:
            self._line = (line.rest_gap_px, line.width_px)
            buffers["line_dark"] = lip_line.LINE_DARK[None, :, None, None]
        self._has_own = mouth.own is not None
        if mouth.own is not None:
            buffers["own_solver"] = _solver(mouth.anchors_px[:, :2] - mouth.own.origin)
            for name, look in (("rest", mouth.own.rest), ("parted", mouth.own.parted)):
                for part, alpha in (("lower", look.lower_alpha), ("upper", look.upper_alpha)):
                    buffers[f"own_{part}_{name}"] = np.dstack([look.rgb, alpha]).transpose(2, 0, 1)[None]
            self._own_gap_px = mouth.own.gap_px
        for name, values in buffers.items():
            self.register_buffer(name, constant(values))

    def forward(self, skin: Tensor, window: Window, opening: Opening, weights: Tensor, pose: Pose) -> Tensor:
        """The window `(1, 3, rows, columns)` with the mouth laid over the skin."""
        beyond = weights[: self._count]
        total = beyond + self.own_weights
        upper, lower = (
            self._carry(action_px, total, pose, self.layer_solver)
            for action_px in (self.upper_action_px, self.lower_action_px)
        )
        tongue = upper + (lower - upper) * reference.TONGUE_FOLLOWS
        colour = self.cavity
        for picture, canvas_from_picture in ((self.tongue, tongue), (self.lower, lower), (self.upper, upper)):
            layer = sample(picture, *_unwarped(window, canvas_from_picture), padding="zeros")
            colour = layer[:, :3] + colour * (1 - layer[:, 3:])
        colour = colour * self._shade(opening)[:, None]
        if self._has_own:
            moved_px = (opening.gap_px - self._own_gap_px).abs()
            share = unit((moved_px - AT_REST_PX) / FULLY_MOVED_PX)
            for rest, parted, action_px in (
                (self.own_lower_rest, self.own_lower_parted, self.lower_action_px),
                (self.own_upper_rest, self.own_upper_parted, self.upper_action_px),
            ):
                own = rest + (parted - rest) * share
                layer = sample(own, *_unwarped(window, self._carry(action_px, beyond, pose, self.own_solver)))
                colour = colour + (layer[:, :3] - colour) * layer[:, 3:]
        if self._line is not None:
            skin = skin * (1 - self._lip_line(opening)[:, None] * self.line_dark)
        return blend(skin, colour, opening.mask[:, None])

    def _lip_line(self, opening: Opening) -> Tensor:
        """`(1, rows, columns)` 0-1 where lips meet that are apart in the portrait."""
        rest_gap_px, width_px = self._line
        met, apart = lip_line.MEETING_PX
        amount = unit((rest_gap_px - opening.gap_px) / FULLY_MOVED_PX) * unit((apart - opening.gap_px) / (apart - met))
        away = opening.seam_px / (lip_line.LINE_WIDTH * width_px)
        corner = unit((1 - opening.along.abs()) * (width_px / (2 * CORNER_PX)))
        return torch.exp(-0.5 * away * away) * corner * opening.in_band * amount[:, None, None]

    def _carry(self, action_px: Tensor, weights: Tensor, pose: Pose, solver: Tensor) -> Tensor:
        """`(2, 3)` canvas from a picture that three anchors carry."""
        moved = (weights @ action_px).reshape(3, 3) @ pose.linear.T
        at = (self.anchors_px + moved + pose.travel(self.anchors_px) * self._follow)[:, :2]
        return (solver @ at).T

    def _shade(self, opening: Opening) -> Tensor:
        """`(1, rows, columns)` light inside: less under the upper lip, at the corners and in a narrow gap."""
        under_lip = unit(opening.depth_px / (0.3 * self._px_per_cm))
        wide = unit(opening.gap_px / (0.8 * self._px_per_cm))
        across = (opening.along * opening.along).clamp(max=1)
        sideways = (1 + 0.2 * across) * (1 - 0.5 * across * across)
        return (0.7 + 0.3 * under_lip) * sideways * (0.85 + 0.15 * wide)[:, None, None]


def _unwarped(window: Window, canvas_from_picture: Tensor) -> tuple[Tensor, Tensor]:
    return unwarp(window, canvas_from_picture[None, :, :2], canvas_from_picture[None, :, 2])


def _solver(points: np.ndarray) -> np.ndarray:
    """`(3, 3)` that turns where three points `(3, 2)` lie into the affine map that takes them there, transposed."""
    return np.linalg.inv(np.concatenate([points, np.ones((3, 1))], 1).astype(np.float64))
