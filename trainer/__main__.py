"""`python -m trainer`: make the models that the program ships, and measure them."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from puppet.errors import PuppetError
from trainer import rig


def main() -> None:
    """Run one subcommand; one clean line and exit code 1 on an error that has a cure."""
    config = tyro.cli(
        Annotated[rig.RigConfig, tyro.conf.subcommand("rig")] | Annotated[rig.RigConfig, tyro.conf.subcommand("rig2")],
        prog="python -m trainer",
        description=__doc__,
    )
    try:
        rig.build(config)
    except PuppetError as exc:
        sys.exit(f"error: {exc}")


if __name__ == "__main__":
    main()
