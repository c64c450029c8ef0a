"""Make the models that the program ships, and measure them."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from puppet.errors import EngineError, PuppetError
from trainer.au import AuConfig, train
from trainer.au_merge import MergeConfig, merge
from trainer.au_photos import PhotosConfig, make_photos
from trainer.evaluate_au import EvaluateAuConfig, evaluate
from trainer.evaluate_generator import EvaluateConfig, evaluate_generator
from trainer.evaluate_loop import EvaluateLoopConfig, evaluate_loop
from trainer.folds import FoldsConfig, make_folds
from trainer.generator import GeneratorConfig, train_generator
from trainer.inspect_texture import InspectConfig, inspect_texture
from trainer.mouth import MouthConfig, build_mouth
from trainer.prepare import PrepareConfig, prepare
from trainer.rig import RigConfig, build
from trainer.sheet import SheetConfig, make_sheet

COMMANDS = {
    RigConfig: build,
    MouthConfig: build_mouth,
    FoldsConfig: make_folds,
    PhotosConfig: make_photos,
    AuConfig: train,
    MergeConfig: merge,
    EvaluateAuConfig: evaluate,
    EvaluateLoopConfig: evaluate_loop,
    PrepareConfig: prepare,
    GeneratorConfig: train_generator,
    EvaluateConfig: evaluate_generator,
    InspectConfig: inspect_texture,
    SheetConfig: make_sheet,
}


def main() -> None:
    """Run one subcommand; one clean line and exit code 1 on an error that has a cure."""
    config = tyro.cli(
        Annotated[RigConfig, tyro.conf.subcommand("rig")]
        | Annotated[MouthConfig, tyro.conf.subcommand("mouth")]
        | Annotated[FoldsConfig, tyro.conf.subcommand("folds")]
        | Annotated[PhotosConfig, tyro.conf.subcommand("au-photos")]
        | Annotated[AuConfig, tyro.conf.subcommand("au")]
        | Annotated[MergeConfig, tyro.conf.subcommand("au-merge")]
        | Annotated[EvaluateAuConfig, tyro.conf.subcommand("evaluate-au")]
        | Annotated[EvaluateLoopConfig, tyro.conf.subcommand("evaluate-loop")]
        | Annotated[PrepareConfig, tyro.conf.subcommand("prepare")]
        | Annotated[GeneratorConfig, tyro.conf.subcommand("generator")]
        | Annotated[EvaluateConfig, tyro.conf.subcommand("evaluate")]
        | Annotated[InspectConfig, tyro.conf.subcommand("inspect")]
        | Annotated[SheetConfig, tyro.conf.subcommand("sheet")],
        prog="python -m trainer",
        description=__doc__,
    )
    try:
        COMMANDS[type(config)](config)
    except (PuppetError, EngineError) as exc:
        sys.exit(f"error: {exc}")


if __name__ == "__main__":
    main()
