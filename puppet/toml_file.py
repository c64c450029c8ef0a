"""TOML files of a few lines, read with bounded time and memory."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from puppet.errors import InputError
from puppet.input_file import reason, require_file

MAX_BYTES = 16_384
MAX_DOTS = 500
"""In one line. The reader's time and memory grow with the square of a dotted name's parts: 8,000 take four seconds."""


def read_toml(path: Path) -> dict[str, Any]:
    """The file's values.

    Raises:
        InputError: missing, more than MAX_BYTES, or not TOML.
    """
    require_file(path, expected="a TOML file", max_bytes=MAX_BYTES)
    try:
        content = path.read_bytes()
        if any(line.count(b".") > MAX_DOTS for line in content.splitlines()):
            raise ValueError(f"a line has more than {MAX_DOTS} dots")
        return tomllib.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} can't be read: {reason(error)}.") from error
    except RecursionError as error:
        raise InputError(f"{path} is not TOML: nested too deeply.") from error
    except ValueError as error:
        raise InputError(f"{path} is not TOML: {str(error).rstrip('.')}.") from error
