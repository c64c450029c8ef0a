"""Landmarks as a few hundred components: training runs in their space, the exported network has them folded in.

Aligned landmarks hold far fewer independent numbers than 1,434. Everything that training does to them (blending shots,
putting actions on other people, adding jitter, mirroring) is linear, so it is done on components.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from puppet.landmarks import TRACKED_COUNT
from trainer.au_rig import Samples

_FIT_ON = 16384
_LEAST_JITTER_CM = 0.02
_SIGNS = np.tile([-1.0, 1.0, 1.0], TRACKED_COUNT)


@dataclass(frozen=True)
class Compression:
    """`components = (landmarks - mean) @ basis`, scaled to about unit variance; float32."""

    mean: np.ndarray  # (1434,)
    basis: np.ndarray  # (1434, K)
    mirror: np.ndarray  # (K, K): components of the mirror image are `components @ mirror`

    @classmethod
    def fit(cls, landmarks_cm: np.ndarray, jitter_cm: np.ndarray, mirror_map: np.ndarray, count: int) -> Compression:
        """Principal components of `landmarks_cm` `(N, 478, 3)` in units of the tracker's jitter, mirror-symmetric.

        Components weaker than the jitter are not blown up to unit variance.
        """
        faces = landmarks_cm[:_FIT_ON].reshape(-1, TRACKED_COUNT * 3).astype(np.float64)
        swap = (3 * mirror_map[:, None] + np.arange(3)).ravel()
        faces = np.concatenate([faces, faces[:, swap] * _SIGNS])
        deviation = np.maximum(jitter_cm.reshape(len(jitter_cm), -1).std(0), _LEAST_JITTER_CM)
        deviation = (deviation + deviation[swap]) / 2
        mean = faces.mean(0)
        scaled = (faces - mean) / deviation
        power, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
        power, vectors = power[::-1][:count], vectors[:, ::-1][:, :count]
        scale = 1 / np.sqrt(power + 1)
        basis = vectors / deviation[:, None] * scale
        inverse = (vectors * deviation[:, None] / scale).T  # basis' pseudo-inverse: inverse @ basis = 1
        mirror = (inverse[:, swap] * _SIGNS) @ basis
        return cls(*(array.astype(np.float32) for array in (mean, basis, mirror)))

    def faces(self, landmarks_cm: np.ndarray) -> np.ndarray:
        """`(N, K)` float32 of landmarks `(N, 478, 3)`; NaN stays NaN."""
        return (landmarks_cm.reshape(len(landmarks_cm), -1) - self.mean) @ self.basis

    def errors(self, differences_cm: np.ndarray) -> np.ndarray:
        """`(N, K)` float32 of differences between landmarks `(N, 478, 3)`."""
        return differences_cm.reshape(len(differences_cm), -1) @ self.basis

    def samples(self, samples: Samples) -> Samples:
        """The same samples with components `(N, K)` in place of landmarks."""
        return replace(
            samples, landmarks_cm=self.faces(samples.landmarks_cm), neutral_cm=self.faces(samples.neutral_cm)
        )
