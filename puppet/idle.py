"""What the portrait does while the driver's face is not seen: hold, ease to rest, then live quietly."""

from __future__ import annotations

import numpy as np

from puppet import easing, facs

HOLD_S = 0.5
EASE_S = 1.0
RETURN_S = 0.35
_BLINK_EVERY_S = 4.0
_LIDS = facs.columns_of("AU45")


class IdleMotion:
    """Controls without a driver; a function of time and seed only, so a run can be repeated."""

    def __init__(self, rest: np.ndarray, *, seed: int = 0):
        """`rest` is the `(SIZE,)` control to settle at, usually `Puppet.rest_control`."""
        self._rest = np.asarray(rest, np.float32).copy()
        self._seed = seed

    def control(self, since_lost_s: float, last_control: np.ndarray, time_s: float) -> np.ndarray:
        """The control `since_lost_s` after the face was last seen, a new `(SIZE,)` float32.

        `last_control` is what was rendered then (it is held for `HOLD_S`, then left within `EASE_S`); `time_s` is any
        clock that goes on, and places the blinks.
        """
        left = easing.minimum_jerk((since_lost_s - HOLD_S) / EASE_S)
        control = last_control + left * (self._rest - last_control)
        closure = self._blink(time_s, settled_at_s=time_s - since_lost_s + HOLD_S + EASE_S)
        control[_LIDS] += (facs.MAX_INTENSITY - control[_LIDS]) * closure
        return control.astype(np.float32)

    def returning(self, since_found_s: float, idle_control: np.ndarray, control: np.ndarray) -> np.ndarray:
        """The driver's `control`, reached from the last `idle_control` within `RETURN_S` without a jump."""
        arrived = easing.minimum_jerk(since_found_s / RETURN_S)
        return (idle_control + arrived * (control - idle_control)).astype(np.float32)

    def _blink(self, time_s: float, *, settled_at_s: float) -> float:
        """Closure 0-1: one blink at a random place in every `_BLINK_EVERY_S`, none before rest is reached."""
        slot = int(time_s // _BLINK_EVERY_S)
        random = np.random.default_rng((self._seed, slot & 0xFFFFFFFF))
        start = slot * _BLINK_EVERY_S + random.uniform(0.0, _BLINK_EVERY_S - easing.BLINK_S)
        return float(easing.blink(time_s - start)) if start >= settled_at_s else 0.0
