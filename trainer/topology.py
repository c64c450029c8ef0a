"""Meshes: the triangles of MediaPipe's face mesh, recovered from the edges that its wheel carries, and normals."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from puppet.landmarks import (
    LEFT_LOWER_LID,
    LEFT_UPPER_LID,
    LOWER_INNER_LIP,
    RIGHT_LOWER_LID,
    RIGHT_UPPER_LID,
    UPPER_INNER_LIP,
)


def vertex_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """`(V, 3)` unit normals at a mesh's points `(V, 3)`: of the triangles `(T, 3)` round each, weighed by area."""
    a, b, c = (points[triangles[:, corner]] for corner in range(3))
    total = np.zeros_like(points)
    for corner in range(3):
        np.add.at(total, triangles[:, corner], np.cross(b - a, c - a))
    return total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-9)


def mesh_triangles(points: np.ndarray) -> tuple[np.ndarray, int]:
    """`(898, 3)` int32 triangles over 468 landmarks and how many of them, at the end, close eyes and mouth.

    `points` `(468, 3)` (y up, z to the viewer) orient them counter-clockwise from the front.
    """
    skin = _skin_triangles()
    fill = [
        *_strip(RIGHT_UPPER_LID, RIGHT_LOWER_LID),
        *_strip(LEFT_UPPER_LID, LEFT_LOWER_LID),
        *_strip(UPPER_INNER_LIP, LOWER_INNER_LIP),
    ]
    triangles = np.array([*skin, *fill], np.int32)
    a, b, c = (points[triangles[:, k]] for k in range(3))
    # The whole mesh faces outward; at the rim a triangle's own normal may look away from the camera.
    outward = (a + b + c) / 3 - (points.mean(0) - [0, 0, 6.0])
    flipped = (np.cross(b - a, c - a) * outward).sum(1) < 0
    triangles[flipped] = triangles[flipped][:, ::-1]
    return triangles, len(fill)


def _skin_triangles() -> list[tuple[int, int, int]]:
    """The 852 triangles whose edges MediaPipe lists: its 3-cycles, less those that no face fills."""
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_TESSELATION

    following = defaultdict(set)
    for a, b in FACEMESH_TESSELATION:
        following[a].add(b)
    cycles = sorted(
        {tuple(sorted((a, b, c))) for a, b in FACEMESH_TESSELATION for c in following[b] if a in following[c]}
    )
    edges = Counter(frozenset(edge) for t in cycles for edge in _edges(t))
    # An edge of a surface has two triangles at most; a cycle of three crowded edges encloses faces, it is none.
    return [t for t in cycles if not all(edges[frozenset(edge)] > 2 for edge in _edges(t))]


def _edges(t: tuple[int, int, int]) -> tuple[tuple[int, int], ...]:
    return (t[0], t[1]), (t[1], t[2]), (t[2], t[0])


def _strip(upper: tuple[int, ...], lower: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Triangles between two lines that share both ends."""
    found = [(upper[0], upper[1], lower[1])]
    for i in range(1, len(upper) - 2):
        found += [(upper[i], upper[i + 1], lower[i]), (upper[i + 1], lower[i + 1], lower[i])]
    return [*found, (upper[-2], upper[-1], lower[-2])]
