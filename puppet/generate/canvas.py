"""Canvas: the portrait framed at the size that is published, with its landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from puppet.portrait import Portrait

TEXTURE_SCALE = 2
"""The warp samples bilinearly from a texture this many times as dense: as sharp as cubic sampling, at a third of the
cost."""

_MAX_TEXTURE_PX = 24e6
_HEAD_MARGIN = 0.45  # of the face's height, kept above the forehead when the picture is cut to another aspect


@dataclass(frozen=True)
class Canvas:
    """The published picture at rest.

    `still` is `(H, W, 3)` uint8 RGB. `texture` is the same picture sampled `texture_scale` times as densely; texel
    `texture_scale * (x, y)` is pixel `(x, y)` itself, so what does not move is not changed either. `landmarks_px` is
    `(478, 3)` float32 in canvas pixels.
    """

    still: np.ndarray
    texture: np.ndarray
    texture_scale: int
    landmarks_px: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.still.shape[1], self.still.shape[0]


def default_size(portrait: Portrait, *, short_side: int = 512) -> tuple[int, int]:
    """(width, height) with the portrait's own aspect, even numbers, `short_side` on the shorter side."""
    height, width = portrait.rgb.shape[:2]
    scale = short_side / min(height, width)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def frame_portrait(portrait: Portrait, size: tuple[int, int] | None) -> Canvas:
    """Lay the portrait on a canvas of `size` (width, height); None keeps every pixel of the portrait.

    Another aspect is filled by cutting around the head; where that would cut the head, the whole picture is fitted in
    and the rest filled with a blurred, darkened copy.
    """
    height, width = portrait.rgb.shape[:2]
    if size is None or size == (width, height):
        return _with_texture(portrait.rgb, portrait.landmarks_px)
    zoom, offset = _placement(portrait, size)
    landmarks = portrait.landmarks_px * zoom
    landmarks[:, :2] += offset + (zoom - 1) / 2  # pixel centres at integers
    return _with_texture(_lay(portrait.rgb, zoom, offset, size), landmarks.astype(np.float32))


def _with_texture(still: np.ndarray, landmarks_px: np.ndarray) -> Canvas:
    height, width = still.shape[:2]
    scale = TEXTURE_SCALE if width * height * TEXTURE_SCALE**2 <= _MAX_TEXTURE_PX else 1
    if scale == 1:
        return Canvas(still, still, 1, landmarks_px)
    matrix = np.array([[1 / scale, 0, 0], [0, 1 / scale, 0]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    texture = cv2.warpAffine(
        still, matrix, (width * scale, height * scale), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return Canvas(still, texture, scale, landmarks_px)


def _placement(portrait: Portrait, size: tuple[int, int]) -> tuple[float, np.ndarray]:
    """Zoom and offset (canvas px of the portrait's left top edge): filling if the head stays whole, else fitting."""
    height, width = portrait.rgb.shape[:2]
    own, wanted = np.array([width, height], float), np.array(size, float)
    low, high = portrait.landmarks_px[:, :2].min(0), portrait.landmarks_px[:, :2].max(0)
    margin = _HEAD_MARGIN * (high[1] - low[1])
    head_low = np.maximum(low - margin * np.array([0.6, 1.0]), 0)
    head_high = np.minimum(high + margin * 0.6, own)
    zoom = float((wanted / own).max())
    if np.all((head_high - head_low) * zoom <= wanted + 1):
        # The head sits in the middle across and a little above it.
        centre = (head_low + head_high) / 2 * zoom
        offset = wanted * (0.5, 0.46) - centre
        offset = np.clip(offset, wanted - own * zoom, 0)
        offset = np.clip(offset, -head_low * zoom, wanted - head_high * zoom)
        return zoom, np.clip(np.round(offset), wanted - own * zoom, 0)
    zoom = float((wanted / own).min())
    return zoom, np.round((wanted - own * zoom) / 2)


def _lay(rgb: np.ndarray, zoom: float, offset: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture scaled and placed on a canvas; uncovered borders get a blurred, darkened copy that fills it."""
    height, width = rgb.shape[:2]
    # Pixel centres at integers: canvas = zoom * own + offset + (zoom - 1) / 2.
    matrix = np.array([[zoom, 0, offset[0] + (zoom - 1) / 2], [0, zoom, offset[1] + (zoom - 1) / 2]])
    if zoom < 1:
        # cv2.warpAffine does not filter when shrinking: shrink by area first, then place.
        small = (max(1, round(width * zoom)), max(1, round(height * zoom)))
        shrunk = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
        ratio = np.array([width * zoom / small[0], height * zoom / small[1]])
        matrix = np.array(
            [[ratio[0], 0, offset[0] + (ratio[0] - 1) / 2], [0, ratio[1], offset[1] + (ratio[1] - 1) / 2]]
        )
        rgb = shrunk
    laid = cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    left, top = np.maximum(np.ceil(offset), 0).astype(int)
    right, bottom = np.minimum(np.floor(offset + np.array([width, height]) * zoom + 1e-6), size).astype(int)
    if left <= 0 and top <= 0 and right >= size[0] - 1 and bottom >= size[1] - 1:
        return laid
    backdrop = cv2.resize(rgb, (32, max(1, round(32 * rgb.shape[0] / rgb.shape[1]))), interpolation=cv2.INTER_AREA)
    backdrop = cv2.GaussianBlur(cv2.resize(backdrop, size, interpolation=cv2.INTER_CUBIC), (0, 0), max(size) / 24)
    backdrop = (backdrop * 0.55).astype(np.uint8)
    backdrop[top:bottom, left:right] = laid[top:bottom, left:right]
    return backdrop
