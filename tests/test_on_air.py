"""The clock of what is on air, and that it never stops."""

import threading

import numpy as np
import pytest

from puppet import facs
from puppet.publish import Rendering
from puppet.publish.on_air import AirClock, OnAir

FPS = 30.0
PERIOD_S = 1 / FPS


def rendering(level):
    rgb = np.full((2, 2, 3), level, np.uint8)
    return Rendering(rgb, 0, 0.0, facs.rest(), facs.rest(), True)


def play(arrivals, end_s):
    """Times at which frames go out, and whether they are new, for renderings that come at `arrivals`."""
    clock, arrivals, out, now_s = AirClock(FPS, 0.0), list(arrivals), [], 0.0
    while now_s < end_s:
        now_s = max(now_s, clock.opens_s)
        waiting = [a for a in arrivals if a <= max(now_s, clock.closes_s)]
        is_new = bool(waiting)
        # Of those that wait at the opening, the newest goes; otherwise the first to come.
        has_waited = any(a <= now_s for a in waiting)
        ready = [a for a in waiting if a <= now_s] or waiting[:1]
        now_s = max(now_s, ready[-1]) if is_new else max(now_s, clock.closes_s)
        arrivals = [a for a in arrivals if not is_new or a > ready[-1]]
        clock.went_out(now_s, is_new=is_new, has_waited=has_waited)
        out.append((now_s, is_new))
    return np.array([t for t, _ in out]), np.array([n for _, n in out])


def jittered(count, period_s, jitter_s, start_s=0.012):
    rng = np.random.default_rng(3)
    return start_s + period_s * np.arange(count) + rng.uniform(-jitter_s, jitter_s, count)


def test_renderings_at_the_rate_go_out_the_moment_they_come():
    arrivals = jittered(300, PERIOD_S, 0.006)
    times, is_new = play(arrivals, 9.9)
    assert is_new[60:].all()
    assert np.isin(times[60:], arrivals).all()


@pytest.mark.parametrize("period_s", [0.020, 0.040, 0.045, 0.060, 0.125, 1.0])
def test_the_rate_is_kept_and_no_gap_is_long_whatever_the_renderings_do(period_s):
    times, _ = play(jittered(int(10 / period_s), period_s, 0.003), 9.9)
    assert np.diff(times).max() <= 2.0 * PERIOD_S
    assert len(times) / 9.9 == pytest.approx(FPS, rel=0.04)


def test_a_rendering_never_waits_longer_than_a_frame():
    arrivals = jittered(200, 0.050, 0.004)
    times, is_new = play(arrivals, 9.9)
    shown = times[is_new]
    waited = [shown[np.searchsorted(shown, a)] - a for a in arrivals if a < 9.8]
    assert max(waited) <= PERIOD_S


def test_after_a_halt_nothing_is_caught_up():
    clock = AirClock(FPS, 0.0)
    clock.went_out(0.0, is_new=True)
    clock.went_out(5.0, is_new=True)
    assert clock.opens_s >= 5.0
    assert clock.closes_s <= 5.0 + PERIOD_S


class Published:
    """Counts what went out and lets the test wait for it."""

    def __init__(self, block_on=None):
        self.levels, self.is_new, self._changed = [], [], threading.Condition()

    def __call__(self, given, is_new):
        with self._changed:
            self.levels.append(int(given.rgb[0, 0, 0]))
            self.is_new.append(is_new)
            self._changed.notify_all()
        return given

    def wait(self, condition):
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), 10)


def test_without_renderings_the_last_one_goes_on():
    published = Published()
    air = OnAir(rendering(7), published, fps=200)
    published.wait(lambda p: len(p.levels) >= 5)
    air.close()
    assert set(published.levels) == {7}
    assert published.is_new[0] and not any(published.is_new[1:])


def test_the_newest_of_those_that_wait_is_taken():
    published, hold = Published(), threading.Event()

    def publish(given, is_new):
        hold.wait(10)
        return published(given, is_new)

    air = OnAir(rendering(1), publish, fps=200)
    for level in (2, 3, 4):
        air.offer(rendering(level))
    hold.set()
    published.wait(lambda p: 4 in p.levels)
    air.close()
    assert 2 not in published.levels and 3 not in published.levels


def test_who_waits_for_another_frame_gets_it_or_none_in_time():
    published = Published()
    first = rendering(1)
    air = OnAir(first, published, fps=200)
    assert air.wait_for_other(None, 10) is first
    assert air.wait_for_other(first, 0.0) is None
    second = rendering(2)
    air.offer(second)
    assert air.wait_for_other(first, 10) is second
    air.close()


def test_what_is_new_when_it_closes_still_goes_out():
    published, hold = Published(), threading.Event()

    def publish(given, is_new):
        hold.wait(10)
        return published(given, is_new)

    air = OnAir(rendering(1), publish, fps=200)
    air.offer(rendering(2))
    threading.Timer(0.0, hold.set).start()
    air.close(10)
    assert published.levels[-1] == 2
