"""The tracker's errors, measured on training stills and kept as pools to draw from.

Systematic: what is left of a person's landmarks after the rig is fitted; it stays while the face moves. Jitter: how
landmarks move when the same picture is shifted, scaled, darkened, blurred by noise and JPEG. Both in the head frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track as progress

from puppet.estimate import align
from puppet.landmarks import FACE_COUNT, TRACKED_COUNT
from puppet.rig import LandmarkRig
from puppet.track import FaceTracker
from trainer.correspondence import mean_face, mirror_landmarks
from trainer.tracking import Stills, read_rgb, stills

JITTER_STILLS, JITTER_SHOTS = 320, 6
_MAX_RESIDUAL = 0.035  # fits worse than this are no faces, or half hidden ones


@dataclass(frozen=True)
class TrackerNoise:
    """Pools of errors in the head frame, cm."""

    systematic_cm: np.ndarray  # (N, 478, 3) float32, irises zero
    persons: np.ndarray  # (N,) str, whose error it is
    jitter_cm: np.ndarray  # (M, 478, 3) float32
    mirror: np.ndarray  # (478,) landmark that a mirror maps each to

    def of(self, chosen: np.ndarray) -> TrackerNoise:
        """The same with some people's systematic errors only."""
        return TrackerNoise(self.systematic_cm[chosen], self.persons[chosen], self.jitter_cm, self.mirror)

    def systematic(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """`(count, 478, 3)` float32: somebody's error, weaker or stronger, mirrored half of the time."""
        errors = self.systematic_cm[rng.integers(len(self.systematic_cm), size=count)]
        return self._half_mirrored(rng, errors * rng.uniform(0.5, 1.2, (count, 1, 1)).astype(np.float32))

    def jitter(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """`(count, 478, 3)` float32: a jitter, mirrored half of the time."""
        return self._half_mirrored(rng, self.jitter_cm[rng.integers(len(self.jitter_cm), size=count)])

    def _half_mirrored(self, rng: np.random.Generator, errors: np.ndarray) -> np.ndarray:
        flipped = errors[:, self.mirror] * np.array([-1, 1, 1], np.float32)
        return np.where(rng.random((len(errors), 1, 1)) < 0.5, flipped, errors)


def tracker_noise(faces_dir: Path, cache_dir: Path, rig: LandmarkRig) -> TrackerNoise:
    """Measure the pools, or read them from the cache."""
    cached = cache_dir / "noise.npz"
    if not cached.is_file():
        pictures = stills(faces_dir, cache_dir)
        neutral = pictures.landmarks_px[["neutral-front" in file for file in pictures.files]]
        mirror = np.r_[mirror_landmarks(mean_face(neutral)), _mirrored_irises()]
        systematic, persons = _systematic(pictures, rig)
        jitter = _jitter(faces_dir, pictures, rig)
        np.savez_compressed(cached, systematic=systematic, persons=persons, jitter=jitter, mirror=mirror)
    with np.load(cached) as file:
        return TrackerNoise(
            file["systematic"].astype(np.float32), file["persons"], file["jitter"].astype(np.float32), file["mirror"]
        )


def _mirrored_irises() -> list[int]:
    return [473, 476, 475, 474, 477, 468, 471, 470, 469, 472]  # the rim's left and right points swap as well


def _systematic(pictures: Stills, rig: LandmarkRig) -> tuple[np.ndarray, np.ndarray]:
    errors, persons = [], []
    for landmarks, person in progress(
        list(zip(pictures.landmarks_px, pictures.persons, strict=True)), description="fitting stills"
    ):
        fit = rig.fit(landmarks)
        if fit.residual > _MAX_RESIDUAL:
            continue
        error = np.zeros((TRACKED_COUNT, 3), np.float16)
        model = rig.points(fit.identity, fit.weights)[:FACE_COUNT]
        error[:FACE_COUNT] = fit.unproject(landmarks[:FACE_COUNT].astype(np.float64)) - model
        errors.append(error)
        persons.append(person)
    return np.stack(errors), np.array(persons)


def _jitter(faces_dir: Path, pictures: Stills, rig: LandmarkRig) -> np.ndarray:
    rng = np.random.default_rng(0)
    mean = rig.mean_cm[:TRACKED_COUNT].astype(np.float64)
    tracker, jitter = FaceTracker(static=True), []
    for i in progress(rng.permutation(len(pictures.files))[:JITTER_STILLS], description="measuring jitter"):
        rgb, shots = read_rgb(faces_dir / str(pictures.files[i])), []
        for _ in range(JITTER_SHOTS):
            face = tracker.track(Camera.random(rng, rgb.shape[1::-1]).take(rng, rgb))
            if face is not None:
                shots.append(align(face.landmarks_px, mean).landmarks_cm)
        if len(shots) >= 3:
            shots = np.stack(shots)
            unbiased = np.sqrt(len(shots) / (len(shots) - 1))
            jitter.append(((shots - shots.mean(0)) * unbiased).astype(np.float16))
    tracker.close()
    jitter = np.concatenate(jitter)
    size = np.sqrt((jitter.astype(np.float32) ** 2).mean((1, 2)))
    return jitter[size < np.quantile(size, 0.98)]  # the rest lost the face


def smooth_errors(rng: np.random.Generator, mean_cm: np.ndarray, count: int, length_cm: float = 1.5) -> np.ndarray:
    """`(count, 478, 3)` float32 random smooth displacements of about 1 cm: a Gaussian process over the face.

    The pools above are small; a network learns the few directions in which they never err and trusts those too much.
    """
    distance = np.linalg.norm(mean_cm[:, None] - mean_cm[None], axis=-1)
    power, vectors = np.linalg.eigh(np.exp(-0.5 * (distance / length_cm) ** 2))
    root = vectors * np.sqrt(power.clip(0))
    return np.einsum("pk,nkd->npd", root, rng.standard_normal((count, len(mean_cm), 3))).astype(np.float32)


@dataclass(frozen=True)
class Camera:
    """A camera's place, light, grain and compression: the same for all frames of one recording."""

    matrix: np.ndarray  # (2, 3) affine
    light: float
    grain: float
    quality: int

    @classmethod
    def random(cls, rng: np.random.Generator, size: tuple[int, int], strength: float = 1.0) -> Camera:
        """`size` (width, height); `strength` 1 is a bad webcam."""
        width, height = size
        zoom = 1 + strength * rng.uniform(-0.25, 0.05)
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rng.normal(0, 3 * strength), zoom)
        matrix[:, 2] += rng.normal(0, 0.03 * strength, 2) * (width, height)
        return cls(
            matrix=matrix,
            light=1 + strength * rng.uniform(-0.4, 0.25),
            grain=rng.uniform(0.5, 6 * strength),
            quality=int(rng.integers(95 - round(60 * strength), 96)),
        )

    def take(self, rng: np.random.Generator, rgb: np.ndarray) -> np.ndarray:
        """`(H, W, 3)` uint8: the picture as this camera gives it, with new grain."""
        size = rgb.shape[1::-1]
        moved = cv2.warpAffine(rgb, self.matrix, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
        grain = rng.standard_normal(moved.shape, np.float32) * np.float32(self.grain)
        lit = np.clip(moved * np.float32(self.light) + grain, 0, 255).astype(np.uint8)
        _, data = cv2.imencode(".jpg", lit, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        return cv2.imdecode(data, cv2.IMREAD_COLOR)
