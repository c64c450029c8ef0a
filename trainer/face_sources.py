"""Faces as `prepare` takes them: decoded, tracked, and refused with a reason where they are of no use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from puppet.errors import InputError
from puppet.landmarks import TRACKED_COUNT
from puppet.portrait import find_faces
from puppet.track import Face, FaceTracker
from trainer.disk import written_whole
from trainer.faces_folder import FaceFile
from trainer.tracking import Clip, read_rgb, track_video

LEAST_FACE_PX = 64  # width; below it lips and lids are two pixels high
LEAST_FRAMES = 10
_RIVAL = 0.25  # of the largest face's area: a second face as large as this is another person
_LOOKS = 5  # frames of a clip in which people are counted
_MOST_STILL_PX = 768  # longer side of a still; the rest only costs time


@dataclass(frozen=True)
class TrackedStill:
    """A picture `(H, W, 3)` RGB with its face's landmarks `(478, 3)` px."""

    rgb: np.ndarray
    landmarks_px: np.ndarray
    person: str

    @property
    def size(self) -> tuple[int, int]:
        return self.rgb.shape[1], self.rgb.shape[0]


class FaceReader:
    """Reads faces; their landmarks are kept in the cache folder, so that what is looked at twice is tracked once."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._tracker: FaceTracker | None = None

    def still(self, file: FaceFile) -> TrackedStill:
        """
        Raises:
            InputError: unreadable, no face, one too small, or several people.
        """
        rgb = read_rgb(file.path)
        if max(rgb.shape[:2]) > _MOST_STILL_PX:
            zoom = _MOST_STILL_PX / max(rgb.shape[:2])
            rgb = cv2.resize(rgb, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        faces = self._faces(file.path, rgb)
        if not faces:
            raise InputError(f"{file.path}: no face.")
        if len(faces) > 1 and faces[1].area_px > _RIVAL * faces[0].area_px:
            raise InputError(f"{file.path}: several people ({len(faces)} faces).")
        _check_size(file.path, faces[0].landmarks_px[None])
        return TrackedStill(rgb, faces[0].landmarks_px, file.person)

    def _faces(self, path: Path, rgb: np.ndarray) -> list[Face]:
        """The largest first."""
        cached, size = self._cache_dir / "stills" / f"{_cache_name(path)}.npy", (rgb.shape[1], rgb.shape[0])
        if cached.is_file():
            return [Face(points, size) for points in np.load(cached)]
        if self._tracker is None:
            self._tracker = FaceTracker(static=True, max_faces=3)
        faces = self._tracker.track_all(rgb)
        points = np.array([face.landmarks_px for face in faces], np.float32).reshape(-1, TRACKED_COUNT, 3)
        with written_whole(cached) as part, open(part, "wb") as kept:
            np.save(kept, points)
        return faces

    def clip(self, file: FaceFile) -> Clip:
        """
        Raises:
            InputError: unreadable, too few frames with a face, a face too small, or several people.
        """
        landmarks = track_video(file.path, self._cache_dir, name=_cache_name(file.path))
        known = landmarks[np.isfinite(landmarks[:, 0, 0])]
        if len(known) < LEAST_FRAMES:
            raise InputError(
                f"{file.path}: a face in {len(known)} of {len(landmarks)} frames, expected {LEAST_FRAMES} or more."
            )
        _check_size(file.path, known)
        _check_alone(file.path, len(landmarks))
        return Clip(file.path.stem, landmarks, {})


def _check_size(path: Path, landmarks_px: np.ndarray) -> None:
    width = float(np.median(np.ptp(landmarks_px[:, :, 0], 1)))
    if width < LEAST_FACE_PX:
        raise InputError(f"{path}: the face is too small ({width:.0f} px wide, expected {LEAST_FACE_PX} or more).")


def _check_alone(path: Path, frame_count: int) -> None:
    """More than one large face in most of some frames is not one person's clip."""
    video, crowded, most = cv2.VideoCapture(str(path)), 0, 1
    for number in np.linspace(0, frame_count - 1, _LOOKS + 2)[1:-1].astype(int):
        video.set(cv2.CAP_PROP_POS_FRAMES, int(number))
        ok, bgr = video.read()
        if ok:
            faces = find_faces(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
            count = sum(face.area_px > _RIVAL * faces[0].area_px for face in faces)
            crowded, most = crowded + (count > 1), max(most, count)
    video.release()
    if 2 * crowded > _LOOKS:
        raise InputError(f"{path}: several people ({most} faces at once). Cut the clip to one of them.")


def _cache_name(path: Path) -> str:
    """A clip's name, place, size and time: another file of the same name is another clip."""
    facts = path.stat() if path.is_file() else None
    key = f"{path.resolve()}:{facts.st_size if facts else 0}:{facts.st_mtime_ns if facts else 0}"
    return f"{path.stem}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"
