"""`python -m trainer generator --finetune VIDEO`: networks for one portrait, from a video of its person.

Both regions are trained on from networks that serve everyone, on the video's frames alone: the beginning is learnt
from, the end is kept to measure and to look at. For one person the mouth may be painted freely: what shows in it is
theirs, and need not hold for others.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from puppet.errors import InputError
from puppet.generate.painter import MODELS
from puppet.generate.region import SHAPES
from trainer.face_sources import FaceReader, TrackedStill
from trainer.faces_folder import FaceFile
from trainer.prepare import ExampleMaker, PrepareConfig
from trainer.texture_shards import HELD_OUT, TRAIN, check_index, write_shard
from trainer.texture_start import read_networks

if TYPE_CHECKING:
    from trainer.generator import GeneratorConfig

log = logging.getLogger(__name__)

_MINUTES = 10.0
_SHARES = {"mouth": 0.7, "eye": 0.3}
_LEARNT_FROM = 0.85  # of the video, in time
_EMA, _PERCEPTUAL_SHARE = 0.98, 0.25  # at most: a run of some hundred steps
_TARGETS, _HELD_OUT_TARGETS = 160, 24


def personalise(config: GeneratorConfig) -> Path:
    """The folder with the networks.

    Raises:
        InputError: the video or the portrait can't be used, or the networks to start from can't be read.
    """
    folder = config.output or config.run_dir / "networks"
    minutes = config.minutes or _MINUTES
    if config.dry_run:
        print(f"would train both networks on {config.finetune} for {minutes:g} minutes and write them to {folder}")
        return folder
    base = config.start or MODELS
    params = {region: read_networks(base, region)[0] for region in SHAPES}
    if config.squeezenet is not None and not config.squeezenet.is_file():
        log.warning("no SqueezeNet weights at %s: trained without the perceptual term.", config.squeezenet)
        config = dataclasses.replace(config, squeezenet=None)
    data = config.run_dir / "data"
    prepare_person(config.finetune, config.portrait, data, seed=config.seed)
    from trainer.generator import train_generator

    for region, share in _SHARES.items():
        own = dataclasses.replace(
            config,
            finetune=None,
            portrait=None,
            region=region,
            data=data,
            run_dir=config.run_dir / region,
            output=folder / f"texture_{region}",
            start=None if config.resume else base,
            network=dataclasses.replace(params[region], relight=0.0),
            minutes=share * minutes,
            ema=min(config.ema, _EMA),
            perceptual_share=min(config.perceptual_share, _PERCEPTUAL_SHARE),
        )
        try:
            train_generator(own)
        except InputError as exc:
            if "no examples of the" not in str(exc):
                raise
            log.warning("%s shows nothing for the %s network: it stays as it was.", config.finetune, region)
            for part in ("portrait", "paint"):
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(base / f"texture_{region}_{part}.onnx", folder)
    target = config.portrait or "PORTRAIT"
    print(f"Animate with it: python -m puppet --target {target} --texture-models {folder}")
    return folder


def prepare_person(video: Path, portrait: Path | None, output: Path, *, seed: int = 0) -> None:
    """Shards of one video; those that exist are kept.

    Raises:
        InputError: the video or the portrait can't be used.
    """
    check_index(output, for_writing=True)
    maker = ExampleMaker(PrepareConfig(cache_dir=output, output=output))
    still = _portrait(portrait) if portrait is not None else None
    file = FaceFile(video, "clip", video.stem)
    for name, part, count in (
        (TRAIN, (0.0, _LEARNT_FROM), _TARGETS),
        (HELD_OUT, (_LEARNT_FROM, 1.0), _HELD_OUT_TARGETS),
    ):
        path = output / name / "clip.tar"
        if not path.is_file():
            maker.config = dataclasses.replace(maker.config, targets=count)
            examples = maker.of_clip(file, np.random.default_rng(seed), part=part, portrait=still)
            write_shard(path, examples)


def _portrait(path: Path) -> TrackedStill:
    return FaceReader(path.parent).still(FaceFile(path, "still", path.stem))
