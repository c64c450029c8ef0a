"""People who are kept from training, chosen by name and never by picture."""

from __future__ import annotations

import zlib

HELD_OUT_PERCENT = 15
_HELD_OUT_BESIDES = frozenset({"latentsync:vid021"})  # else no one held out would ever close their eyes


def is_held_out(person: str) -> bool:
    """Whether a person's pictures serve for evaluation only; stable across runs and machines."""
    return person in _HELD_OUT_BESIDES or zlib.crc32(person.encode()) % 100 < HELD_OUT_PERCENT
