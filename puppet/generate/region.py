"""Regions: the crops of a motion picture that a texture network repaints, and the way back.

A region's frame follows the head and nothing else: teeth and eyeballs stand still in it, lips and lids move. The left
eye is mirrored, so that one network serves both.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from puppet import facs
from puppet.generate.slit import Opening
from puppet.generate.texture import MotionPicture


@dataclass(frozen=True)
class RegionShape:
    """Size of a crop and the place of the slit in it, px; `height` and `width` less their margins are multiples of 8.

    A network sees the crop without its margins: little opens there, and it would cost.
    """

    width: int
    height: int
    slit_width: float
    slit_centre: tuple[float, float]  # (x, y)
    margin: tuple[int, int] = (0, 0)  # (x, y), at either border

    @property
    def seen(self) -> tuple[slice, slice]:
        """Rows and columns of the crop that a network sees."""
        x, y = self.margin
        return slice(y, self.height - y), slice(x, self.width - x)

    @property
    def seen_size(self) -> tuple[int, int]:
        """(height, width) of what a network sees."""
        x, y = self.margin
        return self.height - 2 * y, self.width - 2 * x

    def seen_from_frame(self, crop_from_frame: np.ndarray) -> np.ndarray:
        """`(2, 3)`: the same place of the picture in what a network sees."""
        return crop_from_frame - np.array([[0, 0, self.margin[0]], [0, 0, self.margin[1]]])


MOUTH_SHAPE = RegionShape(128, 96, 52.0, (63.5, 36.0), margin=(16, 8))
EYE_SHAPE = RegionShape(72, 48, 36.0, (35.5, 26.0))
FACE_SHAPE = RegionShape(128, 144, 72.0, (63.5, 40.0), margin=(8, 8))
"""Brows to chin, for comparison with the others; its slit is the line between the outer corners of the eyes."""
SHAPES = {"mouth": MOUTH_SHAPE, "eye": EYE_SHAPE, "face": FACE_SHAPE}
SLITS = {"mouth": ("mouth",), "eye": ("R", "L"), "face": ("face",)}
"""Slits of a motion picture that each network repaints; the face counts as one, in which all others open."""
REGION_OF = {slit: region for region, slits in SLITS.items() for slit in slits}
PACKAGED = ("mouth", "eye")
"""Regions whose networks come along."""
_OPENING_IN = {"mouth": ("mouth",), "R": ("R",), "L": ("L",), "face": ("mouth", "R", "L")}

ACTION_NAMES = (*facs.INTENSITY_NAMES, *facs.GAZE_NAMES)
"""Columns of a network's `actions`, in order."""
ACTION_COUNT = len(ACTION_NAMES)
FEWEST_PX = 8.0  # a slit narrower than this has turned away


@dataclass(frozen=True)
class RegionCrop:
    """One region of one motion picture.

    `crop_from_frame` `(2, 3)`; `rgb` `(h, w, 3)` uint8; `mask` and `depth` `(h, w)` float32 0-1: how much of a pixel
    lies in the opening, and where between its upper (0) and lower (1) edge.
    """

    crop_from_frame: np.ndarray
    rgb: np.ndarray
    mask: np.ndarray
    depth: np.ndarray

    def network_input(self) -> np.ndarray:
        """`(5, h, w)` float32 of the whole crop: colours -1 to 1, mask, depth."""
        colours = self.rgb.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
        return np.concatenate([colours, self.mask[None], self.depth[None]])


def cut(picture: MotionPicture, slit: str) -> RegionCrop | None:
    """The region round a slit of `REGION_OF`; None where the slit has left the picture or turned away."""
    shape, inside = SHAPES[REGION_OF[slit]], _OPENING_IN[slit]
    corners = _corners(picture, slit)
    if any(name not in picture.openings for name in inside) or np.linalg.norm(corners[1] - corners[0]) < FEWEST_PX:
        return None
    crop_from_frame = region_frame(corners, shape, is_mirrored=slit == "L")
    planes = [_opening_planes(picture.openings[name], crop_from_frame, shape) for name in inside]
    mask, depth = (np.maximum.reduce(plane) for plane in zip(*planes, strict=True))
    return RegionCrop(crop_from_frame, sample(picture.rgb, crop_from_frame, shape), mask, depth)


def region_frame(corners: np.ndarray, shape: RegionShape, *, is_mirrored: bool) -> np.ndarray:
    """`(2, 3)` crop_from_frame that lays two corners `(2, 2)` px level at the slit's place, upright."""
    first, second = corners.astype(np.float64)
    x, y = shape.slit_centre
    centre = (first + second) / 2
    across = second - first
    scale = shape.slit_width / np.linalg.norm(across)
    across = across / np.linalg.norm(across)
    # Down in the picture stays down in the crop; mirrored, the axis across runs the other way.
    down = np.array([across[1], -across[0]]) if is_mirrored else np.array([-across[1], across[0]])
    linear = scale * np.stack([across, down])
    return np.concatenate([linear, (np.array([x, y]) - linear @ centre)[:, None]], 1)


def sample(rgb: np.ndarray, crop_from_frame: np.ndarray, shape: RegionShape) -> np.ndarray:
    """`(h, w, 3)` uint8 crop of a picture, filtered where it shrinks."""
    zoom = float(np.sqrt(abs(np.linalg.det(crop_from_frame[:, :2]))))
    if (step := shrink_step(zoom)) >= 2:
        x0, y0, x1, y1 = _footprint(crop_from_frame, (0, 0, shape.width, shape.height), rgb.shape)
        width, height = max(1, (x1 - x0) // step), max(1, (y1 - y0) // step)
        box = rgb[y0 : y0 + height * step, x0 : x0 + width * step]
        rgb = cv2.resize(box, (width, height), interpolation=cv2.INTER_AREA)
        # Pixel centres at integers: frame = step * small + (step - 1) / 2 + origin.
        frame_from_small = np.array([[step, 0, x0 + (step - 1) / 2], [0, step, y0 + (step - 1) / 2], [0, 0, 1]])
        crop_from_frame = crop_from_frame @ frame_from_small
    size = (shape.width, shape.height)
    return cv2.warpAffine(rgb, crop_from_frame, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def shrink_step(zoom: float) -> int:
    """How many of a picture's pixels are averaged into one before it is sampled at `zoom`; under 2: none."""
    return int(1 / zoom + 0.25)


def lay_back(
    planes: np.ndarray,
    crop: RegionCrop,
    frame_shape: tuple[int, ...],
    *,
    shown: tuple[int, int, int, int] | None = None,
) -> tuple[tuple[int, int], np.ndarray] | None:
    """A crop's `(h, w, channels)` float32 planes at the picture's own resolution, and their origin (x, y).

    `shown` (left, top, right, bottom) is the part of the crop that matters, None all of it; None comes back where the
    picture shows nothing of it.
    """
    height, width = planes.shape[:2]
    x0, y0, x1, y1 = _footprint(crop.crop_from_frame, shown or (0, 0, width, height), frame_shape)
    if x1 <= x0 or y1 <= y0:
        return None
    crop_from_box = crop.crop_from_frame.copy()
    crop_from_box[:, 2] += crop_from_box[:, :2] @ (x0, y0)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return (x0, y0), cv2.warpAffine(planes, crop_from_box, (x1 - x0, y1 - y0), flags=flags)


def action_input(control: np.ndarray, *, is_mirrored: bool) -> np.ndarray:
    """`(ACTION_COUNT,)` float32: intensities 0-1 and gaze as a network sees them; mirrored, left and right change."""
    places, scale = action_columns(is_mirrored=is_mirrored)
    return control[places].astype(np.float32) * scale


def action_columns(*, is_mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Places `(ACTION_COUNT,)` int64 in a control of a network's actions, and what each is multiplied by, float32."""
    names = ACTION_NAMES
    scale = np.ones(len(names), np.float32)
    scale[: facs.INTENSITY_COUNT] /= facs.MAX_INTENSITY
    if is_mirrored:
        scale[names.index("gaze_yaw_rad")] = -1
        names = tuple(facs.other_side(name) for name in names)
    return np.array([facs.INDEX[name] for name in names]), scale


def _footprint(
    crop_from_frame: np.ndarray, part: tuple[int, int, int, int], frame_shape: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1): the picture's pixels that a part (left, top, right, bottom) of a crop covers."""
    inverse = cv2.invertAffineTransform(crop_from_frame)
    left, top, right, bottom = part
    outline = np.array([[left, top], [right - 1, top], [left, bottom - 1], [right - 1, bottom - 1]])
    at = outline @ inverse[:, :2].T + inverse[:, 2]
    low = np.maximum(np.floor(at.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(at.max(0)).astype(int) + 1, (frame_shape[1], frame_shape[0]))
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _corners(picture: MotionPicture, slit: str) -> np.ndarray:
    """`(2, 2)` px: a slit's corners; of the face the outer ones of the eyes."""
    if slit == "face":
        return np.stack([picture.corners["R"][0], picture.corners["L"][0]])
    return picture.corners[slit]


def _opening_planes(opening: Opening, crop_from_frame: np.ndarray, shape: RegionShape) -> tuple[np.ndarray, np.ndarray]:
    if not opening.mask.size:
        nothing = np.zeros((shape.height, shape.width), np.float32)
        return nothing, nothing
    depth = np.clip(opening.depth_px / np.maximum(opening.gap_px, 1.0), 0, 1) * opening.mask
    crop_from_window = crop_from_frame.copy()
    crop_from_window[:, 2] += crop_from_window[:, :2] @ opening.window[:2]
    planes = np.dstack([opening.mask, depth]).astype(np.float32)
    out = cv2.warpAffine(planes, crop_from_window, (shape.width, shape.height), flags=cv2.INTER_LINEAR)
    return np.ascontiguousarray(out[..., 0]), np.ascontiguousarray(out[..., 1])
