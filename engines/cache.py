"""Compiled engines on disk: a blob and a JSON side-car each, named by everything that can make a blob wrong.

A library's own cache may leave the card, the driver, its version or the weights out of its key; ours has them all. An
entry counts only when the side-car is there, repeats the key and its checksum fits the blob, so a half-written, cut,
copied or edited entry is rebuilt, never run.

Entries of library versions, weights or portraits that are gone are never asked for again: what was not used for
`KEPT_UNUSED_DAYS` goes when the next one is written. A loaded engine does not need its entry any more.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)

FORMAT = 1
MAX_SIDE_CAR_BYTES = 1 << 20
KEPT_UNUSED_DAYS = 30


@dataclass(frozen=True)
class CacheKey:
    """What a compiled engine depends on."""

    model: str  # file name, for people
    model_sha256: str  # graph and weights
    backend: str
    device: str
    precision: str
    shapes: Mapping[str, tuple[int | None, ...]]
    threads: int
    fingerprint: Mapping[str, str]  # device name and capability, driver, library versions
    machine: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}")
    format: int = FORMAT

    def as_json(self) -> dict:
        """The key as JSON gives it back (tuples are lists)."""
        return json.loads(json.dumps(asdict(self)))

    @property
    def file_stem(self) -> str:
        digest = hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()
        return f"{Path(self.model).stem}-{self.backend}-{self.precision}-{digest[:20]}"


@dataclass(frozen=True)
class Entry:
    """One cached engine as `list` shows it."""

    path: Path  # of the side-car
    content: Mapping  # the side-car's JSON, empty where it is damaged
    size_bytes: int
    made_s: float  # Unix time
    used_s: float  # the same, when it was last loaded or else made

    @property
    def blob_path(self) -> Path:
        return self.path.with_suffix(".bin")


class EngineCache:
    """A folder of compiled engines. Several processes may use it at once: entries are replaced whole.

    A blob's file time says when it was last used, its side-car's when it was made.
    """

    def __init__(self, folder: str | Path | None = None):
        """`folder`: None is the user's cache folder of this system."""
        if folder is None:
            import platformdirs

            folder = Path(platformdirs.user_cache_dir("puppet", appauthor=False)) / "engines"
        self.folder = Path(folder)

    def get(self, key: CacheKey) -> tuple[bytes, Mapping] | None:
        """`(blob, record of its check)`; None where there is none, or (after one warning) where it is damaged."""
        side_car = self.folder / f"{key.file_stem}.json"
        try:
            content = _side_car(side_car)
            blob = side_car.with_suffix(".bin").read_bytes()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            return self._rebuild(side_car, f"unreadable: {exc}")
        if content.get("key") != key.as_json():
            return self._rebuild(side_car, "made for something else")
        if "refused" in content:
            return None
        if content.get("sha256") != hashlib.sha256(blob).hexdigest():
            return self._rebuild(side_car, "damaged: its checksum differs")
        with contextlib.suppress(OSError):  # a folder of another user's: read, and not ours to keep young
            os.utime(side_car.with_suffix(".bin"))
        return blob, content.get("check", {})

    def put(self, key: CacheKey, blob: bytes, check: Mapping) -> None:
        """Keep an engine that passed its check; where the folder can't be written, one warning and no entry."""
        self._write(key, blob, {"check": dict(check)})

    def _write(self, key: CacheKey, blob: bytes, more: Mapping) -> None:
        side_car = self.folder / f"{key.file_stem}.json"
        content = {"key": key.as_json(), "sha256": hashlib.sha256(blob).hexdigest(), **more}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # The side-car last: without it there is no entry.
            _replace(side_car.with_suffix(".bin"), blob)
            _replace(side_car, json.dumps(content, indent=1).encode())
        except OSError as exc:
            log.warning("engine cache %s can't be written (%s): engines are built at every start.", self.folder, exc)
            return
        self._remove_unused()

    def refusal(self, key: CacheKey) -> str | None:
        """Why an engine was refused here before, None where it was not."""
        try:
            content = _side_car(self.folder / f"{key.file_stem}.json")
        except (OSError, ValueError):
            return None
        return str(content["refused"]) if content.get("key") == key.as_json() and "refused" in content else None

    def put_refusal(self, key: CacheKey, reason: str) -> None:
        """Remember that an engine was refused, so that it is not built at every start."""
        self._write(key, b"", {"refused": reason})

    def drop(self, key: CacheKey) -> None:
        """Remove one entry, if it is there."""
        _remove(self.folder / f"{key.file_stem}.json")

    def entries(self) -> Iterator[Entry]:
        """Everything in the folder, damaged side-cars too."""
        for side_car in sorted(self.folder.glob("*.json")):
            try:
                content = _side_car(side_car)
            except (OSError, ValueError):
                content = {}
            try:
                made_s = side_car.stat().st_mtime
            except OSError:  # removed by another process meanwhile
                continue
            try:
                blob = side_car.with_suffix(".bin").stat()
                size, used_s = blob.st_size, max(blob.st_mtime, made_s)
            except OSError:
                size, used_s = 0, made_s
            yield Entry(side_car, content, size, made_s, used_s)

    def clean(self) -> int:
        """Remove all engines and leftovers of interrupted writes; the number of engines removed."""
        count = len(list(self.folder.glob("*.json")))
        for pattern in ("*.json", "*.bin", "*.part"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        return count

    def _remove_unused(self) -> None:
        before_s = time.time() - KEPT_UNUSED_DAYS * 86400
        for entry in self.entries():
            if entry.used_s < before_s:
                log.debug("cached engine %s was not used for %d days: removed.", entry.blob_path, KEPT_UNUSED_DAYS)
                _remove(entry.path)

    def _rebuild(self, side_car: Path, why: str) -> None:
        log.warning("cached engine %s is %s. It is built anew.", side_car.with_suffix(".bin"), why)
        _remove(side_car)


def _side_car(path: Path) -> dict:
    """ValueError where it is not a JSON object of a side-car's size and form."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    if path.stat().st_size > MAX_SIDE_CAR_BYTES:
        raise ValueError("too large")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    if not isinstance(content, dict) or not all(isinstance(content.get(name, {}), dict) for name in ("key", "check")):
        raise ValueError("not an engine's record")
    return content


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _remove(side_car: Path) -> None:
    for path in (side_car, side_car.with_suffix(".bin")):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
