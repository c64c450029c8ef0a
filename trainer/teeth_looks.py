"""Looks into an open mouth: what single frames of a video show of the teeth, laid flat.

A frame's face is followed as the motion step would move the same person's closed mouth; the maps that the motion step
would draw the teeth with then lead back from the frame to the plane of the mouth pictures. What a tracker calls the
inner lips is not to be believed to the pixel: a rim is left out, and what is as red as the lips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from puppet import facs
from puppet.easing import smooth_step
from puppet.generate.anatomy import weights_of
from puppet.generate.generator import Generator
from puppet.generate.mouth import mouth_light
from puppet.landmarks import LOWER_INNER_LIP, LOWER_OUTER_LIP, UPPER_INNER_LIP, UPPER_OUTER_LIP
from trainer.solve_motion import moved_landmarks, solve_motion
from trainer.texture_pairs import Toolbox
from trainer.tracking import frames_at

OPEN = 0.12  # inner lips this far apart, in mouth widths
_MOST_TURNED = 0.13  # of the distance between the eyes: how far a nose may stand aside from where the portrait's is
_MOST_TURNED_RAD = 0.4
_MOST_MISS = 0.06  # of the distance between the eyes: how far off the motion may be on average
_MOST_FRAMES = 40
_RIM_CM = 0.06  # not believed, along the tracked lips
_LIP_MIDDLE = (82, 13, 312)  # of the upper lip's edge
_LEAST_LIP_RED = 3.0  # steps of Lab's a: lips that are no redder than teeth can't be told by it
_REACH = 1.5  # of the face's height: what is cut from the frames
_MOST_BOX_PX = 1400


GREYS = np.array([0.3, 0.59, 0.11], np.float32)
"""What red, green and blue count in a grey."""

ReadActions = Callable[[np.ndarray, tuple[int, int]], np.ndarray]


@dataclass(frozen=True)
class Look:
    """What one frame shows of one layer of the mouth, in the plane of its picture `(H, W)`.

    `rgb` `(H, W, 3)` float32, 255 for white in the clip's light; `shade` `(H, W)` float32 0-1, what the motion step
    would make of that light there; `seen` `(H, W)` float32 0-1, how far that
    is the inside of the mouth; `tooth` `(H, W)` float32 0-1, how far it looks like a tooth: bright and not red.
    """

    rgb: np.ndarray
    shade: np.ndarray
    seen: np.ndarray
    tooth: np.ndarray

    @cached_property
    def grey(self) -> np.ndarray:
        """`(H, W)` float32."""
        return self.rgb @ GREYS

    @cached_property
    def amount(self) -> float:
        """Pixels of teeth, times how sharp they are inside."""
        weight = self.seen * self.tooth
        amount = float(weight.sum())
        if amount < 1:
            return 0.0
        grey = cv2.GaussianBlur(self.grey, (0, 0), 1.0)
        near = cv2.dilate(weight, np.ones((7, 7))) * self.seen
        # Both ways: a picture that shook up and down still has upright lines.
        slopes = [float((np.abs(cv2.Sobel(grey, -1, *axis)) * near).sum()) for axis in ((1, 0), (0, 1))]
        return float(np.sqrt(slopes[0] * slopes[1]) * amount / (grey * weight).sum())


@dataclass(frozen=True)
class LookPair:
    """One frame's look at the upper and the lower layer.

    `lower_from_upper` `(2, 3)` leads from plane to plane, `turned_rad` is the head's angle to the camera's axis,
    `aside_rad` its turn from where the closed mouth was seen, `lip_px` how much lower in the upper plane the middle of
    the upper lip's edge would be if the face's actions moved it, as in live use.
    """

    number: int
    upper: Look
    lower: Look
    lower_from_upper: np.ndarray
    turned_rad: float
    aside_rad: float
    lip_px: float


class MouthReader:
    """Reads looks out of a video of a person whose closed mouth is known."""

    def __init__(self, generator: Generator, tools: Toolbox, read_actions: ReadActions) -> None:
        """`generator` animates a frame of the video itself, with lips as closed as there is one.

        `read_actions` says what a picture's face does `(SIZE,)`, by its landmarks and size (width, height).
        """
        self._generator, self._tools, self._read = generator, tools, read_actions
        generator.set_baseline(read_actions(generator.canvas.landmarks_px, generator.canvas.size))
        self._own = weights_of(generator.baseline, facs.rest(), generator.anatomy)[: generator.anatomy.rig_count]

    def read(self, frames: dict[int, np.ndarray], landmarks_px: np.ndarray) -> list[LookPair]:
        """Looks into frames, cut like the portrait, with landmarks `(F, 478, 3)`; some can't be followed."""
        if not frames:
            return []
        # Of many frames: eyes that blink have no whites to see the light by.
        self._light = np.median([mouth_light(rgb, landmarks_px[n]) for n, rgb in frames.items()], 0)
        found = [self._unfold(n, rgb, landmarks_px[n]) for n, rgb in frames.items()]
        found = [one for one in found if one is not None]
        flat = [plane for one in found for plane in (one.upper, one.lower)]
        if not flat:
            return []
        # One person, one light: what is red and what is bright is asked of the whole clip. A wide mouth shows more
        # tongue than teeth.
        reds = np.median([plane.reds for plane in flat], 0)
        level = float(np.percentile([plane.level for plane in flat], 70))
        return [
            LookPair(
                one.number,
                _look(one.upper, *reds, level),
                _look(one.lower, *reds, level),
                one.lower_from_upper,
                one.turned_rad,
                one.aside_rad,
                one.lip_px,
            )
            for one in found
        ]

    def _unfold(self, number: int, rgb: np.ndarray, landmarks_px: np.ndarray) -> _Unfolded | None:
        """One frame in the planes of both layers; None where the motion does not come near it."""
        generator, mouth = self._generator, self._generator.mouth
        weights, pose = solve_motion(generator, landmarks_px)
        miss = moved_landmarks(generator, weights, pose)[:, :2] - landmarks_px[: len(generator.anatomy.points_px), :2]
        if np.linalg.norm(miss, axis=1).mean() > _MOST_MISS * generator.anatomy.ocular_px:
            return None
        rotation = pose.linear / np.cbrt(np.linalg.det(pose.linear))
        aside = float(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
        if (turned := self._turned(rotation)) > _MOST_TURNED_RAD:
            return None
        follow = generator.slits["mouth"].follow_at_anchor
        upper, lower = mouth.planes(weights[: len(self._own)] + self._own, pose, follow)
        opening = generator.move(weights, pose, facs.rest()).openings.get("mouth")
        if opening is None or not opening.mask.size:
            return None
        shade, outside = np.ones(rgb.shape[:2], np.float32), np.ones(rgb.shape[:2], np.uint8)
        x0, y0, x1, y1 = opening.window
        shade[y0:y1, x0:x1], outside[y0:y1, x0:x1] = mouth.shade(opening), 0
        shade = _carried_out(shade, outside)
        planes = [self._flat(rgb, shade, landmarks_px, matrix) for matrix in (upper, lower)]
        if any(plane is None for plane in planes):
            return None
        upper_from_frame = cv2.invertAffineTransform(upper)
        lip = list(_LIP_MIDDLE)
        driven = generator.weights_at(facs.clip(self._read(landmarks_px, generator.canvas.size)))
        lower_by = (moved_landmarks(generator, driven, pose)[lip, :2] - landmarks_px[lip, :2]).mean(0)
        lower_from_upper = cv2.invertAffineTransform(lower) @ np.vstack([upper, [0, 0, 1]])
        lip_px = float(upper_from_frame[1, :2] @ lower_by)
        return _Unfolded(number, *planes, lower_from_upper, turned, aside, lip_px)

    def _turned(self, rotation: np.ndarray) -> float:
        """Angle, rad, between the way the head looks and the camera's axis."""
        flip = np.diag([1.0, -1.0, -1.0])
        return float(np.arccos(np.clip((flip @ rotation @ flip @ self._generator.anatomy.fit.rotation)[2, 2], -1, 1)))

    def _flat(
        self, rgb: np.ndarray, shade: np.ndarray, landmarks_px: np.ndarray, frame_from_plane: np.ndarray
    ) -> _Plane | None:
        """A frame and its shade in the plane of a layer."""
        pictures = self._tools.pictures
        size = pictures.upper.shape[1::-1]
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        shown, shade = (
            cv2.warpAffine(plane, frame_from_plane, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
            for plane in (rgb, shade)
        )
        inverse = cv2.invertAffineTransform(frame_from_plane)
        at = landmarks_px[:, :2] @ inverse[:, :2].T + inverse[:, 2]
        inside = _filled(at, UPPER_INNER_LIP, LOWER_INNER_LIP, size)
        lips = _filled(at, UPPER_OUTER_LIP, LOWER_OUTER_LIP, size) & ~cv2.dilate(
            inside, _disc(0.1 * pictures.px_per_cm)
        )
        inside = cv2.erode(inside, _disc(_RIM_CM * pictures.px_per_cm))
        lab = cv2.cvtColor(cv2.GaussianBlur(shown, (0, 0), 1.0).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        within = inside > 0
        if within.sum() < 50 or (lips > 0).sum() < 50:
            return None
        light, red = lab[..., 0], lab[..., 1]
        bright = within & (light >= np.percentile(light[within], 60))
        reds = (float(np.percentile(red[bright], 25)), float(np.median(red[lips > 0])))
        plain = shown.astype(np.float32) / self._light
        level = float(np.percentile(light[bright & (red <= np.mean(reds))], 70)) if reds[0] < reds[1] else 0.0
        return _Plane(plain, np.clip(shade, 0.2, 1), within, light, red, reds, level)


@dataclass(frozen=True)
class _Plane:
    """A frame in the plane of one layer `(H, W)`, with its Lab `light` and `red`, the redness of teeth and of lips and
    the lightness of teeth in this frame alone."""

    rgb: np.ndarray
    shade: np.ndarray
    within: np.ndarray
    light: np.ndarray
    red: np.ndarray
    reds: tuple[float, float]
    level: float


@dataclass(frozen=True)
class _Unfolded:
    number: int
    upper: _Plane
    lower: _Plane
    lower_from_upper: np.ndarray
    turned_rad: float
    aside_rad: float
    lip_px: float


def _look(plane: _Plane, tooth_red: float, lip_red: float, level: float) -> Look:
    """What is believed of a plane, by the clip's redness of teeth and lips and lightness of teeth."""
    white = np.ones(plane.red.shape, np.float32)
    if lip_red - tooth_red > _LEAST_LIP_RED:
        white = smooth_step((lip_red - plane.red) / (lip_red - tooth_red), 0.3, 0.6)
    bright = smooth_step(plane.light / max(level, 1.0), 0.5, 0.75)
    # What is neither white nor dark is lip, gum or tongue.
    seen = cv2.GaussianBlur(plane.within.astype(np.float32), (0, 0), 1.5) * plane.within * np.maximum(white, 1 - bright)
    return Look(plane.rgb, plane.shade, seen.astype(np.float32), (white * bright).astype(np.float32))


def choose_frames(points: np.ndarray, openness: np.ndarray, closed: int) -> np.ndarray:
    """Indices of frames with open mouths that look as the frame `closed` does, at most so many, spread over time."""
    aside = _aside(points)
    usable = np.flatnonzero((openness > OPEN) & (np.abs(aside - aside[closed]) < _MOST_TURNED))
    if len(usable) <= _MOST_FRAMES:
        return usable
    # Of each stretch of time the one that is open widest.
    return np.array([part[np.argmax(openness[part])] for part in np.array_split(usable, _MOST_FRAMES)])


def most_closed(points: np.ndarray, openness: np.ndarray) -> int:
    """The frontal frame with the most closed lips."""
    aside = _aside(points)
    return int(np.argmin(4 * openness + np.abs(aside - np.median(aside))))


def read_box(path: Path, landmarks_px: np.ndarray, wanted: np.ndarray) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Frames of a video, cut to where its face is, RGB, and the landmarks `(F, 478, 3)` in that cut."""
    known = landmarks_px[wanted]
    low, high = known[..., :2].min((0, 1)), known[..., :2].max((0, 1))
    margin = (_REACH - 1) / 2 * np.ptp(known[..., 1], 1).max()
    x0, y0 = np.maximum(low - margin, 0).astype(int)
    x1, y1 = (high + margin).astype(int)
    zoom, out = 1.0, {}
    for number, rgb in frames_at(path, wanted):
        box = np.ascontiguousarray(rgb[y0:y1, x0:x1])
        zoom = min(1.0, _MOST_BOX_PX / max(box.shape[:2]))
        if zoom < 1:
            box = cv2.resize(box, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        out[number] = box
    moved = landmarks_px - np.array([x0, y0, 0], np.float32)
    return out, (moved * np.float32(zoom)).astype(np.float32)


def _aside(points: np.ndarray) -> np.ndarray:
    """`(F,)` how far a head is turned: its nose's tip beside the middle of the eyes, in distances of the eyes."""
    eyes = points[:, 263, :2] - points[:, 33, :2]
    nose = points[:, 1, :2] - points[:, [33, 263], :2].mean(1)
    return (nose * eyes).sum(1) / (eyes * eyes).sum(1)


def _carried_out(plane: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """A plane whose unknown pixels take the value of the nearest known one."""
    _, labels = cv2.distanceTransformWithLabels(unknown, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    values = np.zeros(labels.max() + 1, np.float32)
    known = unknown == 0
    values[labels[known]] = plane[known]
    return values[labels]


def _filled(at: np.ndarray, upper: tuple[int, ...], lower: tuple[int, ...], size: tuple[int, int]) -> np.ndarray:
    """`(H, W)` uint8 255 between two rows of points."""
    mask = np.zeros(size[::-1], np.uint8)
    outline = np.concatenate([at[list(upper)], at[list(lower)[::-1]]])
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 255, shift=4)
    return mask


def _disc(radius: float) -> np.ndarray:
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
