"""Clips as the texture networks are taught and measured on them: cut to the face, frame by frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from puppet.errors import InputError
from trainer.tracking import Clip, frames_at

FRAME_PX = 600
"""A clip is cut to a square round its face and scaled to this size."""
_FRAME_REACH = 2.8  # face heights of that square


def place_face(tracked: Clip, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a clip's face lies: `(2, 3)` crop_from_frame, the frames with a face, their landmarks in the crop.

    Raises:
        InputError: no frame has a face.
    """
    points = tracked.landmarks_px
    known = np.flatnonzero(np.isfinite(points[:, 0, 0]))
    if not len(known):
        raise InputError(f"{path}: no face in any frame.")
    centre = np.median(points[known][:, :, :2].mean(1), 0)
    half = _FRAME_REACH * np.median(np.ptp(points[known][:, :, 1], 1)) / 2
    zoom = FRAME_PX / (2 * half)
    matrix = np.array([[zoom, 0, -(centre[0] - half) * zoom], [0, zoom, -(centre[1] - half) * zoom]])
    moved = points[known] * zoom
    moved[..., :2] += matrix[:, 2]
    return matrix, known, moved.astype(np.float32)


def cut_frames(path: Path, matrix: np.ndarray, wanted: np.ndarray) -> dict[int, np.ndarray]:
    """Frames `wanted` of a clip, cut by `matrix` (see `place_face`), RGB."""
    zoom, out = matrix[0, 0], {}
    for index, rgb in frames_at(path, wanted):
        if zoom < 0.6:  # cv2.warpAffine does not filter when shrinking
            rgb = cv2.GaussianBlur(rgb, (0, 0), 0.4 / zoom)
        out[index] = cv2.warpAffine(rgb, matrix, (FRAME_PX, FRAME_PX), borderMode=cv2.BORDER_REPLICATE)
    return out


def openness(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eyes' height by width and the inner mouth's by width, `(F,)` each."""

    def span(a: int, b: int) -> np.ndarray:
        return np.linalg.norm(points[:, a, :2] - points[:, b, :2], axis=1)

    eyes = (span(159, 145) / span(33, 133) + span(386, 374) / span(263, 362)) / 2
    return eyes, span(13, 14) / span(78, 308)


def most_neutral(points: np.ndarray) -> int:
    """The frame whose eyes, mouth and turn of the head are most like the clip's usual ones, with a closed mouth."""
    eyes, mouth = openness(points)
    turned = np.linalg.norm(points[:, 1, :2] - points[:, [33, 263], :2].mean(1), axis=1)
    unlike = np.abs(eyes - np.median(eyes)) / np.median(eyes) + 2 * mouth
    return int(np.argmin(unlike + np.abs(turned - np.median(turned)) / np.median(turned)))
