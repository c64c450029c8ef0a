"""Time for drivers that have none of their own: play a file as if it were live, or at another rate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from puppet.capture import Frame, Observation

log = logging.getLogger(__name__)

LONGEST_GAP_S = 10.0
"""A file whose clock jumps further ahead would stand still for as long as it claims, days or years."""

Timed = TypeVar("Timed", Frame, Observation)


def without_gaps(items: Iterable[Timed], name: str) -> Iterator[Timed]:
    """The same, but where the time between two grows longer than LONGEST_GAP_S it is that long; warns once.

    A recording that begins later than that begins at 0.
    """
    cut_s, last_s, is_told = 0.0, None, False
    for item in items:
        if last_s is None and item.time_s > LONGEST_GAP_S:
            cut_s = item.time_s
        gap_s = 0.0 if last_s is None else item.time_s - last_s
        if gap_s > LONGEST_GAP_S:
            cut_s += gap_s - LONGEST_GAP_S
            if not is_told:
                log.warning("%s: a gap of %.0f s is shortened to %.0f s.", name, gap_s, LONGEST_GAP_S)
                is_told = True
        last_s = item.time_s
        yield replace(item, time_s=item.time_s - cut_s) if cut_s else item


def paced(
    items: Iterable[Frame | Observation],
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Frame | Observation]:
    """Each item at its time, counted from the first; its capture time is when it was due, however late it is taken."""
    start_s = None
    for item in items:
        if start_s is None:
            start_s = clock() - item.time_s
        due_s = start_s + item.time_s
        early_s = due_s - clock()
        if early_s > 0:
            sleep(early_s)
        yield replace(item, captured_s=due_s)


def resampled(observations: Iterable[Observation], fps: float) -> Iterator[Observation]:
    """The same performance at a constant rate: each moment shows the newest observation that is not later."""
    index, shown, start_s = 0, None, 0.0
    for observation in observations:
        if shown is None:
            start_s = observation.time_s
        while shown is not None and start_s + index / fps < observation.time_s - 1e-9:
            yield replace(shown, index=index, time_s=start_s + index / fps)
            index += 1
        shown = observation
    if shown is not None:
        yield replace(shown, index=index, time_s=start_s + index / fps)
