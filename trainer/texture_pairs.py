"""Pairs for the texture networks: what the motion step makes of a portrait, and what it should have been.

Two ways to the answer. *Follow*: another picture of the same person; the motion is solved from the landmarks of both,
and what it misses is taken off the answer. *Reopen*: a picture whose mouth stands open is closed by the motion step,
the closed picture serves as the portrait, and the motion back should give the original. A third way has no answer:
*there and back* moves a picture to sampled actions and says how it comes back, for the cycle of GANimation (Pumarola et
al. 2018) through two controls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from puppet import facs
from puppet.generate.anatomy import Anatomy, read_anatomy
from puppet.generate.canvas import frame_portrait
from puppet.generate.folds import FoldMaps
from puppet.generate.generator import Generator
from puppet.generate.mouth import MouthPictures
from puppet.generate.region import ACTION_COUNT, PACKAGED, SHAPES, SLITS, action_input, cut, sample
from puppet.generate.texture import MotionPicture
from puppet.landmarks import FACE_COUNT, LOWER_INNER_LIP, UPPER_INNER_LIP
from puppet.lid_closure import AU45
from puppet.portrait import Portrait
from puppet.rig import LandmarkRig
from trainer.solve_motion import act, imitate, moved_landmarks, still_pose
from trainer.texture_shards import WayBack
from trainer.tracked_lids import as_they_are

_SMOOTHING = {"mouth": 0.04, "eye": 0.12, "face": 0.06}
"""Share of a slit's width over which what motion misses is spread; lips of the answer come to lie on the motion's."""
_OPEN_GAP, _LEAST_GAP = 0.05, 0.4
"""An opening of more than the first share of the mouth's width wants an answer with at least the second share of it."""
_LEAST_INSIDE = 0.9  # of a crop on the way back that the first crop must hold
_MAX_MISS = 0.12  # of the distance between the eyes: a pair further off has been tracked wrongly


@dataclass(frozen=True)
class Sample:
    """One training example of one region: uint8 planes `(h, w, channels)` and what is done `(ACTION_COUNT,)`.

    `moved` is RGB, mask and depth of the motion picture, `rest` RGB and mask of the portrait, `answer` RGB.
    """

    moved: np.ndarray
    rest: np.ndarray
    answer: np.ndarray
    actions: np.ndarray


@dataclass(frozen=True)
class Toolbox:
    """What every pair needs."""

    rig: LandmarkRig
    pictures: MouthPictures
    regions: tuple[str, ...] = PACKAGED
    folds: FoldMaps | None = None

    def generator(self, rgb: np.ndarray, landmarks_px: np.ndarray, *, anatomy: Anatomy | None = None) -> Generator:
        canvas = frame_portrait(Portrait(rgb, landmarks_px, "portrait"), None)
        return Generator(canvas, self.rig, self.pictures, folds=self.folds, anatomy=anatomy)


def resting(generator: Generator) -> MotionPicture:
    """The portrait as the motion step shows it unmoved."""
    nothing = np.zeros(len(generator.anatomy.actions), np.float32)
    return generator.move(nothing, still_pose(generator), facs.rest())


def follow(
    generator: Generator,
    rgb: np.ndarray,
    landmarks_px: np.ndarray,
    control: np.ndarray,
    tools: Toolbox,
    *,
    rest: MotionPicture | None = None,
    by_actions: bool = False,
    is_relit: bool = False,
) -> dict[str, Sample]:
    """Samples by slit of a portrait that does what another picture `(H, W, 3)` shows.

    `control` `(SIZE,)` is the estimator's reading of that picture; `by_actions` it drives, as in live use, else weights
    solved from the landmarks do, with lids where they really are. `rest` is `resting(generator)` where the caller has
    it. `is_relit` takes the light of another picture off the answer, colour by colour.
    """
    landmarks_px, closed = as_they_are(landmarks_px, generator.canvas.landmarks_px)
    if by_actions:
        weights, pose, seen = act(generator, landmarks_px, control)
    else:
        weights, pose, seen = imitate(generator, landmarks_px, control)
        seen[AU45] = facs.MAX_INTENSITY * closed
    picture = generator.move(weights, pose, seen)
    at = moved_landmarks(generator, weights, pose)[:, :2]
    miss = landmarks_px[:FACE_COUNT, :2] - at
    if np.linalg.norm(miss, axis=1).mean() > _MAX_MISS * generator.anatomy.ocular_px:
        return {}
    made = _samples(generator, picture, rgb, seen, at, miss, tools, rest=rest, is_relit=is_relit)
    if _is_shut_but_shown_open(at, landmarks_px):
        made.pop("mouth", None)
    return made


def _is_shut_but_shown_open(at: np.ndarray, landmarks_px: np.ndarray) -> bool:
    """Whether motion opened a mouth, by landmarks `(468, 2)` px, of which the answer shows far less inside."""
    upper, lower = UPPER_INNER_LIP[len(UPPER_INNER_LIP) // 2], LOWER_INNER_LIP[len(LOWER_INNER_LIP) // 2]
    shown, true = (np.linalg.norm(points[lower, :2] - points[upper, :2]) for points in (at, landmarks_px))
    width = np.linalg.norm(at[LOWER_INNER_LIP[0]] - at[LOWER_INNER_LIP[-1]])
    return bool(shown > _OPEN_GAP * width and true < _LEAST_GAP * shown)


def reopen(
    rgb: np.ndarray, landmarks_px: np.ndarray, control: np.ndarray, relax: float, tools: Toolbox
) -> dict[str, Sample]:
    """Samples of an open mouth that was closed by motion and is opened again.

    `control` `(SIZE,)` is what the picture shows; all its actions go down to the share `relax`, and the lips close.
    """
    opened = tools.generator(rgb, landmarks_px)
    opened.set_baseline(control)
    if opened.anatomy.rest_gap_px == 0:
        return {}
    closed_control = opened.baseline.copy()
    closed_control[: facs.INTENSITY_COUNT] *= relax
    closed_control[facs.INDEX["AU25"]] = 0
    weights = opened.weights_at(closed_control)
    still = still_pose(opened)
    picture = opened.move(weights, still, facs.rest())
    closed = _as_portrait(opened, picture, weights, closed_control, tools, rest_gap_px=0.0)
    result = closed.move(-weights, still_pose(closed), facs.rest())
    nothing = np.zeros((FACE_COUNT, 2), np.float32)
    return _samples(closed, result, rgb, opened.baseline, landmarks_px[:FACE_COUNT, :2], nothing, tools)


def there_and_back(
    rgb: np.ndarray, landmarks_px: np.ndarray, control: np.ndarray, sampled: np.ndarray, tools: Toolbox
) -> dict[str, tuple[Sample, WayBack]]:
    """A picture moved to sampled actions, and its way back, by slit.

    `control` `(SIZE,)` is what the picture shows, `sampled` `(SIZE,)` what it is to show; the head stays. The sample's
    answer is the picture itself in the crop of the way back.
    """
    own = tools.generator(rgb, landmarks_px)
    own.set_baseline(control)
    sampled = facs.clip(sampled)
    weights = own.weights_at(sampled)
    picture = own.move(weights, still_pose(own), sampled)
    moved = _as_portrait(own, picture, weights, sampled, tools)
    result = moved.move(-weights, still_pose(moved), facs.rest())
    places, rest = moved.shown_positions(-weights, still_pose(moved)), resting(own)
    out = {}
    for region in tools.regions:
        shape = SHAPES[region]
        for slit in SLITS[region]:
            there, portrait, back = cut(picture, slit), cut(rest, slit), cut(result, slit)
            if there is None or portrait is None or back is None:
                continue
            shown = cv2.warpAffine(
                places, back.crop_from_frame, (shape.width, shape.height), borderMode=cv2.BORDER_REPLICATE
            )
            shown = shown @ there.crop_from_frame[:, :2].T + there.crop_from_frame[:, 2]
            is_inside = np.all((shown > -1) & (shown < (shape.width, shape.height)), -1)
            if is_inside.mean() < _LEAST_INSIDE:
                continue
            to_frame = np.vstack([cv2.invertAffineTransform(back.crop_from_frame), [0, 0, 1]])
            rest_shown = there.crop_from_frame @ to_frame
            rest_mask = cv2.warpAffine(
                there.mask, rest_shown, (shape.width, shape.height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            )
            is_mirrored = slit == "L"
            out[slit] = (
                Sample(
                    np.dstack([there.rgb, _bytes(there.mask), _bytes(there.depth)]),
                    np.dstack([portrait.rgb, _bytes(portrait.mask)]),
                    sample(rgb, back.crop_from_frame, shape),
                    action_input(sampled, is_mirrored=is_mirrored),
                ),
                WayBack(
                    np.dstack([back.rgb, _bytes(back.mask), _bytes(back.depth)]),
                    shown.astype(np.float16),
                    rest_shown.astype(np.float32),
                    _bytes(rest_mask),
                    action_input(facs.clip(own.baseline), is_mirrored=is_mirrored),
                ),
            )
    return out


def _as_portrait(
    generator: Generator,
    picture: MotionPicture,
    weights: np.ndarray,
    control: np.ndarray,
    tools: Toolbox,
    *,
    rest_gap_px: float | None = None,
) -> Generator:
    """A moved picture as a portrait of its own; `rest_gap_px` None takes the gap that its lips have."""
    points = generator.canvas.landmarks_px.copy()
    points[:FACE_COUNT, :2] = moved_landmarks(generator, weights, still_pose(generator))[:, :2]
    # Fitted anew, as any portrait is, but with the actions that moved it: the way back is exact.
    refitted = read_anatomy(points, tools.rig)
    depth = refitted.points_px.copy()
    depth[:, :2] = points[:FACE_COUNT, :2]
    gap = refitted.rest_gap_px if rest_gap_px is None else rest_gap_px
    anatomy = replace(refitted, action_px=generator.anatomy.action_px, points_px=depth, rest_gap_px=gap)
    portrait = tools.generator(picture.rgb, points, anatomy=anatomy)
    portrait.set_baseline(control)
    return portrait


def identity(generator: Generator, control: np.ndarray, tools: Toolbox) -> dict[str, Sample]:
    """Samples of a portrait that does nothing: the answer is the portrait."""
    picture = resting(generator)
    nothing = np.zeros((FACE_COUNT, 2), np.float32)
    at = generator.anatomy.points_px[:, :2]
    return _samples(generator, picture, generator.canvas.still, control, at, nothing, tools)


def _samples(
    generator: Generator,
    picture: MotionPicture,
    answer: np.ndarray,
    control: np.ndarray,
    at: np.ndarray,
    miss: np.ndarray,
    tools: Toolbox,
    *,
    rest: MotionPicture | None = None,
    is_relit: bool = False,
) -> dict[str, Sample]:
    """Crops of the motion picture, the portrait, and the answer drawn to where the motion put the landmarks.

    `at` `(468, 2)` px is where motion put the landmarks, `miss` what leads from there to the answer's own.
    """
    rest = resting(generator) if rest is None else rest
    out: dict[str, Sample] = {}
    for region in tools.regions:
        shape = SHAPES[region]
        for slit in SLITS[region]:
            crop, portrait = cut(picture, slit), cut(rest, slit)
            if crop is None or portrait is None:
                continue
            drawn = _drawn(answer, crop.crop_from_frame, region, at, miss)
            assert drawn.shape == (shape.height, shape.width, 3)
            if is_relit:
                drawn = _relit(drawn, crop.rgb, skin=(crop.mask == 0) & (portrait.mask == 0))
            moved = np.dstack([crop.rgb, _bytes(crop.mask), _bytes(crop.depth)])
            kept = np.dstack([portrait.rgb, _bytes(portrait.mask)])
            actions = action_input(facs.clip(control), is_mirrored=slit == "L")
            assert actions.shape == (ACTION_COUNT,)
            out[slit] = Sample(moved, kept, drawn, actions)
    return out


def _drawn(
    answer: np.ndarray, crop_from_frame: np.ndarray, region: str, at: np.ndarray, miss: np.ndarray
) -> np.ndarray:
    """The answer's crop, each part shifted by what the motion missed there (normalised convolution of landmarks)."""
    shape = SHAPES[region]
    if not np.any(miss):
        return sample(answer, crop_from_frame, shape)
    inverse = cv2.invertAffineTransform(crop_from_frame)
    columns, rows = np.meshgrid(np.arange(0, shape.width, 4), np.arange(0, shape.height, 4))
    here = np.stack([columns, rows], -1).reshape(-1, 2).astype(np.float64)
    points = at @ crop_from_frame[:, :2].T + crop_from_frame[:, 2]
    near = np.all((points > -20) & (points < np.array([shape.width, shape.height]) + 20), 1)
    distance = ((here[:, None] - points[None, near]) ** 2).sum(-1)
    kernel = np.exp(-distance / (2 * (_SMOOTHING[region] * shape.slit_width) ** 2)) + 1e-9
    shift = (kernel @ miss[near]) / kernel.sum(1, keepdims=True)
    shift = cv2.resize(shift.reshape(*columns.shape, 2).astype(np.float32), (shape.width, shape.height))
    columns, rows = np.meshgrid(np.arange(shape.width, dtype=np.float32), np.arange(shape.height, dtype=np.float32))
    frame = np.stack([columns, rows], -1) @ inverse[:, :2].T.astype(np.float32) + inverse[:, 2].astype(np.float32)
    return cv2.remap(
        answer, (frame + shift).astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _relit(answer: np.ndarray, moved: np.ndarray, *, skin: np.ndarray) -> np.ndarray:
    """The answer with each colour stretched and shifted so that its skin `(h, w)` has the moved picture's."""
    if skin.sum() < 64:
        return answer
    own, wanted = answer[skin].astype(np.float32), moved[skin].astype(np.float32)
    gain = np.clip(wanted.std(0) / np.maximum(own.std(0), 1.0), 0.6, 1.6)
    shown = (answer - own.mean(0)) * gain + wanted.mean(0)
    return np.round(np.clip(shown, 0, 255)).astype(np.uint8)


def _bytes(plane: np.ndarray) -> np.ndarray:
    return np.round(np.clip(plane, 0, 1) * 255).astype(np.uint8)
