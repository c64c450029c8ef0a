"""Regression of the light on the skin on actions, pixel by pixel of a chart of the face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from puppet import facs

ACTIONS = facs.INTENSITY_NAMES
_MIRRORED_ACTIONS = facs.MIRRORED[: facs.INTENSITY_COUNT]
_WHOLE_PERSON = 12  # pairs of one person count as this many at most
_SHARED_RIDGE = 1e-2
_LEAST_REACH, _FADED_REACH = 0.02, 0.1  # below the second an action fades out
_PIXELS_AT_ONCE = 2000


@dataclass(frozen=True)
class Faces:
    """Faces each alone, or each less another one of the same person.

    `light` `(N, P)` logarithm of brightness on the chart's skin, `actions` `(N, A)` 0-1, `people` `(N,)` str; `shared`
    `(N, S)` what else the light of faces alone may follow.
    """

    light: np.ndarray
    actions: np.ndarray
    people: np.ndarray
    shared: np.ndarray | None = None

    def take(self, chosen: np.ndarray) -> Faces:
        kept = {name: value for name, value in vars(self).items() if value is not None}
        return Faces(**{name: value[chosen] for name, value in kept.items()})


def regress(
    stills: Faces,
    pairs: Faces,
    *,
    expected: np.ndarray,
    reach: np.ndarray,
    mirrored: np.ndarray,
    ridge: float,
    pair_weight: float,
) -> np.ndarray:
    """`(A, P)`: what each action, at intensity 5, adds to the logarithm of the light.

    Learned from faces each alone and from pairs, which weigh `pair_weight`, both seen in a mirror as well. What is not
    learned stays as `expected` `(A, P)`, to which `ridge` faces with the action at intensity 5 are equal. `reach`
    `(A, P)` 0-1 says where an action moves skin, `mirrored` `(P,)` which pixel mirrors which. The first column of what
    stills share is the head's turn to the side.
    """
    counts = dict(zip(*np.unique(pairs.people, return_counts=True), strict=True))
    weight = np.array([pair_weight * min(1, _WHOLE_PERSON / counts[who]) for who in pairs.people])
    own, shared = len(ACTIONS), stills.shared.shape[1]
    gram = np.diag(np.r_[np.zeros(own), np.full(shared, _SHARED_RIDGE)])
    answer = np.zeros((own + shared, stills.light.shape[1]))
    turned_left = np.r_[-1.0, np.ones(shared - 1)]  # the head's turn to the side changes its sign in a mirror
    for order, pixels, signs in (
        (slice(None), slice(None), 1.0),
        (_MIRRORED_ACTIONS, mirrored, turned_left),
    ):
        known = np.concatenate([stills.actions[:, order], stills.shared * signs], 1)
        gram += known.T @ known
        answer += known.T @ stills.light[:, pixels]
        some = pairs.actions[:, order]
        gram[:own, :own] += (some * weight[:, None]).T @ some
        answer[:own] += (some * weight[:, None]).T @ pairs.light[:, pixels]
    # What the light shares with other things is solved with the actions and left behind.
    away = np.linalg.solve(gram[own:, own:], gram[own:, :own]).T
    gram, answer = gram[:own, :own] - away @ gram[own:, :own], answer[:own] - away @ answer[own:]
    # An action's ridge grows where it does not move the skin: no ring of a beard's colour round every smile.
    stiffness = ridge / np.maximum(reach, _LEAST_REACH) ** 2
    answer += stiffness * expected
    maps = np.empty_like(answer)
    for first in range(0, answer.shape[1], _PIXELS_AT_ONCE):
        some = slice(first, first + _PIXELS_AT_ONCE)
        systems = gram + stiffness[:, some].T[:, :, None] * np.eye(own)
        maps[:, some] = np.linalg.solve(systems, answer[:, some].T[..., None])[..., 0].T
    return maps * np.clip(reach / _FADED_REACH, 0, 1)


def explained(pairs: Faces, maps: np.ndarray) -> float:
    """Share of the pairs' change of light that maps `(A, P)` tell from the actions."""
    left = pairs.light - pairs.actions @ maps
    return 1 - float((left**2).sum() / (pairs.light**2).sum())
