"""Actions of faces as the program reads them: a still by itself, a clip with the driver's neutral found on the way."""

from __future__ import annotations

import numpy as np

from puppet import facs
from puppet.estimate import AuEstimator
from puppet.track import Face


class ActionReader:
    """The packaged AU regressor on tracked faces.

    Stills know nothing of each other, and every clip begins without a neutral: a reading depends on nothing that was
    read before, so that it does not matter in which order a folder is gone through or where a run was interrupted.
    """

    def __init__(self) -> None:
        self._still, self._live = AuEstimator(learn_neutral=False), AuEstimator()

    def still(self, landmarks_px: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """`(SIZE,)` actions of one face `(478, 3)` in a picture of `size` (width, height); head and gaze at rest."""
        return actions_of(self._still.estimate(Face(landmarks_px, size)).control)

    def clip(self, landmarks_px: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """`(F, SIZE)` the same of a clip's frames `(F, 478, 3)`, in their order."""
        self._live.neutral.forget()
        return np.stack([actions_of(self._live.estimate(Face(points, size)).control) for points in landmarks_px])


def actions_of(control: np.ndarray) -> np.ndarray:
    """`(SIZE,)` a control's actions, with head and gaze at rest."""
    actions = facs.rest()
    actions[: facs.INTENSITY_COUNT] = control[: facs.INTENSITY_COUNT]
    return actions
