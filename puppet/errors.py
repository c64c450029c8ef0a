"""Everything Puppet raises on purpose.

PuppetError
├── ConfigError (ValueError)     a flag, a TOML key, an AU name or a value out of range; exit code 2
├── InputError (ValueError)      a file that is missing, damaged or not what was expected
│   └── PortraitError            a picture that can't be animated: no face, too small, turned away
├── DeviceError (OSError)        a camera, virtual camera or display that is missing or busy
├── CredentialsError             a recording that could not be signed; it is kept without
└── EngineError (RuntimeError)   in `engines.errors`: a model that does not load, build or match its reference

Messages say what failed with its value, what was expected, and what to do, in one line of bounded length.
"""

from engines.errors import MAX_LINE, EngineError, one_line

__all__ = [
    "MAX_LINE",
    "ConfigError",
    "CredentialsError",
    "DeviceError",
    "EngineError",
    "InputError",
    "PortraitError",
    "PuppetError",
    "one_line",
]


class PuppetError(Exception):
    """Root of all errors that are shown to the user as one line."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(PuppetError, ValueError):
    """A setting that can't be used; the command line exits with 2."""


class InputError(PuppetError, ValueError):
    """A file that can't be read as what it should be."""


class PortraitError(InputError):
    """A picture that can't be animated."""


class DeviceError(PuppetError, OSError):
    """A camera, virtual camera or display that can't be used."""


class CredentialsError(PuppetError):
    """A recording that could not be signed."""
