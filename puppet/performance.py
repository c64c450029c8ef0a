"""Perform: what was seen becomes what the portrait does, with or without a face in view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from puppet import facs
from puppet.calibrate import NeutralCalibrator
from puppet.capture import Observation
from puppet.idle import HOLD_S, RETURN_S, IdleMotion
from puppet.retarget import Retargeter
from puppet.smooth import Smoother


@dataclass(frozen=True)
class Performance:
    """One moment of the show."""

    performance: np.ndarray  # (SIZE,) float32, the driver's, calibrated and smoothed; held while no face is seen
    control: np.ndarray  # (SIZE,) float32, the portrait's
    has_face: bool
    confidence: float


class Performer:
    """Neutral, smoothing, retargeting, and idle motion while nobody is seen.

    A track that was recorded or scripted is a performance already: give neither `calibrator` nor `smoother`.
    """

    def __init__(
        self,
        *,
        retargeter: Retargeter,
        rest: np.ndarray,
        calibrator: NeutralCalibrator | None = None,
        smoother: Smoother | None = None,
    ) -> None:
        self.retargeter = retargeter
        self.calibrator = calibrator
        self._smoother = smoother
        self.last = Performance(facs.rest(), np.asarray(rest, np.float32), False, 0.0)
        self._seen_s = -np.inf  # when a face was last seen
        self._found_s = -np.inf  # since when one is seen again
        self._idle_control = self.last.control
        self._is_idle = False  # whether idle motion was shown last
        self.set_rest(rest)

    def set_rest(self, rest: np.ndarray) -> None:
        """Another portrait: its `(SIZE,)` rest control is where idle motion goes."""
        self._idle = IdleMotion(rest)
        self._rest = np.asarray(rest, np.float32)

    def step(self, observation: Observation | None, time_s: float) -> Performance:
        """The show at `time_s`, which increases; `observation` is None where nothing new came."""
        if observation is not None and observation.control is not None:
            self.last = self._driven(observation, observation.control, time_s)
            self._seen_s = time_s
            return self.last
        since_s = time_s - self._seen_s
        self._is_idle = since_s > HOLD_S
        if np.isinf(since_s):
            since_s, before = 1e3, self._rest
        else:
            before = self.last.control
        self._idle_control = self._idle.control(since_s, before, time_s)
        has_face = observation is None and not self._is_idle
        return Performance(self.last.performance, self._idle_control, has_face, self.last.confidence * has_face)

    def _driven(self, observation: Observation, control: np.ndarray, time_s: float) -> Performance:
        if self._is_idle:
            self._is_idle, self._found_s = False, time_s
            if self._smoother is not None:
                self._smoother.reset()
        if self.calibrator is not None:
            self.calibrator.observe(control, time_s)
            control = self.calibrator.apply(control)
        if self._smoother is not None:
            control = self._smoother.smooth(control, time_s)
        portrait_control = self.retargeter.retarget(control)
        since_found_s = time_s - self._found_s
        if since_found_s < RETURN_S:
            portrait_control = self._idle.returning(since_found_s, self._idle_control, portrait_control)
        return Performance(control, portrait_control, True, observation.confidence)
