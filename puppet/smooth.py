"""Take the tracker's noise out of controls without lag where lag is seen.

One-Euro filter per column (Casiez, Roussel & Vogel 2012): a low-pass whose cutoff rises with speed, so that a still
face does not shiver and a moving one is not late. Deviations: speed is taken between raw samples, and a step larger
than noise can make ("snap") passes at once, because lids and eyes really jump: a blink closes in three frames, a
saccade takes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from puppet import facs

MAX_GAP_S = 0.5
"""After a longer gap the filter starts anew: what was before says nothing about now."""


@dataclass(frozen=True)
class FilterSettings:
    """One-Euro parameters of a group of columns; "unit" is the column's own (intensity, radian, ...)."""

    min_cutoff_hz: float  # at rest: lower is calmer
    beta_hz_per_speed: float  # cutoff added for each unit per second above `still_speed`: higher is quicker
    still_speed: float  # units per second that noise makes in a still face
    speed_cutoff_hz: float  # smoothing of the speed itself
    snap_up: float = np.inf  # a rise over the output by more than this many units passes at once
    snap_down: float = np.inf


GROUPS: Mapping[str, FilterSettings] = {
    "lids": FilterSettings(2.0, 3.0, 3.0, 10.0, snap_up=0.5),
    "lips": FilterSettings(1.5, 1.5, 2.5, 8.0, snap_up=1.2, snap_down=1.2),
    "brows": FilterSettings(1.2, 1.0, 2.5, 6.0, snap_up=2.0, snap_down=2.0),
    "gaze": FilterSettings(1.2, 12.0, 0.35, 8.0, snap_up=0.10, snap_down=0.10),
    "head": FilterSettings(0.8, 20.0, 0.08, 4.0),
    "place": FilterSettings(0.8, 15.0, 0.10, 4.0),
}
_UPPER_FACE = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09")


def group_of(column: facs.Column) -> str:
    """The name in `GROUPS` that a column belongs to."""
    if column.au == "AU45":
        return "lids"
    if column.au in _UPPER_FACE:
        return "brows"
    if column.is_intensity:
        return "lips"
    if column.name in facs.GAZE_NAMES:
        return "gaze"
    return "place" if column.name in ("shift_x", "shift_y", "scale") else "head"


class Smoother:
    """Smooths a stream of controls; holds a few vectors of state."""

    def __init__(self, *, groups: Mapping[str, FilterSettings] = GROUPS, strength: float = 1.0):
        """`strength` divides the cutoffs at rest: 0.5 is livelier and noisier, 2 calmer and slower."""
        settings = [groups[group_of(column)] for column in facs.COLUMNS]
        self._min_cutoff = np.array([s.min_cutoff_hz for s in settings]) / strength
        self._beta = np.array([s.beta_hz_per_speed for s in settings])
        self._still_speed = np.array([s.still_speed for s in settings])
        self._speed_cutoff = np.array([s.speed_cutoff_hz for s in settings])
        self._snap_up = np.array([s.snap_up for s in settings])
        self._snap_down = np.array([s.snap_down for s in settings])
        self.reset()

    def reset(self) -> None:
        """Forget the past; the next control passes unchanged."""
        self._time_s: float | None = None
        self._raw = self._smooth = self._speed = np.zeros(facs.SIZE)

    def smooth(self, control: np.ndarray, time_s: float) -> np.ndarray:
        """The smoothed control at `time_s`, a new `(SIZE,)` float32; times may come at any rate and must grow.

        A value that is not finite is replaced by the column's last one.
        """
        raw = np.where(np.isfinite(control), control, self._raw if self._time_s is not None else facs.REST)
        if self._time_s is None or not 0.0 <= time_s - self._time_s <= MAX_GAP_S:
            self._time_s, self._raw, self._smooth = time_s, raw.astype(np.float64), raw.astype(np.float64)
            self._speed = np.zeros(facs.SIZE)
            return raw.astype(np.float32)
        step_s = time_s - self._time_s
        if step_s > 0.0:
            speed = (raw - self._raw) / step_s
            self._speed = self._speed + _alpha(self._speed_cutoff, step_s) * (speed - self._speed)
            cutoff = self._min_cutoff + self._beta * np.maximum(np.abs(self._speed) - self._still_speed, 0.0)
            moved = self._smooth + _alpha(cutoff, step_s) * (raw - self._smooth)
            ahead = raw - self._smooth
            jumps = (ahead > self._snap_up) | (-ahead > self._snap_down)
            self._time_s, self._raw, self._smooth = time_s, raw, np.where(jumps, raw, moved)
        return self._smooth.astype(np.float32)


def _alpha(cutoff_hz: np.ndarray, step_s: float) -> np.ndarray:
    """Weight of the new sample in a first-order low-pass."""
    return 1.0 / (1.0 + 1.0 / (2.0 * np.pi * cutoff_hz * step_s))
