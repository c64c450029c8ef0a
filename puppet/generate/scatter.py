"""Scattered data to a dense field: radial basis interpolation of values known at landmarks.

Hardy's multiquadric (Hardy 1971) with a linear polynomial: smooth between the points, exact at them, no overshoot
beyond the neighbours' values to speak of. One system is solved per portrait, its operator serves all actions.
"""

from __future__ import annotations

import numpy as np


def interpolation_operator(
    points: np.ndarray, queries: np.ndarray, *, softness: float, smoothing: float = 0.0
) -> np.ndarray:
    """Matrix `(Q, N)` that takes values at `points (N, 2)` to `queries (Q, 2)`.

    `softness` is the radius of the multiquadric's rounding and `smoothing` the stiffness given up at the points, both
    in the unit of the points (smoothing in units of the kernel).
    """
    scale = np.ptp(points, axis=0).max()
    centre = points.mean(0)
    p, q = (points - centre) / scale, (queries - centre) / scale
    soft = softness / scale
    n = len(p)
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = -_kernel(p, p, soft) + smoothing * np.eye(n)
    system[:n, n] = system[n, :n] = 1.0
    system[:n, n + 1 :] = p
    system[n + 1 :, :n] = p.T
    # A value at point j is the right-hand side e_j: the first n columns of the inverse are the operator's weights.
    weights = np.linalg.solve(system, np.eye(n + 3, n)).astype(np.float32)
    basis = np.empty((len(q), n + 3), np.float32)
    basis[:, :n] = -_kernel(q.astype(np.float32), p.astype(np.float32), np.float32(soft))
    basis[:, n] = 1.0
    basis[:, n + 1 :] = q
    return basis @ weights


def _kernel(a: np.ndarray, b: np.ndarray, soft: float) -> np.ndarray:
    squared = np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T, 0)
    return np.sqrt(squared + soft * soft)
