"""Where the tracker's 468 landmarks lie on the face model's surface.

The rig folder gives the nearest vertex as found on shaded renders, where the silhouette slides and lids and lips are
tracked badly. Photographs of neutral faces know better: fit identity and pose to each, see where a landmark lands on
average against where the model says, move its place along the surface, repeat (a coarse expectation maximisation). Lip
landmarks stay on their own side of the seam, and places are mirrored pairs throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from puppet.landmarks import (
    FACE_COUNT,
    LEFT_EYE,
    LIP_CORNERS,
    LIPS,
    LOWER_LIP,
    OVAL,
    RIGHT_EYE,
    UPPER_LIP,
)
from puppet.pose import align_similarity

_TO_RIG = np.array([1.0, -1.0, -1.0])
_MIRROR = np.array([-1.0, 1.0, 1.0])
_NARROW_FACE = 6706  # vertices of the mask without ears and back: what the tracker's mesh covers
_DEPTH = 0.3  # the tracker's depth is a guess; x and y are seen
_LOWER_LIP_DROP = 1.5  # times as far as the corner's skin: nothing of the corner itself
_GRID = [(a / 6, b / 6, 1 - (a + b) / 6) for a in range(7) for b in range(7 - a)]


@dataclass(frozen=True)
class Places:
    """A point on a triangle for each landmark."""

    corners: np.ndarray  # (468, 3) int, vertex indices
    weights: np.ndarray  # (468, 3) float64, sum 1

    def __call__(self, field: np.ndarray) -> np.ndarray:
        """`(468, 3)` values of a vertex field `(V, 3)`."""
        return np.einsum("nk,nkd->nd", self.weights, field[self.corners].astype(np.float64))


def mirror_landmarks(mean_shape: np.ndarray) -> np.ndarray:
    """`(468,)`: the landmark that a mirror maps each to, from an upright mean face `(468, 3)` (x centred)."""
    cost = np.linalg.norm(mean_shape[:, None] - mean_shape[None] * _MIRROR, axis=-1)
    mirror = linear_sum_assignment(cost**2)[1]
    if not np.array_equal(mirror[mirror], np.arange(FACE_COUNT)):
        raise AssertionError("landmarks don't pair up by mirroring: expected an upright, symmetric mean face.")
    return mirror


def mean_face(landmarks_px: np.ndarray) -> np.ndarray:
    """Procrustes mean `(468, 3)` of tracked faces `(N, 478, 3)`: y up, upright, centred between the eyes."""
    shapes = landmarks_px[:, :FACE_COUNT].astype(np.float64) * _TO_RIG
    mean, ones = shapes[0], np.ones(FACE_COUNT)
    for _ in range(3):
        aligned = []
        for shape in shapes:
            scale, rotation, shift = align_similarity(shape, mean, ones)
            aligned.append(scale * shape @ rotation.T + shift)
        mean = np.mean(aligned, 0)
    mean = mean - mean.mean(0)
    # Upright: eye corners level and equally deep, the midline (forehead to chin) vertical.
    across = mean[263] - mean[33]
    across /= np.linalg.norm(across)
    up = mean[10] - mean[152]
    up -= across * (up @ across)
    up /= np.linalg.norm(up)
    mean = mean @ np.stack([across, up, np.cross(across, up)]).T
    return mean - [mean[[33, 263], 0].mean(), 0, 0]


def refine(
    *,
    neutral_cm: np.ndarray,
    triangles: np.ndarray,
    identity_cm: np.ndarray,
    jaw_open_cm: np.ndarray,
    vertex: np.ndarray,
    neutral_px: np.ndarray,
    rounds: int = 8,
) -> tuple[Places, np.ndarray, np.ndarray]:
    """Places on the surface, the mean offset `(468, 3)` cm that stays, and the landmarks' mirror map `(468,)`.

    `vertex` `(468,)` starts the search; `neutral_px` `(N, 478, 3)` are tracked neutral faces near the frontal pose.
    """
    mirror = mirror_landmarks(mean_face(neutral_px))
    allowed = _sides(jaw_open_cm, vertex)
    search = _SurfaceSearch(neutral_cm, triangles, allowed, mirror)
    observed = np.concatenate([neutral_px[:, :FACE_COUNT], neutral_px[:, mirror] * _MIRROR]) * _TO_RIG

    start = neutral_cm[vertex]
    places = search(_symmetric(start, mirror))
    for _ in range(rounds):
        mean = _symmetric(places(neutral_cm), mirror)
        shapes = np.stack([places(shape) for shape in identity_cm])
        offset = _symmetric(_mean_residual(mean, shapes, observed), mirror)
        places = search(mean + offset)
    mean = places(neutral_cm)
    offset = _mean_residual(mean, np.stack([places(shape) for shape in identity_cm]), observed)
    return places, _symmetric(offset, mirror), mirror


def _symmetric(points: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    return (points + points[mirror] * _MIRROR) / 2


def _mean_residual(mean: np.ndarray, shapes: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Mean of observation minus model in the head frame `(468, 3)` cm, identity and pose fitted per face."""
    weight = np.ones(FACE_COUNT)
    weight[list(OVAL)] = 0.3
    weight[[*LIPS, *RIGHT_EYE, *LEFT_EYE]] = 0.5
    axes = np.repeat(weight[:, None], 3, 1) * [1, 1, _DEPTH**2]
    basis = shapes.reshape(len(shapes), -1).T
    weighted = basis * axes.reshape(-1, 1)
    # A prior of one sigma against an assumed landmark deviation of 0.15 cm, too strong for the identity to eat bias.
    inverse = np.linalg.inv(weighted.T @ basis + np.eye(len(shapes)) * 4.0) @ weighted.T
    total = np.zeros_like(mean)
    for target in observed:
        identity = np.zeros(len(shapes))
        for _ in range(4):
            model = mean + (basis @ identity).reshape(-1, 3)
            scale, rotation, shift = align_similarity(model, target, weight)
            unprojected = (target - shift) @ rotation / scale
            identity = inverse @ (unprojected - mean).ravel()
        total += unprojected - mean - (basis @ identity).reshape(-1, 3)
    return total / len(observed)


def _sides(jaw_open_cm: np.ndarray, vertex: np.ndarray) -> dict[int, np.ndarray]:
    """For each lip landmark but the corners, a mask of vertices it may lie on: those that go with the jaw, or don't.

    Also for those between a lip's edges: where the lips meet the nearest surface is as often the other lip's.
    """
    corner_drop = -jaw_open_cm[vertex[[78, 308]], 1].mean()
    drop = -jaw_open_cm[:, 1]
    upper, lower = drop < corner_drop, drop > _LOWER_LIP_DROP * corner_drop
    allowed = {}
    for lip, side in ((UPPER_LIP, upper), (LOWER_LIP, lower)):
        for landmark in set(lip) - set(LIP_CORNERS):
            allowed[landmark] = side
    return allowed


class _SurfaceSearch:
    """Nearest surface point to a position, x and y counting more than depth."""

    def __init__(
        self, neutral_cm: np.ndarray, triangles: np.ndarray, allowed: dict[int, np.ndarray], mirror: np.ndarray
    ) -> None:
        self._mirror = mirror
        self._mirror_vertex = cKDTree(neutral_cm[:_NARROW_FACE]).query(neutral_cm[:_NARROW_FACE] * _MIRROR)[1]
        self._triangles = triangles[(triangles < _NARROW_FACE).all(1)]
        self._metric = np.array([1.0, 1.0, _DEPTH])
        self._corners = neutral_cm[self._triangles] * self._metric  # [T, 3 corners, 3]
        self._tree = cKDTree(self._corners.mean(1))
        self._allowed = allowed

    def __call__(self, targets: np.ndarray) -> Places:
        corners, weights = np.empty((len(targets), 3), int), np.empty((len(targets), 3))
        grid = np.array(_GRID)
        for i, target in enumerate(targets * self._metric):
            if self._mirror[i] < i:
                corners[i], weights[i] = self._mirror_vertex[corners[self._mirror[i]]], weights[self._mirror[i]]
                continue
            near = self._tree.query(target, 400 if i in self._allowed else 24)[1]
            if i in self._allowed:
                near = near[self._allowed[i][self._triangles[near]].all(1)]
            samples = np.einsum("gk,tkd->tgd", grid, self._corners[near])
            distance = np.linalg.norm(samples - target, axis=-1)
            t, g = np.unravel_index(np.argmin(distance), distance.shape)
            corners[i], weights[i] = self._triangles[near[t]], grid[g]
        return Places(corners, weights)
