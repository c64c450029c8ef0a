"""The gesture that shows the driver's own camera: one key held down, then another to confirm. Nobody does it by chance.

A window hears no key being released, only the repeats of one that is held. So a key is held while its repeats go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum

from puppet.own_view import Lease

HOLD_KEY, CONFIRM_KEY = "w", "y"
HOLD_S = 1.5
LEAST_REPEATS = 8  # a few slow presses are not a key that is held
RELEASED_AFTER_S = 0.8  # systems wait up to 0.7 s before a key that is held repeats,
REPEATS_WITHIN_S = 0.3  # and then repeat it ten times a second or more
CONFIRM_WITHIN_S = 5.0


class State(Enum):
    OFF = "the puppet is shown"
    HOLDING = "the first key is being held"
    ARMED = "the confirming key is awaited"
    SHARING = "the driver's own camera is shown"
    ENDED = "sharing was ended by a key that may still be held"


class ShareGesture:
    """Follows the keys; `lease` lives from the confirmation until the first key is pressed again.

    `press` every key, `tick` as often as the keyboard is read: a lease that is not kept alive by `tick` ends.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._state = State.OFF
        self._first_s = self._last_s = 0.0  # of the presses of the first key
        self._repeats = 0
        self.lease: Lease | None = None

    @property
    def state(self) -> State:
        """What is going on now."""
        self._expire()
        return self._state

    def press(self, key: str) -> bool:
        """One key, as the keyboard repeats it; whether it belonged to the gesture and should do nothing else."""
        self._expire()
        now_s = self._clock()
        if key == HOLD_KEY:
            self._press_hold_key(now_s)
            return True
        if key == CONFIRM_KEY:
            if self._state is State.ARMED:
                self._state, self.lease = State.SHARING, Lease(self._clock)
            return True
        if self._state in (State.HOLDING, State.ARMED):
            self._state = State.OFF
        return False

    def tick(self) -> None:
        """Keep the lease alive, if there is one that is."""
        self._expire()
        if self.lease is not None:
            self.lease.renew()

    def end(self) -> None:
        """Stop sharing and forget what was pressed."""
        if self.lease is not None:
            self.lease.end()
        self.lease, self._state = None, State.OFF

    def _press_hold_key(self, now_s: float) -> None:
        if self._state is State.SHARING:
            self.end()
            self._state = State.ENDED
        elif self._state is State.OFF:
            self._state, self._first_s, self._repeats = State.HOLDING, now_s, 0
        elif self._state is State.HOLDING:
            if self._repeats and now_s - self._last_s > REPEATS_WITHIN_S:
                self._first_s, self._repeats = now_s, -1  # pressed anew
            self._repeats += 1
            if now_s - self._first_s >= HOLD_S and self._repeats >= LEAST_REPEATS:
                self._state = State.ARMED
        self._last_s = now_s

    def _expire(self) -> None:
        quiet_s = self._clock() - self._last_s
        if (
            (self._state in (State.HOLDING, State.ENDED) and quiet_s > RELEASED_AFTER_S)
            or (self._state is State.ARMED and quiet_s > CONFIRM_WITHIN_S)
            or (self._state is State.SHARING and (self.lease is None or not self.lease.is_alive))
        ):
            self.end()
