"""`python -m trainer prepare`. Faces to shards of training examples for the texture networks.

See `trainer.texture_shards` for the format. Shards that exist are kept, so that an interrupted run goes on; each shard
draws its random numbers from its own name, so that it does not matter where it was interrupted.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from rich.progress import Progress

from puppet import facs
from puppet.errors import InputError, PuppetError
from puppet.generate.mouth import MouthPictures
from puppet.generate.region import PACKAGED, REGION_OF
from puppet.landmarks import STIFF
from puppet.rig import LandmarkRig
from trainer.closed_eyes import CLOSED, WIDE, awaken, shut_control, unlike_light
from trainer.disk import DiskError
from trainer.face_sources import FaceReader, TrackedStill
from trainer.faces_folder import FaceFile, find_faces
from trainer.readings import ActionReader
from trainer.split import is_held_out
from trainer.texture_pairs import Sample, Toolbox, follow, identity, reopen, resting, there_and_back
from trainer.texture_shards import HELD_OUT, TRAIN, Example, check_index, write_shard
from trainer.tracking import Clip, frames_at

log = logging.getLogger(__name__)

_OPEN_MOUTH = 0.12  # inner lips this far apart, in mouth widths: teeth may show
MOST_OF_A_PERSON = 4  # stills of one person up to here are taken as one sitting
_STILLS_PER_SHARD = 20
_FRAME_REACH, _FRAME_PX = 2.8, 600  # a clip is cut to this many face heights and scaled to this size
_EYES_OF_STILLS = 3  # every so many stills give their (unmoved) eyes
_BY_ACTIONS = 3  # every so many pairs of a clip's frames are driven as in live use, the others by their landmarks
_SHOWN_OF_SITTING = 8
_DONORS = 9  # other people's eyes that are tried in a face whose own are shut
_LOOKED_AT = 3  # of them, of which the one in the most similar light lends its eyes
_STILLS_PER_NIGHT = 60  # stills that lend each other their eyes
_UNLIKE_LIGHT, _LEAST_DETAIL = 0.4, 0.6
_CLOSED_LIDS = 0.3  # share of sampled actions with closing lids, which stills hardly ever show


@dataclass(frozen=True)
class PrepareConfig:
    """Make training examples for the texture networks from any folder of pictures and videos of faces."""

    faces_dir: Path = Path("../shared/faces")
    """Folder of pictures and videos: a sub-folder is a person; files beside each other are told apart by their names
    (`anna-2.mp4` is anna). With a manifest.csv (file, use, kind, person) its rows of use `train` are taken instead."""
    cache_dir: Path = Path("data")
    """Where tracked landmarks of clips are kept."""
    output: Path = Path("data/texture")
    """Folder of shards: train/ and held-out/ hold different people."""
    kinds: tuple[Literal["pairs", "sittings", "clips", "stills", "sleepers", "unpaired"], ...] = (
        "pairs",
        "sittings",
        "clips",
        "stills",
        "sleepers",
    )
    """Two to four stills of one person shown to each other; more of them, in changing light; clips; stills whose mouth
    is closed and reopened; stills whose shut eyes are opened and shut again; stills moved to another's actions and
    back, which only a cycle and a critic can learn from (`generator --unpaired`)."""
    regions: tuple[Literal["mouth", "eye", "face"], ...] = PACKAGED
    """What is cut out; `face` is the whole of it at a lower resolution, to compare with."""
    stills: int = 1200
    """Stills that are looked through for open mouths (about a third have one) and shut eyes (one in seventy), and for
    `unpaired`, at most."""
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
    name: str  # of the shard, with its folder
    files: tuple[FaceFile, ...]
    examples: Callable[[np.random.Generator], Iterator[Example]]


class ExampleMaker:
    """Makes examples; holds what is loaded once."""

    def __init__(self, config: PrepareConfig, *, pictures: MouthPictures | None = None) -> None:
        """`pictures` are the teeth that the motion step draws, None the packaged ones."""
        self.config = config
        self.tools = Toolbox(LandmarkRig.load(), pictures or MouthPictures.load(), config.regions)
        self.reader = FaceReader(config.cache_dir)
        self.left_out: list[tuple[Path, str]] = []
        self.actions = ActionReader()

    def of_pairs(self, files: tuple[FaceFile, ...]) -> Iterator[Example]:
        """Every still of a person shown to every other one of the same person."""
        stills = self._stills(files)
        for person in dict.fromkeys(still.person for still in stills):
            own = [still for still in stills if still.person == person]
            controls = [self.actions.still(still.landmarks_px, still.size) for still in own]
            for a, portrait in enumerate(own if len(own) > 1 else []):
                generator = self.tools.generator(portrait.rgb, portrait.landmarks_px)
                generator.set_baseline(controls[a])
                yield from _examples(person, identity(generator, controls[a], self.tools))
                for b, other in enumerate(own):
                    if a != b and portrait.rgb.shape == other.rgb.shape:
                        made = follow(generator, other.rgb, other.landmarks_px, controls[b], self.tools)
                        yield from _examples(person, made)

    def of_stills(self, files: tuple[FaceFile, ...], rng: np.random.Generator) -> Iterator[Example]:
        """Open mouths, closed and reopened."""
        for n, still in enumerate(self._stills(files)):
            relax = float(rng.uniform(0, 0.7))
            if openness(still.landmarks_px[None])[1][0] < _OPEN_MOUTH:
                continue
            control = self.actions.still(still.landmarks_px, still.size)
            made = reopen(still.rgb, still.landmarks_px, control, relax, self.tools)
            if n % _EYES_OF_STILLS:
                made = {slit: sample for slit, sample in made.items() if slit not in ("R", "L")}
            yield from _examples(still.person, made)

    def of_sleepers(self, files: tuple[FaceFile, ...], rng: np.random.Generator) -> Iterator[Example]:
        """Shut eyes, opened with the eyes of others and shut again, as lids by actions and as by landmarks."""
        stills = self._stills(files)
        if not stills:
            return
        eyes, _ = openness(np.stack([still.landmarks_px for still in stills]))
        donors = [still for still, height in zip(stills, eyes, strict=True) if WIDE[0] < height < WIDE[1]]
        for still, height in zip(stills, eyes, strict=True):
            if height > CLOSED or not donors:
                continue
            read = self.actions.still(still.landmarks_px, still.size)
            for n in range(_DONORS):
                some = [donors[k] for k in rng.integers(len(donors), size=_LOOKED_AT)]
                donor = min(some, key=lambda one: unlike_light(still, one))
                awake = awaken(still, donor, self.tools)
                generator = self.tools.generator(awake.rgb, awake.landmarks_px)
                control = shut_control(read, still.landmarks_px, awake.landmarks_px)
                generator.set_baseline(shut_control(read, awake.landmarks_px, awake.landmarks_px))
                by_actions = n % _BY_ACTIONS > 0
                made = follow(generator, still.rgb, still.landmarks_px, control, self.tools, by_actions=by_actions)
                made = {slit: sample for slit, sample in made.items() if REGION_OF[slit] == "eye"}
                if made:
                    yield from _examples(still.person, made)

    def of_unpaired(self, files: tuple[FaceFile, ...], rng: np.random.Generator) -> Iterator[Example]:
        """Stills that do what another one shows, and their way back."""
        stills = self._stills(files)
        controls = [self.actions.still(still.landmarks_px, still.size) for still in stills]
        for still, own, n in zip(stills, controls, rng.permutation(len(stills)), strict=True):
            sampled = own + (controls[n] - own) * np.float32(rng.uniform(0.5, 1.0))
            if rng.random() < _CLOSED_LIDS:
                sampled[list(facs.columns_of("AU45"))] = rng.uniform(2, 5)
            made = there_and_back(still.rgb, still.landmarks_px, own, sampled, self.tools)
            for slit, (sample, back) in made.items():
                planes = {name: value[None] for name, value in vars(sample).items()}
                yield Example(REGION_OF[slit], still.person, **planes, back=back)

    def of_clip(
        self,
        file: FaceFile,
        rng: np.random.Generator,
        *,
        part: tuple[float, float] = (0.0, 1.0),
        portrait: TrackedStill | None = None,
    ) -> Iterator[Example]:
        """Frames of a clip shown to a few of its frames, and to a portrait if one is given.

        `part` is the share of the clip, in time, that is used.
        """
        tracked = self.reader.clip(file)
        matrix, numbers, points = place_face(tracked, file.path)
        first, last = (round(share * len(points)) for share in part)
        numbers, points = numbers[first:last], points[first:last]
        portraits = _portraits(points, self.config.portraits, rng)
        targets = [_targets(points, p, self.config.targets // 2, rng) for p in portraits]
        wanted = np.unique(np.concatenate([portraits, *targets, *(t + 1 for t in targets)]).astype(int))
        found = cut_frames(file.path, matrix, numbers[wanted])
        frames = {n: found[numbers[n]] for n in wanted if numbers[n] in found}
        actions = self.actions.clip(points, (_FRAME_PX, _FRAME_PX))
        shown = [(frames[p], points[p], t) for p, t in zip(portraits, targets, strict=True) if p in frames]
        if portrait is not None:
            shown.append((portrait.rgb, portrait.landmarks_px, np.unique(np.concatenate(targets))))
        for rgb, landmarks_px, own_targets in shown:
            generator = self.tools.generator(rgb, landmarks_px)
            control = self.actions.still(landmarks_px, (rgb.shape[1], rgb.shape[0]))
            generator.set_baseline(control)
            rest = resting(generator)
            yield from _examples(file.person, identity(generator, control, self.tools))
            for n, t in enumerate(own_targets):
                if t in frames and t + 1 in frames:
                    both = [
                        follow(
                            generator,
                            frames[k],
                            points[k],
                            actions[k],
                            self.tools,
                            rest=rest,
                            by_actions=n % _BY_ACTIONS == 0,
                        )
                        for k in (t, t + 1)
                    ]
                    yield from _examples(file.person, *both)

    def of_sitting(self, files: tuple[FaceFile, ...]) -> Iterator[Example]:
        """Snapshots of one person in changing light: the most neutral and the most smiling shown the most unlike."""
        stills = self._stills(files)
        if len(stills) < 2:
            return
        points = np.stack([still.landmarks_px for still in stills])
        clear = _clear([still.rgb for still in stills], points)
        eyes, mouth = openness(points)
        eyes = eyes / np.median(eyes)
        neutral = int(np.argmin(np.abs(eyes - 1) + 2 * mouth + 9 * ~clear))
        smiling = int(np.argmax(np.where(clear & (eyes > 0.9), mouth, -1)))
        for first in dict.fromkeys((neutral, smiling)):
            unlike = np.abs(eyes - eyes[first]) + 2 * np.abs(mouth - mouth[first]) - 9 * ~clear
            portrait = stills[first]
            generator = self.tools.generator(portrait.rgb, portrait.landmarks_px)
            generator.set_baseline(self.actions.still(portrait.landmarks_px, portrait.size))
            rest = resting(generator)
            for k in np.argsort(-unlike)[:_SHOWN_OF_SITTING]:
                if k != first and clear[k]:
                    other, moved = _onto(stills[k].rgb, points[k], points[first], portrait.size)
                    seen = self.actions.still(moved, portrait.size)
                    made = follow(generator, other, moved, seen, self.tools, rest=rest, is_relit=True)
                    yield from _examples(portrait.person, made)

    def _stills(self, files: tuple[FaceFile, ...]) -> list[TrackedStill]:
        out = []
        for file in files:
            try:
                out.append(self.reader.still(file))
            except PuppetError as exc:
                self.left_out.append((file.path, str(exc)))
        return out


def prepare(config: PrepareConfig) -> None:
    """Write the shards that are missing; files that can't be used are named in `left-out.csv` with the reason.

    Raises:
        InputError: no faces, nothing that can be used, shards of another version in the output folder, or a full disk.
    """
    files = find_faces(config.faces_dir)
    if config.dry_run:
        clips = sum(file.kind == "clip" for file in files)
        people = len({file.person for file in files})
        print(f"would make examples of {clips} clips and {len(files) - clips} stills of {people} people")
        return
    check_index(config.output, for_writing=True)
    maker = ExampleMaker(config)
    jobs = list(_jobs(config, files, maker))
    noted = _read_left_out(config.output)
    written = 0
    with Progress() as bar:
        task = bar.add_task("preparing", total=len(jobs))
        for job in jobs:
            path = config.output / f"{job.name}.tar"
            is_given_up = len(job.files) == 1 and str(job.files[0].path) in noted
            if not path.is_file() and not is_given_up:
                _make(job, path, config, maker)
            written += path.is_file()
            bar.advance(task)
    for path, reason in maker.left_out:
        log.warning("left out %s", reason if str(path) in reason else f"{path}: {reason}")
    _write_left_out(config.output, noted | {str(path): reason for path, reason in maker.left_out})
    if not written:
        raise InputError(
            f"nothing in {config.faces_dir} could be used: {config.output / 'left-out.csv'} says why of each file."
        )


def _make(job: _Job, path: Path, config: PrepareConfig, maker: ExampleMaker) -> None:
    seed = int.from_bytes(hashlib.sha256(f"{config.seed}:{job.name}".encode()).digest()[:4], "big")
    try:
        count = write_shard(path, job.examples(np.random.default_rng(seed)))
    except DiskError:
        raise
    except PuppetError as exc:
        maker.left_out.append((job.files[0].path, str(exc)))
        return
    if not count and len(job.files) == 1:
        path.unlink()
        maker.left_out.append((job.files[0].path, "no example came out: its faces fit no portrait of it"))


def _jobs(config: PrepareConfig, files: list[FaceFile], maker: ExampleMaker) -> Iterator[_Job]:
    rng = np.random.default_rng(config.seed)
    stills = [file for file in files if file.kind == "still"]
    people: dict[str, list[FaceFile]] = {}
    for file in stills:
        people.setdefault(file.person, []).append(file)
    sittings = [own for own in people.values() if 1 < len(own) <= MOST_OF_A_PERSON]
    lots = [own for own in people.values() if len(own) > MOST_OF_A_PERSON]
    mixed = [stills[i] for i in rng.permutation(len(stills))[: config.stills]]
    for folder, is_wanted in ((TRAIN, False), (HELD_OUT, True)):
        if "pairs" in config.kinds:
            blocks = [own for own in sittings if is_held_out(own[0].person) == is_wanted]
            for n in range(0, len(blocks), _STILLS_PER_SHARD // 2):
                block = tuple(file for own in blocks[n : n + _STILLS_PER_SHARD // 2] for file in own)
                yield _Job(f"{folder}/pairs-{n:05d}", block, lambda _, block=block: maker.of_pairs(block))
        if "sittings" in config.kinds:
            for own in lots:
                if is_held_out(own[0].person) == is_wanted:
                    name, block = _shard_name(own[0].path, config.faces_dir), tuple(own)
                    yield _Job(f"{folder}/sitting-{name}", block, lambda _, block=block: maker.of_sitting(block))
        if "clips" in config.kinds:
            for file in files:
                if file.kind == "clip" and is_held_out(file.person) == is_wanted:
                    name = f"{folder}/clip-{_shard_name(file.path, config.faces_dir)}"
                    yield _Job(name, (file,), lambda r, file=file: maker.of_clip(file, r))
        own = [file for file in mixed if is_held_out(file.person) == is_wanted]
        for n in range(0, len(own) if "sleepers" in config.kinds else 0, _STILLS_PER_NIGHT):
            block = tuple(own[n : n + _STILLS_PER_NIGHT])
            yield _Job(f"{folder}/sleepers-{n:05d}", block, lambda r, block=block: maker.of_sleepers(block, r))
        for n in range(0, len(own), _STILLS_PER_SHARD):
            block = tuple(own[n : n + _STILLS_PER_SHARD])
            if "stills" in config.kinds:
                yield _Job(f"{folder}/stills-{n:05d}", block, lambda r, block=block: maker.of_stills(block, r))
            if "unpaired" in config.kinds:
                yield _Job(f"{folder}/unpaired-{n:05d}", block, lambda r, block=block: maker.of_unpaired(block, r))


def _shard_name(path: Path, folder: Path) -> str:
    """A file's place in the folder as one name; a short hash keeps `a/b` and `a-b` apart."""
    place = path.relative_to(folder)
    name = re.sub(r"[^A-Za-z0-9]+", "-", str(place.with_suffix(""))).strip("-")[-60:]
    return f"{name}-{hashlib.sha256(place.as_posix().encode()).hexdigest()[:6]}"


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


def _examples(person: str, *made: dict[str, Sample]) -> Iterator[Example]:
    """One example a slit, of all frames that show it."""
    for slit in made[0]:
        samples = [frame[slit] for frame in made if slit in frame]
        planes = {name: np.stack([getattr(s, name) for s in samples]) for name in vars(samples[0])}
        yield Example(REGION_OF[slit], person, **planes)


def _read_left_out(folder: Path) -> dict[str, str]:
    path = folder / "left-out.csv"
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def _write_left_out(folder: Path, reasons: dict[str, str]) -> None:
    with open(folder / "left-out.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "reason"])
        writer.writerows(sorted(reasons.items()))


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
    zoom, out = matrix[0, 0], {}
    for index, rgb in frames_at(path, wanted):
        if zoom < 0.6:  # cv2.warpAffine does not filter when shrinking
            rgb = cv2.GaussianBlur(rgb, (0, 0), 0.4 / zoom)
        out[index] = cv2.warpAffine(rgb, matrix, (_FRAME_PX, _FRAME_PX), borderMode=cv2.BORDER_REPLICATE)
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
