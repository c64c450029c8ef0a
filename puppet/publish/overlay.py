"""What the preview draws over a rendering: AU bars, rate and latency, keys. Never part of what others see.

Text is drawn once and kept as layers that are added to a darkened part of the picture, which takes a millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from puppet import facs
from puppet.publish import Rendering

INK = (236, 239, 244)
DIM = (120, 127, 138)
RAIL = (60, 66, 76)
ACCENT = (94, 190, 255)
SHADE = 0.34  # what is left of the picture under a panel

ROW_PX, FONT_PX, PANEL_PX, MARGIN_PX = 15, 12, 158, 10
LABEL_PX = 44
STATUS_PX = ROW_PX + 8
STATUS_EVERY_S = 0.25  # numbers that change faster can't be read
KEYS_SIZE_PX = (340, 20)  # width, height of a line
ALARM = (200, 24, 24)
OWN_CAMERA_SHOWN = "YOUR OWN CAMERA IS SHOWN"
ALARM_PX, ALARM_FONT_PX = 52, 22
ACTIVE_FROM = 0.04  # of full intensity


class Overlay:
    """Draws on copies of renderings."""

    def __init__(self) -> None:
        self._labels = {is_active: _labels(INK if is_active else DIM) for is_active in (False, True)}
        self._status, self._status_s = "", -np.inf

    def status(self, rgb: np.ndarray, rendering: Rendering) -> np.ndarray:
        """Rate, latency and the driver's state along the top, AU bars at the right; a new picture."""
        if abs(rendering.time_s - self._status_s) > STATUS_EVERY_S:
            latency = "" if rendering.latency_ms is None else f"   latency {rendering.latency_ms:.0f} ms"
            if rendering.microphone_delay_ms is not None:
                latency += f": delay your microphone by {rendering.microphone_delay_ms:.0f} ms"
            face = "" if rendering.has_face else "   no face: resting"
            self._status, self._status_s = f"{rendering.fps:.1f} fps{latency}{face}", rendering.time_s
        rgb = rgb.copy()
        top = _darken(rgb, 0, 0, rgb.shape[1], STATUS_PX)
        _add(top, _text(self._status, INK), MARGIN_PX, 4)
        hint = _text("? keys", DIM)
        _add(top, hint, rgb.shape[1] - MARGIN_PX - hint.shape[1], 4)
        bars = self._bars(rendering.control)
        rows = max(0, min(len(bars), rgb.shape[0] - STATUS_PX - 3 * MARGIN_PX)) // ROW_PX * ROW_PX
        left = max(0, rgb.shape[1] - PANEL_PX - MARGIN_PX)
        _add(_darken(rgb, left, STATUS_PX + 8, left + PANEL_PX, STATUS_PX + 16 + rows), bars[:rows], 0, 4)
        return rgb

    def note(self, rgb: np.ndarray, text: str) -> np.ndarray:
        """One line along the bottom; a new picture."""
        rgb = rgb.copy()
        height, width = rgb.shape[:2]
        _add(_darken(rgb, 0, height - STATUS_PX, width, height), _text(text, INK), MARGIN_PX, 4)
        return rgb

    def alarm(self, rgb: np.ndarray, text: str, what_to_do: str = "") -> np.ndarray:
        """A red bar along the bottom with a large line and a small one; a new picture."""
        rgb = rgb.copy()
        rgb[-ALARM_PX:] = ALARM
        line = _text(text, INK, ALARM_FONT_PX)
        _add(rgb[-ALARM_PX:], line, max(0, (rgb.shape[1] - line.shape[1]) // 2), 2)
        small = _text(what_to_do, INK)
        _add(rgb[-ROW_PX - 4 :], small, max(0, (rgb.shape[1] - small.shape[1]) // 2), 0)
        return rgb

    def keys(self, rgb: np.ndarray, lines: Sequence[tuple[str, str]]) -> np.ndarray:
        """A panel of keys and what they do, in the middle; a new picture."""
        rgb = rgb.copy()
        (width, line_px), count = KEYS_SIZE_PX, len(lines) + 1
        left, top = max(0, (rgb.shape[1] - width) // 2), max(0, (rgb.shape[0] - count * line_px - 24) // 2)
        panel = _darken(rgb, left, top, left + width, top + count * line_px + 24, 0.16)
        _add(panel, _text("Keys", INK), 18, 12)
        for row, (key, meaning) in enumerate(lines, start=1):
            _add(panel, _text(key, ACCENT), 18, 14 + row * line_px)
            _add(panel, _text(meaning, INK), 92, 14 + row * line_px)
        return rgb

    def _bars(self, control: np.ndarray) -> np.ndarray:
        """Layer with a row an AU (the person's right side to the left, as the picture shows it), then the head."""
        layer = self._labels[False].copy()
        middle, half = _rail()
        for row, au in enumerate(facs.AUS):
            sides = {facs.COLUMNS[i].side: float(control[i]) / facs.MAX_INTENSITY for i in facs.columns_of(au)}
            to_left, to_right = sides.get("R", sides.get(None, 0.0)), sides.get("L", sides.get(None, 0.0))
            y = row * ROW_PX
            if max(to_left, to_right) > ACTIVE_FROM:
                layer[y : y + ROW_PX] = self._labels[True][y : y + ROW_PX]
                layer[y + 5 : y + 12, middle - round(half * to_left) : middle + round(half * to_right) + 1] = ACCENT
            layer[y + 4 : y + 13, middle] = INK
        for row, name in enumerate(("yaw", "pitch", "roll"), start=len(facs.AUS)):
            degrees = round(float(np.degrees(control[facs.INDEX[f"{name}_rad"]])))
            _add(layer[row * ROW_PX :], _text(f"{name} {degrees:+d}°", INK), 8, 0)
        return layer


def _rail() -> tuple[int, int]:
    """Middle and half length of a bar's rail within the panel."""
    half = (PANEL_PX - LABEL_PX - 12) // 2
    return LABEL_PX + 4 + half, half


def _labels(ink: tuple[int, int, int]) -> np.ndarray:
    """`(rows, PANEL_PX, 3)` uint8: AU names and empty rails."""
    layer = np.zeros(((len(facs.AUS) + 3) * ROW_PX, PANEL_PX, 3), np.uint8)
    middle, half = _rail()
    for row, au in enumerate(facs.AUS):
        _add(layer[row * ROW_PX :], _text(au, ink), 8, 0)
        layer[row * ROW_PX + 8, middle - half : middle + half + 1] = RAIL
    return layer


@lru_cache(maxsize=256)
def _text(text: str, ink: tuple[int, int, int], font_px: int = FONT_PX) -> np.ndarray:
    """`(H, W, 3)` uint8: text on black, H `ROW_PX` for the usual font."""
    font = ImageFont.load_default(font_px)
    picture = Image.new("RGB", (int(font.getlength(text)) + 2, ROW_PX * font_px // FONT_PX))
    ImageDraw.Draw(picture).text((0, 0), text, ink, font)
    return np.asarray(picture)


def _darken(rgb: np.ndarray, left: int, top: int, right: int, bottom: int, left_over: float = SHADE) -> np.ndarray:
    """A view of that part of the picture, darkened in place."""
    part = rgb[top:bottom, left:right]
    part[...] = cv2.convertScaleAbs(part, alpha=left_over)
    return part


def _add(part: np.ndarray, layer: np.ndarray, x: int, y: int) -> None:
    """Add a layer to a part of a picture, in place; what does not fit is cut off."""
    place = part[y : y + layer.shape[0], x : x + layer.shape[1]]
    if place.size:
        place[...] = cv2.add(place, layer[: place.shape[0], : place.shape[1]])
