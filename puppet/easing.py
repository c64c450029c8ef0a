"""Smooth steps, and shapes of natural movement over time."""

from __future__ import annotations

import numpy as np

BLINK_CLOSE_S, BLINK_HOLD_S, BLINK_OPEN_S = 0.09, 0.04, 0.17
BLINK_S = BLINK_CLOSE_S + BLINK_HOLD_S + BLINK_OPEN_S
"""A spontaneous blink closes faster than it opens (VanderWerf et al. 2003)."""


def smooth_step(values: np.ndarray | float, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """0 below `low`, 1 above `high`, between them level at both ends."""
    t = np.clip((np.asarray(values) - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def minimum_jerk(progress: np.ndarray | float) -> np.ndarray:
    """0-1 progress to 0-1 position of a movement that starts and ends at rest (Flash & Hogan 1985)."""
    t = np.clip(np.asarray(progress, np.float64), 0.0, 1.0)
    return t**3 * (10.0 - 15.0 * t + 6.0 * t * t)


def rise_and_fall(time_s: np.ndarray | float, *, rise_s: float, hold_s: float, fall_s: float) -> np.ndarray:
    """0 before time 0, eased up to 1 in `rise_s`, held, eased back to 0 in `fall_s`."""
    t = np.asarray(time_s, np.float64)
    return minimum_jerk(t / rise_s) - minimum_jerk((t - rise_s - hold_s) / fall_s)


def blink(time_s: np.ndarray | float) -> np.ndarray:
    """Lid closure 0-1 of one blink that starts at time 0 and lasts `BLINK_S`."""
    return rise_and_fall(time_s, rise_s=BLINK_CLOSE_S, hold_s=BLINK_HOLD_S, fall_s=BLINK_OPEN_S)
