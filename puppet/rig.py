"""The landmark rig: a small anatomical model of the head on the tracker's own points, and its fit to a tracked face.

It is what `python -m trainer rig` learns from the ICT face model: a mean head, an identity basis and one displacement
per facial action, for the 478 tracked landmarks, the two eyeball centres and a head outline. Centimetres, x to the
person's left, y up, z forward out of the face.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from puppet import facs
from puppet.errors import InputError
from puppet.landmarks import (
    FACE_COUNT,
    LEFT_EYE,
    LIPS,
    LOWER_INNER_LIP,
    OVAL,
    RIGHT_EYE,
    TRACKED_COUNT,
    UPPER_INNER_LIP,
)
from puppet.pose import align_similarity
from puppet.tensors import INDICES, REAL, Layout, read_tensors

DEFAULT_PATH = Path(__file__).parent / "models" / "landmark_rig.safetensors"
RIGHT_EYEBALL, LEFT_EYEBALL = 478, 479
OUTLINE_START = 480
_TO_RIG = np.array([1.0, -1.0, -1.0])  # image (x right, y down, z away) to head frame (y up, z to the viewer)

_ITERATIONS = 8
_BOX_STEPS = 60
_IDENTITY_RIDGE = 0.1
_ACTION_RIDGE = 1.0
_IDENTITY_LIMIT = 3.0
_LIPS_APART_JAW = 0.85  # jaw drop (weight) whose mouth opening counts as AU25 = 5
_MIDDLE_LIPS = slice(4, 7)
_DEPTH_WEIGHT = 0.3  # the tracker guesses depth; it sees x and y


_LAYOUTS = {
    "mean_cm": Layout(REAL, ("P", 3)),
    "identity_cm": Layout(REAL, ("I", "P", 3)),
    "action_cm": Layout(REAL, ("A", "P", 3)),
    "look_cm": Layout(REAL, (4, "P", 3)),
    "seal_cm": Layout(REAL, ("P", 3)),
    "triangles": Layout(INDICES, ("T", 3), 0, FACE_COUNT - 1),
}
_OUTLINE_GROUPS = ("skull", "ear")


@dataclass(frozen=True)
class RigFit:
    """One face explained by the rig: who it is, what it does, where it is."""

    identity: np.ndarray  # (I,) float32, standard deviations
    weights: np.ndarray  # (A,) float32, 0-1 per action
    scale_px_per_cm: float
    rotation: np.ndarray  # (3, 3) float64, head frame to camera frame (x right, y up, z to the viewer)
    shift_px: np.ndarray  # (3,) float64, image position (x, y, z) of the head frame's origin, y down
    residual: float  # root mean square 2-D error over the skin landmarks, in inter-ocular distances

    def project(self, points_cm: np.ndarray) -> np.ndarray:
        """Image positions `(..., 3)` px (x right, y down, z away from the camera) of head-frame points `(..., 3)`."""
        return (points_cm @ (self.scale_px_per_cm * self.rotation).T) * _TO_RIG + self.shift_px

    def unproject(self, points_px: np.ndarray) -> np.ndarray:
        """Head-frame positions `(..., 3)` cm of image points `(..., 3)` px; the inverse of `project`."""
        return ((points_px - self.shift_px) * _TO_RIG) @ self.rotation / self.scale_px_per_cm


class LandmarkRig:
    """Mean head, identity basis and action basis over P points.

    Points: 468 skin landmarks and 10 iris landmarks in MediaPipe's order (right iris first), eyeball centres (right,
    left), then the head outline. All arrays are float32 and read-only.

    Attributes:
        mean_cm: `(P, 3)`.
        identity_cm: `(I, P, 3)` displacement per standard deviation.
        action_cm: `(A, P, 3)` displacement at weight 1, that is intensity 5.
        actions: names of the A actions, columns of `puppet.facs`.
        look_cm: `(4, P, 3)` what lids and brows do as the eyes turn `look_rad` left, right, up and down.
        seal_cm: `(P, 3)` what lips do to stay sealed while the jaw is open at weight 1.
        triangles: `(T, 3)` int32 over the 468, counter-clockwise from the front; the last `fill_count` of them close
            the eye and mouth openings.
        outline_groups: name of a head part -> `(n,)` point indices.
    """

    def __init__(
        self,
        *,
        mean_cm: np.ndarray,
        identity_cm: np.ndarray,
        action_cm: np.ndarray,
        look_cm: np.ndarray,
        seal_cm: np.ndarray,
        triangles: np.ndarray,
        actions: tuple[str, ...],
        look_rad: float,
        fill_count: int,
        outline_groups: dict[str, np.ndarray],
    ) -> None:
        self.mean_cm = _frozen(mean_cm)
        self.identity_cm = _frozen(identity_cm)
        self.action_cm = _frozen(action_cm)
        self.look_cm = _frozen(look_cm)
        self.look_rad = look_rad
        self.seal_cm = _frozen(seal_cm)
        self.triangles = triangles
        self.actions = actions
        self.fill_count = fill_count
        self.outline_groups = outline_groups

    @classmethod
    def load(cls, path: str | Path | None = None) -> LandmarkRig:
        """The rig in a safetensors file; the packaged one without a path.

        Raises:
            InputError: the file is missing or is not a landmark rig.
        """
        path = Path(path) if path is not None else DEFAULT_PATH
        try:
            arrays, metadata = read_tensors(path, _LAYOUTS)
            actions, groups = json.loads(metadata["actions"]), json.loads(metadata["outline_groups"])
            fill_count, look_rad = int(metadata["fill_count"]), float(metadata["look_rad"])
            _check(arrays, actions, groups, fill_count, look_rad)
            return cls(
                **arrays,
                actions=tuple(actions),
                look_rad=look_rad,
                fill_count=fill_count,
                outline_groups={name: np.array(indices) for name, indices in groups.items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise InputError(
                f"landmark rig {path} can't be read ({exc}): expected a file made by `python -m trainer rig`. "
                "Reinstall the package or make it again."
            ) from exc

    def points(self, identity: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """`(P, 3)` float32 cm: the head of `identity` `(I,)` doing `weights` `(A,)` 0-1."""
        shape = np.tensordot(identity, self.identity_cm, 1) + np.tensordot(weights, self.action_cm, 1)
        return (self.mean_cm + shape).astype(np.float32)

    def lips_part(self, weights: np.ndarray) -> np.ndarray:
        """AU25, 0-5, that actions alone give the mean face: `(...,)` for weights `(..., A)` 0-1.

        0 is sealed, 5 a mouth as open as by the jaw dropped to 85 %; in between the lips' distance counts.
        """
        jaw = np.zeros(len(self.actions), np.float32)
        jaw[self.actions.index("AU26")] = _LIPS_APART_JAW
        return np.clip(5.0 * (weights @ self._lip_gap) / (jaw @ self._lip_gap), 0.0, 5.0)

    @cached_property
    def _lip_gap(self) -> np.ndarray:
        """`(A,)` how far each action moves the middle of the lips apart, cm."""
        return lip_gap_cm(self.action_cm)

    def fit(self, landmarks_px: np.ndarray) -> RigFit:
        """Identity, actions and pose of tracked landmarks `(478, 3)` or `(468, 3)` px (y down, z away from the camera).

        Alternates a weighted similarity with a ridge problem in box limits (identity within 3 standard deviations,
        weights 0-1), solved by accelerated projected gradient. Takes a few milliseconds.
        """
        target = np.asarray(landmarks_px, np.float64)[:FACE_COUNT] * _TO_RIG
        solver = self._solver
        x = np.zeros(solver.count)
        for _ in range(_ITERATIONS):
            scale, rotation, shift = align_similarity(solver.shape(x), target, solver.rigid_weight)
            x = solver.solve((target - shift) @ rotation / scale, x)
        shape = solver.shape(x)
        scale, rotation, shift = align_similarity(shape, target, solver.rigid_weight)
        error = scale * shape @ rotation.T + shift - target
        ocular = np.linalg.norm((target[list(RIGHT_EYE)].mean(0) - target[list(LEFT_EYE)].mean(0))[:2])
        return RigFit(
            identity=x[: solver.identity_count].astype(np.float32),
            weights=x[solver.identity_count :].astype(np.float32),
            scale_px_per_cm=scale,
            rotation=rotation,
            shift_px=shift * _TO_RIG,
            residual=float(np.sqrt((error[:, :2] ** 2).sum(1).mean()) / max(ocular, 1e-6)),
        )

    @cached_property
    def _solver(self) -> _BoxRidge:
        return _BoxRidge(self)


def lip_gap_cm(points: np.ndarray) -> np.ndarray:
    """`(...,)` height between the middles of the inner lips of points, or displacements, `(..., P, 3)`."""
    upper, lower = list(UPPER_INNER_LIP[_MIDDLE_LIPS]), list(LOWER_INNER_LIP[_MIDDLE_LIPS])
    return points[..., upper, 1].mean(-1) - points[..., lower, 1].mean(-1)


class _BoxRidge:
    """The linear part of a fit, with everything that does not depend on the face computed once."""

    def __init__(self, rig: LandmarkRig) -> None:
        weight = np.ones(FACE_COUNT)
        weight[list(OVAL)] = 0.3  # the silhouette slides over the skin as the head turns
        weight[list(LIPS)] = 2.0
        weight[[*RIGHT_EYE, *LEFT_EYE]] = 3.0
        self.rigid_weight = weight.copy()
        self.rigid_weight[[*LIPS, *RIGHT_EYE, *LEFT_EYE]] *= 0.3
        self.identity_count = len(rig.identity_cm)
        self.count = self.identity_count + len(rig.action_cm)

        shapes = np.concatenate([rig.identity_cm[:, :FACE_COUNT], rig.action_cm[:, :FACE_COUNT]]).astype(np.float64)
        self._shapes = shapes.reshape(self.count, -1).T
        self._mean = rig.mean_cm[:FACE_COUNT].astype(np.float64)
        axis_weight = np.repeat(weight[:, None], 3, 1)
        axis_weight[:, 2] *= _DEPTH_WEIGHT
        self._weighted = self._shapes * axis_weight.reshape(-1, 1)
        ridge = np.r_[
            np.full(self.identity_count, _IDENTITY_RIDGE), np.full(self.count - self.identity_count, _ACTION_RIDGE)
        ]
        self._hessian = self._weighted.T @ self._shapes + np.diag(ridge)
        self._step = 1.0 / np.linalg.eigvalsh(self._hessian)[-1]
        self._low = np.r_[np.full(self.identity_count, -_IDENTITY_LIMIT), np.zeros(len(rig.action_cm))]
        self._high = np.r_[np.full(self.identity_count, _IDENTITY_LIMIT), np.ones(len(rig.action_cm))]

    def shape(self, x: np.ndarray) -> np.ndarray:
        """`(468, 3)` cm of coefficients `(I + A,)`."""
        return self._mean + (self._shapes @ x).reshape(-1, 3)

    def solve(self, observed_cm: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Coefficients that explain `observed_cm` `(468, 3)`, started from `x` (Beck & Teboulle 2009, FISTA)."""
        gradient = self._weighted.T @ (observed_cm - self._mean).ravel()
        y, momentum = x, 1.0
        for _ in range(_BOX_STEPS):
            moved = np.clip(y - self._step * (self._hessian @ y - gradient), self._low, self._high)
            following = (1 + np.sqrt(1 + 4 * momentum * momentum)) / 2
            y = moved + (momentum - 1) / following * (moved - x)
            x, momentum = moved, following
        return x


def _check(arrays: dict, actions: list, groups: dict, fill_count: int, look_rad: float) -> None:
    """ValueError where the parts of a rig's file don't fit each other."""
    points = len(arrays["mean_cm"])
    if points <= OUTLINE_START:
        raise ValueError(f"{points} points, expected more than {OUTLINE_START}")
    if len(actions) != len(arrays["action_cm"]) or not {"AU26", "AU45_L", "AU45_R"} <= set(actions):
        raise ValueError(f"{len(actions)} names for {len(arrays['action_cm'])} actions, or no jaw and lids among them")
    if unknown := set(actions) - set(facs.NAMES):
        raise ValueError(f"action {sorted(unknown)[0]} is unknown")
    for name in _OUTLINE_GROUPS:
        places = np.array(groups[name])
        if places.ndim != 1 or places.dtype.kind != "i" or not len(places):
            raise ValueError(f"outline group {name} is no list of points")
        if places.min() < OUTLINE_START or places.max() >= points:
            raise ValueError(f"outline group {name} names points outside {OUTLINE_START} to {points - 1}")
    if not 0 <= fill_count <= len(arrays["triangles"]) or not 0.01 <= look_rad <= 3.0:
        raise ValueError(f"{fill_count} filling triangles, eyes turned by {look_rad} rad")


def _frozen(array: np.ndarray) -> np.ndarray:
    array = np.array(array, np.float32)
    array.setflags(write=False)
    return array


__all__ = ["FACE_COUNT", "LEFT_EYEBALL", "OUTLINE_START", "RIGHT_EYEBALL", "TRACKED_COUNT", "LandmarkRig", "RigFit"]
