"""Eyes: what shows between the lids, both eyes as one batch. What `puppet.generate.eyes` does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from puppet import facs
from puppet.generate import eyes as reference
from puppet.generate.eyes import EyeInterior
from puppet.generate.graph.control import Pose
from puppet.generate.graph.sampling import blend, constant, sample, unit
from puppet.generate.graph.slit import Opening, Window


class Eyes(nn.Module):
    """Draws eyeballs into the openings of a batch of eyes, and lashes where lids meet."""

    def __init__(self, eyes: Sequence[EyeInterior], follow: Sequence[float]) -> None:
        """`follow` says how much of the head's motion each eye takes part in."""
        super().__init__()
        shape = tuple(max(e.settled.shape[axis] for e in eyes) for axis in (0, 1))
        buffers = {
            "still": [np.concatenate([_filled(e.settled, shape), _filled(e.white, shape)]) for e in eyes],
            "iris": [_filled(e.iris, shape) for e in eyes],
            "rest": [(*e.anchor, e.depth) for e in eyes],
            "origin": [e.origin for e in eyes],
            "follow": [np.full((1,), f) for f in follow],
            "gaze_px": [e.rotation * np.array([[1], [-1], [-1]]) * (reference.EYEBALL_RADIUS * e.width) for e in eyes],
            "rest_gap": [e.rest_gap_px for e in eyes],
            "lash": [np.asarray(e.lash_colour)[:, None, None] for e in eyes],
            "thickness": [np.full((1, 1), reference.LASH_THICKNESS * e.width) for e in eyes],
            "straight": np.eye(2),
        }
        for name, values in buffers.items():
            self.register_buffer(name, constant(np.stack(values)))
        self._gaze = facs.INDEX["gaze_yaw_rad"]

    def forward(self, skin: Tensor, window: Window, opening: Opening, control: Tensor, pose: Pose) -> Tensor:
        """The windows `(N, 3, rows, columns)` with eyes laid over the skin."""
        gaze = self._gaze_px(control, pose)
        # Canvas from the eye at rest: a plane at the eyeball's depth, which goes with the skull.
        carried = self.rest + pose.travel(self.rest) * self.follow
        linear = self.straight + self.follow[..., None] * (pose.linear[:2, :2] - self.straight)
        still = sample(self.still, *self._crop_from_canvas(window, linear, carried[:, :2]), mode="bicubic")
        turned = self._crop_from_canvas(window, linear, carried[:, :2] + gaze)
        iris = sample(self.iris, *turned, mode="bicubic")
        settled, white = still[:, :3], still[:, 3:]
        layered = white + (iris[:, :3] - white) * iris[:, 3:]
        moving = unit((gaze * gaze).sum(1).sqrt() / reference.SETTLED_PX)[:, None, None, None]
        drawn = blend(skin, settled + (layered - settled) * moving, opening.mask[:, None])
        return blend(drawn, self.lash, self._lashes(opening)[:, None])

    def _lashes(self, opening: Opening) -> Tensor:
        """`(N, rows, columns)` attention of the dark line where lids that close meet."""
        closed = 1 - opening.gap_px / self.rest_gap
        strength = (reference.LASH_STRENGTH * unit((closed - 0.4) / 0.5))[:, None, None]
        distance = (opening.seam_px - 0.3 * self.thickness) / self.thickness
        along = opening.along * opening.along
        attention = strength * torch.exp(-distance * distance) * unit(1 - along * along) * opening.in_band
        return torch.where(attention < 0.02, 0.0, attention)

    def _gaze_px(self, control: Tensor, pose: Pose) -> Tensor:
        """`(N, 2)` px that each iris moves on the picture."""
        yaw, pitch = control[self._gaze : self._gaze + 1], control[self._gaze + 1 : self._gaze + 2]
        forward = torch.cat((yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos() - 1.0))
        return ((self.gaze_px @ forward) @ pose.linear.T)[:, :2]

    def _crop_from_canvas(self, window: Window, linear: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        x, y = unwarp(window, linear, at)
        anchor = (self.rest[:, :2] - self.origin)[:, :, None, None]
        return x + anchor[:, 0], y + anchor[:, 1]


def unwarp(window: Window, linear: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """x, y `(N, rows, columns)` that `linear` `(N, 2, 2)` and then `at` `(N, 2)` take to the window's pixels."""
    a, b, c, d = (linear[:, i, j, None, None] for i in (0, 1) for j in (0, 1))
    x, y = window.x - at[:, :1, None], window.y - at[:, 1:, None]
    scale = 1 / (a * d - b * c)
    return (d * x - b * y) * scale, (a * y - c * x) * scale


def _filled(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """`(C, rows, columns)` of `(h, w, C)`, continued by its border."""
    missing = [(0, want - have) for want, have in zip(shape, picture.shape[:2], strict=True)]
    return np.pad(picture, [*missing, (0, 0)], mode="edge").transpose(2, 0, 1)
