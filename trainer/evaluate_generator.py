"""`python -m trainer evaluate`. Self-reenactment: a clip's first neutral frame is the portrait, its frames drive it.

Columns of one run: `static` the untouched portrait; `warp` its pixels moved by one smooth field, lips and lids not
parted and nothing drawn between them; `motion` the whole motion step, with teeth, eyeballs and lids; `folds` the same
with its skin shaded; `texture` that with the networks: the whole texture step; `whole`, where it is asked for, with one
network of the whole face instead; `bound` motion with the truth itself wherever an opening is or was: the best that
painting openings could do.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from rich.progress import track as progress

from puppet import facs
from puppet.composite import blend
from puppet.errors import InputError
from puppet.estimate import AuEstimator
from puppet.generate.folds import FoldMaps
from puppet.generate.generator import Generator
from puppet.generate.motion import HeadPose, head_pose
from puppet.generate.mouth import MouthPictures
from puppet.generate.painter import MODELS, TextureNetworks
from puppet.generate.region import EYE_SHAPE, MOUTH_SHAPE, PACKAGED, RegionCrop, cut, sample
from puppet.generate.texture import MotionPicture
from puppet.rig import LandmarkRig
from puppet.smooth import Smoother
from puppet.track import FaceTracker
from trainer.evaluate_shots import Sequence, Shot, of_clip, of_held_out_stills
from trainer.evaluate_table import COLUMNS, MOTION, print_table, summary
from trainer.judges import (
    JUDGED,
    ActionJudge,
    IdentityJudge,
    PictureDistance,
    gradient_distance,
    peak_ratio,
    structure,
)
from trainer.readings import ActionReader, actions_of
from trainer.solve_motion import act, imitate
from trainer.texture_pairs import Toolbox, resting
from trainer.tracked_lids import as_they_are

log = logging.getLogger(__name__)

_STILL_FRAMES, _SETTLING_FRAMES, _CAMERA_NOISE, _CAMERA_FPS = 8, 6, 2.0, 30.0


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure the generator on clips that no one trained on."""

    clips: Path = Path("../shared/faces/val/clips")
    """Folder of clips."""
    stills: Path | None = None
    """Instead of clips: a folder of faces as `prepare` takes it, of which people that training keeps aside are shown
    their own other stills."""
    judges_dir: Path = Path("../shared/judges")
    """Independent estimators."""
    cache_dir: Path = Path("data")
    """Where tracked landmarks are kept."""
    models: Path = MODELS
    """Folder of texture networks."""
    whole: Path | None = None
    """Folder of a network of the whole face (`generator --region face`), to compare with those."""
    regions: tuple[Literal["mouth", "eye"], ...] = PACKAGED
    """Which texture networks paint."""
    drive: Literal["actions", "landmarks"] = "actions"
    """What drives: the AU regressor's reading, or weights solved from landmarks (the generator alone is measured)."""
    frames: int = 20
    """Frames of each clip, evenly spread."""
    most_clips: int = 0
    """Stop after this many clips, or stills; 0 is all."""
    flicker_every: int = 4
    """Flicker is measured on every so many clips."""
    output: Path = Path("runs/evaluate.json")
    """Table to write."""
    sheets: Path | None = None
    """Folder for pictures: portrait, motion, texture, truth."""
    dry_run: bool = False
    """Print what would be done and stop."""


class _Stage:
    """One portrait without and with texture steps; `networks` by the column they serve."""

    def __init__(self, config: EvaluateConfig, tools: Toolbox, networks: dict[str, TextureNetworks]) -> None:
        self._config, self._tools, self._networks = config, tools, networks

    def set_portrait(self, shot: Shot) -> None:
        self.generator: Generator = self._tools.generator(shot.rgb, shot.landmarks_px)
        self._own = shot.actions
        self.generator.set_baseline(self._own)
        self._rest = resting(self.generator)
        self._painters = {column: own.prepare(self._rest) for column, own in self._networks.items()}

    def show(
        self, landmarks_px: np.ndarray, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, RegionCrop | None]]:
        """Pictures by column and the crops of the slits, for another frame's landmarks `(478, 3)` and actions
        `(SIZE,)`. What the regressor says of the portrait's lips counts as the measured gap."""
        control = actions.copy()
        lips = facs.INDEX["AU25"]
        control[lips] += self.generator.baseline[lips] - self._own[lips]
        landmarks_px, _ = as_they_are(landmarks_px, self.generator.canvas.landmarks_px)
        drive = act if self._config.drive == "actions" else imitate
        weights, pose, control = drive(self.generator, landmarks_px, control)
        warped = self.generator.warp(weights, pose)
        shown, picture = self._pictures(weights, pose, control)
        crops = {slit: self._crop(picture, slit) for slit in ("mouth", "R", "L")}
        return {"warp": warped, **shown}, crops

    def live(self, control: np.ndarray) -> dict[str, np.ndarray]:
        """Pictures by column as in live use: all of the control `(SIZE,)` estimated and smoothed."""
        control = facs.clip(control)
        generator = self.generator
        return self._pictures(generator.weights_at(control), head_pose(control, generator.field), control)[0]

    def _pictures(
        self, weights: np.ndarray, pose: HeadPose, control: np.ndarray
    ) -> tuple[dict[str, np.ndarray], MotionPicture]:
        picture = self.generator.move(weights, pose, control)
        folded = self.generator.move(weights, pose, control, is_folded=True)
        shown = {"motion": picture.rgb, "folds": folded.rgb}
        for column, painter in self._painters.items():
            shown[column] = folded.rgb.copy()
            for patch in painter.paint(folded, control):
                blend(shown[column], patch)
        return shown, picture

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
    if not paths and config.stills is None:
        raise InputError(f"no clips in {config.clips}: expected .mp4 files. Give their folder with --clips.")
    if config.dry_run:
        what = f"{config.frames} frames of each of {len(paths)} clips" if config.stills is None else "stills"
        print(f"would show {what}, driven by {config.drive}")
        return
    networks = {"texture": TextureNetworks(folder=config.models, regions=config.regions)}
    if config.whole is not None:
        networks["whole"] = TextureNetworks(folder=config.whole, regions=("face",))
    stage = _Stage(config, Toolbox(LandmarkRig.load(), MouthPictures.load(), folds=FoldMaps.load()), networks)
    judges = (
        ActionJudge(config.judges_dir / "face_landmarker_v2_with_blendshapes.task"),
        IdentityJudge(config.judges_dir),
        PictureDistance(config.judges_dir / "squeezenet_v1.0.npz"),
    )
    rows = {}
    for n, sequence in enumerate(_sequences(config, paths)):
        with_flicker = config.stills is None and n % config.flicker_every == 0
        rows[sequence.name] = _measure(config, sequence, stage, *judges, with_flicker=with_flicker)
    table = summary(rows)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps({"summary": table, "clips": rows}, indent=1))
    print_table(table)


def _sequences(config: EvaluateConfig, paths: list[Path]) -> Iterator[Sequence]:
    most, actions = config.most_clips or None, ActionReader()
    if config.stills is not None:
        yield from islice(of_held_out_stills(config.stills, config.cache_dir, actions), most)
        return
    for path in progress(paths[:most], description="evaluating"):
        try:
            yield of_clip(path, config.cache_dir, config.frames, actions)
        except InputError as exc:
            log.warning("left out %s: %s", path.stem, exc)


def _measure(
    config: EvaluateConfig,
    sequence: Sequence,
    stage: _Stage,
    actions: ActionJudge,
    identity: IdentityJudge,
    distance: PictureDistance,
    *,
    with_flicker: bool,
) -> dict[str, dict[str, float]]:
    """Metric -> column -> mean over the drivers."""
    portrait = sequence.portrait
    stage.set_portrait(portrait)
    own = identity.embed(portrait.rgb, portrait.landmarks_px)
    values: dict[str, dict[str, list[float]]] = {}
    judged: dict[str, list[dict[str, float]]] = {name: [] for name in (*COLUMNS, "truth")}
    shown: dict[str, np.ndarray] = {}
    sheet = []
    for shot, is_closing, mouth in zip(sequence.drivers, sequence.is_closing, sequence.mouth_openness, strict=True):
        truth, points = shot.rgb, shot.landmarks_px
        shown, crops = stage.show(points, shot.actions)
        candidates = {"static": portrait.rgb, **shown}
        for name, numbers in _compare(candidates, truth, points, crops, is_closing, distance).items():
            for column, number in numbers.items():
                values.setdefault(name, {}).setdefault(column, []).append(number)
        for column, rgb in shown.items():
            values.setdefault("identity", {}).setdefault(column, []).append(float(own @ identity.embed(rgb, points)))
        seen = {column: actions.judge(rgb) for column, rgb in (*shown.items(), ("truth", truth))}
        if all(s is not None for s in seen.values()):
            for column, s in seen.items():
                judged[column].append(s)
        is_telling = bool(is_closing) or mouth > 0.1 or len(sheet) % 2 == 0
        if config.sheets is not None and len(sheet) < 8 and is_telling:
            sheet.append(np.hstack([*candidates.values(), truth]))
    _draw(config, sequence.name, sheet)
    out = {name: {c: float(np.mean(v)) for c, v in columns.items()} for name, columns in values.items()}
    out[MOTION] = {"truth": sequence.motion}
    for au in JUDGED:
        told = np.array([j[au] for j in judged["truth"]])
        if len(told) > 4 and np.ptp(told) > 0.2:  # a clip in which nothing happens says nothing
            out[f"transfer_{au}"] = {
                c: float(np.corrcoef([j[au] for j in judged[c]], told)[0, 1])
                for c in shown
                if np.ptp([j[au] for j in judged[c]]) > 0
            }
    if with_flicker:
        out |= _flicker(stage, sequence.most_awake.rgb)  # a still driver who does not blink
    return out


def _compare(
    candidates: dict[str, np.ndarray],
    truth: np.ndarray,
    points: np.ndarray,
    cuts: dict[str, RegionCrop | None],
    is_closing: bool,
    distance: PictureDistance,
) -> dict[str, dict[str, float]]:
    """Metric -> one number a candidate, and of crops the bound's."""
    low = np.clip(points[:, :2].min(0) - 8, 0, None).astype(int)
    high = points[:, :2].max(0).astype(int) + 8
    face = (slice(low[1], high[1]), slice(low[0], high[0]))
    out = {
        "face_psnr": [peak_ratio(c[face], truth[face]) for c in candidates.values()],
        "face_ssim": [structure(c[face], truth[face]) for c in candidates.values()],
    }
    for name, slits, shape in (("mouth", ("mouth",), MOUTH_SHAPE), ("eye", ("R", "L"), EYE_SHAPE)):
        if name == "eye" and not is_closing:
            continue
        for slit in slits:
            if (cut_here := cuts[slit]) is None:
                continue
            *crops, told = (sample(rgb, cut_here.crop_from_frame, shape) for rgb in (*candidates.values(), truth))
            inside = cut_here.mask
            moved = crops[list(candidates).index("motion")].astype(np.float32)
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
    columns = (*candidates, "bound")
    return {name: dict(zip(columns, values, strict=False)) for name, values in out.items()}  # faces have no bound


def _flicker(stage: _Stage, rgb: np.ndarray) -> dict[str, dict[str, float]]:
    """Mean change between neighbouring renderings, grey levels, of a still driver seen through camera noise.

    `flicker_raw`: driven as the other rows are, frame by frame. `flicker`: as in live use, with the controls smoothed.
    """
    rng, tracker, smoother = np.random.default_rng(0), FaceTracker(), Smoother()
    estimator = AuEstimator()
    pictures: dict[str, dict[str, list[np.ndarray]]] = {"flicker_raw": {}, "flicker": {}}
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
            for column in live:
                pictures[name].setdefault(column, []).append(shown[column])
    tracker.close()
    if box is None or len(pictures["flicker"].get("motion", ())) < 3:
        return {}
    left, top, right, bottom = (max(0, int(v)) for v in box)

    def change(shown: list[np.ndarray]) -> float:
        cut_out = [rgb[top:bottom, left:right].astype(np.int16) for rgb in shown]
        return float(np.mean([np.abs(a - b).mean() for a, b in pairwise(cut_out)]))

    return {name: {column: change(shown) for column, shown in rows.items()} for name, rows in pictures.items()}


def _draw(config: EvaluateConfig, name: str, sheet: list[np.ndarray]) -> None:
    if config.sheets is None or not sheet:
        return
    config.sheets.mkdir(parents=True, exist_ok=True)
    picture = cv2.resize(np.vstack(sheet), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(config.sheets / f"{name.replace(':', '-')}.png"), picture[..., ::-1])
