"""Memory that was freed is used again or goes back to the system."""

from __future__ import annotations

import ctypes
from functools import cache

_ARENAS, _MAPPED_FROM_BYTES = 4, 8 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h


def keep_together() -> None:
    """For a program that runs for hours, before its threads begin: few heaps, and large arrays outside of them.

    Else glibc keeps a heap for each of a dozen threads, and puts arrays of up to 32 MB in them once one was freed: what
    small things lie above holds them. What a frame needs stays in a heap: mapping it anew each time would take longer.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_ARENA_MAX, _ARENAS)
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _MAPPED_FROM_BYTES)


def give_back() -> None:
    """Return what lies free, after something large was let go. A few milliseconds.

    glibc keeps a heap for each of many threads and what was freed in it, so that a program which opens trackers,
    portraits and recordings anew seems to grow. Other systems' allocators need no help: there it does nothing.
    """
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc_trim, libc.mallopt  # noqa: B018  another C library has neither
        return libc
    except (OSError, AttributeError):
        return None
