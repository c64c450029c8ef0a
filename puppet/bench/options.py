"""Options of `python -m puppet bench`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg

from puppet.config import parse_size
from puppet.errors import ConfigError

Repeatable = tyro.conf.UseAppendAction[tuple[str, ...]]


@dataclass(frozen=True)
class BenchOptions:
    """Measure every engine of this machine: stages, end to end, latency, networks, start."""

    target: Annotated[
        str | None,
        arg(metavar="PATH", help="Portrait, or a folder; without one the astronaut that comes with scikit-image."),
    ] = None
    driver: Annotated[
        Path | None, arg(metavar="CLIP", help="Video of a face; without one the demo, acted by the astronaut.")
    ] = None
    size: Annotated[Repeatable, arg(metavar="WxH", help="Rendered size; repeatable (default: 512x512).")] = ()
    engine: Annotated[Repeatable, arg(metavar="NAME", help="Only these engines; repeatable (default: all here).")] = ()
    seconds: Annotated[float, arg(metavar="S", help="Measured time of each variant.")] = 10.0
    starts: Annotated[int, arg(metavar="N", help="Starts of the whole program an engine, cache warm; 0: none.")] = 3
    parity: Annotated[int, arg(metavar="N", help="Inputs on which engines' answers are compared; 0: none.")] = 8
    whole_parity: Annotated[
        int,
        arg(
            metavar="N",
            help="Random controls on which whole pictures of the generator's graph are compared, shared out among the "
            "target's portraits; a minute or more for each portrait; 0: none.",
        ),
    ] = 0
    ganimation: Annotated[bool, arg(help="Also the plain GANimation generator, to compare with.")] = True
    output: Annotated[Path | None, arg(metavar="PATH.json", help="Also write everything as JSON.")] = None
    debug: Annotated[bool, arg(help="Show tracebacks and detailed logs.")] = False

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        return tuple(parse_size(text) for text in self.size) or ((512, 512),)


def parse(args: Sequence[str]) -> BenchOptions:
    """Checked options of a command line.

    Raises:
        ConfigError: a value that can't be used.
        SystemExit: help was asked for (0), or an unknown flag was given (2).
    """
    options = tyro.cli(BenchOptions, prog="python -m puppet bench", args=args)
    _ = options.sizes
    counts = {"--starts": options.starts, "--parity": options.parity, "--whole-parity": options.whole_parity}
    for flag, value in counts.items():
        if value < 0:
            raise ConfigError(f"{flag} {value}: expected 0 or more.")
    if not (math.isfinite(options.seconds) and 0.5 <= options.seconds <= 600):
        raise ConfigError(f"--seconds {options.seconds:g}: expected 0.5 to 600.")
    if options.output is not None and options.output.suffix.lower() != ".json":
        raise ConfigError(f"--output {options.output}: expected a name that ends in .json.")
    return options
