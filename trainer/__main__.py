"""Make the models that the program ships, and measure them."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from puppet.errors import EngineError, PuppetError
from trainer.au import AuConfig, train
from trainer.au_photos import PhotosConfig, make_photos
from trainer.evaluate_au import EvaluateAuConfig, evaluate
from trainer.rig import RigConfig, build

COMMANDS = {RigConfig: build, PhotosConfig: make_photos, AuConfig: train, EvaluateAuConfig: evaluate}


def main() -> None:
    """Run one subcommand; one clean line and exit code 1 on an error that has a cure."""
    config = tyro.cli(
        Annotated[RigConfig, tyro.conf.subcommand("rig")]
        | Annotated[PhotosConfig, tyro.conf.subcommand("au-photos")]
        | Annotated[AuConfig, tyro.conf.subcommand("au")]
        | Annotated[EvaluateAuConfig, tyro.conf.subcommand("evaluate-au")],
        prog="python -m trainer",
        description=__doc__,
    )
    try:
        COMMANDS[type(config)](config)
    except (PuppetError, EngineError) as exc:
        sys.exit(f"error: {exc}")


if __name__ == "__main__":
    main()
