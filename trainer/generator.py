"""`python -m trainer generator`. Trains one region's texture network; see `trainer.texture_loop` for the loop."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from puppet.errors import InputError
from trainer.texture_params import TextureParams

log = logging.getLogger(__name__)


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
    """WGAN-GP image critic. GANimation's 1 against a cycle weight of 10; 0 leaves the critic out."""
    critic_actions: float = 0.1
    """Actions that the critic reads off the painted picture; only with a critic."""
    gradient_penalty: float = 10.0
    """Gulrajani et al. 2017."""


@dataclass(frozen=True)
class GeneratorConfig:
    """Train a texture network on shards made by `python -m trainer prepare`."""

    region: Literal["mouth", "eye"] = "mouth"
    """Which network."""
    data: Path = Path("data/texture")
    """Folder of shards."""
    run_dir: Path = Path("runs/texture-mouth")
    """Config, log, curves, samples and checkpoints."""
    output: Path | None = None
    """Stem of the two ONNX files to write at the end; None leaves them in the run folder."""
    network: TextureParams = field(default_factory=TextureParams)
    loss: LossWeights = field(default_factory=LossWeights)
    steps: int = 20000
    """Optimiser steps."""
    minutes: float = 0.0
    """Stop (and finish the learning rate's course) after this time; 0 is no limit."""
    batch: int = 8
    """Crops a step, on each device."""
    learning_rate: float = 6e-4
    """Peak of a one-cycle course, Adam with betas 0.5 and 0.99."""
    critic_after: int = 1000
    """Step from which the critic counts."""
    perceptual_share: float = 0.5
    """Share of a batch on which the perceptual distance is computed."""
    ema: float = 0.998
    """Decay of the averaged weights, which are what is exported."""
    squeezenet: Path | None = Path("../shared/judges/squeezenet_v1.0.npz")
    """SqueezeNet weights; None trains without the perceptual term."""
    finetune: Path | None = None
    """Start from another run's checkpoint.safetensors."""
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
        InputError: no shards, a checkpoint that does not fit, or a loss that is no number.
    """
    from trainer.texture_data import TextureData

    shards = sorted(config.data.glob("*.npz")) if config.data.is_dir() else []
    if config.dry_run:
        print(
            f"would train the {config.region} network for {config.steps} steps on {len(shards)} shards of {config.data}"
        )
        return
    if not shards:
        raise InputError(
            f"no shards in {config.data}: expected .npz files. Make them with `python -m trainer prepare`."
        )
    config.run_dir.mkdir(parents=True, exist_ok=True)
    (config.run_dir / "config.json").write_text(json.dumps(dataclasses.asdict(config), default=str, indent=1))
    handler = logging.FileHandler(config.run_dir / "log.txt")
    logging.getLogger("trainer").addHandler(handler)
    logging.getLogger("trainer").setLevel(logging.INFO)
    data = TextureData(shards, config.region, seed=config.seed)
    counts = (len(data.train), data.person_count, len(data.held_out), data.left_out)
    log.info("%d examples of %d people, %d held out, %d left out as misfits", *counts)
    from trainer.texture_loop import fit

    fit(config, data)
