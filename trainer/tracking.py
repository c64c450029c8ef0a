"""Landmarks of the training stills and of clips, tracked once and kept as npz in the cache folder."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track as progress

from puppet.errors import InputError
from puppet.track import FaceTracker

MOST_FRAMES = 18000
"""Ten minutes at 30 fps: longer clips are used up to here."""
UNTRACKED = np.full((478, 3), np.nan, np.float32)


@dataclass(frozen=True)
class Stills:
    """Tracked pictures."""

    files: np.ndarray  # (N,) str, relative to the faces folder
    persons: np.ndarray  # (N,) str; pictures of one person share it
    sizes: np.ndarray  # (N, 2) int, width and height
    landmarks_px: np.ndarray  # (N, 478, 3) float32

    def take(self, chosen: np.ndarray) -> Stills:
        return Stills(self.files[chosen], self.persons[chosen], self.sizes[chosen], self.landmarks_px[chosen])


@dataclass(frozen=True)
class Clip:
    """A tracked video with what the independent estimator said of it."""

    name: str
    landmarks_px: np.ndarray  # (F, 478, 3) float32, NaN where no face was found
    judged: dict[str, np.ndarray]  # ARKit name or "rotation_rc" -> (F,) float32, NaN where there is no row


def read_rgb(path: Path) -> np.ndarray:
    """A picture as RGB uint8 `(H, W, 3)`.

    Raises:
        InputError: the file is missing or no picture.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise InputError(f"{path} can't be read: expected a picture. Give the folder of faces with --faces-dir.")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def manifest(faces_dir: Path) -> list[dict[str, str]]:
    """Rows of `manifest.csv`.

    Raises:
        InputError: it is missing.
    """
    try:
        with open(faces_dir / "manifest.csv", newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as exc:
        raise InputError(
            f"{faces_dir / 'manifest.csv'} can't be read ({exc.strerror}): expected the list of faces. "
            "Give their folder with --faces-dir."
        ) from exc


def person_of(row: dict[str, str]) -> str:
    """One name per person: files whose person is unknown stand for themselves, but for two sets with few people."""
    path = Path(row["file"])
    if path.parent.name == "webmorph" and "-front-" in path.stem:
        return "webmorph:london_" + path.stem.split("-")[2]
    if path.parent.name == "caltech-faces":
        return "caltech-faces"  # 27 people, not told apart by the manifest
    return row["person"] if not row["person"].endswith(":") else f"{path.parent.name}:{path.stem}"


def stills(faces_dir: Path, cache_dir: Path) -> Stills:
    """All training stills with a face, tracked or read from the cache."""
    cached = cache_dir / "stills.npz"
    if not cached.is_file():
        rows = [r for r in manifest(faces_dir) if r["use"] == "train" and r["kind"] == "still"]
        found, tracker = [], FaceTracker(static=True)
        for row in progress(rows, description="tracking stills"):
            rgb = read_rgb(faces_dir / row["file"])
            face = tracker.track(rgb)
            if face is not None:
                found.append((row["file"], person_of(row), face.image_size, face.landmarks_px))
        tracker.close()
        files, persons, sizes, landmarks = (np.array(column) for column in zip(*found, strict=True))
        cache_dir.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(cached, files=files, persons=persons, sizes=sizes, landmarks_px=landmarks)
    with np.load(cached) as file:
        return Stills(file["files"], file["persons"], file["sizes"], file["landmarks_px"])


def clip(path: Path, cache_dir: Path) -> Clip:
    """One clip and the blendshape CSV beside it, tracked as live video or read from the cache."""
    landmarks = track_video(path, cache_dir)
    return Clip(path.stem, landmarks, _judged(path.with_suffix(".blendshapes.csv"), len(landmarks)))


def track_video(path: Path, cache_dir: Path, *, name: str | None = None) -> np.ndarray:
    """`(F, 478, 3)` float32 landmarks of every frame, NaN without a face, tracked or read from the cache.

    `name` is what the cache calls it, None the file's stem. What comes after MOST_FRAMES is not read.

    Raises:
        InputError: the file holds no pictures.
    """
    cached = cache_dir / "clips" / f"{name or path.stem}.npz"
    if not cached.is_file():
        frames, tracker = [], FaceTracker()
        for rgb in islice(_frames(path), MOST_FRAMES):
            face = tracker.track(rgb)
            frames.append(UNTRACKED if face is None else face.landmarks_px)
        tracker.close()
        if not frames:
            raise InputError(f"{path} can't be decoded: expected a video.")
        cached.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(cached, landmarks_px=np.stack(frames))
    with np.load(cached) as file:
        return file["landmarks_px"]


def clips(folder: Path, cache_dir: Path) -> list[Clip]:
    """All clips of a folder.

    Raises:
        InputError: there is none.
    """
    paths = sorted(p for p in folder.glob("*") if p.suffix in (".mp4", ".mov"))
    if not paths:
        raise InputError(f"no clips in {folder}: expected .mp4 files. Give the folder of faces with --faces-dir.")
    return [clip(path, cache_dir) for path in progress(paths, description=f"tracking {folder.name}")]


def frames_at(path: Path, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Number and RGB uint8 `(H, W, 3)` of those of the frames `wanted` that can be decoded, in their order."""
    video, chosen = cv2.VideoCapture(str(path)), {int(number) for number in wanted}
    try:
        for number in range(max(chosen) + 1):
            if not video.grab():
                return
            if number in chosen:
                yield number, cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB)
    finally:
        video.release()


def _frames(path: Path) -> Iterator[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    while True:
        ok, bgr = video.read()
        if not ok:
            video.release()
            return
        yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _judged(path: Path, count: int) -> dict[str, np.ndarray]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.full(count, np.nan, np.float32) for name in rows[0] if name != "frame"}
    for row in rows:
        if int(row["frame"]) < count:
            for name, values in columns.items():
                values[int(row["frame"])] = float(row[name])
    return columns
