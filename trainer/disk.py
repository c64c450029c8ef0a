"""Write a file whole or not at all, and say so when the disk is full."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from puppet.errors import InputError


class DiskError(InputError):
    """What was made could not be kept."""


def check_picture_name(flag: str, path: Path) -> None:
    """Before long work.

    Raises:
        InputError: what `flag` names is no picture that can be written.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"{flag} {path}: expected a picture to write, as in runs/sheet.png.")


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` when the block ends well and is removed when it does not.

    Raises:
        DiskError: the disk is full, or the folder can't be written to.
    """
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as exc:
        raise cannot_write(path, exc) from exc
    finally:
        part.unlink(missing_ok=True)


def cannot_write(path: Path, exc: OSError) -> DiskError:
    """What to say of a failed write."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskError(
            f"{path} could not be written: the disk is full. Free some space and run the same command again "
            "(training: with --resume); what was finished is kept."
        )
    return DiskError(f"{path} could not be written ({exc.strerror or exc}): expected a folder that can be written to.")
