"""Sign a recording when it is finished, in a process of its own."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from puppet.errors import CredentialsError, InputError
from puppet.provenance import Provenance

if TYPE_CHECKING:
    from puppet.credentials.identity import Identity

log = logging.getLogger(__name__)


class RecordingSigner:
    """Puts credentials into finished recordings, with the user's certificate and key or this machine's own.

    Raises:
        InputError: the given files are no certificate and key that C2PA signs with.
    """

    def __init__(self, certificates: Path | None = None, key: Path | None = None) -> None:
        self._identity: Identity | None = None  # this machine's own, read when it is needed
        if certificates is not None and key is not None:
            from puppet.credentials.c2pa_file import try_identity
            from puppet.credentials.identity import read_identity

            self._identity = read_identity(certificates, key)
            try:
                try_identity(self._identity)
            except CredentialsError as error:
                raise InputError(f"--sign-cert {certificates} can't sign recordings: {error}") from error

    def sign(self, path: Path, portraits: Sequence[Provenance]) -> None:
        """Sign a recording in its place. What goes wrong is one warning: the recording is worth more than its label."""
        try:
            from puppet.credentials.identity import own_identity
            from puppet.credentials.manifest import recording_manifest

            manifest = recording_manifest(path.name, portraits, now=datetime.now(UTC))
            log.info("writing content credentials into %s ...", path)
            _run({"path": str(path), "manifest": manifest, "identity": vars(self._identity or own_identity())})
        except (CredentialsError, InputError, ImportError, OSError) as error:
            log.warning("%s was recorded, but carries no content credentials: %s", path, error)


def _run(job: dict) -> None:
    """Do the work in a process that Ctrl-C does not reach, so that it finishes what it began.

    Raises:
        CredentialsError: the file was not signed, and is as it was.
    """
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    else:
        apart = {"start_new_session": True}
    done = subprocess.run(
        [sys.executable, "-m", "puppet.credentials"],
        input=json.dumps(job),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        encoding="utf-8",
        check=False,
        **apart,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise CredentialsError(lines[-1] if lines else f"the process that signs ended with {done.returncode}.")
