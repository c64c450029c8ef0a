"""Provenance: which picture file a portrait was made from, and who allowed it."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from puppet.consent import Consent, find_note
from puppet.errors import PortraitError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Provenance:
    """One portrait's file, as recordings name it."""

    file: str  # its name, without the folder
    sha256: str  # of the file's bytes, hexadecimal
    consent: Consent | None = None  # None: there is no note

    @classmethod
    def read(cls, portrait: Path) -> Provenance:
        """From the picture file and the consent note beside it.

        Raises:
            PortraitError: the picture can't be read.
            InputError: the note can't be used.
        """
        try:
            with open(portrait, "rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise PortraitError(f"{portrait} can't be read: {error.strerror}.") from error
        note = find_note(portrait)
        return cls(portrait.name, sha256, Consent.read(note) if note else None)

    def announce(self) -> str:
        """The portrait in one line, with its consent; warns where that has ended.

        Only warns, and the show goes on: a note can be outdated where the consent is not, and to lose one's picture in
        the middle of a call helps nobody. Recordings say that it had ended.
        """
        if self.consent is None:
            return self.file
        if not self.consent.is_over(date.today()):
            return f"{self.file} {self.consent}"
        log.warning(
            "%s: %s allowed it to be animated until %s, which has passed. Ask again and renew the note, or take "
            "another portrait.",
            self.file, self.consent.allowed_by, self.consent.until,
        )  # fmt: skip
        return f"{self.file} {self.consent} (which has passed)"
