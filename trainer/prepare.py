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

import numpy as np
from rich.progress import Progress

from puppet.errors import InputError, PuppetError
from puppet.generate.region import PACKAGED
from trainer.disk import DiskError
from trainer.example_maker import ExampleMaker
from trainer.faces_folder import FaceFile, find_faces
from trainer.split import is_held_out
from trainer.texture_shards import HELD_OUT, TRAIN, Example, check_index, write_shard

log = logging.getLogger(__name__)

MOST_OF_A_PERSON = 4  # stills of one person up to here are taken as one sitting
_STILLS_PER_SHARD = 20
_STILLS_PER_NIGHT = 60  # stills that lend each other their eyes


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
    maker = ExampleMaker(cache_dir=config.cache_dir, regions=config.regions)
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
    def shown(file: FaceFile, rng: np.random.Generator) -> Iterator[Example]:
        return maker.of_clip(file, rng, portraits=config.portraits, targets=config.targets)

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
                    yield _Job(name, (file,), lambda r, file=file: shown(file, r))
        own = [file for file in mixed if is_held_out(file.person) == is_wanted]
        has_sleepers = "sleepers" in config.kinds and "eye" in config.regions
        for n in range(0, len(own) if has_sleepers else 0, _STILLS_PER_NIGHT):
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
