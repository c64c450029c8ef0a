"""Input files: what kind of thing a path names and how large it is, before anything opens it."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Literal

from puppet.errors import InputError

Kind = Literal["file", "folder", "missing", "special"]


def kind_of(path: Path) -> Kind:
    """What lies at `path`; 'special' is a pipe, a socket or a device, whose reading may never end.

    Raises:
        InputError: the system refuses to look: a name too long, links in a circle, a folder that is not ours.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (OSError, ValueError) as error:  # ValueError: a zero in the name, or a character the system can't write
        raise InputError(f"{path} can't be opened: {reason(error)}. Check the path.") from error
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "special"


def require_file(path: Path, *, expected: str, max_bytes: int) -> int:
    """Bytes of the ordinary file at `path`.

    Raises:
        InputError: missing, a folder, a pipe or a device, or larger than `max_bytes`; `expected` says what for.
    """
    kind = kind_of(path)
    if kind == "missing":
        raise InputError(f"{path} does not exist: expected {expected}. Check the path.")
    if kind == "folder":
        raise InputError(f"{path} is a folder: expected {expected}.")
    if kind == "special":
        raise InputError(f"{path} is a pipe or a device: expected {expected} that lies on a disk.")
    size = path.stat().st_size
    if size > max_bytes:
        raise InputError(f"{path} has {_size(size)}: expected {expected} of at most {_size(max_bytes)}.")
    return size


def pictures_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Paths in a folder that end in one of `suffixes`, in the order of their names; hidden ones are left out.

    Raises:
        InputError: the folder can't be read, or holds none.
    """
    try:
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder} can't be read: {reason(error)}. Choose another folder.") from error
    if not found:
        raise InputError(f"{folder} holds no pictures: expected files that end in {', '.join(suffixes)}.")
    return found


def reason(error: Exception) -> str:
    """What the system or a library said, without the path it repeats."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count >= 1e7 else f"{count} bytes"
