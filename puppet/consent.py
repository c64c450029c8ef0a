"""The consent note beside a portrait: whose face it is, who allowed it to be animated, what for and until when.

`ada.toml` speaks for `ada.jpg`. Without one, `portrait.toml` speaks for every picture of its folder, unless a picture
of the folder is itself called portrait; then it is that picture's alone.

    person = "Ada Lovelace"         # whose face
    allowed_by = "herself"          # who allowed it
    purpose = "our team's calls"    # what for; may be left out
    until = 2027-12-31              # its last day; may be left out
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

from puppet.errors import InputError
from puppet.input_file import reason
from puppet.picture import SUFFIXES
from puppet.toml_file import read_toml

FOLDER_NOTE = "portrait.toml"
MAX_CHARACTERS = 200  # of one entry


@dataclass(frozen=True)
class Consent:
    """What a note says. All texts are one line of at most 200 characters."""

    person: str
    allowed_by: str
    purpose: str | None = None
    until: date | None = None  # the last day it holds

    @classmethod
    def read(cls, path: Path) -> Consent:
        """Read a note.

        Raises:
            InputError: unreadable, not TOML, longer than 16 KiB, an unknown or missing key, or a value of another kind.
        """
        try:
            values = read_toml(path)
        except InputError as error:
            raise InputError(f"consent note {error}") from error
        return cls(**_checked(values, path))

    def is_over(self, today: date) -> bool:
        """Whether its last day has passed."""
        return self.until is not None and today > self.until

    def __str__(self) -> str:
        parts = [f"shows {self.person}, allowed by {self.allowed_by}"]
        parts += [f"for {self.purpose}"] if self.purpose else []
        parts += [f"until {self.until}"] if self.until else []
        return ", ".join(parts)


def find_note(portrait: Path) -> Path | None:
    """The note that speaks for a picture, None where there is none."""
    own, shared = portrait.with_suffix(".toml"), portrait.with_name(FOLDER_NOTE)
    try:
        if _is_file(own):
            return own
        if not _is_file(shared):
            return None
        beside = (path for path in shared.parent.iterdir() if path.stem == shared.stem)
        has_owner = any(path.suffix.lower() in SUFFIXES for path in beside)
    except OSError as error:
        raise InputError(f"{portrait.parent} can't be searched for a consent note: {reason(error)}.") from error
    return None if has_owner else shared


def _is_file(path: Path) -> bool:
    """Whether it is a file that can be there: with its longer ending a picture's name may be too long for one."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def _checked(values: dict[str, Any], path: Path) -> dict[str, Any]:
    known = [field.name for field in fields(Consent)]
    for key, value in values.items():
        if key not in known:
            raise InputError(
                f"consent note {path}: unknown key {_shown(key)}; expected {', '.join(known)}. "
                "Rename the file if it is no consent note."
            )
        if key == "until":
            if type(value) is not date:
                raise InputError(f"consent note {path}: until = {_shown(value)}: expected a date, as in 2027-12-31.")
        elif not (isinstance(value, str) and value.strip() and len(value) <= MAX_CHARACTERS and value.isprintable()):
            raise InputError(
                f"consent note {path}: {key} = {_shown(value)}: expected one line of 1 to {MAX_CHARACTERS} characters."
            )
    for key in ("person", "allowed_by"):
        if key not in values:
            raise InputError(f'consent note {path}: {key} is missing; expected a line like {key} = "...".')
    return values


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested without end, or a number of thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."
