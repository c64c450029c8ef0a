"""From the driver's actions to the portrait's: gains, mutes, how much the head follows, mirror, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from puppet import facs
from puppet.errors import ConfigError

MAX_GAIN = 10.0

PRESETS: Mapping[str, Mapping[str, float]] = {
    "natural": {},
    "subtle": {au: 0.7 for au in facs.AUS if au != "AU45"},
    "lively": {au: 1.35 for au in facs.AUS if au != "AU45"},
    "lips": {au: 0.0 for au in ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09")},
}
"""Named gains. Lids are never scaled: a blink has to close the eye."""

# How far a still picture can be turned, moved and resized before hair and background fold (rad, inter-ocular distances,
# natural logarithm of size). Yaw and pitch share one reach, as both uncover the same temple.
_TURN_REACH = {"yaw_rad": 0.38, "pitch_rad": 0.36}
_ROLL_REACH = {"roll_rad": 0.55}
_PLACE_REACH = {"shift_x": 0.7, "shift_y": 0.7}
_SIZE_REACH = 0.3
_FREE_SHARE = 0.7  # of the reach: within it nothing changes, beyond it movement slows down

_NEGATED_IN_MIRROR = ("yaw_rad", "roll_rad", "gaze_yaw_rad", "shift_x")


_MIRROR_SIGN = np.array([-1 if name in _NEGATED_IN_MIRROR else 1 for name in facs.NAMES], np.float32)
_SCALE = facs.INDEX["scale"]
_HEAD = [facs.INDEX[name] for name in facs.HEAD_NAMES]


class Retargeter:
    """Scales a calibrated control for the portrait and keeps it within the table's ranges and a picture's reach.

    `mirror` and `head` may be changed while it runs (keys of the preview).
    """

    def __init__(
        self,
        *,
        gains: Mapping[str, float] | None = None,
        mutes: Sequence[str] = (),
        preset: str = "natural",
        head: float = 1.0,
        mirror: bool = False,
    ):
        """Names are those of `facs`: "AU12" sets both sides, "AU12_L" one, "yaw_rad" an angle.

        Args:
            gains: factor on each action's distance from rest, 0-10; they multiply the preset's.
            mutes: actions that stay at rest.
            preset: a name in `PRESETS`.
            head: how much the head follows, 0 (still) to 1.
            mirror: swap the person's left and right.

        Raises:
            ConfigError: an unknown name, or a value out of its range.
        """
        if preset not in PRESETS:
            raise ConfigError(f"unknown preset {preset!r}: expected one of {', '.join(PRESETS)}.")
        if not 0.0 <= head <= 1.0:
            raise ConfigError(f"head={head:g} is out of range: expected 0 (still) to 1 (follows fully).")
        self.head = head
        self.mirror = mirror
        self._gain = np.ones(facs.SIZE, np.float32)
        for name, gain in (*PRESETS[preset].items(), *(gains or {}).items()):
            if not 0.0 <= gain <= MAX_GAIN:
                raise ConfigError(f"gain {name}={gain:g} is out of range: expected 0 to {MAX_GAIN:g}.")
            self._gain[facs.columns_of(name)] *= gain
        for name in mutes:
            self._gain[facs.columns_of(name)] = 0.0

    def retarget(self, control: np.ndarray) -> np.ndarray:
        """A new `(SIZE,)` float32 control for the portrait, within the ranges of `facs`."""
        gain = self._gain.copy()
        gain[_HEAD] *= self.head
        scaled = facs.REST + gain * (control - facs.REST)
        if self.mirror:
            scaled = scaled[facs.MIRRORED] * _MIRROR_SIGN
        return facs.clip(_within_reach(scaled)).astype(np.float32)


def _within_reach(control: np.ndarray) -> np.ndarray:
    """The control with head pose and place eased into what a picture can show; the direction of movement is kept."""
    result = np.array(control, np.float64)
    for reach in (_TURN_REACH, _ROLL_REACH, _PLACE_REACH):
        places = [facs.INDEX[name] for name in reach]
        result[places] *= _slowed(float(np.linalg.norm(result[places] / list(reach.values()))))
    size = np.log(max(float(result[_SCALE]), 1e-3))
    result[_SCALE] = np.exp(size * _slowed(abs(size) / _SIZE_REACH))
    return result


def _slowed(share: float) -> float:
    """Factor that keeps a share of the reach below 1: 1 up to `_FREE_SHARE`, then ever smaller."""
    if share <= _FREE_SHARE:
        return 1.0
    rest = 1.0 - _FREE_SHARE
    return (_FREE_SHARE + rest * np.tanh((share - _FREE_SHARE) / rest)) / share
