"""The driver's face at rest, found while they talk: what the AU regressor compares each frame with.

How high somebody's brows stand or how wide their mouth is says little about what they do; the difference to their own
resting face says almost all.
"""

from __future__ import annotations

import numpy as np

from puppet import facs
from puppet.landmarks import TRACKED_COUNT

SNAPSHOTS = 240
"""Kept snapshots: about 40 s at 30 fps."""
_EVERY_FRAME_UNTIL, _EVERY = 30, 5
_LEAST_SNAPSHOTS = 10
_CALM_SHARE = 0.2
_HEAD_COST = 4.0  # intensity units per radian: a turned head is a worse neutral
_COSTS = np.ones(facs.INTENSITY_COUNT)
_COSTS[facs.columns_of("AU45")] = 0.7


class NeutralFace:
    """Mean aligned landmarks of the calmest moments among the last snapshots.

    Calm is judged by intensities that were estimated *without* a neutral, or an early mistake would confirm itself.
    """

    def __init__(self) -> None:
        self._landmarks = np.empty((SNAPSHOTS, TRACKED_COUNT, 3), np.float32)
        self._activity = np.full(SNAPSHOTS, np.inf)
        self._frames = self._taken = 0
        self._mean: np.ndarray | None = None

    @property
    def landmarks_cm(self) -> np.ndarray | None:
        """`(478, 3)` float32 as `puppet.estimate.align` gives them, not to be written to; None at first."""
        return self._mean

    def observe(self, landmarks_cm: np.ndarray, intensities: np.ndarray, head_rad: np.ndarray) -> None:
        """Take a frame: aligned landmarks `(478, 3)`, intensities `(INTENSITY_COUNT,)` 0-5, head angles `(3,)`."""
        self._frames += 1
        if self._frames > _EVERY_FRAME_UNTIL and self._frames % _EVERY:
            return
        place = self._taken % SNAPSHOTS
        self._landmarks[place] = landmarks_cm
        self._activity[place] = intensities @ _COSTS + _HEAD_COST * np.abs(head_rad[:2]).sum()
        self._taken += 1
        if self._taken < _LEAST_SNAPSHOTS:
            return
        count = max(_LEAST_SNAPSHOTS // 2, int(_CALM_SHARE * min(self._taken, SNAPSHOTS)))
        calmest = np.argpartition(self._activity, count - 1)[:count]
        self._mean = self._landmarks[calmest].mean(0)

    def set(self, landmarks_cm: np.ndarray) -> None:
        """This is the driver's neutral: forget what was seen before."""
        self.forget()
        self._landmarks[: _LEAST_SNAPSHOTS // 2] = landmarks_cm
        self._activity[: _LEAST_SNAPSHOTS // 2] = 0.0
        self._taken = self._frames = _LEAST_SNAPSHOTS // 2
        self._mean = np.array(landmarks_cm, np.float32)

    def forget(self) -> None:
        """Start again: another person."""
        self._activity[:] = np.inf
        self._frames = self._taken = 0
        self._mean = None
