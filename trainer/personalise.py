"""`python -m trainer generator --finetune VIDEO`: teeth and networks for one portrait, from a video of its person.

The teeth are taken from the video as they are, and the motion step draws them; the networks learn what is left. Both
regions are trained on from networks that serve everyone, on the video's frames alone: the beginning is learnt from, the
end is kept to measure and to look at. For one person the mouth may be painted freely: what shows in it is theirs, and
need not hold for others.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from puppet.errors import InputError
from puppet.generate.mouth import MOUTH_FILE, MouthPictures
from puppet.generate.painter import MODELS
from puppet.generate.region import PACKAGED
from puppet.rig import LandmarkRig
from trainer.example_maker import ExampleMaker
from trainer.face_sources import FaceReader, TrackedStill
from trainer.faces_folder import FaceFile
from trainer.own_teeth import as_bright_as, lay_rows, read_views, skin_in_light, write_mouth
from trainer.teeth_sheet import write_sheet
from trainer.texture_pairs import Toolbox
from trainer.texture_shards import HELD_OUT, TRAIN, check_index, write_shard
from trainer.texture_start import read_networks

if TYPE_CHECKING:
    from trainer.generator import GeneratorConfig

log = logging.getLogger(__name__)

_MINUTES = 10.0
_SHARES = {"mouth": 0.7, "eye": 0.3}
_LEARNT_FROM = 0.85  # of the video, in time
_EMA, _PERCEPTUAL_SHARE = 0.98, 0.25  # at most: a run of some hundred steps
_PORTRAITS, _TARGETS, _HELD_OUT_TARGETS = 2, 160, 24


def personalise(config: GeneratorConfig) -> Path:
    """The folder with the teeth and the networks.

    Raises:
        InputError: the video or the portrait can't be used, or the networks to start from can't be read.
    """
    folder = config.output or config.run_dir / "networks"
    minutes = config.minutes or _MINUTES
    if config.dry_run:
        print(
            f"would take the teeth out of {config.finetune}, train both networks on it for {minutes:g} minutes "
            f"and write all to {folder}"
        )
        return folder
    base = config.start or MODELS
    params = {region: read_networks(base, region)[0] for region in PACKAGED}
    if config.squeezenet is not None and not config.squeezenet.is_file():
        log.warning("no SqueezeNet weights at %s: trained without the perceptual term.", config.squeezenet)
        config = dataclasses.replace(config, squeezenet=None)
    data = config.run_dir / "data"
    pictures = take_teeth(config.finetune, config.portrait, folder, data)
    prepare_person(config.finetune, config.portrait, data, seed=config.seed, pictures=pictures)
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


def take_teeth(video: Path, portrait: Path | None, folder: Path, cache_dir: Path) -> MouthPictures | None:
    """The teeth that the video shows, kept in the folder with a picture to look at; None where it shows too little.

    A file that exists is kept. `portrait` is who opens the mouth in the picture, None a frame of the video.

    Raises:
        InputError: the video or the portrait can't be used, or the file that exists is damaged.
    """
    path = folder / MOUTH_FILE
    if path.is_file():
        return MouthPictures.load(path)
    reader, tools = FaceReader(cache_dir), Toolbox(LandmarkRig.load(), MouthPictures.load())
    still = _portrait(portrait, cache_dir) if portrait is not None else None
    tracked = reader.clip(FaceFile(video, "clip", video.stem))
    views = read_views(video, tracked.landmarks_px, (0.0, _LEARNT_FROM), tools)
    own = lay_rows(views.looks, tools.pictures)
    if own is None:
        log.warning(
            "%s hardly shows teeth (%d frames with an open mouth from the front): the drawn ones are kept. Film a "
            "smile and some words from the front, in good light.",
            video,
            len(views.looks),
        )
        return None
    if still is not None:
        own = as_bright_as(own, views.skin, skin_in_light(still.rgb, still.landmarks_px))
    write_mouth(path, own, source=video.name)
    write_sheet(folder / "teeth.png", *(views.closed if still is None else (still.rgb, still.landmarks_px)), own, tools)
    log.info("teeth: see %s", folder / "teeth.png")
    return own


def prepare_person(
    video: Path, portrait: Path | None, output: Path, *, seed: int = 0, pictures: MouthPictures | None = None
) -> None:
    """Shards of one video; those that exist are kept. `pictures` are the person's teeth, None the packaged ones.

    Raises:
        InputError: the video or the portrait can't be used.
    """
    check_index(output, for_writing=True)
    maker = ExampleMaker(cache_dir=output, pictures=pictures)
    still = _portrait(portrait, output) if portrait is not None else None
    file = FaceFile(video, "clip", video.stem)
    for name, part, count in (
        (TRAIN, (0.0, _LEARNT_FROM), _TARGETS),
        (HELD_OUT, (_LEARNT_FROM, 1.0), _HELD_OUT_TARGETS),
    ):
        path = output / name / "clip.tar"
        if not path.is_file():
            rng = np.random.default_rng(seed)
            examples = maker.of_clip(file, rng, portraits=_PORTRAITS, targets=count, part=part, portrait=still)
            write_shard(path, examples)


def _portrait(path: Path, cache_dir: Path) -> TrackedStill:
    return FaceReader(cache_dir).still(FaceFile(path, "still", path.stem))
