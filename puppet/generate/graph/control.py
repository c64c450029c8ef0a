"""Control: the vector as weights of the portrait's actions and as a pose of its head.

What `anatomy.weights_of`, `lids.Lids`, `lips.Lips` and `motion.head_pose` do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from puppet import facs
from puppet.generate import lips
from puppet.generate.anatomy import EXTRA_ACTIONS
from puppet.generate.generator import Generator
from puppet.generate.graph.sampling import constant, unit
from puppet.generate.lids import lid_openings
from puppet.landmarks import LIDS

_IMAGE_AXES = ((1.0, -1.0, -1.0), (-1.0, 1.0, 1.0), (-1.0, 1.0, 1.0))
"""Signs of a rotation's entries when both its sides change from the head's axes to the image's."""


class Pose(NamedTuple):
    """`linear` `(3, 3)` and `shift_px` `(3,)` of the head's motion about `pivot_px` `(3,)`, in image axes."""

    linear: Tensor
    shift_px: Tensor
    pivot_px: Tensor

    def travel(self, points_px: Tensor) -> Tensor:
        """`(..., 3)` px: how far points go."""
        return (points_px - self.pivot_px) @ self.linear.T + (self.pivot_px + self.shift_px) - points_px


class HeadPoseStep(nn.Module):
    """`(SIZE,)` control to pose."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.register_buffer("signs", constant(_IMAGE_AXES))
        self.register_buffer("pivot_px", constant(generator.field.pivot_px))
        ocular = generator.anatomy.ocular_px
        self.register_buffer("shift_scale", constant((ocular, -ocular, 0.0)))
        self._angles = [facs.INDEX[name] for name in ("yaw_rad", "pitch_rad", "roll_rad")]
        self._shift, self._scale = facs.INDEX["shift_x"], facs.INDEX["scale"]

    def forward(self, control: Tensor) -> Pose:
        yaw, pitch, roll = (control[place] for place in self._angles)
        cy, sy = yaw.cos(), yaw.sin()
        cp, sp = pitch.cos(), -pitch.sin()
        cr, sr = roll.cos(), -roll.sin()
        # Ry(yaw) @ Rx(-pitch) @ Rz(-roll), written out.
        rotation = torch.stack(
            (
                cy * cr + sy * sp * sr, sy * sp * cr - cy * sr, sy * cp,
                cp * sr, cp * cr, -sp,
                cy * sp * sr - sy * cr, sy * sr + cy * sp * cr, cy * cp,
            )
        ).reshape(3, 3)  # fmt: skip
        # The third number is multiplied by zero.
        shift = control[self._shift : self._shift + 3] * self.shift_scale
        return Pose(rotation * self.signs * control[self._scale], shift, self.pivot_px)


class WeightsStep(nn.Module):
    """`(SIZE,)` control to `(K,)` weights beyond the portrait's own, lids and lips as far apart as asked."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        anatomy = generator.anatomy
        actions = anatomy.actions
        places = [facs.INDEX[name] for name in actions[: anatomy.rig_count]]
        self.register_buffer("places", torch.tensor(places))
        self.register_buffer("baseline", constant(generator.baseline[places]))
        self.register_buffer("look", constant(np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]) / anatomy.look_rad))
        self._gaze = facs.INDEX["gaze_yaw_rad"]
        self._lids = []
        for side in LIDS:
            if (lid := lid_openings(anatomy, side)) is None:
                continue
            rest, opens = lid
            one = np.eye(len(actions), dtype=np.float32)[actions.index(f"AU45_{side}")]
            self.register_buffer(f"column_{side}", constant(one))
            self.register_buffer(f"others_{side}", constant(1 - one))
            self.register_buffer(f"opens_{side}", constant(opens / rest))
            self._lids.append((side, facs.INDEX[f"AU45_{side}"]))
        opens = lips.opening_px(anatomy)
        jaw, seal, rise, fall = (
            np.eye(len(actions))[actions.index(n)] for n in ("AU26", "seal", "upper_gap", "lower_gap")
        )
        at_rest, beside = lips.openings_beside_px(anatomy)
        close = lips.CLOSE_UPPER * rise + (1 - lips.CLOSE_UPPER) * fall
        buffers = {
            "opens": opens,
            "jaw": jaw,
            "seal": seal,
            "close": close,
            "part": lips.PART_UPPER * rise + (1 - lips.PART_UPPER) * fall,
            "arch": lips.ARCH * (rise - fall),
            "gaps_beside": at_rest,
            "opens_beside": beside,
            "press_shares": np.maximum(close @ beside / anatomy.open_gap_px, lips.LEAST_SHARE),
        }
        for name, values in buffers.items():
            self.register_buffer(name, constant(values))
        self._jaw, self._opens_jaw = actions.index("AU26"), float(opens[actions.index("AU26")])
        self._opens_seal = max(-float(opens[actions.index("seal")]), 1e-3)
        self._rest_gap, self._open_gap = float(anatomy.rest_gap_px), float(anatomy.open_gap_px)
        self._au25 = facs.INDEX["AU25"]

    def forward(self, control: Tensor) -> Tensor:
        actions = (control.index_select(0, self.places) - self.baseline) / facs.MAX_INTENSITY
        look = torch.relu(self.look @ control[self._gaze : self._gaze + 2])
        lips_own = torch.zeros_like(look[: len(EXTRA_ACTIONS) - len(look)])
        return self._part_lips(self._close_lids(torch.cat((actions, look, lips_own)), control), control)

    def _close_lids(self, weights: Tensor, control: Tensor) -> Tensor:
        for side, place in self._lids:
            others = weights * getattr(self, f"others_{side}")
            left = torch.relu((1 + others @ getattr(self, f"opens_{side}")).amax(0))
            weights = others + getattr(self, f"column_{side}") * (left * control[place] / facs.MAX_INTENSITY)
        return weights

    def _part_lips(self, weights: Tensor, control: Tensor) -> Tensor:
        wide = self._open_gap
        wanted = control[self._au25] * (wide / facs.MAX_INTENSITY)
        gap = self._rest_gap + weights @ self.opens
        gap = torch.where(gap < 0, gap * unit(wanted / (lips.SEALED * wide)), gap)
        missing = wanted - gap
        # Both branches; the other one's amounts are nothing.
        closing, parting = torch.relu(-missing), torch.relu(missing)
        by_jaw = torch.minimum(closing, torch.relu(weights[self._jaw] * self._opens_jaw))
        by_lips = parting.clamp(max=lips.LIPS_ALONE * wide)
        weights = (
            weights
            + self.seal * (by_jaw / self._opens_seal)
            + self.close * ((by_jaw - closing) / wide)
            + self.part * (by_lips / wide)
            + self.jaw * ((parting - by_lips) / self._opens_jaw)
        )
        sealed = torch.where(missing <= 0, 1 - unit(wanted / (lips.SEALED * wide)), 0.0)
        weights = weights - self.close * (sealed * self._gap_beside_middle(weights, wanted) / wide)
        parted = wanted - self._rest_gap
        jaw_parts = weights[self._jaw] * self._opens_jaw
        jaw_parts = torch.minimum(torch.maximum(jaw_parts, -torch.relu(-parted)), torch.relu(parted))
        return weights + self.arch * (jaw_parts / wide)

    def _gap_beside_middle(self, weights: Tensor, wanted: Tensor) -> Tensor:
        excess = weights @ self.opens_beside
        if self._rest_gap > 0:
            excess = excess + self.gaps_beside * torch.relu(1 - wanted / self._rest_gap)
        return (excess / self.press_shares).amax(0).clamp(0.0, lips.MOST_PRESS * self._open_gap)
