"""Memory that was freed goes back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Return what lies free, after something large was let go. A few milliseconds.

    glibc keeps a heap for each of many threads and what was freed in it, so that a program which opens trackers,
    portraits and recordings anew seems to grow. Other systems' allocators need no help: there it does nothing.
    """
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None
