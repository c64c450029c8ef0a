"""`python -m trainer prepare`. Faces to shards of training examples for the texture networks.

A shard is one npz file: for each region the planes of `trainer.texture_pairs.Sample`, the person, and whether the next
example is the next frame of the same clip. Shards that exist are kept, so that an interrupted run goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from rich.progress import Progress

from puppet import facs
from puppet.errors import InputError, PuppetError
from puppet.estimate import AuEstimator
from puppet.generate.mouth import MouthPictures
from puppet.generate.region import SHAPES
from puppet.landmarks import STIFF
from puppet.rig import LandmarkRig
from puppet.track import Face
from trainer.texture_pairs import Sample, Toolbox, follow, identity, reopen, resting
from trainer.tracking import Clip, Stills, clip, manifest, person_of, read_rgb, stills

log = logging.getLogger(__name__)

VERSION = 1
_OPEN_MOUTH = 0.12  # inner lips this far apart, in mouth widths: teeth may show
_MOST_OF_A_PERSON = 4  # stills of one person up to here are taken as one sitting
_STILLS_PER_SHARD = 20
_FRAME_REACH, _FRAME_PX = 2.8, 600  # a clip is cut to this many face heights and scaled to this size
_EYES_OF_STILLS = 3  # every so many stills give their (unmoved) eyes
_BY_ACTIONS = 3  # every so many pairs of a clip's frames are driven as in live use, the others by their landmarks
_SITTINGS = "caltech-faces"
_FIRST_OF_SITTING = (
    1, 22, 42, 47, 69, 90, 113, 133, 138, 159, 164, 169, 174, 194, 215, 240, 262, 267, 286, 306, 326, 346, 366, 388,
    389, 390, 391, 393, 398, 418,
)  # fmt: skip
"""Numbers of the Caltech snapshots with which another person begins, as seen by eye."""
_LEAST_SITTING, _SHOWN_OF_SITTING = 4, 8
_UNLIKE_LIGHT, _LEAST_DETAIL = 0.4, 0.6


@dataclass(frozen=True)
class PrepareConfig:
    """Make training examples for the texture networks."""

    faces_dir: Path = Path("../shared/faces")
    """Folder with manifest.csv; its rows of use `train` are taken."""
    cache_dir: Path = Path("data")
    """Where tracked landmarks are kept."""
    output: Path = Path("data/texture")
    """Folder of shards."""
    kinds: tuple[Literal["pairs", "clips", "stills", "sittings"], ...] = ("pairs", "clips", "stills", "sittings")
    """Stills of one person shown to each other, clips, stills closed and reopened, snapshots in changing light."""
    stills: int = 400
    """Stills with an open mouth to close and reopen, at most."""
    portraits: int = 2
    """Frames of a clip that serve as portraits."""
    targets: int = 120
    """Frames of a clip shown to each portrait, in neighbouring pairs."""
    seed: int = 0
    """Seeds the choice of stills and frames."""
    dry_run: bool = False
    """Print what would be done and stop."""


@dataclass(frozen=True)
class _Job:
    name: str
    samples: Callable[[np.random.Generator], Iterator[tuple[str, str, bool, Sample]]]  # region, person, has_next


class _Maker:
    """Makes samples; holds what is loaded once."""

    def __init__(self, config: PrepareConfig) -> None:
        self.config = config
        self.tools = Toolbox(LandmarkRig.load(), MouthPictures.load())
        self._estimator = AuEstimator()

    def read(self, landmarks_px: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """`(SIZE,)` actions that a face shows; head and gaze at rest."""
        control = facs.rest()
        control[: facs.INTENSITY_COUNT] = self._estimator.estimate(Face(landmarks_px, size)).control[
            : facs.INTENSITY_COUNT
        ]
        return control

    def of_pairs(self, pictures: Stills, chosen: np.ndarray) -> Iterator[tuple[str, str, bool, Sample]]:
        """Every still of a person shown to every other one of the same person."""
        rgb = [read_rgb(self.config.faces_dir / str(pictures.files[i])) for i in chosen]
        points = [pictures.landmarks_px[i] for i in chosen]
        controls = [self.read(p, (c.shape[1], c.shape[0])) for p, c in zip(points, rgb, strict=True)]
        person = str(pictures.persons[chosen[0]])
        for a in range(len(chosen)):
            generator = self.tools.generator(rgb[a], points[a])
            generator.set_baseline(controls[a])
            yield from _flat(identity(generator, controls[a]), person)
            for b in range(len(chosen)):
                if a != b and rgb[a].shape == rgb[b].shape:
                    yield from _flat(follow(generator, rgb[b], points[b], controls[b], self.tools), person)

    def of_stills(
        self, pictures: Stills, chosen: np.ndarray, rng: np.random.Generator
    ) -> Iterator[tuple[str, str, bool, Sample]]:
        """Open mouths, closed and reopened."""
        for n, i in enumerate(chosen):
            rgb, points = read_rgb(self.config.faces_dir / str(pictures.files[i])), pictures.landmarks_px[i]
            control = self.read(points, (rgb.shape[1], rgb.shape[0]))
            made = reopen(rgb, points, control, float(rng.uniform(0, 0.7)), self.tools)
            if n % _EYES_OF_STILLS:
                made.pop("eye", None)
            yield from _flat(made, str(pictures.persons[i]))

    def of_clip(self, path: Path, person: str, rng: np.random.Generator) -> Iterator[tuple[str, str, bool, Sample]]:
        """Frames of a clip shown to a few of its frames."""
        tracked = clip(path, self.config.cache_dir)
        matrix, numbers, points = place_face(tracked, path)
        frames = list(cut_frames(path, matrix, numbers).values())
        points = points[: len(frames)]
        for first in _portraits(points, self.config.portraits, rng):
            size = (_FRAME_PX, _FRAME_PX)
            generator = self.tools.generator(frames[first], points[first])
            control = self.read(points[first], size)
            generator.set_baseline(control)
            rest = resting(generator)
            yield from _flat(identity(generator, control), person)
            targets = _targets(points, first, self.config.targets // 2, rng)
            for n, t in enumerate(targets):
                for k in (t, t + 1):
                    seen = self.read(points[k], size)
                    made = follow(
                        generator,
                        frames[k],
                        points[k],
                        seen,
                        self.tools,
                        rest=rest,
                        by_actions=n % _BY_ACTIONS == 0,
                    )
                    yield from _flat(made, person, has_next=k == t)

    def of_sitting(self, pictures: Stills, person: str) -> Iterator[tuple[str, str, bool, Sample]]:
        """Snapshots of one person in changing light: the most neutral and the most smiling shown the most unlike."""
        rgb = [read_rgb(self.config.faces_dir / str(file)) for file in pictures.files]
        clear = _clear(rgb, pictures.landmarks_px)
        eyes, mouth = openness(pictures.landmarks_px)
        eyes = eyes / np.median(eyes)
        neutral = int(np.argmin(np.abs(eyes - 1) + 2 * mouth + 9 * ~clear))
        smiling = int(np.argmax(np.where(clear & (eyes > 0.9), mouth, -1)))
        for first in dict.fromkeys((neutral, smiling)):
            unlike = np.abs(eyes - eyes[first]) + 2 * np.abs(mouth - mouth[first]) - 9 * ~clear
            size, own = rgb[first].shape[1::-1], pictures.landmarks_px[first]
            generator = self.tools.generator(rgb[first], own)
            generator.set_baseline(self.read(own, size))
            rest = resting(generator)
            for k in np.argsort(-unlike)[:_SHOWN_OF_SITTING]:
                if k != first and clear[k]:
                    other, points = _onto(rgb[k], pictures.landmarks_px[k], own, size)
                    seen = self.read(points, size)
                    made = follow(generator, other, points, seen, self.tools, rest=rest, is_relit=True)
                    yield from _flat(made, person)


def prepare(config: PrepareConfig) -> None:
    """Write the shards that are missing and an index of all.

    Raises:
        InputError: no faces, or shards of another version in the output folder.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    _check_version(config)
    maker = _Maker(config)
    prefixes = tuple(kind.removesuffix("s") for kind in config.kinds)
    jobs = [job for job in _jobs(config, maker) if job.name.startswith(prefixes)]
    if config.dry_run:
        print(f"would write {len(jobs)} shards into {config.output}")
        return
    with Progress() as bar:
        task = bar.add_task("preparing", total=len(jobs))
        for job in jobs:
            path = config.output / f"{job.name}.npz"
            if not path.is_file():
                seed = int.from_bytes(hashlib.sha256(f"{config.seed}:{job.name}".encode()).digest()[:4], "big")
                try:
                    _write(path, job.samples(np.random.default_rng(seed)))
                except PuppetError as exc:
                    log.warning("left out %s: %s", job.name, exc)
            bar.advance(task)


def _jobs(config: PrepareConfig, maker: _Maker) -> Iterator[_Job]:
    rng = np.random.default_rng(config.seed)
    rows = [r for r in manifest(config.faces_dir) if r["use"] == "train"]
    pictures = stills(config.faces_dir, config.cache_dir)
    together = [np.flatnonzero(pictures.persons == p) for p in np.unique(pictures.persons)]
    together = [t for t in together if 1 < len(t) <= _MOST_OF_A_PERSON]
    for n in range(0, len(together), _STILLS_PER_SHARD):
        block = together[n : n + _STILLS_PER_SHARD]
        yield _Job(
            f"pairs-{n:05d}", lambda _, block=block: (s for chosen in block for s in maker.of_pairs(pictures, chosen))
        )
    for row in rows:
        if row["kind"] == "clip":
            path = config.faces_dir / row["file"]
            yield _Job(f"clip-{path.stem}", lambda r, path=path, row=row: maker.of_clip(path, person_of(row), r))
    for person, chosen in _sittings(pictures):
        yield _Job(
            f"sitting-{person}",
            lambda _, person=person, chosen=chosen: maker.of_sitting(pictures.take(chosen), f"caltech:{person}"),
        )
    inner = np.linalg.norm(pictures.landmarks_px[:, 13] - pictures.landmarks_px[:, 14], axis=1)
    wide = np.linalg.norm(pictures.landmarks_px[:, 78] - pictures.landmarks_px[:, 308], axis=1)
    opened = rng.permutation(np.flatnonzero(inner > _OPEN_MOUTH * wide))[: config.stills]
    for n in range(0, len(opened), _STILLS_PER_SHARD):
        block = opened[n : n + _STILLS_PER_SHARD]
        yield _Job(f"stills-{n:05d}", lambda r, block=block: maker.of_stills(pictures, block, r))


def _sittings(pictures: Stills) -> Iterator[tuple[str, np.ndarray]]:
    """Name and places of the snapshots of each person of the Caltech set with enough of them."""
    places = [i for i, file in enumerate(pictures.files) if _SITTINGS in str(file)]
    numbers = np.array([int(re.search(r"(\d+)\D*$", str(pictures.files[i])).group(1)) for i in places])
    for first, after in pairwise((*_FIRST_OF_SITTING, 10**6)):
        chosen = np.array(places, int)[(numbers >= first) & (numbers < after)]
        if len(chosen) >= _LEAST_SITTING:
            yield f"{first:04d}", chosen


def _clear(rgb: list[np.ndarray], landmarks_px: np.ndarray) -> np.ndarray:
    """`(N,)` bool: neither much darker or brighter nor much more blurred than the person's other snapshots."""
    light, detail = [], []
    for picture, points in zip(rgb, landmarks_px, strict=True):
        low, high = np.maximum(points[:, :2].min(0), 0).astype(int), points[:, :2].max(0).astype(int)
        face = cv2.resize(picture[low[1] : high[1], low[0] : high[0]], (128, 160), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
        light.append(grey.mean())
        detail.append(cv2.Laplacian(grey, -1).std() / grey.mean())
    light, detail = (np.array(v) / np.median(v) for v in (light, detail))
    return (np.abs(np.log(light)) < _UNLIKE_LIGHT) & (detail > _LEAST_DETAIL)


def _onto(
    rgb: np.ndarray, landmarks_px: np.ndarray, wanted_px: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its landmarks, shifted, turned and scaled so that the stiff landmarks fall on others."""
    stiff = list(STIFF)
    matrix, _ = cv2.estimateAffinePartial2D(landmarks_px[stiff, :2], wanted_px[stiff, :2], method=cv2.LMEDS)
    moved = landmarks_px * np.float32(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    moved[:, :2] = landmarks_px[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    drawn = cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return drawn, moved.astype(np.float32)


def _flat(made: dict[str, list[Sample]], person: str, *, has_next: bool = False):
    for region, samples in made.items():
        for sample in samples:
            yield region, person, has_next, sample


def _write(path: Path, samples: Iterator[tuple[str, str, bool, Sample]]) -> None:
    """Gather by region and write whole or not at all."""
    gathered: dict[str, list[tuple[str, bool, Sample]]] = {name: [] for name in SHAPES}
    for region, person, has_next, sample in samples:
        gathered[region].append((person, has_next, sample))
    arrays: dict[str, np.ndarray] = {}
    for region, rows in gathered.items():
        if not rows:
            continue
        for name in ("moved", "rest", "answer", "actions"):
            arrays[f"{region}.{name}"] = np.stack([getattr(s, name) for _, _, s in rows])
        arrays[f"{region}.person"] = np.array([p for p, _, _ in rows])
        # Both eyes of one frame lie side by side: the next frame's same eye is two further on.
        arrays[f"{region}.has_next"] = np.array([h for _, h, _ in rows])
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        np.savez_compressed(file, **arrays)
    part.replace(path)


def _check_version(config: PrepareConfig) -> None:
    path = config.output / "index.json"
    index = {"version": VERSION, "names": list(facs.NAMES)}
    if not path.is_file():
        path.write_text(json.dumps(index))
    elif json.loads(path.read_text()) != index:
        raise InputError(
            f"{config.output} holds shards of another version: expected {VERSION} and today's control table. "
            "Delete the folder or give another with --output."
        )


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
    zoom = _FRAME_PX / (2 * half)
    matrix = np.array([[zoom, 0, -(centre[0] - half) * zoom], [0, zoom, -(centre[1] - half) * zoom]])
    moved = points[known] * zoom
    moved[..., :2] += matrix[:, 2]
    return matrix, known, moved.astype(np.float32)


def cut_frames(path: Path, matrix: np.ndarray, wanted: np.ndarray) -> dict[int, np.ndarray]:
    """Frames `wanted` of a clip, cut by `matrix` (see `place_face`), RGB."""
    zoom, chosen, out = matrix[0, 0], {int(i) for i in wanted}, {}
    video = cv2.VideoCapture(str(path))
    for index in range(max(chosen) + 1):
        if not video.grab():
            break
        if index in chosen:
            bgr = video.retrieve()[1]
            if zoom < 0.6:  # cv2.warpAffine does not filter when shrinking
                bgr = cv2.GaussianBlur(bgr, (0, 0), 0.4 / zoom)
            bgr = cv2.warpAffine(bgr, matrix, (_FRAME_PX, _FRAME_PX), borderMode=cv2.BORDER_REPLICATE)
            out[index] = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    video.release()
    return out


def openness(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eyes' height by width and the inner mouth's by width, `(F,)` each."""

    def span(a: int, b: int) -> np.ndarray:
        return np.linalg.norm(points[:, a, :2] - points[:, b, :2], axis=1)

    eyes = (span(159, 145) / span(33, 133) + span(386, 374) / span(263, 362)) / 2
    return eyes, span(13, 14) / span(78, 308)


def _portraits(points: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """The most neutral frame, then others with open eyes."""
    eyes, mouth = openness(points)
    turned = np.linalg.norm(points[:, 1, :2] - points[:, [33, 263], :2].mean(1), axis=1)
    unlike = np.abs(eyes - np.median(eyes)) / np.median(eyes) + 2 * mouth
    unlike += np.abs(turned - np.median(turned)) / np.median(turned)
    awake = np.flatnonzero(eyes > 0.85 * np.median(eyes))
    return [int(np.argmin(unlike)), *(int(i) for i in rng.choice(awake, count - 1))]


def _targets(points: np.ndarray, first: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Frames with a next one: a third with closing eyes, a third with open mouths, the rest any."""
    eyes, mouth = openness(points)
    usable = np.arange(len(points) - 1)
    usable = usable[usable != first]
    share = count // 3
    shut = usable[eyes[usable] < 0.7 * np.median(eyes)]
    wide = usable[mouth[usable] > max(0.08, float(np.percentile(mouth, 70)))]
    picked = [rng.permutation(group)[:share] for group in (shut, wide)]
    rest = rng.permutation(np.setdiff1d(usable, np.concatenate(picked)))[: count - sum(map(len, picked))]
    return np.sort(np.concatenate([*picked, rest]))
