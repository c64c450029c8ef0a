"""The command edge: options in, one line of text and an exit code out (0 done, 1 failed, 2 wrong usage)."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import tyro

from puppet import config
from puppet.config import Options
from puppet.errors import ConfigError, EngineError, InputError, PuppetError, one_line
from puppet.toml_file import read_toml

DESCRIPTION = """Join a video call as a portrait: your face moves, the picture answers.

  python -m puppet --target portrait.jpg                     webcam to virtual camera and preview
  python -m puppet --driver demo --record demo.mp4           no camera needed
  python -m puppet --target p.jpg --driver clip.mp4 --record out.mp4 --as-fast-as-possible
  python -m puppet devices | doctor                          cameras here | what is missing and how to get it
  python -m puppet doctor out.mp4                            whether a recording is as it was signed"""

COMMANDS = {
    "devices": "puppet.doctor:devices",
    "doctor": "puppet.doctor:doctor",
    "bench": "puppet.bench.command:bench",
}
"""First word of the command line -> function that takes the remaining arguments and gives the exit code."""
_PIPE_CLOSED = 141  # what shells say of programs that SIGPIPE ended


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's own) and give its exit code."""
    args = list(sys.argv[1:] if args is None else args)
    is_debug = "--debug" in args
    _configure_logging(is_debug)
    previous_hook = sys.excepthook
    if not is_debug:
        sys.excepthook = _one_line
    try:
        if args and args[0] in COMMANDS:
            code = load(COMMANDS[args[0]])(args[1:])
        else:
            code = load("puppet.live:run")(parse(args))
        print(end="", flush=True)
        return code
    except (PuppetError, EngineError) as error:
        if is_debug:
            traceback.print_exc()
        print(f"puppet: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever reads our output, as `| head` does, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    finally:
        if sys.exc_info()[0] is None:
            sys.excepthook = previous_hook


def parse(args: Sequence[str]) -> Options:
    """Checked options of a command line: defaults < TOML of `--config` < flags.

    Raises:
        ConfigError: a value that can't be used.
        SystemExit: help was asked for (0), or an unknown flag was given (2).
    """
    defaults = Options()
    path = _value_of("--config", args)
    if path is not None:
        defaults = with_file(defaults, Path(path), args)
    options = tyro.cli(
        Options,
        prog="python -m puppet",
        description=DESCRIPTION,
        args=args,
        default=defaults,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    return config.check(options)


def with_file(options: Options, path: Path, args: Sequence[str]) -> Options:
    """`options` with those of a TOML file, but for lists that `args` give anew.

    Raises:
        ConfigError: unreadable, not TOML, or an option that is unknown or of another type.
    """
    try:
        values = read_toml(path)
    except InputError as error:
        raise ConfigError(f"--config {error}") from error
    return config.with_values(options, _without_repeated(values, args), str(path))


def load(place: str):
    """The object named 'module:name', imported now."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _value_of(flag: str, args: Sequence[str]) -> str | None:
    for i, word in enumerate(args):
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
        if word == flag and i + 1 < len(args):
            return args[i + 1]
    return None


def _without_repeated(values: dict, args: Sequence[str]) -> dict:
    """A list in TOML is replaced, not extended, by the same flag on the command line."""
    return {
        key: value
        for key, value in values.items()
        if not (isinstance(value, list) and _value_of(f"--{key.replace('_', '-')}", args) is not None)
    }


def _configure_logging(is_debug: bool) -> None:
    level = logging.DEBUG if is_debug else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("puppet: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("puppet").setLevel(level)
    engines = logging.getLogger("engines.registry")
    engines.setLevel(level)
    if not is_debug:
        engines.addFilter(_FirstOfEachModel())


class _OneLine(logging.Formatter):
    """One line a message, whatever names of files stand in it; tracebacks keep theirs."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))


class _FirstOfEachModel(logging.Filter):
    """Lets "engine au_regressor.onnx: openvino ..." pass once a model: the portrait's and the driver's are the same."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        subject = record.getMessage().partition(":")[0]
        is_new = subject not in self._seen
        self._seen.add(subject)
        return is_new or record.levelno > logging.INFO


def _one_line(kind: type[BaseException], error: BaseException, trace) -> None:
    """What an unforeseen error looks like without `--debug`."""
    with contextlib.suppress(OSError):
        last = traceback.extract_tb(trace)[-1] if trace else None
        place = f" ({os.path.basename(last.filename)}:{last.lineno})" if last else ""
        what = one_line(f"unforeseen {kind.__name__}: {error}")
        print(f"puppet: {what}{place}. Run again with --debug.", file=sys.stderr)
