"""Generator: one portrait, one control vector, one picture.

Motion first, then what shows in the openings, then the place of the learned texture step.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from puppet import facs
from puppet.composite import blend, into_still
from puppet.generate.anatomy import (
    LID_SKIN,
    Anatomy,
    read_anatomy,
    weights_of,
)
from puppet.generate.canvas import Canvas
from puppet.generate.eyes import EyeInterior
from puppet.generate.field import PortraitField, build_field
from puppet.generate.folds import FoldMaps, Folds
from puppet.generate.lids import Lids
from puppet.generate.lip_line import LipLine
from puppet.generate.lips import Lips, resting_lips
from puppet.generate.motion import HeadPose, cell_positions, head_displacement, head_pose, invert
from puppet.generate.mouth import MouthInterior, MouthPictures
from puppet.generate.picture_edge import hold, read_edges
from puppet.generate.slit import Opening, Slit, SlitMotion, build_slit, open_slit
from puppet.generate.texture import MotionPicture, Patch, TextureModel, TextureStep
from puppet.landmarks import LIDS, LIP_CORNERS, LOWER_INNER_LIP, LOWER_LIP, UPPER_INNER_LIP, UPPER_LIP
from puppet.rig import LandmarkRig

_LASHES = 0.05  # of the eye's width: the strip under the upper lid's edge that goes with the lid


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
        self,
        canvas: Canvas,
        rig: LandmarkRig,
        pictures: MouthPictures,
        *,
        texture: TextureModel | None = None,
        folds: FoldMaps | None = None,
        anatomy: Anatomy | None = None,
    ) -> None:
        """`texture` repaints and `folds` shade what motion alone can't; `anatomy` None reads it from the landmarks."""
        self.canvas = canvas
        self.anatomy: Anatomy = read_anatomy(canvas.landmarks_px, rig) if anatomy is None else anatomy
        self.field: PortraitField = build_field(self.anatomy, rig, canvas.size)
        head = self.field.head
        self.edges = read_edges(self.anatomy, head.grid, head.follow, canvas)
        self.slits = _build_slits(self.field)
        self.lip_line = LipLine.of(self.slits["mouth"])
        self._lids, self._lips = Lids(self.anatomy), Lips(self.anatomy)
        self.set_baseline(facs.rest())
        self.timings = Timings(0, 0, 0, 0)
        still = head_pose(facs.rest(), self.field)
        zero = np.zeros(len(self.anatomy.actions), np.float32)
        rest_mouth = None
        if self.anatomy.rest_gap_px > 0:
            opened = open_slit(self.slits["mouth"], self.field, zero, still, self._backward(zero, still), canvas)
            rest_mouth = opened[0] if opened is not None and opened[0].mask.size else None
        self.mouth = MouthInterior(canvas, self.anatomy, rig, pictures, rest_mouth)
        self.eyes = {side: EyeInterior(canvas, self.anatomy, side) for side in "RL"}
        self.region = _pixel_region(self.field, canvas.size)
        # Megabytes that are written anew each frame: fresh ones would have to be mapped by the system every time.
        self._texels = self.field.head.grid.empty_sources()
        self._moved: np.ndarray | None = None
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="warp")
        self.folds = None if folds is None else Folds(folds, canvas, self.anatomy, self.field)
        self.texture: TextureStep | None = None
        if texture is not None:
            self.texture = texture.prepare(self.move(zero, still, self.baseline))

    def set_baseline(self, baseline: np.ndarray) -> None:
        """What the portrait shows `(SIZE,)`; its AU25 is always the measured gap between the portrait's lips."""
        self.baseline = baseline.astype(np.float32).copy()
        self.baseline[facs.INDEX["AU25"]] = resting_lips(self.anatomy)
        self._own_weights = weights_of(self.baseline, facs.rest(), self.anatomy)[: self.anatomy.rig_count]

    def render(self, control: np.ndarray) -> np.ndarray:
        """`(H, W, 3)` uint8 RGB, a new array. `control` `(SIZE,)`: intensities absolute, eyes and head relative."""
        started = time.perf_counter()
        pose = head_pose(control, self.field)
        picture = self.move(self.weights_at(control), pose, control, is_folded=self.folds is not None)
        moved = time.perf_counter()
        painted = self.texture.paint(picture, control) if self.texture is not None else []
        textured = time.perf_counter()
        for patch in painted:
            blend(picture.rgb, patch)
        done = time.perf_counter()
        motion_ms = 1e3 * (moved - started) - self._interior_ms
        self.timings = Timings(motion_ms, self._interior_ms, 1e3 * (textured - moved), 1e3 * (done - textured))
        return picture.rgb

    def move(
        self, weights: np.ndarray, pose: HeadPose, control: np.ndarray, *, is_folded: bool = False
    ) -> MotionPicture:
        """The motion step with its interiors, a new picture; its skin is shaded by the folds where that is asked for.

        `weights` `(K,)` are the rig's beyond the portrait's own; `control` `(SIZE,)` gives the gaze and the folds.
        """
        backward = self._backward(weights, pose)
        # The large warp is one call without Python's lock: meanwhile the slits, many small ones, are worked out.
        warped = self._beside.submit(self._warped, backward)
        ratio = self._beside.submit(self.folds.ratio, backward, control, self.baseline) if is_folded else None
        openings, motions, lashes = {}, {}, []
        for name, slit in self.slits.items():
            if (opened := open_slit(slit, self.field, weights, pose, backward, self.canvas)) is not None:
                openings[name], motions[name] = opened
                if name in self.eyes:
                    lashes.append(self.eyes[name].lashes(motions[name]))
        moved = self._moved = warped.result()
        for name, motion in motions.items():
            self._lay_slit(moved, motion)
            if name == "mouth" and self.lip_line is not None:
                self.lip_line.draw(moved, motion, self.region)
        if ratio is not None and (shading := ratio.result()) is not None:
            self.folds.shade(moved, self.region, shading)
        sampled = time.perf_counter()
        rgb = into_still(self.canvas.still, self.region, moved)
        for patch in (*self._interiors(openings, weights, control, pose), *filter(None, lashes)):
            blend(rgb, patch)
        self._interior_ms = 1e3 * (time.perf_counter() - sampled)
        corners = {name: self._corners(slit, pose) for name, slit in self.slits.items()}
        return MotionPicture(rgb, openings, corners)

    def warp(self, weights: np.ndarray, pose: HeadPose) -> np.ndarray:
        """The portrait's own pixels moved by one smooth field, a new picture: `move` without slits and interiors."""
        moved = self._sample(self._at_pixels(self._backward(weights, pose)))
        return into_still(self.canvas.still, self.region, moved)

    def shown_positions(self, weights: np.ndarray, pose: HeadPose) -> np.ndarray:
        """`(H, W, 2)` float32 px: the place of the still that each pixel shows, were there nothing in the openings."""
        width, height = self.canvas.size
        places, backward = cell_positions(height, width), self._backward(weights, pose)
        moved = self._sample(self._at_pixels(backward), source=places)
        for slit in self.slits.values():
            if (opened := open_slit(slit, self.field, weights, pose, backward, self.canvas)) is not None:
                self._lay_slit(moved, opened[1], places)
        return into_still(places, self.region, moved)

    def _corners(self, slit: Slit, pose: HeadPose) -> np.ndarray:
        """`(2, 2)` px: where the slit's resting corners stand when the head alone moves."""
        rest = self.anatomy.points_px[[slit.upper[0], slit.upper[-1]]]
        return (rest + (pose.move(rest) - rest) * slit.follow_at_anchor)[:, :2]

    def weights_at(self, control: np.ndarray) -> np.ndarray:
        """`(K,)` weights beyond the portrait's own, lids following the gaze, lips and lids as far apart as asked."""
        weights = weights_of(control, self.baseline, self.anatomy)
        return self._lips.part(self._lids.close(weights, control), control)

    def _backward(self, weights: np.ndarray, pose: HeadPose) -> np.ndarray:
        """`(rows, columns, 2)` px: from each cell of the head's grid to the canvas position it shows, slits aside."""
        cell = np.float32(self.field.head.grid.cell_px)
        return hold(invert(head_displacement(self.field, weights, pose) / cell) * cell, self.edges)

    def _warped(self, backward: np.ndarray) -> np.ndarray:
        """The region's picture `(h, w, 3)` uint8 without slits, in the last frame's memory."""
        return self._sample(self._at_pixels(backward), self._moved)

    def _at_pixels(self, backward: np.ndarray) -> np.ndarray:
        """The texel that each pixel of the region shows, `(h, w, 2)`, valid until the next frame."""
        x0, y0, x1, y1 = self.region
        grid = self.field.head.grid
        left, top = grid.left_top_px
        texels = grid.sources(backward, scale=self.canvas.texture_scale, out=self._texels)
        return texels[y0 - top : y1 - top, x0 - left : x1 - left]

    def _sample(
        self, texels: np.ndarray, out: np.ndarray | None = None, source: np.ndarray | None = None
    ) -> np.ndarray:
        """The portrait's colours at texels `(h, w, 2)`; `source` `(H, W, ...)` is sampled in the canvas's place."""
        if source is None:
            source = self.canvas.texture
        elif self.canvas.texture_scale != 1:
            texels = texels * np.float32(1 / self.canvas.texture_scale)
        # Not the border's mirror image: a head that touches the border would draw its own in, upside down.
        return cv2.remap(source, texels, None, cv2.INTER_LINEAR, dst=out, borderMode=cv2.BORDER_REPLICATE)

    def _lay_slit(self, moved: np.ndarray, motion: SlitMotion, source: np.ndarray | None = None) -> None:
        """Redraw the skin round a slit with the motion of both of its sides; `moved` is changed in place."""
        x0, y0, x1, y1 = motion.window
        left, top, right, bottom = self.region
        x_from, x_to = max(x0, left), min(x1, right)
        first, last = (min(max(y0 + row, top), bottom) for row in motion.band)
        y_from, y_to = min(max(y0, top), first), max(min(y1, bottom), last)
        if x_to <= x_from or y_to <= y_from:
            return
        columns = slice(x_from - x0, x_to - x0)
        band = y0 + motion.band[0]
        upper = self._sample(motion.from_upper[y_from - y0 : last - y0, columns], source=source)
        lower = self._sample(motion.from_lower[first - band : y_to - band, columns], source=source)
        out = moved[y_from - top : y_to - top, x_from - left : x_to - left]
        out[: first - y_from] = upper[: first - y_from]
        out[last - y_from :] = lower[last - first :]
        if last > first:
            share = np.ascontiguousarray(motion.below[first - band : last - band, columns])
            out[first - y_from : last - y_from] = cv2.blendLinear(
                np.ascontiguousarray(upper[first - y_from :]),
                np.ascontiguousarray(lower[: last - first]),
                1 - share,
                share,
            )

    def _interiors(
        self, openings: dict[str, Opening], weights: np.ndarray, control: np.ndarray, pose: HeadPose
    ) -> list[Patch]:
        """Teeth and eyeballs where lips and lids stand open."""
        patches = []
        for name, opening in openings.items():
            if not opening.mask.size:
                continue
            follow = self.slits[name].follow_at_anchor
            if name == "mouth":
                moved = weights[: self.anatomy.rig_count]
                colour = self.mouth.draw(opening, moved, self._own_weights, pose, follow)
            else:
                colour = self.eyes[name].draw(opening, control, pose, follow)
            patches.append(Patch(opening.window[:2], colour, opening.mask))
        return patches

    def close(self) -> None:
        self._beside.shutdown()
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
            reach=(0.35, 0.45, 0.85),
            cells=44,
            is_closed_at_rest=field.anatomy.rest_gap_px == 0,
            edges_part=True,
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
            reach=(0.4, 0.6, 0.45),
            cells=48,
            is_closed_at_rest=False,
            edge_inset=_LASHES,
        )
    return slits


def _pixel_region(field: PortraitField, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) pixels of the canvas that the head's grid covers."""
    grid = field.head.grid
    left, top = grid.left_top_px
    right, bottom = left + grid.shape[1] * grid.cell_px, top + grid.shape[0] * grid.cell_px
    return max(0, left), max(0, top), min(size[0], right), min(size[1], bottom)
