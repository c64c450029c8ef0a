"""A picture to look at: the teeth that were found, and a portrait that shows the drawn ones and them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from puppet import facs
from puppet.generate.motion import head_pose
from puppet.generate.mouth import MouthPictures
from trainer.disk import written_whole
from trainer.texture_pairs import Toolbox

_SHOWN: tuple[dict[str, float], ...] = (
    {"AU25": 2, "AU26": 1},
    {"AU12": 4, "AU06": 2, "AU25": 3.2},
    {"AU25": 4, "AU26": 3},
)
_TILE = (320, 240)
_MOUTH_WIDTHS = 1.9  # that a tile shows
_DARK = np.array([30, 22, 22], np.float32)


def write_sheet(path: Path, rgb: np.ndarray, landmarks_px: np.ndarray, own: MouthPictures, tools: Toolbox) -> None:
    """PNG: the upper and lower row; then the portrait `(H, W, 3)` talking, smiling and open, drawn above own."""
    rows = [
        _tile(np.hstack([_on_dark(own.upper), _on_dark(own.lower)]), (len(_SHOWN) * _TILE[0], round(1.2 * _TILE[1])))
    ]
    for pictures in (tools.pictures, own):
        generator = dataclasses.replace(tools, pictures=pictures).generator(rgb, landmarks_px)
        shown = []
        for actions in _SHOWN:
            control = facs.control(**actions)
            picture = generator.move(generator.weights_at(control), head_pose(control, generator.field), control).rgb
            shown.append(_mouth_of(picture, landmarks_px))
        rows.append(np.hstack(shown))
    with written_whole(path) as part:
        part.write_bytes(cv2.imencode(".png", np.vstack(rows)[..., ::-1])[1].tobytes())


def _on_dark(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:] / np.float32(255)
    return (rgba[..., :3] * alpha + _DARK * (1 - alpha)).astype(np.uint8)


def _tile(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    zoom = min(size[0] / rgb.shape[1], size[1] / rgb.shape[0])
    matrix = np.array([[zoom, 0, (size[0] - zoom * rgb.shape[1]) / 2], [0, zoom, (size[1] - zoom * rgb.shape[0]) / 2]])
    return cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_CUBIC, borderValue=tuple(int(v) for v in _DARK))


def _mouth_of(rgb: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
    corners = landmarks_px[[61, 291], :2]
    zoom = _TILE[0] / (_MOUTH_WIDTHS * np.linalg.norm(corners[1] - corners[0]))
    x, y = corners.mean(0)
    matrix = np.array([[zoom, 0, _TILE[0] / 2 - zoom * x], [0, zoom, 0.45 * _TILE[1] - zoom * y]])
    return cv2.warpAffine(rgb, matrix, _TILE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
