"""Every option once: name, type, default, unit and help line.

The command line is derived from these dataclasses by tyro; a TOML file given with `--config` uses the flags' names as
flat keys (`fps = 30`, `gain = ["AU12=1.5"]`). Order: defaults < TOML < flags.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro
from tyro.conf import arg

from puppet.errors import ConfigError

Repeatable = tyro.conf.UseAppendAction[tuple[str, ...]]
Texture = Literal["auto", "on", "off"]
SINK_NAMES = ("virtualcam", "preview", "null")
SIZE_LIMITS_PX = (64, 4096)


def _option(text: str, metavar: str | None = None, default: str = "") -> Any:
    """Help line of one option; `default` is what is used when it is not given."""
    return arg(help=text, metavar=metavar, help_behavior_hint=f"({default})" if default else "")


@dataclass(frozen=True)
class PortraitOptions:
    """Who is animated."""

    target: Annotated[str | None, _option("Portrait image, or a folder to switch through.", "PATH")] = None
    face: Annotated[int, _option("Which face of the picture, 0 is the largest.", "N", "0")] = 0
    framing: Annotated[
        Literal["auto", "full", "head"], _option("Whole picture, or head and shoulders.", default="full")
    ] = "auto"
    size: Annotated[str | None, _option("Published size.", "WxH", "portrait's aspect, short side 512")] = None
    texture: Annotated[
        Texture,
        _option("Skin folds and lids are repainted (auto), mouths as well (on), or nothing is (off).", default="auto"),
    ] = "auto"
    texture_models: Annotated[
        Path | None,
        _option("These networks repaint them, and its teeth are shown, as made for one portrait.", "FOLDER"),
    ] = None


@dataclass(frozen=True)
class DriverOptions:
    """Who moves it."""

    driver: Annotated[str, _option("camera, camera:N, video, image folder, demo or AU track .csv", "SRC", "camera")] = (
        "camera"
    )
    as_fast_as_possible: Annotated[bool, _option("Files: no pacing, every frame in order.")] = False
    camera_size: Annotated[str, _option("Size asked from the camera.", "WxH", "640x480")] = "640x480"


@dataclass(frozen=True)
class RetargetOptions:
    """How the driver's actions reach the portrait."""

    gain: Annotated[Repeatable, _option("Strengthen or weaken an action.", "AU12=1.5", "repeatable")] = ()
    mute: Annotated[Repeatable, _option("Leave an action out.", "AU04", "repeatable")] = ()
    preset: Annotated[
        Literal["natural", "subtle", "lively", "lips"], _option("Gains to begin with.", default="natural")
    ] = "natural"
    head: Annotated[float, _option("Share of head motion.", "0..1", "1")] = 1.0
    mirror: Annotated[bool, _option("Swap left and right, like a mirror.")] = False


@dataclass(frozen=True)
class PublishOptions:
    """Where the rendering goes."""

    output: Annotated[Repeatable, _option("virtualcam, virtualcam:DEVICE, preview or null.", "SINK", "repeatable")] = ()
    record: Annotated[Path | None, _option("Also write H.264.", "PATH.mp4")] = None
    credentials: Annotated[
        Literal["on", "off"], _option("Recordings say, signed, what made them from which portrait.", default="on")
    ] = "on"
    sign_cert: Annotated[Path | None, _option("Certificate chain to sign with.", "PATH.pem", "this machine's own")] = (
        None
    )
    sign_key: Annotated[Path | None, _option("Its private key, no passphrase.", "PATH.pem")] = None
    au_log: Annotated[Path | None, _option("Also write one row of AUs a frame.", "PATH.csv")] = None
    badge: Annotated[
        Literal["on", "off"], _option('A small "puppet" in the corner of every published picture.', default="on")
    ] = "on"
    fps: Annotated[float | None, _option("Published frame rate.", "N", "30, files: their own")] = None
    stats: Annotated[Path | None, _option("Write timings and counts at the end.", "PATH.json")] = None


@dataclass(frozen=True)
class EngineOptions:
    """What runs the networks."""

    engine: Annotated[
        Literal["auto", "openvino", "onnxruntime", "torch", "tensorrt"],
        _option("What computes; auto takes the fastest that works.", default="auto"),
    ] = "auto"
    device: Annotated[str, _option("auto, cpu, cuda, cuda:1 ...", "NAME", "auto")] = "auto"


@dataclass(frozen=True)
class ProgramOptions:
    """The program itself."""

    config: Annotated[Path | None, _option("Options from a file; flags win.", "PATH.toml")] = None
    dry_run: Annotated[bool, _option("Print what would run and stop.")] = False
    debug: Annotated[bool, _option("Show tracebacks and detailed logs.")] = False


@dataclass(frozen=True)
class Options:
    """All options of `python -m puppet`, checked when made.

    Raises:
        ConfigError: a value that can't be used.
    """

    portrait: PortraitOptions = field(default_factory=PortraitOptions)
    driver: DriverOptions = field(default_factory=DriverOptions)
    retarget: RetargetOptions = field(default_factory=RetargetOptions)
    publish: PublishOptions = field(default_factory=PublishOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    program: ProgramOptions = field(default_factory=ProgramOptions)


def parse_size(text: str, flag: str = "--size") -> tuple[int, int]:
    """`(w, h)` in pixels from '1280x720'.

    Raises:
        ConfigError: not WxH, odd (H.264 and cameras need even sides), or outside 64-4096.
    """
    match = re.fullmatch(r"(\d{1,6})[xX](\d{1,6})", text.strip())
    if not match:
        raise ConfigError(f"{flag} {text!r} is not a size: expected WxH in pixels, as in 1280x720.")
    width, height = int(match[1]), int(match[2])
    low, high = SIZE_LIMITS_PX
    if not (low <= width <= high and low <= height <= high) or width % 2 or height % 2:
        raise ConfigError(f"{flag} {text}: expected even sides of {low} to {high} pixels, as in 1280x720.")
    return width, height


def parse_gains(texts: Sequence[str]) -> dict[str, float]:
    """`{'AU12': 1.5}` from `['AU12=1.5']`.

    Raises:
        ConfigError: not NAME=NUMBER, an unknown action, or a gain outside 0-10.
    """
    from puppet import facs

    gains: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            raise ConfigError(f"--gain {text!r}: expected NAME=NUMBER, as in AU12=1.5.") from None
        if not (math.isfinite(value) and 0 <= value <= 10):
            raise ConfigError(f"--gain {text}: expected a number from 0 to 10.")
        facs.columns_of(name)
        gains[name] = value
    return gains


def check(options: Options) -> Options:
    """The same options, if all of their values can be used.

    Raises:
        ConfigError: the first that can't.
    """
    from puppet import facs

    if options.portrait.size is not None:
        parse_size(options.portrait.size)
    parse_size(options.driver.camera_size, "--camera-size")
    if options.portrait.face < 0:
        raise ConfigError(f"--face {options.portrait.face}: expected 0 (the largest face) or more.")
    parse_gains(options.retarget.gain)
    for name in options.retarget.mute:
        facs.columns_of(name)
    if not 0 <= options.retarget.head <= 1:
        raise ConfigError(f"--head {options.retarget.head:g}: expected 0 (no head motion) to 1 (all of it).")
    if options.publish.fps is not None and not 1 <= options.publish.fps <= 240:
        raise ConfigError(f"--fps {options.publish.fps:g}: expected 1 to 240 frames a second.")
    for sink in options.publish.output:
        if sink.partition(":")[0] not in SINK_NAMES or (":" in sink and not sink.startswith("virtualcam:")):
            raise ConfigError(f"--output {sink!r} is unknown: expected virtualcam, virtualcam:DEVICE, preview or null.")
    for path, flag, suffix in (
        (options.publish.record, "--record", ".mp4"),
        (options.publish.au_log, "--au-log", ".csv"),
        (options.publish.stats, "--stats", ".json"),
    ):
        if path is not None and path.suffix.lower() != suffix:
            raise ConfigError(f"{flag} {path}: expected a name that ends in {suffix}.")
    _check_paths(options)
    if (options.publish.sign_cert is None) != (options.publish.sign_key is None):
        raise ConfigError("--sign-cert and --sign-key belong together: give both, or none for this machine's own.")
    _check_driver(options)
    return options


def _check_paths(options: Options) -> None:
    for group in vars(options).values():
        for name, value in vars(group).items():
            flag = f"--{name.replace('_', '-')}"
            if isinstance(value, (str, Path)) and "\0" in str(value):
                raise ConfigError(f"{flag} {value}: expected a name without the character of number zero.")
            if name in ("target", "driver") and value == "":
                raise ConfigError(f"{flag} is empty: expected a path.")


def _check_driver(options: Options) -> None:
    driver = options.driver.driver
    kind, _, number = driver.partition(":")
    if kind == "camera" and ":" in driver and not number.isdecimal():
        raise ConfigError(f"--driver {driver!r}: expected camera or camera:N with a number, as in camera:1.")
    if options.driver.as_fast_as_possible and kind == "camera":
        raise ConfigError(
            "--as-fast-as-possible needs a file to read from: give --driver a video, folder, track or demo."
        )
    if options.portrait.target is None and driver != "demo":
        raise ConfigError("--target is missing: give the portrait to animate, as in --target portrait.jpg.")


def with_values(options: Options, values: Mapping[str, Any], origin: str) -> Options:
    """`options` with some set by flag name ('au-log' or 'au_log').

    Raises:
        ConfigError: an unknown name or a value of another type; `origin` says where it stood.
    """
    places = {f.name: group.name for group in fields(options) for f in fields(getattr(options, group.name))}
    changes: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in places or name == "config":
            known = ", ".join(sorted(n.replace("_", "-") for n in places if n != "config"))
            raise ConfigError(f"{origin}: unknown option {key!r}; expected one of {known}.")
        kind = get_type_hints(type(getattr(options, places[name])))[name]
        changes.setdefault(places[name], {})[name] = _typed(kind, value, f"{origin}: {key}")
    return replace(options, **{group: replace(getattr(options, group), **new) for group, new in changes.items()})


def _typed(kind: Any, value: Any, where: str) -> Any:
    """A TOML value as the option's type."""
    allowed = set(get_args(kind)) - {type(None)} if get_origin(kind) in (Union, UnionType) else {kind}
    if tuple[str, ...] in allowed and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if float in allowed and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    if Path in allowed and isinstance(value, str):
        return Path(value)
    if type(value) in allowed and not (type(value) is int and abs(value) > sys.maxsize):
        return value
    choices = [choice for one in allowed if get_origin(one) is Literal for choice in get_args(one)]
    if value in choices:
        return value
    expected = ", ".join(choices) or " or ".join(getattr(one, "__name__", str(one)) for one in allowed)
    raise ConfigError(f"{where} = {_shown(value)}: expected {expected}.")


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists
        return f"a {type(value).__name__}"
