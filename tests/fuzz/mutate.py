"""Damage to a valid file, as data: so that Hypothesis can shrink it and a long run can repeat it from its seed."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

MAX_BYTES = 4 << 20
KINDS = ("flip", "set", "number", "cut", "remove", "repeat", "insert", "token", "splice")
NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**62, 2**64 - 1)
_FORMATS = ("B", "<H", ">H", "<I", ">I", "<Q", ">Q")


@dataclass(frozen=True)
class Damage:
    """One change. `place` 0-1 is cubed, since most of what a reader believes stands near the start."""

    kind: str
    place: float
    length: int  # bytes, 1-4096
    value: int  # what it means depends on `kind`


def damaged(data: bytes, damages: Sequence[Damage], *, tokens: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    """The file after all changes, at most MAX_BYTES long."""
    for damage in damages:
        data = _apply(data, damage, tokens, others)[:MAX_BYTES]
    return data


def random_damages(source: random.Random) -> list[Damage]:
    """One to eight changes."""
    return [
        Damage(source.choice(KINDS), source.random(), 1 + int(4095 * source.random() ** 4), source.getrandbits(16))
        for _ in range(1 + int(8 * source.random() ** 2))
    ]


def _apply(data: bytes, damage: Damage, tokens: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    at, length, value = int(damage.place**3 * len(data)), damage.length, damage.value
    head, tail = data[:at], data[at:]
    match damage.kind:
        case "flip" if tail:
            return head + bytes([tail[0] ^ (1 << value % 8)]) + tail[1:]
        case "set" if tail:
            return head + bytes([value % 256]) + tail[1:]
        case "number":
            form = _FORMATS[value % len(_FORMATS)]
            number = NUMBERS[value // 7 % len(NUMBERS)] % (1 << 8 * struct.calcsize(form))
            packed = struct.pack(form, number)
            return head + packed + tail[len(packed) :]
        case "cut":
            return data[: int(damage.place * len(data))]
        case "remove":
            return head + tail[length:]
        case "repeat":
            return head + tail[:length] * (2 + value % 64) + tail[length:]
        case "insert":
            return head + random.Random(value).randbytes(min(length, 64)) + tail
        case "token" if tokens:
            token = tokens[value % len(tokens)]
            return head + token + tail[len(token) * (value >> 8 & 1) :]
        case "splice" if others:
            other = others[value % len(others)]
            return head + other[int(damage.place * len(other)) :]
    return data


def repair_png(data: bytes) -> bytes:
    """The same with its chunks' checksums made right, or readers would look no further."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    out, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = min(int.from_bytes(data[at : at + 4], "big"), len(data) - at - 12)
        body = data[at + 4 : at + 8 + length]
        out.append(length.to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big"))
        at += 12 + length
    return b"".join([*out, data[at:]])
