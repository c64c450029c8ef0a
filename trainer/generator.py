"""`python -m trainer generator`. Trains one region's texture network; see `trainer.texture_loop` for the loop."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from puppet.errors import ConfigError
from puppet.generate.region import SHAPES
from trainer.disk import written_whole
from trainer.texture_params import TextureParams
from trainer.texture_shards import find_shards


@dataclass(frozen=True)
class LossWeights:
    """What counts how much; colours run -1 to 1, attention 0 to 1."""

    reconstruction: float = 1.0
    """Mean absolute error of the picture; the scale that the others are set against."""
    uncovered: float = 6.0
    """How much more a pixel counts that motion uncovered: openings cover about a tenth of a crop."""
    colour: float = 0.5
    """Error of the colour alone where motion uncovered: keeps attention from closing (tried without: it does)."""
    perceptual: float = 0.15
    """SqueezeNet distance, about as large as the reconstruction error at this weight."""
    attention: float = 0.02
    """Mean square of attention outside what was uncovered; GANimation's 0.1 at its image critic's scale."""
    attention_variation: float = 1e-3
    """Total variation of attention; GANimation's 1e-4 over sums, here over means."""
    temporal: float = 0.5
    """Change from one frame to the next against the answer's change."""
    critic: float = 0.0
    """WGAN-GP image critic; 0 leaves it out. GANimation's 1 against a cycle of 10 is 0.1 against our cycle of 1."""
    critic_actions: float = 0.1
    """Actions that the critic reads off a crop; only with a critic. GANimation's 4000 against a cycle of 10 would be
    400: crops of a mouth or an eye don't show most of the actions, so far less."""
    gradient_penalty: float = 10.0
    """Gulrajani et al. 2017, GANimation's 10; in the critic's own loss, where realness counts 1."""
    teacher: float = 1.0
    """Mean absolute error against what --teacher paints (Hinton et al. 2015), as the reconstruction."""
    cycle: float = 1.0
    """Mean absolute error of an unpaired picture that went to sampled actions and back; as the reconstruction, which
    is what GANimation's 10 for its cycle stands against. Only with --unpaired."""


@dataclass(frozen=True)
class GeneratorConfig:
    """Train a texture network on shards made by `python -m trainer prepare`."""

    region: Literal["mouth", "eye", "face"] = "mouth"
    """Which network; `face` is for comparison, from shards of `prepare --regions face`."""
    data: Path = Path("data/texture")
    """Folder of shards."""
    run_dir: Path = Path("runs/texture")
    """Config, log, curves, samples and checkpoints."""
    output: Path | None = None
    """Stem of the two ONNX files to write at the end; None leaves them in the run folder. With --finetune the folder of
    all four."""
    network: TextureParams = field(default_factory=TextureParams)
    loss: LossWeights = field(default_factory=LossWeights)
    steps: int = 20000
    """Optimiser steps."""
    minutes: float = 0.0
    """Stop (and finish the learning rate's course) after this time; 0 is no limit, with --finetune ten minutes for
    both regions together."""
    batch: int = 8
    """Crops a step, on each device."""
    learning_rate: float = 6e-4
    """Peak of a one-cycle course, Adam with betas 0.5 and 0.99."""
    critic_after: int = 1000
    """Step from which the critic counts."""
    critic_steps: int = 1
    """Steps of the critic for each of the network's. GANimation takes 5: with a known answer beside it, 1 suffices."""
    unpaired: int = 0
    """Unpaired pictures (`prepare --kinds unpaired`) a step, for the cycle and the critic."""
    perceptual_share: float = 0.5
    """Share of a batch on which the perceptual distance is computed."""
    ema: float = 0.998
    """Decay of the averaged weights, which are what is exported."""
    squeezenet: Path | None = Path("../shared/judges/squeezenet_v1.0.npz")
    """SqueezeNet weights; None trains without the perceptual term."""
    start: Path | None = None
    """Start from another run's checkpoint.safetensors, or from a folder with texture_<region>_*.onnx as packaged."""
    teacher: Path | None = None
    """A folder with texture_<region>_*.onnx as packaged, which this network is to paint like as well: for a smaller,
    faster one."""
    finetune: Path | None = None
    """A video of a portrait's person: both networks are trained on for it, from --start or the packaged ones, and
    written to --output for `python -m puppet --texture-models`."""
    portrait: Path | None = None
    """With --finetune: the portrait itself, to be shown the video's expressions as well."""
    memory_mib: int = 2048
    """Main memory for examples; what does not fit is streamed."""
    workers: int = 0
    """Processes that read and unpack shards beside the training."""
    accelerator: str = "auto"
    """Lightning Fabric's: auto, cpu, cuda."""
    devices: int = 1
    """Processes of one machine; under torchrun its own numbers count."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """bf16-mixed pays on GPUs that have it."""
    sample_every: int = 500
    """Steps between sample sheets, measurements and checkpoints."""
    seed: int = 0
    """Seeds weights, batches and augmentation."""
    watch: bool = False
    """Take up shards that appear while training (then the run is not repeatable)."""
    resume: bool = False
    """Go on from the run folder's checkpoint."""
    dry_run: bool = False
    """Print what would be done and stop."""


def train_generator(config: GeneratorConfig) -> None:
    """Train, measure on held-out people, export.

    Raises:
        InputError: no shards, a checkpoint that does not fit, a loss that is no number, a full disk or memory.
        ConfigError: settings that contradict each other.
    """
    check(config)
    if config.finetune is not None:
        from trainer.personalise import personalise

        personalise(config)
        return
    shards = find_shards(config.data) if config.data.is_dir() or not config.dry_run else []
    if config.dry_run:
        print(
            f"would train the {config.region} network for {config.steps} steps on {len(shards)} shards of {config.data}"
        )
        return
    config = dataclasses.replace(config, network=config.network.of(config.region))
    with written_whole(config.run_dir / "config.json") as part:
        part.write_text(json.dumps(dataclasses.asdict(config), default=str, indent=1))
    from trainer.texture_loop import fit

    fit(config, shards)


def check(config: GeneratorConfig) -> None:
    """
    Raises:
        ConfigError: a setting that can't be used.
    """
    if config.finetune is not None and config.finetune.suffix == ".safetensors":
        raise ConfigError(
            f"--finetune {config.finetune} is a checkpoint: expected a video of a person. Start from a checkpoint "
            "with --start."
        )
    if config.portrait is not None and config.finetune is None:
        raise ConfigError("--portrait is for --finetune: give the video of the portrait's person with --finetune.")
    if config.resume and config.start is not None:
        raise ConfigError("--resume and --start exclude each other: a resumed run has its own weights. Leave one out.")
    step = 4 * config.network.fold
    if config.network.fold < 1 or any(side % step for side in SHAPES[config.region].seen_size):
        height, width = SHAPES[config.region].seen_size
        raise ConfigError(
            f"--network.fold {config.network.fold}: expected one that goes four times into the {config.region}'s "
            f"crop, {width} x {height}."
        )
    for name in ("batch", "steps", "sample_every", "devices", "memory_mib", "critic_steps"):
        if getattr(config, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {getattr(config, name)}: expected 1 or more.")
