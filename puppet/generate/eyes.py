"""Eyes: what shows between the lids.

The portrait's own eye, taken apart once: the white without the iris, and the iris as a whole disc (what the lids hide
is completed from what they show). Lids slide over it instead of squeezing it, and the iris moves over the white.
"""

from __future__ import annotations

import cv2
import numpy as np

from puppet import facs
from puppet.generate.anatomy import Anatomy
from puppet.generate.canvas import Canvas
from puppet.generate.layers import cut_out, mix, split_alpha
from puppet.generate.motion import HeadPose
from puppet.generate.slit import Opening, SlitMotion
from puppet.generate.texture import Patch
from puppet.landmarks import LEFT_IRIS, LIDS, RIGHT_IRIS

EYEBALL_RADIUS = 0.42  # of the eye's width
LASH_STRENGTH, LASH_THICKNESS, _LASH_DARKER = 0.8, 0.04, 0.7
SETTLED_PX = 0.75  # below this much gaze the portrait's own pixels are shown
_GAZE_YAW, _GAZE_PITCH = (facs.INDEX[n] for n in facs.GAZE_NAMES)


class EyeInterior:
    """Draws one eyeball of one portrait; `side` is the person's own 'L' or 'R'."""

    def __init__(self, canvas: Canvas, anatomy: Anatomy, side: str) -> None:
        upper, lower = (anatomy.points_px[list(lid), :2] for lid in LIDS[side])
        outline = np.concatenate([upper, lower[::-1]])
        self.width = float(np.linalg.norm(upper[0] - upper[-1]))
        self.anchor = np.concatenate([upper, lower]).mean(0)
        self.depth = float(anatomy.points_px[list(LIDS[side][0]), 2].mean())
        self.rotation = anatomy.fit.rotation
        margin = 0.5 * self.width
        low = np.floor(outline.min(0) - margin).astype(int)
        high = np.ceil(outline.max(0) + margin).astype(int) + 1
        self.origin = low
        self.rest_gap_px = max(float((lower[3:6, 1] - upper[3:6, 1]).max()), 1.0)
        crop = cut_out(canvas.still, low, high).astype(np.float32)
        opening = _polygon(crop.shape[:2], outline - low)
        self.lash_colour = _lash_colour(crop, upper - low)
        iris = canvas.landmarks_px[list(RIGHT_IRIS if side == "R" else LEFT_IRIS), :2]
        self._centre = iris[0] - low
        self._radius = float(np.linalg.norm(iris[1:] - iris[0], axis=1).mean())
        self.white = _white_of(crop, opening, self._centre, self._radius)
        self.iris = _whole_iris(crop, opening, self._centre, self._radius)
        layered = self.white + (self.iris[..., :3] - self.white) * self.iris[..., 3:]
        reach = cv2.dilate(opening, np.ones((7, 7), np.uint8)).astype(np.float32)
        reach = np.maximum(reach, cv2.GaussianBlur(reach, (0, 0), 1.0))[..., None]
        self.settled = layered + (crop - layered) * reach

    def draw(self, opening: Opening, control: np.ndarray, pose: HeadPose, follow: float) -> np.ndarray:
        """`(rows, columns, 3)` float32 RGB of the opening's window at a control's gaze."""
        x0, y0, x1, y1 = opening.window
        size = (x1 - x0, y1 - y0)
        gaze = self._gaze_px(control, pose)
        still = self._affine(pose, follow, np.zeros(2), (x0, y0))
        moving = min(float(np.linalg.norm(gaze)) / SETTLED_PX, 1.0)
        if moving == 0:
            return _warp(self.settled, still, size)
        white = _warp(self.white, still, size)
        iris = _warp(self.iris, self._affine(pose, follow, gaze, (x0, y0)), size)
        layered = mix(white, *split_alpha(iris))
        if moving == 1:
            return layered
        return cv2.addWeighted(layered, moving, _warp(self.settled, still, size), 1 - moving, 0)

    def lashes(self, motion: SlitMotion) -> Patch | None:
        """The dark line where lids that close meet; None while they are apart."""
        closed = 1 - motion.gap_px / self.rest_gap_px
        strength = LASH_STRENGTH * float(np.clip((closed - 0.4) / 0.5, 0, 1))
        if strength <= 0:
            return None
        thickness = LASH_THICKNESS * self.width
        distance = (motion.seam_px - 0.3 * thickness) / thickness
        taper = np.clip(1 - motion.along**4, 0, 1)
        attention = np.float32(strength) * np.exp(-distance * distance) * taper
        attention[attention < 0.02] = 0
        colour = np.broadcast_to(self.lash_colour, (*attention.shape, 3))
        return Patch((motion.window[0], motion.window[1] + motion.band[0]), colour, attention)

    def _gaze_px(self, control: np.ndarray, pose: HeadPose) -> np.ndarray:
        """`(2,)` px that the iris moves on the picture."""
        yaw, pitch = control[_GAZE_YAW], control[_GAZE_PITCH]
        forward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch) - 1.0])
        moved = (self.rotation @ forward) * (1, -1, -1) * (EYEBALL_RADIUS * self.width)
        return (pose.linear @ moved)[:2]

    def _affine(self, pose: HeadPose, follow: float, shift: np.ndarray, origin: tuple[int, int]) -> np.ndarray:
        """`(2, 3)` map from the eye's crop to the window; the eyeball goes with the skull."""
        step = self.width
        rest = np.array([[*self.anchor, self.depth]] * 3)
        rest[1, 0] += step
        rest[2, 1] += step
        at = rest + (pose.move(rest) - rest) * follow
        source = (rest[:, :2] - self.origin).astype(np.float32)
        return cv2.getAffineTransform(source, (at[:, :2] + shift - origin).astype(np.float32))


def _lash_colour(crop: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """`(3,)` the dark of this portrait's own upper lid line."""
    line = np.clip(np.round(upper[1:-1]).astype(int), 1, np.array(crop.shape[1::-1]) - 2)
    near = np.concatenate([crop[y - 1 : y + 2, x] for x, y in line])
    luminance = near @ np.array([0.3, 0.59, 0.11], np.float32)
    return near[luminance <= np.percentile(luminance, 25)].mean(0) * _LASH_DARKER


def _warp(picture: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _polygon(shape: tuple[int, int], outline: np.ndarray) -> np.ndarray:
    """`(H, W)` uint8, 1 inside."""
    mask = np.zeros(shape, np.uint8)
    return cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 1, shift=4)


def _distance(shape: tuple[int, int], centre: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(shape, np.float32)
    return np.hypot(columns - centre[0], rows - centre[1])


def _white_of(crop: np.ndarray, opening: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """The eye without its iris: the white round it, spread smoothly over everything else."""
    inner = cv2.erode(opening, np.ones((3, 3), np.uint8))
    known = (inner > 0) & (_distance(opening.shape, centre) > 1.15 * radius)
    if known.sum() < 8:
        known = inner > 0
    if known.sum() < 4:
        known = opening > 0
    weight = known.astype(np.float32)
    filled, total = np.zeros_like(crop), np.zeros(crop.shape[:2], np.float32)
    sigma = 0.8
    # Each wider blur only adds where the narrower ones know little (normalised convolution, coarse to fine).
    while sigma < 2 * max(crop.shape[:2]):
        share = cv2.GaussianBlur(weight, (0, 0), sigma)
        colour = cv2.GaussianBlur(crop * weight[..., None], (0, 0), sigma)
        free = np.clip(1 - total, 0, 1)
        trust = np.minimum(share * 8, 1) * free
        filled += colour / np.maximum(share, 1e-6)[..., None] * trust[..., None]
        total += trust
        sigma *= 2
    filled /= np.maximum(total, 1e-6)[..., None]
    edge = cv2.GaussianBlur(weight, (0, 0), 0.7)[..., None]
    return np.where(known[..., None], crop * edge + filled * (1 - edge), filled).astype(np.float32)


def _whole_iris(crop: np.ndarray, opening: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """`(H, W, 4)` float32 RGB and alpha 0-1: the iris as a full disc."""
    shape = opening.shape
    distance = _distance(shape, centre)
    visible = cv2.erode(opening, np.ones((3, 3), np.uint8)) > 0
    rows, columns = np.indices(shape, np.float32)
    # What the upper lid hides is mirrored from below, the rest is the mean colour at that distance from the pupil.
    mirror_rows = 2 * centre[1] - rows
    mirrored = cv2.remap(crop, columns, mirror_rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mirror_seen = cv2.remap(visible.astype(np.float32), columns, mirror_rows, cv2.INTER_LINEAR) > 0.99
    ring = _radial_mean(crop, visible & (distance < 1.2 * radius), distance, radius)
    colour = np.where(visible[..., None], crop, np.where(mirror_seen[..., None], mirrored, ring))
    alpha = np.clip((1.06 * radius - distance) / max(1.0, 0.12 * radius), 0, 1)
    return np.concatenate([colour, alpha[..., None]], -1).astype(np.float32)


def _radial_mean(crop: np.ndarray, known: np.ndarray, distance: np.ndarray, radius: float) -> np.ndarray:
    """The mean known colour at each pixel's distance from the centre."""
    steps = 12
    index = np.clip((distance / (1.2 * radius) * steps).astype(int), 0, steps - 1)
    count = np.bincount(index[known], minlength=steps).astype(np.float32)
    if not count.any():
        return np.broadcast_to(crop.reshape(-1, 3).mean(0), crop.shape)
    sums = np.stack([np.bincount(index[known], crop[known][:, c], minlength=steps) for c in range(3)], 1)
    filled = np.flatnonzero(count)
    means = sums[filled] / count[filled, None]
    table = np.stack([np.interp(np.arange(steps), filled, means[:, c]) for c in range(3)], 1)
    return table[index].astype(np.float32)
