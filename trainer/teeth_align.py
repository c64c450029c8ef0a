"""Teeth of several frames brought onto each other: tracker and rig are off by some pixels, and a mean would be soft."""

from __future__ import annotations

import cv2
import numpy as np

_COARSE = 4  # pictures are first searched at this share of their size
_REACH_CM = 0.4  # how far they may be apart
_ITERATIONS = 25
_STIFFNESS = 0.02  # against stretching, as a share of the picture's own evidence
_LEAST_OVERLAP = 0.3  # of the smaller look's teeth


def align(
    grey: np.ndarray, weight: np.ndarray, onto: np.ndarray, onto_weight: np.ndarray, px_per_cm: float
) -> tuple[np.ndarray, float]:
    """`(2, 3)` map from the places of `onto` to those of `grey` that shows the same there, and how well it does.

    All `(H, W)` float32; the weights say which pixels count. The second number is the correlation of what overlaps, 0
    where too little does. Translation by search, then an affine map by Gauss-Newton steps that resist stretching, with
    the pictures' gain and offset left free (Lucas & Kanade 1981; Baker & Matthews 2004, section 3).
    """
    shift = _search(grey, weight, onto, onto_weight, round(_REACH_CM * px_per_cm))
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    size = onto.shape[1::-1]
    grey, onto = (cv2.GaussianBlur(picture, (0, 0), 1.2) for picture in (grey, onto))
    slopes = [cv2.Sobel(grey, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1))]
    rows, columns = np.nonzero(onto_weight > 0.05)
    if not len(rows):
        return matrix, 0.0
    centre = np.array([columns.mean(), rows.mean()])
    x, y = (columns - centre[0]) / px_per_cm, (rows - centre[1]) / px_per_cm
    seen = np.float32(0)
    for _ in range(_ITERATIONS):
        shown, seen, *slope = (
            cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)[rows, columns]
            for plane in (grey, weight, *slopes)
        )
        both = seen * onto_weight[rows, columns]
        if both.sum() < 20:
            return matrix, 0.0
        gain, offset = _levels(shown, onto[rows, columns], both)
        miss = onto[rows, columns] - gain * shown - offset
        both = both / (1 + (miss / (3 * np.sqrt((both * miss * miss).sum() / both.sum()) + 1e-3)) ** 2)
        sx, sy = gain * slope[0], gain * slope[1]
        basis = np.stack([sx, sy, sx * x, sx * y, sy * x, sy * y], 1)
        system = basis.T @ (basis * both[:, None])
        stiff = _STIFFNESS * (system[0, 0] + system[1, 1]) * np.array([0, 0, 1, 1, 1, 1])
        have = np.array([0, 0, *(matrix[:, :2] - np.eye(2)).ravel() * px_per_cm])
        step = np.linalg.solve(system + np.diag(stiff + 1e-3), basis.T @ (both * miss) - stiff * have)
        change = step[2:].reshape(2, 2) / px_per_cm
        matrix[:, :2] += change
        matrix[:, 2] += step[:2] - change @ centre
        if np.abs(step).max() < 0.02:
            break
    overlap = float((seen * onto_weight[rows, columns]).sum()) / max(min(weight.sum(), onto_weight.sum()), 1.0)
    moved = np.abs(matrix @ np.array([*centre, 1]) - centre).max()
    if overlap < _LEAST_OVERLAP or moved > 1.5 * _REACH_CM * px_per_cm:
        return matrix, 0.0
    shown = cv2.warpAffine(grey, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)[rows, columns]
    return matrix, _correlation(shown, onto[rows, columns], seen * onto_weight[rows, columns])


def _search(
    grey: np.ndarray, weight: np.ndarray, onto: np.ndarray, onto_weight: np.ndarray, reach: int
) -> tuple[float, float]:
    """The whole shift `(x, y)` px with the best correlation, of pictures shrunk to a quarter."""
    grey, weight, onto, onto_weight = (
        cv2.resize(p, None, fx=1 / _COARSE, fy=1 / _COARSE, interpolation=cv2.INTER_AREA)
        for p in (grey, weight, onto, onto_weight)
    )
    reach = -(-reach // _COARSE)
    rows, columns = np.nonzero(onto_weight > 0.1)
    target, own = onto[rows, columns], onto_weight[rows, columns]
    pad = reach + 1
    grey, weight = (cv2.copyMakeBorder(p, pad, pad, pad, pad, cv2.BORDER_CONSTANT) for p in (grey, weight))
    best = (0.0, (0.0, 0.0))
    enough = _LEAST_OVERLAP * min(weight.sum(), onto_weight.sum())
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            at = (rows + pad + down, columns + pad + right)
            both = weight[at] * own
            if (amount := both.sum()) > enough and amount > 4:
                # Of shifts that look alike the smaller one, and the one that lays more over each other.
                score = _correlation(grey[at], target, both) - 0.01 * np.hypot(down, right)
                score *= np.sqrt(amount / min(weight.sum(), onto_weight.sum()))
                if score > best[0]:
                    best = (score, (right * _COARSE, down * _COARSE))
    return best[1]


def _levels(shown: np.ndarray, onto: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Gain and offset that bring one picture's greys to the other's."""
    total = weight.sum()
    mean, wanted = (weight * shown).sum() / total, (weight * onto).sum() / total
    spread = (weight * (shown - mean) ** 2).sum() + 1e-3
    gain = float(np.clip((weight * (shown - mean) * (onto - wanted)).sum() / spread, 0.3, 3.0))
    return gain, float(wanted - gain * mean)


def _correlation(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> float:
    total = weight.sum() + 1e-6
    a, b = a - (weight * a).sum() / total, b - (weight * b).sum() / total
    scale = np.sqrt((weight * a * a).sum() * (weight * b * b).sum())
    return float((weight * a * b).sum() / (scale + 1e-6))
