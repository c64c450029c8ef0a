"""The badge: a small translucent "puppet" in a lower corner of every published picture, so that viewers can know.

It is drawn once for the size of a run; a frame costs a copy and the blending of that corner. At the right, because
call programs lay the name of who speaks over the lower left.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TEXT = "puppet"
SIDE_PX = 512  # short side of a picture for which the sizes below are meant; others are in proportion
FONT_PX = 14
LEAST_FONT_PX = 10  # the least that can be read; pictures under 380 px get this one
PADDING_EM, HEIGHT_EM, MARGIN_EM = 0.72, 1.62, 0.72  # in heights of the font
SMOOTHING = 4  # drawn this much larger, then scaled down

GROUND, GROUND_ALPHA = (16, 18, 22), 0.62  # dark enough that the text stands out of white
INK, INK_ALPHA = (255, 255, 255), 0.94
RIM_ALPHA = 0.30  # of a line in INK, so that the pill is seen on black


class Badge:
    """Lays the badge on pictures of one `size` (width, height)."""

    def __init__(self, size: tuple[int, int]) -> None:
        layer = _draw(size)
        height, width = layer.shape[:2]
        margin = round(MARGIN_EM * _font_px(size))
        right, bottom = max(size[0] - margin, width), max(size[1] - margin, height)
        self._size = size
        self._place = np.s_[bottom - height : bottom, right - width : right]
        alpha = layer[..., 3:].astype(np.uint16)
        self._kept = 255 - alpha
        self._added = layer[..., :3] * alpha + 127  # 127: to round, not to cut off

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns that it may change; all others stay as they are."""
        return self._place

    def on(self, rgb: np.ndarray) -> np.ndarray:
        """The picture `(H, W, 3)` uint8 with the badge on it, a new array: the given one may be shared."""
        badged = rgb.copy()
        part = badged[self._place]
        part[...] = (part * self._kept + self._added) // 255
        return badged


def _font_px(size: tuple[int, int]) -> int:
    return max(LEAST_FONT_PX, round(FONT_PX * min(size) / SIDE_PX))


def _draw(size: tuple[int, int]) -> np.ndarray:
    """`(h, w, 4)` uint8: the badge for a picture of that size, colours not multiplied by alpha."""
    em = _font_px(size)
    font = ImageFont.load_default(em * SMOOTHING)
    left, _, right, _ = font.getbbox(TEXT)
    height = round(HEIGHT_EM * em)
    width = min(round((right - left) / SMOOTHING + 2 * PADDING_EM * em), size[0])
    box = (0, 0, width * SMOOTHING - 1, height * SMOOTHING - 1)
    middle = (width * SMOOTHING / 2, height * SMOOTHING / 2)

    rim, ground, ink = (Image.new("L", (width * SMOOTHING, height * SMOOTHING)) for _ in range(3))
    ImageDraw.Draw(ground).rounded_rectangle(box, box[3] / 2, 255)
    ImageDraw.Draw(rim).rounded_rectangle(box, box[3] / 2, outline=255, width=max(SMOOTHING, em * SMOOTHING // 14))
    # 'ls': by the baseline, half an x-height under the middle, as ascender and descender are not alike.
    x_height = -font.getbbox("x", anchor="ls")[1]
    place = (middle[0] - (left + right) / 2, middle[1] + x_height / 2)
    ImageDraw.Draw(ink).text(place, TEXT, 255, font, anchor="ls", stroke_width=1)  # a quarter of a pixel bolder

    rim, ground, ink = (
        np.asarray(mask.resize((width, height), Image.Resampling.BOX), np.float32)[..., None] / 255
        for mask in (rim, ground, ink)
    )
    colour, alpha = np.full((height, width, 3), GROUND, np.float32), GROUND_ALPHA * ground
    for mask in (RIM_ALPHA * rim, INK_ALPHA * ink):
        both = mask + alpha * (1 - mask)
        colour = (np.array(INK) * mask + colour * alpha * (1 - mask)) / np.maximum(both, 1e-6)
        alpha = both
    return np.rint(np.concatenate([colour, 255 * alpha], axis=-1)).astype(np.uint8)
