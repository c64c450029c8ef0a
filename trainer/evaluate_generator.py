"""`python -m trainer evaluate`. Self-reenactment: a clip's first neutral frame is the portrait, its frames drive it.

Columns of one run: `static` the untouched portrait; `warp` its pixels moved by one smooth field, lips and lids not
parted and nothing drawn between them; `motion` the whole motion step, with teeth, eyeballs and lids; `texture` with the
networks; `bound` motion with the truth itself wherever an opening is or was: the best that painting openings could do.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from rich.progress import track as progress

from puppet import facs
from puppet.composite import blend
from puppet.errors import InputError
from puppet.estimate import AuEstimator
from puppet.generate.generator import Generator
from puppet.generate.motion import HeadPose, head_pose
from puppet.generate.mouth import MouthPictures
from puppet.generate.painter import MODELS, TextureNetworks
from puppet.generate.region import EYE_SHAPE, MOUTH_SHAPE, RegionCrop, cut, sample
from puppet.generate.texture import MotionPicture
from puppet.rig import LandmarkRig
from puppet.smooth import Smoother
from puppet.track import FaceTracker
from trainer.judges import (
    JUDGED,
    ActionJudge,
    IdentityJudge,
    PictureDistance,
    gradient_distance,
    peak_ratio,
    structure,
)
from trainer.prepare import cut_frames, openness, place_face
from trainer.readings import ActionReader, actions_of
from trainer.texture_pairs import Toolbox, iris_gaze, resting, solve_motion
from trainer.tracking import clip

log = logging.getLogger(__name__)

COLUMNS = ("static", "warp", "motion", "texture", "bound")
SHOWN = ("warp", "motion", "texture")
COMPARED = (("motion", "warp"), ("texture", "warp"), ("texture", "motion"), ("bound", "motion"))
"""Pairs of columns whose gain is told: the first on the second."""
LESS_IS_BETTER = (
    *(
        f"{region}_{name}"
        for region in ("mouth", "eye")
        for name in ("squeeze", "gradient", "l1", "inside_squeeze", "inside_l1")
    ),
    "flicker",
    "flicker_raw",
)
"""`inside`: only where an opening is, or was in the portrait: what the texture step is there for."""
_CLOSING = 0.75  # eyes lower than this share of the portrait's are closed or closing
_STILL_FRAMES, _SETTLING_FRAMES, _CAMERA_NOISE, _CAMERA_FPS = 8, 6, 2.0, 30.0


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure the generator on clips that no one trained on."""

    clips: Path = Path("../shared/faces/val/clips")
    """Folder of clips."""
    judges_dir: Path = Path("../shared/judges")
    """Independent estimators."""
    cache_dir: Path = Path("data")
    """Where tracked landmarks are kept."""
    models: Path = MODELS
    """Folder of texture networks."""
    regions: tuple[Literal["mouth", "eye"], ...] = ("mouth", "eye")
    """Which texture networks paint."""
    drive: Literal["actions", "landmarks"] = "actions"
    """What drives: the AU regressor's reading, or weights solved from landmarks (the generator alone is measured)."""
    frames: int = 20
    """Frames of each clip, evenly spread."""
    most_clips: int = 0
    """Stop after this many clips; 0 is all."""
    flicker_every: int = 4
    """Flicker is measured on every so many clips."""
    output: Path = Path("runs/evaluate.json")
    """Table to write."""
    sheets: Path | None = None
    """Folder for pictures: portrait, motion, texture, truth."""
    dry_run: bool = False
    """Print what would be done and stop."""


class _Stage:
    """One portrait with and without the texture step."""

    def __init__(
        self, config: EvaluateConfig, tools: Toolbox, actions: ActionReader, networks: TextureNetworks
    ) -> None:
        self._config, self._tools, self.actions, self._networks = config, tools, actions, networks

    def set_portrait(self, rgb: np.ndarray, landmarks_px: np.ndarray) -> None:
        self.generator: Generator = self._tools.generator(rgb, landmarks_px)
        self._own = self.actions.still(landmarks_px, rgb.shape[1::-1])
        self.generator.set_baseline(self._own)
        self._rest = resting(self.generator)
        self._painter = self._networks.prepare(self._rest)

    def show(
        self, landmarks_px: np.ndarray, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, RegionCrop | None]]:
        """Pictures by column and the crops of the slits, for another frame's landmarks `(478, 3)` and actions
        `(SIZE,)`. What the regressor says of the portrait's lips counts as the measured gap."""
        control = actions.copy()
        lips = facs.INDEX["AU25"]
        control[lips] += self.generator.baseline[lips] - self._own[lips]
        weights, pose = solve_motion(self.generator, landmarks_px, self._tools.rig)
        gaze = iris_gaze(self.generator, landmarks_px, pose)
        control[[facs.INDEX[name] for name in facs.GAZE_NAMES]] = gaze
        control = facs.clip(control)
        if self._config.drive == "actions":
            weights = self.generator.weights_at(control)
        warped = self.generator.warp(weights, pose)
        moved, painted, picture = self._pictures(weights, pose, control)
        crops = {slit: self._crop(picture, slit) for slit in ("mouth", "R", "L")}
        return {"warp": warped, "motion": moved, "texture": painted}, crops

    def live(self, control: np.ndarray) -> dict[str, np.ndarray]:
        """Pictures by column as in live use: all of the control `(SIZE,)` estimated and smoothed."""
        control = facs.clip(control)
        generator = self.generator
        moved, painted, _ = self._pictures(generator.weights_at(control), head_pose(control, generator.field), control)
        return {"motion": moved, "texture": painted}

    def _pictures(
        self, weights: np.ndarray, pose: HeadPose, control: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, MotionPicture]:
        picture = self.generator.move(weights, pose, control)
        painted = picture.rgb.copy()
        for patch in self._painter.paint(picture, control):
            blend(painted, patch)
        return picture.rgb, painted, picture

    def _crop(self, picture: MotionPicture, slit: str) -> RegionCrop | None:
        """The slit's crop; its mask is where an opening is now or was in the portrait, a little widened."""
        now, before = cut(picture, slit), cut(self._rest, slit)
        if now is None or before is None:
            return None
        either = cv2.dilate(np.maximum(now.mask, before.mask), np.ones((7, 7), np.uint8))
        return replace(now, mask=cv2.blur(either, (5, 5)))


def evaluate_generator(config: EvaluateConfig) -> None:
    """Print the table and write it as JSON, clip by clip.

    Raises:
        InputError: no clips, no judges or no networks.
    """
    paths = sorted(p for p in config.clips.glob("*") if p.suffix in (".mp4", ".mov"))
    if not paths:
        raise InputError(f"no clips in {config.clips}: expected .mp4 files. Give their folder with --clips.")
    if config.dry_run:
        print(f"would show {config.frames} frames of each of {len(paths)} clips, driven by {config.drive}")
        return
    tools, actions = Toolbox(LandmarkRig.load(), MouthPictures.load()), ActionReader()
    stage = _Stage(config, tools, actions, TextureNetworks(folder=config.models, regions=config.regions))
    judges = (
        ActionJudge(config.judges_dir / "face_landmarker_v2_with_blendshapes.task"),
        IdentityJudge(config.judges_dir),
        PictureDistance(config.judges_dir / "squeezenet_v1.0.npz"),
    )
    rows = {}
    for n, path in enumerate(progress(paths[: config.most_clips or None], description="evaluating")):
        try:
            rows[path.stem] = _clip(config, path, stage, *judges, with_flicker=n % config.flicker_every == 0)
        except InputError as exc:
            log.warning("left out %s: %s", path.stem, exc)
    table = summary(rows)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps({"summary": table, "clips": rows}, indent=1))
    print_table(table)


def _clip(
    config: EvaluateConfig,
    path: Path,
    stage: _Stage,
    actions: ActionJudge,
    identity: IdentityJudge,
    distance: PictureDistance,
    *,
    with_flicker: bool,
) -> dict[str, dict[str, float]]:
    """Metric -> column -> mean over the clip's frames."""
    matrix, numbers, points = place_face(clip(path, config.cache_dir), path)
    eyes, mouth = openness(points)
    unlike = np.abs(eyes - np.median(eyes)) / np.median(eyes) + 2 * mouth
    first = int(np.flatnonzero(unlike <= np.percentile(unlike, 10))[0])
    chosen = np.linspace(0, len(points) - 2, config.frames).astype(int)
    shutting = np.flatnonzero(eyes[:-1] < _CLOSING * eyes[first])
    chosen = np.unique(np.concatenate([chosen, shutting[:: max(1, len(shutting) // 3)][:4]]))
    found = cut_frames(path, matrix, numbers[[first, *chosen]])
    frames = {i: found[numbers[i]] for i in (first, *chosen) if numbers[i] in found}
    chosen = np.array([i for i in chosen if i in frames])
    stage.set_portrait(frames[first], points[first])
    read = stage.actions.clip(points, frames[first].shape[1::-1])
    own = identity.embed(frames[first], points[first])
    values: dict[str, dict[str, list[float]]] = {}
    judged: dict[str, list[dict[str, float]]] = {name: [] for name in (*COLUMNS, "truth")}
    sheet = []
    for index in chosen:
        truth = frames[index]
        shown, crops = stage.show(points[index], read[index])
        candidates = [frames[first], *(shown[column] for column in SHOWN)]
        is_closing = eyes[index] < _CLOSING * eyes[first]
        for name, numbers in _compare(candidates, truth, points[index], crops, is_closing, distance).items():
            for column, number in zip(COLUMNS, numbers, strict=False):  # faces have no bound
                values.setdefault(name, {}).setdefault(column, []).append(number)
        for column, rgb in shown.items():
            values.setdefault("identity", {}).setdefault(column, []).append(
                float(own @ identity.embed(rgb, points[index]))
            )
        seen = {column: actions.judge(rgb) for column, rgb in (*shown.items(), ("truth", truth))}
        if all(s is not None for s in seen.values()):
            for column, s in seen.items():
                judged[column].append(s)
        is_telling = bool(is_closing) or mouth[index] > 0.1 or len(sheet) % 2 == 0
        if config.sheets is not None and len(sheet) < 8 and is_telling:
            sheet.append(np.hstack([*candidates, truth]))
    _draw(config, path, sheet)
    out = {name: {c: float(np.mean(v)) for c, v in columns.items()} for name, columns in values.items()}
    for au in JUDGED:
        told = np.array([j[au] for j in judged["truth"]])
        if len(told) > 4 and np.ptp(told) > 0.2:  # a clip in which nothing happens says nothing
            out[f"transfer_{au}"] = {
                c: float(np.corrcoef([j[au] for j in judged[c]], told)[0, 1])
                for c in SHOWN
                if np.ptp([j[au] for j in judged[c]]) > 0
            }
    if with_flicker:
        awake = chosen[np.argmax(eyes[chosen])]  # a still driver who does not blink
        out |= _flicker(stage, frames[int(awake)])
    return out


def _compare(
    candidates: list[np.ndarray],
    truth: np.ndarray,
    points: np.ndarray,
    cuts: dict[str, RegionCrop | None],
    is_closing: bool,
    distance: PictureDistance,
) -> dict[str, list[float]]:
    """Metric -> one number a candidate."""
    low = np.clip(points[:, :2].min(0) - 8, 0, None).astype(int)
    high = points[:, :2].max(0).astype(int) + 8
    face = (slice(low[1], high[1]), slice(low[0], high[0]))
    out = {
        "face_psnr": [peak_ratio(c[face], truth[face]) for c in candidates],
        "face_ssim": [structure(c[face], truth[face]) for c in candidates],
    }
    for name, slits, shape in (("mouth", ("mouth",), MOUTH_SHAPE), ("eye", ("R", "L"), EYE_SHAPE)):
        if name == "eye" and not is_closing:
            continue
        for slit in slits:
            if (cut_here := cuts[slit]) is None:
                continue
            *crops, told = (sample(rgb, cut_here.crop_from_frame, shape) for rgb in (*candidates, truth))
            inside = cut_here.mask
            moved = crops[SHOWN.index("motion") + 1].astype(np.float32)
            crops = [*crops, np.round(moved + (told - moved) * inside[..., None]).astype(np.uint8), told]
            everywhere, within = distance.squeeze(crops[:-1], crops[-1], inside)
            numbers = {
                f"{name}_squeeze": everywhere,
                f"{name}_msssim": [structure(c, crops[-1], scales=3) for c in crops[:-1]],
                f"{name}_gradient": [gradient_distance(c, crops[-1]) for c in crops[:-1]],
                f"{name}_l1": [float(np.abs(c.astype(np.float32) - crops[-1]).mean()) for c in crops[:-1]],
                f"{name}_inside_squeeze": within,
                f"{name}_inside_l1": [
                    float((np.abs(c.astype(np.float32) - crops[-1]).mean(-1) * inside).sum() / (inside.sum() + 1))
                    for c in crops[:-1]
                ],
            }
            for key, values in numbers.items():
                before = out.get(key)
                out[key] = values if before is None else [(a + b) / 2 for a, b in zip(before, values, strict=True)]
    return out


def _flicker(stage: _Stage, rgb: np.ndarray) -> dict[str, dict[str, float]]:
    """Mean change between neighbouring renderings, grey levels, of a still driver seen through camera noise.

    `flicker_raw`: driven as the other rows are, frame by frame. `flicker`: as in live use, with the controls smoothed.
    """
    rng, tracker, smoother = np.random.default_rng(0), FaceTracker(), Smoother()
    estimator = AuEstimator()
    pictures: dict[str, dict[str, list[np.ndarray]]] = {
        name: {column: [] for column in ("motion", "texture")} for name in ("flicker_raw", "flicker")
    }
    box = None
    for n in range(_SETTLING_FRAMES + _STILL_FRAMES):
        noisy = np.clip(rgb + rng.normal(0, _CAMERA_NOISE, rgb.shape), 0, 255).astype(np.uint8)
        face = tracker.track(noisy)
        if face is None:
            continue
        box = face.box_px
        read = estimator.estimate(face).control
        live = stage.live(smoother.smooth(read, n / _CAMERA_FPS))
        if n < _SETTLING_FRAMES:
            continue
        raw, _ = stage.show(face.landmarks_px, actions_of(read))
        for name, shown in (("flicker_raw", raw), ("flicker", live)):
            for column, rows in pictures[name].items():
                rows.append(shown[column])
    tracker.close()
    if box is None or len(pictures["flicker"]["motion"]) < 3:
        return {}
    left, top, right, bottom = (max(0, int(v)) for v in box)

    def change(shown: list[np.ndarray]) -> float:
        cut_out = [rgb[top:bottom, left:right].astype(np.int16) for rgb in shown]
        return float(np.mean([np.abs(a - b).mean() for a, b in pairwise(cut_out)]))

    return {name: {column: change(shown) for column, shown in rows.items()} for name, rows in pictures.items()}


def summary(rows: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Metric -> column -> mean, median and worst clip, and on how many clips it is better than other columns."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name in dict.fromkeys(metric for row in rows.values() for metric in row):
        is_less = name in LESS_IS_BETTER
        for column in COLUMNS:
            found = {c: row[name][column] for c, row in rows.items() if name in row and column in row[name]}
            if not found:
                continue
            worst = (max if is_less else min)(found, key=found.get)
            numbers = list(found.values())
            table.setdefault(name, {})[column] = {
                "mean": float(np.mean(numbers)),
                "median": float(np.median(numbers)),
                "worst": found[worst],
                "worst_clip": worst,
                "clips": len(numbers),
            }
        for better, worse in COMPARED:
            if better in table[name] and worse in table[name]:
                pairs = [(row[name][worse], row[name][better]) for row in rows.values() if name in row]
                is_better = [(b < w) if is_less else (b > w) for w, b in pairs]
                table[name][better][f"clips_better_than_{worse}"] = int(sum(is_better))
    return table


def print_table(table: dict[str, dict[str, dict[str, float]]]) -> None:
    """Markdown: mean / median / worst clip of each column, then what one column gains on another in the mean."""
    gains = [f"{better} on {worse}" for better, worse in COMPARED]
    print("| " + " | ".join(["metric", *COLUMNS, *gains]) + " |")
    print("|---" * (1 + len(COLUMNS) + len(gains)) + "|")
    for name, columns in table.items():
        cells = [name]
        for column in COLUMNS:
            v = columns.get(column)
            cells.append(f"{v['mean']:.3f} / {v['median']:.3f} / {v['worst']:.3f}" if v else "")
        for better, worse in COMPARED:
            if better not in columns or worse not in columns:
                cells.append("")
                continue
            v = columns[better]
            share = f"{100 * (1 - v['mean'] / columns[worse]['mean']):+.1f} %, " if name in LESS_IS_BETTER else ""
            cells.append(f"{share}{v[f'clips_better_than_{worse}']} of {v['clips']}")
        print("| " + " | ".join(cells) + " |")


def _draw(config: EvaluateConfig, path: Path, sheet: list[np.ndarray]) -> None:
    if config.sheets is None or not sheet:
        return
    config.sheets.mkdir(parents=True, exist_ok=True)
    picture = cv2.resize(np.vstack(sheet), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(config.sheets / f"{path.stem}.png"), picture[..., ::-1])
