"""Light on the skin of faces, with the actions that the program reads from them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from rich.progress import track as progress

from puppet import facs
from puppet.errors import InputError
from puppet.pose import angles_from_rotation
from puppet.rig import LandmarkRig
from trainer import tracking
from trainer.clip_frames import FRAME_PX, cut_frames, most_neutral, place_face
from trainer.face_chart import FaceChart
from trainer.fold_regression import ACTIONS, Faces
from trainer.prepare import MOST_OF_A_PERSON
from trainer.readings import ActionReader

_DARKEST = 16.0  # grey levels added to all before the logarithm: dark pixels are noise
_STEEPEST = 0.7
_MOST_TURNED_RAD, _WORST_FIT = 0.5, 95  # percentile
_FRAMES = 90

_Seen = tuple[np.ndarray, np.ndarray]
"""Light `(P,)` and actions `(A,)` of one face."""


class FaceLight:
    """Reads the training faces of a folder with a manifest; landmarks are kept in `cache_dir`."""

    def __init__(self, chart: FaceChart, rig: LandmarkRig, *, faces_dir: Path, cache_dir: Path, seed: int) -> None:
        self._chart, self._rig = chart, rig
        self._faces_dir, self._cache_dir, self._seed = faces_dir, cache_dir, seed
        self._reader = ActionReader()

    def of_stills(self) -> Faces:
        """All stills that look ahead; beside actions their light may follow the head's turn and the collection."""
        stills = tracking.stills(self._faces_dir, self._cache_dir)
        collections = np.array([Path(file).parent.name for file in stills.files])
        seen, turned, residuals = [], [], []
        for n in progress(range(len(stills.files)), description="reading stills"):
            fit = self._rig.fit(stills.landmarks_px[n])
            seen.append(self._still(stills, n))
            turned.append(angles_from_rotation(fit.rotation)[:2])
            residuals.append(fit.residual)
        turned, residuals = np.array(turned), np.array(residuals)
        usable = (np.abs(turned[:, 0]) < _MOST_TURNED_RAD) & (residuals < np.percentile(residuals, _WORST_FIT))
        shared = np.concatenate([turned, collections[:, None] == np.unique(collections)], 1)
        light, actions = (np.stack(column) for column in zip(*seen, strict=True))
        return Faces(light, actions, stills.persons, shared=shared).take(usable)

    def of_pairs(self) -> Faces:
        """Every two stills of a person who has two to four of them, and frames of clips against a neutral one."""
        stills = tracking.stills(self._faces_dir, self._cache_dir)
        changes: list[tuple[_Seen, _Seen, str]] = []
        for person in np.unique(stills.persons):
            own = np.flatnonzero(stills.persons == person)
            if 1 < len(own) <= MOST_OF_A_PERSON:
                shown = [self._still(stills, n) for n in own]
                changes += [(a, b, person) for n, a in enumerate(shown) for b in shown[n + 1 :]]
        rng = np.random.default_rng(self._seed)
        people = {Path(row["file"]).stem: row["person"] for row in tracking.manifest(self._faces_dir)}
        for path in sorted(self._faces_dir.glob("train/clips/*")):
            if path.suffix in (".mp4", ".mov"):
                first, others = self._of_clip(path, rng)
                changes += [(first, other, people[path.stem]) for other in others]
        before, after, who = zip(*changes, strict=True)
        light, actions = (
            np.stack(new) - np.stack(old)
            for old, new in zip(zip(*before, strict=True), zip(*after, strict=True), strict=True)
        )
        return Faces(np.clip(light, -_STEEPEST, _STEEPEST), actions, np.array(who))

    def _of_clip(self, path: Path, rng: np.random.Generator) -> tuple[_Seen, list[_Seen]]:
        """The most neutral frame of a clip and some others."""
        tracked = tracking.clip(path, self._cache_dir)
        matrix, numbers, points = place_face(tracked, path)
        actions = self._reader.clip(points, (FRAME_PX, FRAME_PX))
        first = most_neutral(points)
        chosen = rng.choice(len(points), min(_FRAMES, len(points)), replace=False)
        frames = cut_frames(path, matrix, numbers[np.unique([first, *chosen])])
        if numbers[first] not in frames:
            raise InputError(f"{path}: its frame {numbers[first]} can't be decoded.")

        def seen(n: int) -> _Seen:
            return self._seen(frames[numbers[n]], points[n], actions[n])

        return seen(first), [seen(n) for n in chosen if numbers[n] in frames]

    def _still(self, stills: tracking.Stills, n: int) -> _Seen:
        rgb, points = tracking.read_rgb(self._faces_dir / stills.files[n]), stills.landmarks_px[n]
        return self._seen(rgb, points, self._reader.still(points, tuple(stills.sizes[n])))

    def _seen(self, rgb: np.ndarray, landmarks_px: np.ndarray, control: np.ndarray) -> _Seen:
        grey = cv2.cvtColor(self._chart.unwrap(rgb, landmarks_px), cv2.COLOR_RGB2GRAY).astype(np.float32)
        light = np.clip(self._chart.details(np.log(grey + _DARKEST)), -_STEEPEST, _STEEPEST)
        return light, control[: len(ACTIONS)] / facs.MAX_INTENSITY


def is_filmed(pairs: Faces) -> np.ndarray:
    """`(N,)` bool: of people in clips, who are seen more often than anybody of whom there are stills."""
    people, counts = np.unique(pairs.people, return_counts=True)
    return np.isin(pairs.people, people[counts > MOST_OF_A_PERSON * (MOST_OF_A_PERSON - 1) // 2])
