"""What the preview draws over a rendering: AU bars, rate and latency, keys. Never part of what others see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from puppet import facs
from puppet.publish import Rendering

INK = (236, 239, 244)
DIM = (150, 158, 170)
ACCENT = (94, 190, 255)
SHADE = 0.34  # what is left of the picture under a panel

ROW_PX, FONT_PX, PANEL_PX, MARGIN_PX = 16, 12, 158, 10
LABEL_PX = 44


class Overlay:
    """Draws on copies of renderings."""

    def __init__(self) -> None:
        self._font = ImageFont.load_default(FONT_PX)
        self._title_font = ImageFont.load_default(FONT_PX + 2)

    def status(self, rgb: np.ndarray, rendering: Rendering) -> np.ndarray:
        """Rate, latency and the driver's state along the top, AU bars at the right; a new picture."""
        canvas = _shaded(rgb, (0, 0, rgb.shape[1], ROW_PX + 8))
        bars = self._bars_box(rgb.shape)
        picture = Image.fromarray(_shaded(canvas, bars))
        draw = ImageDraw.Draw(picture)
        latency = "" if rendering.latency_ms is None else f"   latency {rendering.latency_ms:.0f} ms"
        face = "" if rendering.has_face else "   no face: resting"
        draw.text((MARGIN_PX, 5), f"{rendering.fps:.1f} fps{latency}{face}", INK, self._font)
        draw.text((rgb.shape[1] - MARGIN_PX, 5), "? keys", DIM, self._font, anchor="ra")
        self._draw_bars(draw, bars, rendering.control)
        return np.asarray(picture)

    def note(self, rgb: np.ndarray, text: str) -> np.ndarray:
        """One line along the bottom; a new picture."""
        height, width = rgb.shape[:2]
        picture = Image.fromarray(_shaded(rgb, (0, height - ROW_PX - 10, width, height)))
        ImageDraw.Draw(picture).text((MARGIN_PX, height - ROW_PX - 5), text, INK, self._font)
        return np.asarray(picture)

    def keys(self, rgb: np.ndarray, lines: Sequence[tuple[str, str]]) -> np.ndarray:
        """A panel of keys and what they do, in the middle; a new picture."""
        height, width = rgb.shape[:2]
        panel_width, panel_height = min(width, 340), min(height, (len(lines) + 2) * (ROW_PX + 4) + 12)
        left, top = (width - panel_width) // 2, (height - panel_height) // 2
        picture = Image.fromarray(_shaded(rgb, (left, top, left + panel_width, top + panel_height), 0.2))
        draw = ImageDraw.Draw(picture)
        draw.text((left + 18, top + 12), "Keys", INK, self._title_font)
        for row, (key, meaning) in enumerate(lines, start=1):
            y = top + 16 + row * (ROW_PX + 4)
            draw.text((left + 18, y), key, ACCENT, self._font)
            draw.text((left + 92, y), meaning, INK, self._font)
        return np.asarray(picture)

    def _bars_box(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        height, width = shape[:2]
        top = ROW_PX + 16
        rows = max(0, min(len(facs.AUS) + 3, (height - top - ROW_PX - 12) // ROW_PX))
        return max(0, width - PANEL_PX - MARGIN_PX), top, width - MARGIN_PX, top + rows * ROW_PX + 8

    def _draw_bars(self, draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], control: np.ndarray) -> None:
        """One row an AU, strongest of the rest dimmed: to the left the person's right side, as the picture shows it."""
        left, top, right, bottom = box
        middle = (left + LABEL_PX + right - 8) // 2
        half = right - 8 - middle
        angles = [
            (f"{name} {np.degrees(control[facs.INDEX[f'{name}_rad']]):+.0f}°") for name in ("yaw", "pitch", "roll")
        ]
        for row, text in enumerate((*facs.AUS, *angles)):
            y = top + 4 + row * ROW_PX
            if y + ROW_PX > bottom:
                return
            if text not in facs.AUS:
                draw.text((left + 8, y), text, INK, self._font)
                continue
            places = facs.columns_of(text)
            sides = {facs.COLUMNS[p].side: float(control[p]) / facs.MAX_INTENSITY for p in places}
            to_left, to_right = sides.get("R", sides.get(None, 0.0)), sides.get("L", sides.get(None, 0.0))
            is_active = max(to_left, to_right) > 0.04
            draw.text((left + 8, y), text, INK if is_active else DIM, self._font)
            draw.rectangle((middle - half, y + 7, middle + half, y + 8), fill=(86, 92, 102))
            if is_active:
                draw.rectangle((middle - half * to_left, y + 4, middle + half * to_right, y + 11), fill=ACCENT)
            draw.line((middle, y + 3, middle, y + 12), fill=INK)


def _shaded(rgb: np.ndarray, box: tuple[int, int, int, int], left_over: float = SHADE) -> np.ndarray:
    """A copy, darker in `(left, top, right, bottom)`."""
    left, top, right, bottom = box
    shaded = rgb.copy()
    part = shaded[top:bottom, left:right]
    part[...] = (part * left_over).astype(np.uint8)
    return shaded
