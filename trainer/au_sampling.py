"""Random facial actions that people make: sparse, often symmetric, sometimes one-sided, strong ones included.

Half of the samples are free combinations of a few actions, so that no action is learnt from its company (a smile does
not imply raised cheeks); the others are weaker or stronger versions of known expressions and mouth shapes of speech,
because free combinations alone rarely look like those.
"""

from __future__ import annotations

import numpy as np

from puppet import facs
from puppet.rig import LandmarkRig

EXPRESSIONS: tuple[dict[str, float], ...] = (
    {"AU06": 3, "AU12": 4},
    {"AU06": 4, "AU07": 2, "AU12": 5, "AU26": 2.5, "AU16": 1.5, "AU10": 1},
    {"AU12": 2},
    {"AU12": 3, "AU14": 2},
    {"AU01": 4, "AU02": 4, "AU05": 4, "AU26": 3},
    {"AU01": 3, "AU02": 3},
    {"AU01": 3, "AU04": 3, "AU15": 3, "AU17": 2},
    {"AU04": 4, "AU05": 2, "AU07": 3, "AU23": 3},
    {"AU04": 4, "AU07": 3, "AU24": 3},
    {"AU09": 4, "AU10": 3, "AU17": 2, "AU04": 2},
    {"AU01": 4, "AU02": 2, "AU04": 3, "AU05": 4, "AU20": 4, "AU26": 2},
    {"AU18": 5},
    {"AU22": 4, "AU26": 1.5},
    {"AU26": 5},
    {"AU26": 2, "AU16": 2},
    {"AU26": 1},
    {"AU20": 3, "AU26": 1},
    {"AU24": 4, "AU17": 2},
    {"AU23": 4},
    {"AU28": 4},
    {"AU34": 4, "AU24": 2},
    {"AU17": 4, "AU15": 3},
    {"AU45": 5},
    {"AU07": 4, "AU06": 2},
)
OPPOSED = (
    ("AU45", "AU05"),
    ("AU12", "AU18"),
    ("AU20", "AU18"),
    ("AU22", "AU28"),
    ("AU22", "AU24"),
    ("AU26", "AU28"),
    ("AU26", "AU24"),
    ("AU26", "AU23"),
    ("AU12", "AU15"),
    ("AU01", "AU09"),
    ("AU34", "AU26"),
    ("AU45", "AU07"),
    ("AU28", "AU23"),
    ("AU28", "AU24"),
    ("AU18", "AU23"),
    ("AU22", "AU23"),
)
"""Where both would be strong, the second yields: the face can't do both, or nobody could see the second."""
ONE_SIDED = ("mouth", "AU30")  # of these only one side is ever active


def sample_intensities(rng: np.random.Generator, count: int, rig: LandmarkRig) -> np.ndarray:
    """`(count, INTENSITY_COUNT)` float32, 0-5 in facs order; AU25 is what the others make of the lips, or less."""
    total = np.zeros((count, facs.INTENSITY_COUNT), np.float32)
    kind = rng.choice(3, count, p=[0.07, 0.48, 0.45])
    for row, k in zip(total, kind, strict=True):
        if k == 1:
            _free(rng, row)
        elif k == 2:
            _expression(rng, row)
        _eyelids(rng, row)
    for first, second in OPPOSED:
        a, b = _places(first), _places(second)
        overlap = np.clip(total[:, a].max(1) - 1.0, 0, 4) / 4
        total[:, b] *= (1 - overlap)[:, None]
    total = with_lips_part(np.clip(total, 0, facs.MAX_INTENSITY), rig)
    sealed = np.where(rng.random(count) < 0.2, rng.uniform(0, 1, count), 1.0)  # jaw dropped behind closed lips
    total[:, facs.INDEX["AU25"]] *= sealed.astype(np.float32)
    return total


def with_lips_part(intensities: np.ndarray, rig: LandmarkRig) -> np.ndarray:
    """A copy with AU25 computed from the other actions."""
    out = intensities.copy()
    out[..., facs.INDEX["AU25"]] = rig.lips_part(weights_of(intensities, rig))
    return out


def weights_of(intensities: np.ndarray, rig: LandmarkRig) -> np.ndarray:
    """Rig weights `(..., A)` 0-1 of intensities `(..., INTENSITY_COUNT)`."""
    return intensities[..., [facs.INDEX[name] for name in rig.actions]] / np.float32(facs.MAX_INTENSITY)


def sample_gaze(rng: np.random.Generator, count: int) -> np.ndarray:
    """`(count, 2)` float32 yaw and pitch of the eyes, rad: mostly ahead, sometimes anywhere."""
    ahead = rng.random((count, 1)) < 0.5
    near, far = rng.normal(0, 0.06, (count, 2)), rng.uniform([-0.6, -0.45], [0.6, 0.45], (count, 2))
    return np.where(ahead, near, far).astype(np.float32)


def mirrored_columns() -> np.ndarray:
    """`(INTENSITY_COUNT,)` places that swap left and right."""
    swap = {"L": "R", "R": "L"}
    names = [c.name[:-1] + swap[c.side] if c.side else c.name for c in facs.COLUMNS[: facs.INTENSITY_COUNT]]
    return np.array([facs.INDEX[name] for name in names])


def _places(au: str) -> list[int]:
    return facs.columns_of(au)


_GROUPS = tuple(
    dict.fromkeys(n.rsplit("_", 1)[0] if n.endswith(("_L", "_R")) else n for n in facs.INTENSITY_NAMES if n != "AU25")
)


def _free(rng: np.random.Generator, row: np.ndarray) -> None:
    for group in rng.choice(len(_GROUPS), rng.integers(2, 10), replace=False):
        _set(rng, row, _GROUPS[group], 5 * rng.beta(1.3, 1.1), one_sided=0.25)


def _expression(rng: np.random.Generator, row: np.ndarray) -> None:
    chosen = EXPRESSIONS[rng.integers(len(EXPRESSIONS))]
    strength = rng.uniform(0.2, 1.2)
    for au, intensity in chosen.items():
        if rng.random() < 0.9:
            _set(rng, row, au, intensity * strength * rng.uniform(0.6, 1.3), one_sided=0.06)
    for group in rng.choice(len(_GROUPS), rng.integers(1, 6), replace=False):
        _set(rng, row, _GROUPS[group], 5 * rng.beta(1.0, 1.8), one_sided=0.15)


def _eyelids(rng: np.random.Generator, row: np.ndarray) -> None:
    """Blinks and winks are short, but nothing else matters as much when they happen."""
    chance = rng.random()
    if chance < 0.14:
        _set(rng, row, "AU45", 5 * rng.beta(2.0, 0.7), one_sided=0.0)
    elif chance < 0.22:
        _set(rng, row, "AU45", 5 * rng.beta(2.5, 0.6), one_sided=1.0)


def _set(rng: np.random.Generator, row: np.ndarray, group: str, intensity: float, one_sided: float) -> None:
    places = _places(group)
    row[places] = np.minimum(intensity * rng.uniform(0.85, 1.15, len(places)), facs.MAX_INTENSITY)
    if len(places) == 2 and (group in ONE_SIDED or rng.random() < one_sided):
        row[places[rng.integers(2)]] *= 0.0 if group in ONE_SIDED else rng.choice([0.0, 0.0, 0.3])
