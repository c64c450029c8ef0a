"""Sign one file, told as JSON on standard input: `{"path", "manifest", "identity"}`; an error is one line.

A process of its own, started by `puppet.credentials.signing`: the library calls back into Python for every piece of a
file, which would take turns with the show, and it aborts a process that ends while it works.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from puppet.credentials.c2pa_file import sign_file
from puppet.credentials.identity import Identity
from puppet.errors import CredentialsError


def main() -> int:
    """0 where the file was signed; 1 where it is as it was."""
    if hasattr(os, "nice"):
        os.nice(10)  # the show goes first
    job = json.load(sys.stdin)
    try:
        sign_file(Path(job["path"]), job["manifest"], Identity(**job["identity"]))
    except CredentialsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
