"""Shards: tar files of training examples, written by `prepare` and read as a stream.

A shard is a WebDataset tar. An example is two members with one key: `<number>-<region>.json` (version, person) and
`<number>-<region>.npz` (the arrays of `Example`). `train/` and `held-out/` hold different people. Older shards, one
npz a file with people mixed, can still be read.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from puppet import facs
from puppet.errors import InputError
from puppet.generate.region import ACTION_COUNT
from trainer.disk import written_whole
from trainer.split import is_held_out

VERSION = 2
TRAIN, HELD_OUT = "train", "held-out"
_OLD_VERSION = 1
_PLANES = ("moved", "rest", "answer", "actions")


@dataclass(frozen=True)
class WayBack:
    """How a face that was moved to sampled actions goes back to its own: the second half of a cycle.

    `moved` `(h, w, 5)` uint8 is the picture on the way back, of which the opening's colours are used; `shown`
    `(h, w, 2)` float16 px says which place of the first crop every pixel shows; `rest_shown` `(2, 3)` float32 leads
    from the way back's crop to the first one, and `rest_mask` `(h, w)` uint8 is the opening before it goes back;
    `actions` `(ACTION_COUNT,)` are the picture's own.
    """

    moved: np.ndarray
    shown: np.ndarray
    rest_shown: np.ndarray
    rest_mask: np.ndarray
    actions: np.ndarray


@dataclass(frozen=True)
class Example:
    """One frame of one region, or two neighbouring ones: `moved` `(n, h, w, 5)`, `rest` `(n, h, w, 4)`, `answer`
    `(n, h, w, 3)` uint8 and `actions` `(n, ACTION_COUNT)` float32, as in `trainer.texture_pairs.Sample`.

    With a `back` the example is unpaired: no one knows how `moved` should look, and `answer` is the picture itself,
    which the way back should give. Newer shards are held out by their folder, older ones by the person's name.
    """

    region: str
    person: str
    moved: np.ndarray
    rest: np.ndarray
    answer: np.ndarray
    actions: np.ndarray
    back: WayBack | None = None
    is_held_out: bool = False

    @property
    def nbytes(self) -> int:
        own = self.moved.nbytes + self.rest.nbytes + self.answer.nbytes + self.actions.nbytes
        return own + (sum(v.nbytes for v in vars(self.back).values()) if self.back is not None else 0)


def write_shard(path: Path, examples: Iterable[Example]) -> int:
    """Write a shard whole or not at all; the number of examples. The same examples give the same bytes.

    Raises:
        DiskError: the disk is full.
    """
    from webdataset import TarWriter

    count = 0
    with written_whole(path) as part, open(part, "wb") as file:
        writer = TarWriter(file, mtime=0, encoder=False)
        for count, example in enumerate(examples, 1):
            arrays = {name: getattr(example, name) for name in _PLANES}
            if example.back is not None:
                arrays |= {f"back_{name}": value for name, value in vars(example.back).items()}
            packed = io.BytesIO()
            np.savez_compressed(packed, **arrays)
            about = {"version": VERSION, "person": example.person}
            key = f"{count:06d}-{example.region}"
            writer.write({"__key__": key, "json": json.dumps(about).encode(), "npz": packed.getvalue()})
        writer.close()
    return count


def find_shards(folder: Path) -> list[Path]:
    """All shards of a folder, in order.

    Raises:
        InputError: there is none, or they are of another version.
    """
    paths = sorted(folder.glob(f"{TRAIN}/*.tar")) + sorted(folder.glob(f"{HELD_OUT}/*.tar"))
    paths += sorted(folder.glob("*.npz"))
    if not paths:
        found = "the folder does not exist" if not folder.is_dir() else f"{len(list(folder.iterdir()))} other files"
        raise InputError(
            f"no shards in {folder} ({found}): expected {TRAIN}/*.tar. Make them with `python -m trainer prepare`."
        )
    check_index(folder)
    return paths


def check_index(folder: Path, *, for_writing: bool = False) -> None:
    """Compare a folder's index with what this program writes and reads; written where there is none.

    Raises:
        InputError: shards of another version or another table of actions.
    """
    path = folder / "index.json"
    expected = {"version": VERSION, "names": list(facs.NAMES)}
    if not path.is_file():
        if for_writing:
            with written_whole(path) as part:
                part.write_text(json.dumps(expected))
        return
    try:
        index = json.loads(path.read_text())
        version, names = index["version"], index["names"]
    except (ValueError, KeyError, TypeError) as exc:
        raise InputError(f"{path} can't be read ({exc}): delete {folder} and run `python -m trainer prepare`.") from exc
    readable = (VERSION,) if for_writing else (VERSION, _OLD_VERSION)
    if version not in readable or names != expected["names"]:
        why = f"version {version}" if version not in readable else "another table of actions"
        raise InputError(
            f"{folder} holds shards of another version: expected {VERSION} and today's table of actions, found {why}. "
            "Make them anew with `python -m trainer prepare --output` and another folder."
        )


def read_shard(path: Path, region: str) -> Iterator[Example]:
    """The examples of one region in a shard, one after the other.

    Raises:
        InputError: it is damaged or of another version.
    """
    try:
        yield from _read_old(path, region) if path.suffix == ".npz" else _read_tar(path, region)
    except (OSError, ValueError, KeyError, BadZipFile, tarfile.TarError, EOFError) as exc:
        if isinstance(exc, InputError):
            raise
        raise InputError(f"{path} can't be read ({exc}): delete it and run `python -m trainer prepare` again.") from exc


def _read_tar(path: Path, region: str) -> Iterator[Example]:
    from webdataset.tariterators import group_by_keys, tar_file_expander

    with open(path, "rb") as file:
        members = tar_file_expander([{"url": str(path), "stream": file}], select_files=lambda n: f"-{region}." in n)
        for sample in group_by_keys(members):
            about = json.loads(sample["json"])
            if about["version"] != VERSION:
                raise InputError(
                    f"{path} is a shard of version {about['version']}: expected {VERSION}. Delete it and run "
                    "`python -m trainer prepare` again."
                )
            with np.load(io.BytesIO(sample["npz"])) as arrays:
                planes = {name: arrays[name] for name in _PLANES}
                back = {n.removeprefix("back_"): arrays[n] for n in arrays.files if n.startswith("back_")}
            _check_actions(path, planes["actions"])
            yield Example(
                region,
                about["person"],
                **planes,
                back=WayBack(**back) if back else None,
                is_held_out=path.parent.name == HELD_OUT,
            )


def _read_old(path: Path, region: str) -> Iterator[Example]:
    with np.load(path) as file:
        if f"{region}.moved" not in file:
            return
        arrays = {name: file[f"{region}.{name}"] for name in (*_PLANES, "person", "has_next")}
    _check_actions(path, arrays["actions"])
    has_next, person = arrays["has_next"], arrays["person"]
    # Both eyes of one frame lie side by side: the next frame's same eye is two further on.
    step = 1 if region == "mouth" else 2
    is_taken = np.zeros(len(person), bool)
    for n in range(len(person)):
        if is_taken[n]:
            continue
        both = [n]
        if has_next[n] and n + step < len(person) and person[n] == person[n + step] and not is_taken[n + step]:
            both.append(n + step)
        is_taken[both] = True
        planes = {name: arrays[name][both] for name in _PLANES}
        yield Example(region, str(person[n]), **planes, is_held_out=is_held_out(str(person[n])))


def _check_actions(path: Path, actions: np.ndarray) -> None:
    if actions.ndim != 2 or actions.shape[1] != ACTION_COUNT:
        raise InputError(
            f"{path} is a shard of another version: actions of shape {actions.shape}, expected (n, {ACTION_COUNT}). "
            "Delete it and run `python -m trainer prepare` again."
        )


def shards_of(paths: Sequence[Path], *, rank: int, world_size: int) -> list[Path]:
    """The shards that one process of several reads; where they are too few for all, every process reads all."""
    return list(paths[rank::world_size]) if len(paths) >= world_size else list(paths)
