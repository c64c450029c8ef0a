"""`python -m trainer au-photos`. Source 2: photographs animated by the motion step with sampled actions, then tracked.

This is where the regressor learns how the tracker really responds, which is weaker than the rig's own motion, and it
closes the loop: what is estimated is what the generator needs to do the same.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from rich.progress import track as progress

from puppet import facs
from puppet.errors import InputError, PortraitError
from puppet.rig import LandmarkRig
from puppet.track import FaceTracker
from trainer.au_noise import Camera
from trainer.au_rig import Samples, aligned_samples
from trainer.au_sampling import sample_gaze, sample_intensities
from trainer.split import is_held_out
from trainer.tracking import Stills, read_rgb, stills

log = logging.getLogger(__name__)

RESTING = 3
"""Shots of each photograph with a neutral face: the person's neutral."""
_MAX_YAW_RAD, _MIN_FACE_PX = 0.3, 110
_CAMERA = 0.5  # a decent webcam, half as bad as the jitter pool's worst
_SETTLE = 2  # frames
_ACTING = ("AU09", "AU10", "AU12", "AU16", "AU20", "AU22", "AU26")
_NEUTRAL_WEIGHT, _NEUTRAL_LIPS, _FACE_RESIDUAL = 0.25, 0.6, 0.035


class AnimatedPhoto(Protocol):
    """A picture that can do things: `puppet.puppet.Puppet` or `trainer.plain_warp.PlainWarp`."""

    rest_control: np.ndarray

    def render(self, control: np.ndarray) -> np.ndarray: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class PhotosConfig:
    """Animate the training stills with random actions and track the results."""

    faces_dir: Path = Path("../shared/faces")
    """Folder with manifest.csv and the training stills."""
    cache_dir: Path = Path("data")
    """Where tracked landmarks are kept."""
    output: Path = Path("data/au_photos.npz")
    """Data set to write."""
    motion: Literal["puppet", "plain"] = "puppet"
    """The program's generator, or a plain landmark warp."""
    photos: int = 1200
    """How many stills, at most."""
    shots: int = 12
    """Random actions per still."""
    seed: int = 0
    """Seeds the choice of stills and actions."""
    dry_run: bool = False
    """Print what would be done and stop."""


def make_photos(config: PhotosConfig) -> None:
    """Write landmarks, controls and persons of animated photographs.

    Raises:
        InputError: the stills are missing.
    """
    if config.dry_run:
        print(f"would animate {config.photos} stills x {config.shots} by {config.motion} into {config.output}")
        return
    rng, rig = np.random.default_rng(config.seed), LandmarkRig.load()
    pictures = _usable(stills(config.faces_dir, config.cache_dir), rig)
    order = rng.permutation(len(pictures.files))[: config.photos]
    tracker = FaceTracker()
    columns: list[list] = [[], [], [], []]
    for i in progress(order, description="animating stills"):
        try:
            photo = _open(config, pictures, int(i), rig)
        except PortraitError as exc:
            log.info("left out %s: %s", pictures.files[i], exc)
            continue
        shots = animate(rng, photo, tracker, rig, config.shots)
        photo.close()
        if config.motion == "plain":
            for _, control in shots:  # it moves no eyes
                control[[facs.INDEX[n] for n in facs.GAZE_NAMES]] = np.nan
        for landmarks, control in shots:
            for column, value in zip(
                columns, (landmarks, control, pictures.persons[i], pictures.files[i]), strict=True
            ):
                column.append(value)
    tracker.close()
    config.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        config.output,
        landmarks_px=np.stack(columns[0]),
        controls=np.stack(columns[1]),
        persons=np.array(columns[2]),
        files=np.array(columns[3]),
        names=json.dumps(facs.NAMES),
    )
    print(f"{config.output}: {len(columns[0])} shots of {len(set(columns[2]))} people")


def animate(
    rng: np.random.Generator, photo: AnimatedPhoto, tracker: FaceTracker, rig: LandmarkRig, count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tracked landmarks `(478, 3)` px and the control `(SIZE,)` that was rendered, for random controls.

    One recording by one camera, followed as live video; each control stays for as long as the tracker needs to settle.
    """
    shots, camera = [], None
    for number, control in enumerate(random_controls(rng, rig, count)):
        rgb = photo.render(control)
        camera = camera or Camera.random(rng, rgb.shape[1::-1], strength=_CAMERA)
        for _ in range(_SETTLE if number else 2 * _SETTLE):
            face = tracker.track(camera.take(rng, rgb))
        if face is not None:
            shots.append((face.landmarks_px, control))
    return shots


def random_controls(rng: np.random.Generator, rig: LandmarkRig, count: int) -> np.ndarray:
    """`(count, SIZE)` float32: actions, gaze and a moderate head turn; the first `RESTING` have a neutral face."""
    controls = np.tile(facs.rest(), (count, 1))
    controls[:, : facs.INTENSITY_COUNT] = sample_intensities(rng, count, rig)
    controls[:, [facs.INDEX[n] for n in facs.GAZE_NAMES]] = sample_gaze(rng, count) * [0.6, 0.5]
    turn = np.clip(rng.normal(0, 1, (count, 3)), -2, 2) * [0.14, 0.1, 0.1]
    controls[:, [facs.INDEX[n] for n in facs.HEAD_NAMES[:3]]] = turn * (rng.random((count, 1)) < 0.7)
    controls[:RESTING] = facs.rest()
    return controls.astype(np.float32)


def load_photos(paths: Sequence[Path], rig: LandmarkRig) -> tuple[Samples, Samples]:
    """Shots of people seen in training and of held-out people, of all data sets.

    Raises:
        InputError: a data set is missing or from another control table.
    """
    sets = [_load(path, rig) for path in paths]
    return Samples.concatenate([seen for seen, _ in sets]), Samples.concatenate([unseen for _, unseen in sets])


def _load(path: Path, rig: LandmarkRig) -> tuple[Samples, Samples]:
    try:
        with np.load(path) as file:
            landmarks, controls = file["landmarks_px"], file["controls"]
            persons, files = file["persons"], file["files"] if "files" in file else file["persons"]
            names = tuple(json.loads(str(file["names"])))
    except (OSError, KeyError, ValueError) as exc:
        raise InputError(
            f"{path} can't be read ({exc}): expected animated photographs. "
            "Make them with `python -m trainer au-photos`, or train without by an empty `--photos`."
        ) from exc
    if names != facs.NAMES:
        raise InputError(f"{path} was made with another control table: make it again by `python -m trainer au-photos`.")
    gaze = controls[:, [facs.INDEX[n] for n in facs.GAZE_NAMES]]
    samples = aligned_samples(landmarks, controls[:, : facs.INTENSITY_COUNT], gaze, rig)
    samples.neutral_cm[:] = _neutrals(samples, files)
    unseen = np.array([is_held_out(str(person)) for person in persons])
    return samples.take(~unseen), samples.take(unseen)


def _neutrals(samples: Samples, files: np.ndarray) -> np.ndarray:
    """For each shot, the mean landmarks of the resting shots of its photograph; NaN where none was tracked."""
    neutral = np.full_like(samples.landmarks_cm, np.nan)
    at_rest = (samples.intensities < 1e-3).all(1)
    for file in np.unique(files):
        own = files == file
        if (own & at_rest).any():
            neutral[own] = samples.landmarks_cm[own & at_rest].mean(0)
    return neutral


def _usable(pictures: Stills, rig: LandmarkRig) -> Stills:
    """Faces large enough, turned to the camera and nearly neutral: only then is what is commanded what is seen."""
    span = np.ptp(pictures.landmarks_px[:, :, 1], axis=1)
    turned = np.array([abs(a[0]) for a in aligned_samples(pictures.landmarks_px, None, None, rig).head_rad])
    pictures = pictures.take((span > _MIN_FACE_PX) & (turned < _MAX_YAW_RAD))
    fits = [
        rig.fit(landmarks) for landmarks in progress(pictures.landmarks_px, description="looking for neutral faces")
    ]
    acting = [i for i, name in enumerate(rig.actions) if name.split("_")[0] in _ACTING]
    neutral = np.array(
        [
            fit.weights[acting].max() < _NEUTRAL_WEIGHT
            and rig.lips_part(fit.weights) < _NEUTRAL_LIPS
            and fit.residual < _FACE_RESIDUAL
            for fit in fits
        ]
    )
    return pictures.take(neutral)


def _open(config: PhotosConfig, pictures: Stills, i: int, rig: LandmarkRig) -> AnimatedPhoto:
    path = config.faces_dir / str(pictures.files[i])
    if config.motion == "plain":
        from trainer.plain_warp import PlainWarp

        return PlainWarp(read_rgb(path), pictures.landmarks_px[i], rig)
    from puppet.puppet import Puppet

    return Puppet.load(path, read_actions=None)
