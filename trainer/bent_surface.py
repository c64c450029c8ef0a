"""Bent surface: what a face model lets expect of the light on skin under each action, before any picture is seen."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.sparse import csr_matrix

from puppet.landmarks import FACE_COUNT
from puppet.rig import LandmarkRig
from trainer.face_chart import FaceChart, rasterize
from trainer.fold_regression import ACTIONS
from trainer.rig import IctModel
from trainer.topology import vertex_normals

_FACE = slice(0, 9409)  # of the model's vertices
_LIPS_PART = ("AU10_L", "AU10_R", "AU16_L", "AU16_R")  # the model has no AU25: it reaches as far as these

# What a bent surface is worth in brightness: of the normal's part that looks up, of the one that looks at the camera,
# and of hollows. Found once on pairs and clips together, by least squares.
_LIGHT_ABOVE, _LIGHT_AHEAD, _HOLLOW = 0.15, 0.35, -0.6
_HOLLOW_RINGS = 4  # rings of neighbours that a hollow is told from

_REACH = 0.25  # of the greatest displacement: an action's folds lie where it moves skin this far, or close by
_NEAR_PX, _SOFT_PX = 9, 4.0


def expected_light(chart: FaceChart, rig: LandmarkRig, model: IctModel, landmarks_cm: np.ndarray) -> np.ndarray:
    """`(A, P)` change of the logarithm of the light at intensity 5; nothing for actions that the model does not have.

    `landmarks_cm` `(468, 3)`: where the landmarks lie on the model at rest.
    """
    triangles = model.triangles[(model.triangles < _FACE.stop).all(1)]
    surface = _Surface(triangles, _FACE.stop)
    rest = model.neutral_cm[_FACE]
    at = chart.place(rest, landmarks_cm)
    covered, share = rasterize(at, triangles, chart.skin.shape, nearness=rest[:, 2])
    out = np.zeros((len(ACTIONS), chart.skin.sum()), np.float32)
    for name in rig.actions:
        change = surface.light(rest + model.action(name)[_FACE]) - surface.light(rest)
        plane = (change[triangles[np.maximum(covered, 0)]] * share).sum(-1).astype(np.float32)
        out[ACTIONS.index(name)] = chart.details(plane)
    return out


def reach(chart: FaceChart, rig: LandmarkRig) -> np.ndarray:
    """`(A, P)` 0-1: where on the skin an action has any say."""
    out = np.zeros((len(ACTIONS), chart.height, chart.width), np.float32)
    for name, moved in zip(rig.actions, rig.action_cm[:, :FACE_COUNT], strict=True):
        far = chart.spread(np.linalg.norm(moved, axis=1))
        out[ACTIONS.index(name)] = np.clip(far / (_REACH * np.percentile(far, 99.5)), 0, 1)
    out[ACTIONS.index("AU25")] = np.maximum.reduce([out[ACTIONS.index(name)] for name in _LIPS_PART])
    near = np.ones((_NEAR_PX, _NEAR_PX), np.uint8)
    return np.stack([cv2.GaussianBlur(cv2.dilate(plane, near), (0, 0), _SOFT_PX)[chart.skin] for plane in out])


class _Surface:
    """How bright a bent surface is in light from the camera and a little from above, dimmed in hollows."""

    def __init__(self, triangles: np.ndarray, count: int) -> None:
        edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
        edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
        linked = csr_matrix((np.ones(len(edges)), edges.T), shape=(count, count))
        self._triangles, self._linked = triangles, linked
        self._degree = np.maximum(np.asarray(linked.sum(1)), 1)

    def light(self, points_cm: np.ndarray) -> np.ndarray:
        """`(V,)` of points `(V, 3)`."""
        normals = vertex_normals(points_cm, self._triangles)
        around = points_cm
        for _ in range(_HOLLOW_RINGS):
            around = (self._linked @ around) / self._degree
        hollow = ((around - points_cm) * normals).sum(1)  # cm
        return _LIGHT_ABOVE * normals[:, 1] + _LIGHT_AHEAD * normals[:, 2] + _HOLLOW * hollow
