"""Source 1: rig faces (identity x actions x gaze x pose x camera) projected to landmarks, with the tracker's noise."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Aligned landmarks with what they show."""

    landmarks_cm: np.ndarray  # (N, 478, 3) float32, as `puppet.estimate.align` gives them
    head_rad: np.ndarray  # (N, 3) float32 measured yaw, pitch, roll
    intensities: np.ndarray  # (N, INTENSITY_COUNT) float32
    gaze_rad: np.ndarray  # (N, 2) float32

    def take(self, chosen: np.ndarray) -> Samples:
        return Samples(
            self.landmarks_cm[chosen], self.head_rad[chosen], self.intensities[chosen], self.gaze_rad[chosen]
        )

    @staticmethod
    def concatenate(parts: list[Samples]) -> Samples:
        return Samples(
            np.concatenate([p.landmarks_cm for p in parts]),
            np.concatenate([p.head_rad for p in parts]),
            np.concatenate([p.intensities for p in parts]),
            np.concatenate([p.gaze_rad for p in parts]),
        )


def aligned_samples(
    landmarks_px: np.ndarray, intensities: np.ndarray, gaze_rad: np.ndarray, rig: LandmarkRig
) -> Samples:
    """Samples of landmarks `(N, 478, 3)` px."""
    aligned = align(landmarks_px, rig.mean_cm[:TRACKED_COUNT].astype(np.float64))
    angles = np.array([angles_from_rotation(r) for r in aligned.rotation], np.float32).reshape(-1, 3)
    return Samples(aligned.landmarks_cm.astype(np.float32), angles, intensities, gaze_rad)


def rig_samples(rng: np.random.Generator, count: int, rig: LandmarkRig, noise: TrackerNoise) -> Samples:
    """New random faces."""
    intensities, gaze = sample_intensities(rng, count, rig), sample_gaze(rng, count)
    points = rig_points(rng, intensities, gaze, rig) + noise.sample(rng, count)
    return aligned_samples(project(rng, points), intensities, gaze, rig)


def rig_points(rng: np.random.Generator, intensities: np.ndarray, gaze: np.ndarray, rig: LandmarkRig) -> np.ndarray:
    """`(N, 478, 3)` cm head-frame landmarks of random people who do this."""
    count, kept = len(intensities), slice(0, TRACKED_COUNT + 2)
    identity = rng.normal(0, 1, (count, len(rig.identity_cm))) * rng.uniform(0.4, 1.0, (count, 1))
    points = rig.mean_cm[kept] + np.tensordot(identity.astype(np.float32), rig.identity_cm[:, kept], 1)
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


def project(rng: np.random.Generator, points_cm: np.ndarray) -> np.ndarray:
    """Landmarks `(N, 478, 3)` px of heads turned at random before near and far cameras; depth as the tracker has it."""
    count = len(points_cm)
    angles = rng.normal(0, 1, (count, 3)) * np.where(rng.random((count, 1)) < 0.4, 0.08, 1) * [0.28, 0.18, 0.15]
    rotation = np.stack([rotation_from_angles(*a) for a in angles])
    turned = points_cm @ np.swapaxes(rotation, 1, 2)
    distance = np.exp(rng.uniform(np.log(35), np.log(150), (count, 1, 1)))
    near = distance / (distance - (turned[..., 2:] - 8.0))
    depth = rng.normal(1.0, 0.05, (count, 1, 1))
    seen = np.concatenate([turned[..., :2] * near, turned[..., 2:] * depth], -1)
    return seen * _TO_IMAGE
