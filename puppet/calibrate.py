"""The driver's own neutral, found while they talk, so that nobody has to pose.

Estimates are absolute: a face with low brows reads as a frown, narrow eyes as half closed, a laptop's camera below the
chin as a lifted head. Three corrections make them relative to this person, camera and seat:

- intensities: a low quantile over a long fading window is the resting value and is taken off, less and less towards 5,
  so that 5 stays 5;
- lids: a range. The usual opening maps to 0 and the peaks of the person's own blinks to 5;
- head, gaze, place: relative to their median.

No correction is larger than a resting face can need (`_MOST_REST`), and frames of an evident expression hardly count,
so that a recording that starts with a smile keeps its smile; what is wrong at first fades as the rest is seen.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from puppet import facs
from puppet.pose import angles_from_rotation, rotation_from_angles
from puppet.quantile import RunningQuantile

log = logging.getLogger(__name__)

FORMAT = 1
_MOST_BYTES = 64_000
_MOST_VALUE = 50.0
_LIDS = facs.columns_of("AU45")
_HEAD = [facs.INDEX[name] for name in ("yaw_rad", "pitch_rad", "roll_rad")]
_GAZE = [facs.INDEX[name] for name in facs.GAZE_NAMES]
_SHIFT = [facs.INDEX[name] for name in ("shift_x", "shift_y")]
_SCALE = facs.INDEX["scale"]
_EYES_FROM_PIVOT = np.array([0.0, 1.57, 1.92])
"""Middle of the eyes seen from the point about which the generator turns a head, on the mean head, in inter-ocular
distances, head frame. Estimated places are the eyes'; a control's place is that point's."""
_INTENSITY = np.array([c.is_intensity for c in facs.COLUMNS])
_OFFSET_ONLY = [i for i in range(facs.INTENSITY_COUNT) if i not in _LIDS]

_QUANTILE = np.array([0.35 if i in _LIDS else 0.25 if c.is_intensity else 0.5 for i, c in enumerate(facs.COLUMNS)])

_MOST_REST: Mapping[str, float] = {
    "AU01": 1.0, "AU02": 1.5, "AU04": 1.8, "AU05": 0.9, "AU06": 0.7, "AU07": 0.9, "AU12": 0.9, "AU15": 1.0,
    "AU17": 0.9, "AU20": 1.0, "AU25": 0.7, "AU26": 0.6, "AU45": 2.0,
}  # fmt: skip
_MOST_REST_ELSE = 0.6
# The 95th to 100th percentile of estimates of 83 people asked for a neutral face and a little more; much more for lids,
# because they were also asked to look at the camera, and people at a desk look down at their screen.
_MOST_POSE = {"yaw_rad": 0.4, "pitch_rad": 0.5, "roll_rad": 0.3, "gaze_yaw_rad": 0.35, "gaze_pitch_rad": 0.35}
_MOST_ON_REQUEST = 3.5
"""Bound of `set_neutral`: the driver said so, but a closed eye or a scream is no neutral."""

_BROWS = [i for au in ("AU01", "AU02", "AU04") for i in facs.columns_of(au)]
_MOUTH_TELLTALES = [i for au in ("AU09", "AU10", "AU12", "AU20", "AU18", "AU25", "AU26") for i in facs.columns_of(au)]
_EXPRESSIVE_OVER = 0.6  # above the most a resting face can need
_EXPRESSIVE_WEIGHT = 0.1

_FRONTAL_RAD, _TURNED_RAD, _TURNED_WEIGHT = 0.15, 0.35, 0.4
"""A head seen from the front says more about where the driver sits than one that is turned away: whoever starts turned
is not taken to sit so. Where a head is never seen from the front, as with a camera at the side, all frames count alike.
"""
_POSE = [*_HEAD, *_GAZE, *_SHIFT, _SCALE]

_RECENT_S = 0.5
_PRIOR_S = np.array([0.5 if i in _LIDS else 0.3 if c.is_intensity else 0.0 for i, c in enumerate(facs.COLUMNS)])
_WARM_FOLLOW_S = np.where(_INTENSITY, 0.15, 0.5)  # a head in motion would drag its neutral along
_STEP_S = 0.1
_CLOSED_PRIOR = 4.0
_BLINKS_KEPT = 32
_BLINK_LONGEST_S = 0.5
_BLINK_LEAST_RISE = 2.0
_OPEN_MARGIN = 0.15  # lids tremble; what is this near to open is open
_SHUT_SHARE = 0.96  # this much of the way to closed is closed


class NeutralCalibrator:
    """Learns one driver's neutral and applies it. `observe` once a frame, then `apply`."""

    def __init__(self, *, warm_s: float = 2.0, memory_s: float = 120.0):
        """`warm_s`: the first seconds, in which corrections follow at once; `memory_s`: the window, fading out."""
        self._warm_s = warm_s
        self._memory_s = memory_s
        low, high = facs.LOW.astype(float), facs.HIGH.astype(float)
        # Before calibration, places are absolute: distances from the picture's centre, size as a share of its height.
        low[_SHIFT], high[_SHIFT] = -5.0, 5.0
        low[_SCALE], high[_SCALE] = np.log(0.005), np.log(2.0)
        self._window = RunningQuantile(low, high)
        self._most = _most_array()
        self._rest = facs.REST.astype(np.float64)  # scale is kept as its logarithm in here
        self._lids = [_LidRange() for _ in _LIDS]
        self._recent: deque[tuple[float, np.ndarray]] = deque(maxlen=64)
        self._seen_s = 0.0
        self._since_step_s = 0.0
        self._last_s: float | None = None
        self._placed = False

    def observe(self, control: np.ndarray, time_s: float) -> None:
        """Learn from one absolute estimate, `(SIZE,)`; call it only for frames in which the driver's face was seen."""
        if not np.isfinite(control).all():
            return
        values = _with_log_scale(control)
        step_s = 1.0 / 30.0 if self._last_s is None else float(np.clip(time_s - self._last_s, 0.0, 0.1))
        self._last_s = time_s
        while self._recent and not 0.0 <= time_s - self._recent[0][0] <= _RECENT_S:
            self._recent.popleft()
        self._recent.append((time_s, values))
        if not self._placed:
            self._rest = np.where(_INTENSITY, self._rest, self._bounded(values))
            self._window.reset(self._rest, _PRIOR_S)
            self._placed = True
        for lid, place in zip(self._lids, _LIDS, strict=True):
            lid.observe(values[place], self._rest[place], time_s)
        self._window.observe(values, step_s * self._weight(values), keep=float(np.exp(-step_s / self._memory_s)))
        self._seen_s += step_s
        self._since_step_s += step_s
        if self._since_step_s >= _STEP_S or self._seen_s < self._warm_s:
            self._follow(self._since_step_s)
            self._since_step_s = 0.0

    def apply(self, control: np.ndarray) -> np.ndarray:
        """The control relative to the neutral so far, a new `(SIZE,)` float32 within the table's ranges.

        Before the first `observe`, intensities pass and the head is at rest.
        """
        result = np.array(control, np.float64)
        if not self._placed:
            result[~_INTENSITY] = facs.REST[~_INTENSITY]
            return facs.clip(result).astype(np.float32)
        rest = self._rest[_OFFSET_ONLY]
        above = result[_OFFSET_ONLY] - rest
        result[_OFFSET_ONLY] = above + rest * (above / (facs.MAX_INTENSITY - rest)) ** 3
        for lid, place in zip(self._lids, _LIDS, strict=True):
            result[place] = lid.closure(result[place], self._rest[place])
        turned = rotation_from_angles(*self._rest[_HEAD]).T @ rotation_from_angles(*result[_HEAD])
        result[_HEAD] = angles_from_rotation(turned)
        result[_GAZE] -= self._rest[_GAZE]
        # In pixels of the neutral face, so that leaning forward at the picture's edge is no sideways move; and without
        # what turning and growing about the neck moves the eyes by themselves.
        ratio = max(float(result[_SCALE]), 1e-6) / np.exp(self._rest[_SCALE])
        by_turning = ratio * turned @ _EYES_FROM_PIVOT - _EYES_FROM_PIVOT
        result[_SHIFT] = result[_SHIFT] * ratio - self._rest[_SHIFT] - by_turning[:2]
        result[_SCALE] = ratio
        return facs.clip(result).astype(np.float32)

    def set_neutral(self) -> bool:
        """Take the last half second as the neutral; False where no face was seen yet."""
        if not self._recent:
            return False
        values = np.median([value for _, value in self._recent], axis=0)
        values[_INTENSITY] = np.minimum(values[_INTENSITY], _MOST_ON_REQUEST)
        self._most = np.maximum(_most_array(), np.where(_INTENSITY, values, 0.0))
        self._take(values, weight_s=20.0)
        return True

    def save(self, path: str | Path) -> None:
        """Write the neutral as JSON, whole or not at all.

        Raises:
            OSError: the folder can't be written.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "format": FORMAT,
            "rest": {name: round(float(v), 4) for name, v in zip(facs.NAMES, self.rest, strict=True)},
            "closed": {facs.NAMES[place]: round(lid.closed, 4) for lid, place in zip(self._lids, _LIDS, strict=True)},
        }
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
        os.replace(partial, path)

    def load(self, path: str | Path) -> bool:
        """Start from a saved neutral; False where there is none, or (after one warning) where the file is damaged.

        The intensities are kept for a while; the seat is only a first guess, since people sit differently every day.
        """
        try:
            if Path(path).stat().st_size > _MOST_BYTES:
                raise ValueError(f"larger than {_MOST_BYTES} bytes")
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']}, expected {FORMAT}")
            rest = np.array([float(content["rest"][name]) for name in facs.NAMES])
            closed = [float(content["closed"][facs.NAMES[place]]) for place in _LIDS]
            # What `save` writes is bounded by the window's own limits; false for what is not a number, too.
            if not (np.abs([*rest, *closed]) <= _MOST_VALUE).all() or not 0.005 < rest[_SCALE] < 2.0:
                raise ValueError("values out of range")
        except FileNotFoundError:
            return False
        except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError) as exc:
            log.warning("neutral %s is ignored: %s. It is written anew at the end.", path, exc)
            return False
        self._take(_with_log_scale(rest), weight_s=2.0)
        for lid, value in zip(self._lids, closed, strict=True):
            lid.start_from(value)
        return True

    @property
    def rest(self) -> np.ndarray:
        """The neutral so far as an absolute control, a new `(SIZE,)` float32."""
        rest = self._rest.copy()
        rest[_SCALE] = np.exp(rest[_SCALE]) if self._placed else facs.REST[_SCALE]
        return rest.astype(np.float32)

    @property
    def is_warm(self) -> bool:
        """Whether enough was seen for the corrections to be trusted."""
        return self._seen_s >= self._warm_s

    def _take(self, values: np.ndarray, *, weight_s: float) -> None:
        self._rest = self._bounded(values)
        self._window.reset(self._rest, weight_s)
        self._seen_s = max(self._seen_s, self._warm_s)
        self._placed = True

    def _weight(self, values: np.ndarray) -> np.ndarray:
        """How much a frame says about the neutral: little where an expression or closed eyes are evident."""
        is_over = values > self._most + _EXPRESSIVE_OVER
        weight = np.ones(facs.SIZE)
        # A smile says nothing against the brows' rest, but it narrows the eyes.
        if is_over[_MOUTH_TELLTALES].any():
            weight[_INTENSITY] = _EXPRESSIVE_WEIGHT
            weight[_BROWS] = 1.0
        if is_over[_BROWS].any():
            weight[_BROWS] = _EXPRESSIVE_WEIGHT
        weight[_LIDS] = np.where(is_over[_LIDS], _EXPRESSIVE_WEIGHT, weight[_LIDS])
        turn_rad = abs(values[facs.INDEX["yaw_rad"]])
        weight[_POSE] = np.interp(turn_rad, [_FRONTAL_RAD, _TURNED_RAD], [1.0, _TURNED_WEIGHT])
        return weight

    def _follow(self, step_s: float) -> None:
        """Move the neutral towards the window's quantiles: at once at first, later too slowly to be seen."""
        target = self._bounded(self._window.quantile(_QUANTILE))
        if self._seen_s < self._warm_s:
            seconds = _WARM_FOLLOW_S
        else:
            # Too high a rest swallows expressions, too low a one only shows a little of them: hurry downwards.
            seconds = np.where(_INTENSITY & (target < self._rest), 1.0, 4.0)
            yaw = facs.INDEX["yaw_rad"]
            if abs(target[yaw]) + _FRONTAL_RAD < abs(self._rest[yaw]):
                seconds[_POSE] = 0.7  # it was begun turned, and is seen from the front now
        self._rest += (target - self._rest) * (1.0 - np.exp(-step_s / seconds))

    def _bounded(self, values: np.ndarray) -> np.ndarray:
        return np.clip(values, np.where(_INTENSITY, 0.0, -self._most), self._most)


class _LidRange:
    """How far one eye's lid closes: the height of the person's own blinks."""

    def __init__(self):
        self._peaks: deque[float] = deque([_CLOSED_PRIOR] * 2, maxlen=_BLINKS_KEPT)
        self._began_s: float | None = None
        self._peak = 0.0
        self.closed = _CLOSED_PRIOR
        """Estimate at full closure."""

    def start_from(self, closed: float) -> None:
        """Begin with what was learnt in an earlier run."""
        self._note(closed, times=3)

    def _note(self, peak: float, *, times: int = 1) -> None:
        self._peaks.extend([peak] * times)
        self.closed = float(np.median(self._peaks))

    def observe(self, value: float, usual: float, time_s: float) -> None:
        """Follow one lid and note the peak of what was quick enough to be a blink."""
        if value > usual + 0.8:
            if self._began_s is None:
                self._began_s, self._peak = time_s, 0.0
            self._peak = max(self._peak, value)
        elif self._began_s is not None:
            is_blink = 0.0 < time_s - self._began_s < _BLINK_LONGEST_S and self._peak > usual + _BLINK_LEAST_RISE
            if is_blink:
                self._note(self._peak)
            self._began_s = None

    def closure(self, value: float, usual: float) -> float:
        """0 (open as usual) to 5 (closed)."""
        open_at = usual + _OPEN_MARGIN
        shut_at = max(_SHUT_SHARE * self.closed, open_at + 1.0)
        return (value - open_at) / (shut_at - open_at) * facs.MAX_INTENSITY


def _most_rest(column: facs.Column) -> float:
    """The largest correction a resting face can need; infinite where position is a matter of where one sits."""
    if column.is_intensity:
        return _MOST_REST.get(column.au or "", _MOST_REST_ELSE)
    return _MOST_POSE.get(column.name, np.inf)


def _most_array() -> np.ndarray:
    return np.array([_most_rest(column) for column in facs.COLUMNS])


def _with_log_scale(control: np.ndarray) -> np.ndarray:
    values = np.array(control, np.float64)
    values[_SCALE] = np.log(max(values[_SCALE], 1e-6))
    return values
