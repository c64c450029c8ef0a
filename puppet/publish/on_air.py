"""On air: a constant rate, whatever happens to the renderings.

A thread with a clock of its own hands out frames. A new rendering goes out the moment it comes; where none comes in
time the one before goes out again. So a slow rendering, a portrait that is being loaded or a window that is dragged
never leaves the device without frames.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from puppet.publish import Rendering

EARLY_SHARE = 0.5  # of a frame's time: how long before it is due a frame may go out
LATE_SHARE = 0.4  # how long after that a new rendering is waited for before the last one goes out again
BEND = 0.1  # of a new rendering's distance from the clock: how fast the clock follows it
BEND_TO_WAITING = 0.02  # the same for one that had to wait: slowly, or too many of them would raise the rate


class AirClock:
    """When the next frame may and has to go out; seconds on any clock.

    Frames are due at a constant rate. The phase bends slowly toward the moments at which new renderings come, so that
    they need not wait; what comes between two frames' windows waits for the next window.
    """

    def __init__(self, fps: float, now_s: float) -> None:
        self._period_s = 1.0 / fps
        self._due_s = now_s

    @property
    def opens_s(self) -> float:
        """From now on a new rendering goes out at once."""
        return self._due_s - EARLY_SHARE * self._period_s

    @property
    def closes_s(self) -> float:
        """Without a new rendering until now, the last one goes out again."""
        return self._due_s + LATE_SHARE * self._period_s

    def went_out(self, now_s: float, *, is_new: bool, has_waited: bool = False) -> None:
        """Move on by a frame; after a halt, without catching up. `has_waited`: it came before the window opened."""
        bend = (BEND_TO_WAITING if has_waited else BEND) if is_new else 0.0
        bent_s = bend * (now_s - self._due_s)
        self._due_s = max(self._due_s + self._period_s + bent_s, now_s + EARLY_SHARE * self._period_s)


class OnAir:
    """Publishes the newest rendering in a thread of its own, from the first one on, until closed.

    `publish(rendering, is_new)` is called in that thread and gives what really went out; it does not raise.
    """

    def __init__(self, first: Rendering, publish: Callable[[Rendering, bool], Rendering], *, fps: float) -> None:
        self._publish = publish
        self._newest: Rendering = first
        self._is_new = True
        self._shown: Rendering | None = None
        self._changed = threading.Condition()
        self._is_closed = False
        self._clock = AirClock(fps, time.perf_counter())
        self._thread = threading.Thread(target=self._run, name="on air", daemon=True)
        self._thread.start()

    def offer(self, rendering: Rendering) -> None:
        """Take this one next, in place of any that still waits."""
        with self._changed:
            self._newest, self._is_new = rendering, True
            self._changed.notify_all()

    def wait_for_other(self, than: Rendering | None, timeout_s: float) -> Rendering | None:
        """What went out last, as soon as it is another than that; None if nothing went out in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._shown is not than or self._is_closed, timeout_s)
            return None if self._shown is than else self._shown

    def close(self, timeout_s: float = 2.0) -> None:
        """Publish what is new, then no more; waits for the thread, but not forever: a device's driver may hang."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (due := self._next()) is not None:
            rendering, is_new = due
            shown = self._publish(rendering, is_new)
            with self._changed:
                self._shown = shown
                self._changed.notify_all()

    def _next(self) -> tuple[Rendering, bool] | None:
        """The rendering that goes out now, and whether it is new; None once closed."""
        with self._changed:
            self._wait_until(self._clock.opens_s, lambda: self._is_closed)
            has_waited = self._is_new
            self._wait_until(self._clock.closes_s, lambda: self._is_closed or self._is_new)
            if self._is_closed and not self._is_new:
                return None
            rendering, is_new = self._newest, self._is_new
            self._is_new = False
            self._clock.went_out(time.perf_counter(), is_new=is_new, has_waited=has_waited)
            return rendering, is_new

    def _wait_until(self, end_s: float, is_over: Callable[[], bool]) -> None:
        left_s = end_s - time.perf_counter()
        if left_s > 0:
            self._changed.wait_for(is_over, left_s)
