"""What `python -m trainer evaluate` shows to which portrait: frames of a clip, or stills of a person held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from puppet.errors import InputError
from puppet.landmarks import FACE_COUNT
from trainer.clip_frames import cut_frames, openness, place_face
from trainer.face_sources import FaceReader
from trainer.faces_folder import FaceFile, find_faces
from trainer.prepare import MOST_OF_A_PERSON
from trainer.readings import ActionReader
from trainer.split import is_held_out
from trainer.tracking import Clip, track_video

_CLOSING = 0.75  # eyes lower than this share of the portrait's are closed or closing


@dataclass(frozen=True)
class Shot:
    """A picture `(H, W, 3)` RGB, its face's landmarks `(478, 3)` px and actions `(SIZE,)` as the program reads them."""

    rgb: np.ndarray
    landmarks_px: np.ndarray
    actions: np.ndarray


@dataclass(frozen=True)
class Sequence:
    """A portrait and the pictures that drive it, all of one person and one size."""

    name: str
    portrait: Shot
    drivers: tuple[Shot, ...]

    @property
    def mouth_openness(self) -> np.ndarray:
        """`(n,)` of the drivers."""
        return self._openness()[1]

    @property
    def is_closing(self) -> np.ndarray:
        """`(n,)` bool: drivers whose eyes are closed or closing."""
        own = openness(self.portrait.landmarks_px[None])[0][0]
        return self._openness()[0] < _CLOSING * own

    @property
    def most_awake(self) -> Shot:
        """The driver with the widest eyes."""
        return self.drivers[int(np.argmax(self._openness()[0]))]

    @property
    def motion(self) -> float:
        """How far the median driver's landmarks stand from the portrait's, in distances between the eyes."""
        own = self.portrait.landmarks_px[:FACE_COUNT, :2]
        eyes = np.linalg.norm(own[[33, 133]].mean(0) - own[[263, 362]].mean(0))
        apart = [np.linalg.norm(shot.landmarks_px[:FACE_COUNT, :2] - own, axis=1).mean() for shot in self.drivers]
        return float(np.median(apart) / eyes)

    def _openness(self) -> tuple[np.ndarray, np.ndarray]:
        return openness(np.stack([shot.landmarks_px for shot in self.drivers]))


def of_clip(path: Path, cache_dir: Path, count: int, actions: ActionReader) -> Sequence:
    """The first neutral frame as portrait; `count` frames, evenly spread, and up to four with closing lids.

    Raises:
        InputError: no frame has a face.
    """
    matrix, numbers, points = place_face(Clip(path.stem, track_video(path, cache_dir), {}), path)
    eyes, mouth = openness(points)
    unlike = np.abs(eyes - np.median(eyes)) / np.median(eyes) + 2 * mouth
    first = int(np.flatnonzero(unlike <= np.percentile(unlike, 10))[0])
    chosen = np.linspace(0, len(points) - 2, count).astype(int)
    shutting = np.flatnonzero(eyes[:-1] < _CLOSING * eyes[first])
    chosen = np.unique(np.concatenate([chosen, shutting[:: max(1, len(shutting) // 3)][:4]]))
    found = cut_frames(path, matrix, numbers[[first, *chosen]])
    frames = {i: found[numbers[i]] for i in (first, *chosen) if numbers[i] in found}
    size = frames[first].shape[1::-1]
    read = actions.clip(points, size)
    portrait = Shot(frames[first], points[first], actions.still(points[first], size))
    return Sequence(path.stem, portrait, tuple(Shot(frames[i], points[i], read[i]) for i in chosen if i in frames))


def of_held_out_stills(folder: Path, cache_dir: Path, actions: ActionReader) -> Iterator[Sequence]:
    """Each of two to four stills of a person who is kept from training, shown the others."""
    people: dict[str, list[FaceFile]] = {}
    for file in find_faces(folder):
        if file.kind == "still" and is_held_out(file.person):
            people.setdefault(file.person, []).append(file)
    reader = FaceReader(cache_dir)
    for person, files in people.items():
        if 1 < len(files) <= MOST_OF_A_PERSON:
            shots = list(_usable(reader, files, actions))
            for n, portrait in enumerate(shots):
                others = tuple(s for s in shots if s is not portrait and s.rgb.shape == portrait.rgb.shape)
                if others:
                    yield Sequence(f"{person}-{n}", portrait, others)


def _usable(reader: FaceReader, files: list[FaceFile], actions: ActionReader) -> Iterator[Shot]:
    for file in files:
        try:
            still = reader.still(file)
        except InputError:
            continue
        yield Shot(still.rgb, still.landmarks_px, actions.still(still.landmarks_px, still.size))
