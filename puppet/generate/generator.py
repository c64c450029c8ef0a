"""Generator: one portrait, one control vector, one picture. Motion first, then the interiors, then the texture's place."""

from __future__ import annotations

import time
from dataclasses import dataclass

import cv2
import numpy as np

from puppet import facs
from puppet.composite import blend, into_still
from puppet.generate.anatomy import (
    GAP_ACTIONS,
    LID_SKIN,
    LIDS,
    LIP_CORNERS,
    LOWER_LIP,
    UPPER_LIP,
    Anatomy,
    read_anatomy,
    weights_of,
)
from puppet.generate.canvas import Canvas
from puppet.generate.eyes import EyeInterior
from puppet.generate.field import PortraitField, build_field
from puppet.generate.lips import part_lips, resting_lips
from puppet.generate.motion import HeadPose, cell_positions, head_displacement, head_pose, invert
from puppet.generate.mouth import MouthInterior, MouthPictures
from puppet.generate.slit import Opening, Slit, build_slit, open_slit
from puppet.generate.texture import MotionPicture, Patch, TextureStep
from puppet.landmarks import LOWER_INNER_LIP, UPPER_INNER_LIP
from puppet.rig import LandmarkRig

_LASHES = 0.05  # of the eye's width: the strip under the upper lid's edge that goes with the lid
_LID_FOLLOWS_GAZE = 2.2  # AU45 intensity per radian of downward gaze
_GAZE_PITCH = facs.INDEX["gaze_pitch_rad"]


@dataclass(frozen=True)
class Timings:
    """Milliseconds of the last frame."""

    motion_ms: float
    interior_ms: float
    texture_ms: float
    composite_ms: float


class Generator:
    """Animates one canvas.

    `baseline` `(SIZE,)` is what the portrait itself shows; a control equal to it gives the portrait unchanged.
    """

    def __init__(
        self, canvas: Canvas, rig: LandmarkRig, pictures: MouthPictures, *, texture: TextureStep | None = None
    ) -> None:
        self.canvas = canvas
        self.anatomy: Anatomy = read_anatomy(canvas.landmarks_px, rig)
        self.field: PortraitField = build_field(self.anatomy, rig, canvas.size)
        self.slits = _build_slits(self.field)
        self.baseline = facs.rest()
        self.baseline[facs.INDEX["AU25"]] = resting_lips(self.anatomy)
        self.texture = texture
        self.timings = Timings(0, 0, 0, 0)
        still = head_pose(facs.rest(), self.field)
        zero = np.zeros(len(self.anatomy.actions), np.float32)
        rest_mouth = None
        if self.anatomy.rest_gap_px > 0:
            rest_mouth = open_slit(self.slits["mouth"], self.field, zero, still, canvas.size)[0]
        self._mouth = MouthInterior(canvas, self.anatomy, rig, pictures, rest_mouth)
        self._eyes = {side: EyeInterior(canvas, self.anatomy, side) for side in "RL"}
        self._region = _pixel_region(self.field, canvas.size)

    def set_baseline(self, baseline: np.ndarray) -> None:
        """What the portrait shows `(SIZE,)`; its AU25 is always the measured gap between the portrait's lips."""
        self.baseline = baseline.astype(np.float32).copy()
        self.baseline[facs.INDEX["AU25"]] = resting_lips(self.anatomy)

    def render(self, control: np.ndarray) -> np.ndarray:
        """`(H, W, 3)` uint8 RGB, a new array. `control` `(SIZE,)`: intensities absolute, eyes and head relative."""
        started = time.perf_counter()
        weights = self._weights(control)
        pose = head_pose(control, self.field)
        source, openings = self._source_positions(weights, pose)
        moved = self._sample(source)
        sampled = time.perf_counter()
        rgb = into_still(self.canvas.still, self._region, moved)
        for patch in self._interiors(openings, weights, control, pose):
            blend(rgb, patch)
        drawn = time.perf_counter()
        painted: list[Patch] = []
        if self.texture is not None:
            painted = self.texture.paint(MotionPicture(rgb, source, self._region, openings), control)
        textured = time.perf_counter()
        for patch in painted:
            blend(rgb, patch)
        done = time.perf_counter()
        self.timings = Timings(*(1e3 * (b - a) for a, b in zip(
            (started, sampled, drawn, textured), (sampled, drawn, textured, done), strict=True)))
        return rgb

    def _weights(self, control: np.ndarray) -> np.ndarray:
        """`(K,)` rig weights beyond the portrait's own, lips parted as AU25 says, lids following the gaze."""
        weights = weights_of(control, self.baseline, self.anatomy.actions)
        lowered = max(0.0, -float(control[_GAZE_PITCH])) * _LID_FOLLOWS_GAZE / facs.MAX_INTENSITY
        for side in "RL":
            column = self.anatomy.actions.index(f"AU45_{side}")
            weights[column] = max(weights[column], min(weights[column] + lowered, 1.0))
        return part_lips(weights, control, self.anatomy)

    def _source_positions(self, weights: np.ndarray, pose: HeadPose) -> tuple[np.ndarray, dict[str, Opening]]:
        """`(h, w, 2)` float32 canvas position that each pixel of the region shows, and the openings."""
        grid = self.field.head.grid
        backward = invert(head_displacement(self.field, weights, pose) / grid.cell_px)
        absolute = (cell_positions(*grid.shape) + backward) * np.float32(grid.cell_px) + np.array(
            grid.origin_px, np.float32
        )
        x0, y0, x1, y1 = self._region
        to_grid = np.array(
            [
                [1 / grid.cell_px, 0, (x0 - grid.origin_px[0]) / grid.cell_px],
                [0, 1 / grid.cell_px, (y0 - grid.origin_px[1]) / grid.cell_px],
            ]
        )
        source = cv2.warpAffine(
            absolute, to_grid, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        openings = {}
        for name, slit in self.slits.items():
            opening, own, fade = open_slit(slit, self.field, weights, pose, self.canvas.size)
            openings[name] = opening
            _lay_window(source, (x0, y0), opening.window, own, fade)
        return source, openings

    def _sample(self, source: np.ndarray) -> np.ndarray:
        texture, scale = self.canvas.texture, self.canvas.texture_scale
        at = source * np.float32(scale) if scale != 1 else source
        return cv2.remap(texture, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _interiors(
        self, openings: dict[str, Opening], weights: np.ndarray, control: np.ndarray, pose: HeadPose
    ) -> list[Patch]:
        """Teeth and eyeballs where lips and lids stand open."""
        patches = []
        rig_count = len(weights) - len(GAP_ACTIONS)
        own = weights_of(self.baseline, facs.rest(), self.anatomy.actions)[:rig_count]
        for name, opening in openings.items():
            if not opening.mask.any():
                continue
            follow = _follow_at(self.slits[name])
            if name == "mouth":
                colour = self._mouth.draw(opening, weights[:rig_count], own, pose, follow)
            else:
                colour = self._eyes[name].draw(opening, control, pose, follow)
            patches.append(Patch(opening.window[:2], colour, opening.mask))
        return patches

    def close(self) -> None:
        if self.texture is not None:
            self.texture.close()


def _build_slits(field: PortraitField) -> dict[str, Slit]:
    lips = set(UPPER_LIP) & set(LOWER_LIP) | set(LIP_CORNERS)
    slits = {
        "mouth": build_slit(
            field,
            UPPER_INNER_LIP,
            LOWER_INNER_LIP,
            upper_side=tuple(set(UPPER_LIP) - lips),
            lower_side=tuple(set(LOWER_LIP) - lips),
            reach=(0.45, 0.6, 1.1),
            cells=72,
            is_closed_at_rest=field.anatomy.rest_gap_px == 0,
        )
    }
    for side in "RL":
        upper, lower = LIDS[side]
        corners = {upper[0], upper[-1]}
        above, below = LID_SKIN[side][:7], LID_SKIN[side][8:15]
        slits[side] = build_slit(
            field,
            upper,
            lower,
            upper_side=tuple((set(upper) | set(above)) - corners),
            lower_side=tuple((set(lower) | set(below)) - corners),
            reach=(0.5, 0.7, 0.6),
            cells=56,
            is_closed_at_rest=False,
            edge_inset=_LASHES,
        )
    return slits


def _lay_window(
    source: np.ndarray, origin: tuple[int, int], window: tuple[int, int, int, int], own: np.ndarray, fade: np.ndarray
) -> None:
    """Blend a slit's backward displacement into the region's source positions, in place."""
    x0, y0, x1, y1 = window
    left, top = max(x0, origin[0]), max(y0, origin[1])
    right, bottom = min(x1, origin[0] + source.shape[1]), min(y1, origin[1] + source.shape[0])
    if right <= left or bottom <= top:
        return
    inner = (slice(top - y0, bottom - y0), slice(left - x0, right - x0))
    outer = (slice(top - origin[1], bottom - origin[1]), slice(left - origin[0], right - origin[0]))
    at = cell_positions(bottom - top, right - left) + own[inner] + np.array([left, top], np.float32)
    source[outer] += (at - source[outer]) * fade[inner][..., None]


def _follow_at(slit: Slit) -> float:
    row, column = slit.grid.shape[0] // 2, slit.grid.shape[1] // 2
    return float(slit.follow[row, column])


def _pixel_region(field: PortraitField, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Whole pixels that the head's grid covers."""
    grid = field.head.grid
    x0, y0 = int(np.ceil(grid.origin_px[0])), int(np.ceil(grid.origin_px[1]))
    x1 = min(size[0], int(grid.origin_px[0] + grid.cell_px * (grid.shape[1] - 1)) + 1)
    y1 = min(size[1], int(grid.origin_px[1] + grid.cell_px * (grid.shape[0] - 1)) + 1)
    return x0, y0, x1, y1
