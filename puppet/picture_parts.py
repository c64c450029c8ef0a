"""How many parts a JPEG or PNG file has: a reader works through each of them, and a small file may have millions."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from puppet.errors import InputError

MAX_SCANS = 100
"""Passes of a progressive JPEG. Encoders write about ten; each costs the time of a whole decoding."""
MAX_SEGMENTS = 20_000
"""Before a JPEG's first scan. The most a camera writes are some hundred, of 64 kB each."""
MAX_CHUNKS = 100_000
"""Of a PNG. Encoders write some kilobytes into each."""

_PNG = b"\x89PNG\r\n\x1a\n"
_ALONE = {0x00, 0x01, *range(0xD0, 0xD9), 0xFF}  # markers without a length; 0xFF is padding
_SCAN, _END = 0xDA, 0xD9


def refuse_endless(path: Path) -> None:
    """Look through a file's parts without decoding them; other formats are read by the bounded code of libraries.

    Raises:
        InputError: more parts than any encoder writes.
    """
    with open(path, "rb") as file:
        head = file.read(len(_PNG))
        if head == _PNG:
            _require(path, _chunks(file), MAX_CHUNKS, "chunks")
        elif head[:2] == b"\xff\xd8":
            file.seek(2)
            _require(path, _segments(file), MAX_SEGMENTS, "segments")
            _require(path, _scans(file), MAX_SCANS, "scans")


def _require(path: Path, count: int, most: int, what: str) -> None:
    if count > most:
        raise InputError(f"{path} is damaged: it has more than {most} {what}. Save it anew.")


def _chunks(file: BinaryIO) -> int:
    for count in range(MAX_CHUNKS + 1):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return count
        file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return MAX_CHUNKS + 1


def _segments(file: BinaryIO) -> int:
    for count in range(MAX_SEGMENTS + 1):
        marker = file.read(2)
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] in (_SCAN, _END):
            return count
        if marker[1] == 0xFF:
            file.seek(-1, 1)
        elif marker[1] not in _ALONE:
            file.seek(max(0, int.from_bytes(file.read(2), "big") - 2), 1)
    return MAX_SEGMENTS + 1


def _scans(file: BinaryIO) -> int:
    """From here on; two bytes that a scan's own content never holds together."""
    file.seek(-2, 1)
    count, tail = 0, b""
    while block := file.read(1 << 20):
        count += (tail + block).count(bytes([0xFF, _SCAN]))
        tail = block[-1:]
    return count
