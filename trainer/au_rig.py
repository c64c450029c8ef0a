"""Source 1: rig faces (identity x actions x gaze x pose x camera) projected to landmarks, with the tracker's noise."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from puppet import facs
from puppet.estimate import align
from puppet.landmarks import LEFT_IRIS, RIGHT_IRIS, TRACKED_COUNT
from puppet.pose import angles_from_rotation, rotation_from_angles
from puppet.rig import LEFT_EYEBALL, RIGHT_EYEBALL, LandmarkRig, lip_gap_cm
from trainer.au_noise import TrackerNoise
from trainer.au_sampling import sample_gaze, sample_intensities, weights_of

_TO_IMAGE = np.array([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Samples:
    """Aligned landmarks with what they show. In training the landmarks are components, see `trainer.compression`."""

    landmarks_cm: np.ndarray  # (N, 478, 3) float32, as `puppet.estimate.align` gives them
    neutral_cm: np.ndarray  # (N, 478, 3) float32, the same person at rest; NaN where unknown
    head_rad: np.ndarray  # (N, 3) float32 measured yaw, pitch, roll
    intensities: np.ndarray  # (N, INTENSITY_COUNT) float32
    gaze_rad: np.ndarray  # (N, 2) float32

    def take(self, chosen: np.ndarray) -> Samples:
        return Samples(**{name: getattr(self, name)[chosen] for name in FIELDS})

    def without_neutral(self) -> Samples:
        """The same with every neutral unknown."""
        return replace(self, neutral_cm=np.full_like(self.neutral_cm, np.nan))

    def inputs(self) -> dict[str, np.ndarray]:
        """What the regressor is given, by name."""
        has_neutral = np.isfinite(self.neutral_cm.reshape(len(self.neutral_cm), -1)[:, :1])
        known = has_neutral.reshape(-1, *[1] * (self.neutral_cm.ndim - 1))
        neutral = np.where(known, self.neutral_cm, self.landmarks_cm)
        return {
            "landmarks_cm": self.landmarks_cm,
            "head_rad": self.head_rad,
            "neutral_cm": neutral,
            "has_neutral": has_neutral.astype(np.float32),
        }

    @staticmethod
    def concatenate(parts: list[Samples]) -> Samples:
        return Samples(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in FIELDS})


FIELDS = tuple(field.name for field in fields(Samples))


def aligned_samples(
    landmarks_px: np.ndarray,
    intensities: np.ndarray,
    gaze_rad: np.ndarray,
    rig: LandmarkRig,
    neutral_cm: np.ndarray | None = None,
) -> Samples:
    """Samples of landmarks `(N, 478, 3)` px; `neutral_cm` is already aligned."""
    aligned = align(landmarks_px, rig.mean_cm[:TRACKED_COUNT].astype(np.float64))
    angles = np.array([angles_from_rotation(r) for r in aligned.rotation], np.float32).reshape(-1, 3)
    landmarks_cm = aligned.landmarks_cm.astype(np.float32)
    if neutral_cm is None:
        neutral_cm = np.full_like(landmarks_cm, np.nan)
    return Samples(landmarks_cm, neutral_cm.astype(np.float32), angles, intensities, gaze_rad)


def rig_samples(rng: np.random.Generator, count: int, rig: LandmarkRig, noise: TrackerNoise) -> Samples:
    """New random faces."""
    intensities, gaze = sample_intensities(rng, count, rig), sample_gaze(rng, count)
    identity = sample_identity(rng, count, rig)
    systematic = noise.systematic(rng, count)
    distance = np.exp(rng.uniform(np.log(35), np.log(150), count))
    points = rig_points(rng, identity, intensities, gaze, rig) + systematic + noise.jitter(rng, count)
    seen = project(rng, points, distance)
    # A neutral found in passing: nearly at rest, eyes anywhere near ahead, its jitter averaged away.
    rest = nearly_rest(rng, intensities)
    rest_points = rig_points(rng, identity, rest, rng.normal(0, 0.05, (count, 2)), rig)
    rest_points += systematic + noise.jitter(rng, count) * 0.4
    at_rest = project(rng, rest_points, distance, turned=0.4)
    neutral = align(at_rest, rig.mean_cm[:TRACKED_COUNT].astype(np.float64)).landmarks_cm
    return aligned_samples(seen, intensities, gaze, rig, neutral)


def nearly_rest(rng: np.random.Generator, like: np.ndarray) -> np.ndarray:
    """Intensities of a resting face `(N, INTENSITY_COUNT)`: a few slight actions, in half of the cases none."""
    slight = rng.uniform(0, 0.8, like.shape) * (rng.random(like.shape) < 0.12)
    return (slight * (rng.random((len(like), 1)) < 0.5)).astype(np.float32)


def sample_identity(rng: np.random.Generator, count: int, rig: LandmarkRig) -> np.ndarray:
    """`(count, I)` float32 standard deviations."""
    shape = (count, len(rig.identity_cm))
    return (rng.normal(0, 1, shape) * rng.uniform(0.4, 1.0, (count, 1))).astype(np.float32)


def rig_points(
    rng: np.random.Generator, identity: np.ndarray, intensities: np.ndarray, gaze: np.ndarray, rig: LandmarkRig
) -> np.ndarray:
    """`(N, 478, 3)` cm head-frame landmarks of people who do this."""
    count, kept = len(intensities), slice(0, TRACKED_COUNT + 2)
    points = rig.mean_cm[kept] + np.tensordot(identity, rig.identity_cm[:, kept], 1)
    # Nobody's actions are the model's to the millimetre.
    weights = weights_of(intensities, rig) * rng.uniform(0.85, 1.15, (count, len(rig.actions)))
    points += np.tensordot(weights.astype(np.float32), rig.action_cm[:, kept], 1)
    apart = rig.lips_part(weights_of(intensities, rig)) - intensities[:, facs.INDEX["AU25"]]
    closed = apart.clip(0) * _gap_per_intensity(rig) / -lip_gap_cm(rig.seal_cm)
    points += closed[:, None, None].astype(np.float32) * rig.seal_cm[kept]
    yaw, pitch = gaze[:, 0] / rig.look_rad, gaze[:, 1] / rig.look_rad
    look = np.stack([yaw, -yaw, pitch, -pitch], 1).clip(0, None)
    look *= rng.uniform(0.4, 1.2, (count, 1))  # how far lids follow the eyes differs
    points += np.tensordot(look.astype(np.float32), rig.look_cm[:, kept], 1)
    for iris, ball in ((RIGHT_IRIS, RIGHT_EYEBALL), (LEFT_IRIS, LEFT_EYEBALL)):
        turn = np.stack([rotation_from_angles(y, p, 0.0) for y, p in gaze]).astype(np.float32)
        centre = points[:, [ball]]
        points[:, list(iris)] = centre + (points[:, list(iris)] - centre) @ np.swapaxes(turn, 1, 2)
        points[:, list(iris)] += rng.normal(0, 0.03, (count, 1, 3))
    return points[:, :TRACKED_COUNT]


def _gap_per_intensity(rig: LandmarkRig) -> float:
    """Height of the lips' gap per AU25 intensity, cm, from a jaw half open, where AU25 has not reached its limit."""
    weights = np.zeros(len(rig.actions), np.float32)
    weights[rig.actions.index("AU26")] = 0.5
    return float(lip_gap_cm(np.tensordot(weights, rig.action_cm, 1)) / rig.lips_part(weights))


def project(
    rng: np.random.Generator, points_cm: np.ndarray, distance_cm: np.ndarray, turned: float = 1.0
) -> np.ndarray:
    """Landmarks `(N, 478, 3)` px of heads turned at random before near and far cameras; depth as the tracker has it."""
    count = len(points_cm)
    angles = rng.normal(0, turned, (count, 3)) * np.where(rng.random((count, 1)) < 0.4, 0.08, 1) * [0.28, 0.18, 0.15]
    rotation = np.stack([rotation_from_angles(*a) for a in angles])
    points = points_cm @ np.swapaxes(rotation, 1, 2)
    distance = distance_cm[:, None, None]
    near = distance / (distance - (points[..., 2:] - 8.0))
    depth = rng.normal(1.0, 0.05, (count, 1, 1))
    seen = np.concatenate([points[..., :2] * near, points[..., 2:] * depth], -1)
    return seen * _TO_IMAGE
