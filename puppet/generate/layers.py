"""Layers: pictures laid over each other, by OpenCV, which takes an eighth of NumPy's time for small ones."""

from __future__ import annotations

import cv2
import numpy as np


def mix(under: np.ndarray, over: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`under + (over - under) * share` of two float32 pictures `(h, w, 3)`, `share` `(h, w)` float32; a new picture."""
    mixed = cv2.subtract(over, under)
    cv2.multiply(mixed, in_colours(share), dst=mixed)
    return cv2.add(mixed, under, dst=mixed)


def in_colours(plane: np.ndarray) -> np.ndarray:
    """`(h, w, 3)`: a plane for each of three colours."""
    return cv2.merge([plane, plane, plane])


def split_alpha(rgba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(h, w, 3)` colours and `(h, w)` alpha of a picture."""
    return cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), cv2.extractChannel(rgba, 3)


def cut_out(rgb: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Rectangle from `low` to `high` (x, y) px of a picture, continued by its border where it reaches out; a copy."""
    rows = np.clip(np.arange(low[1], high[1]), 0, rgb.shape[0] - 1)
    columns = np.clip(np.arange(low[0], high[0]), 0, rgb.shape[1] - 1)
    return rgb[np.ix_(rows, columns)]
