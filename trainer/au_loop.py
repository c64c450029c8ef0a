"""The training loop of the AU regressor."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from puppet import facs
from puppet.errors import InputError
from trainer.au_model import AuRegressor, export_onnx
from trainer.au_rig import Samples

if TYPE_CHECKING:
    from trainer.au import AuConfig, AuData

log = logging.getLogger(__name__)

WARM_UP = 0.05
LICENCE = (
    "MIT; trained on ICT-FaceKit (MIT) and photographs: webmorph (CC BY 4.0, DeBruine & Jones), us-house (public "
    "domain), faker (CC0), SFHQ (MIT), Caltech faces (CC BY 4.0)"
)


def fit_regressor(config: AuConfig, data: AuData, run_dir: Path) -> None:
    """Train from `data`, leave checkpoint, metrics and curves in `run_dir`, write the ONNX file."""
    from trainer.au import pearson, write_curves

    torch.manual_seed(config.seed)
    model = AuRegressor(config.network)
    model.take(data.compression, data.faces)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    start, rows = _resume(run_dir, model, optimiser) if config.resume else (0, [])

    # Rare actions count as much as frequent ones.
    spread = np.sqrt((data.faces.intensities**2).mean(0)) + 0.3
    column_weight = torch.from_numpy((1 / spread).astype(np.float32))
    total = 0.0
    with Progress() as bar:
        task = bar.add_task("training", total=config.steps, completed=start)
        for step in range(start + 1, config.steps + 1):
            model.train()
            batch = data.batch(config.batch, config)
            intensities, gaze = model(*inputs(batch))
            loss = known_loss(intensities, torch.from_numpy(batch.intensities), 0.5, column_weight)
            loss = loss + 2.0 * known_loss(gaze, torch.from_numpy(batch.gaze_rad), 0.1)
            optimiser.zero_grad()
            loss.backward()
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * schedule(step / config.steps)
            optimiser.step()
            total += loss.item()
            bar.advance(task)
            if step % config.evaluate_every == 0 or step == config.steps:
                row = {"step": step, "loss": total / (step - (rows[-1]["step"] if rows else 0))}
                for name, samples in data.held_out.items():
                    scores = pearson(predict(model, samples)[0], samples.intensities)
                    row[f"{name}_pearson_mean"] = float(np.mean(list(scores.values())))
                    row[f"{name}_pearson_min"] = float(min(scores.values()))
                    alone = pearson(predict(model, samples.without_neutral())[0], samples.intensities)
                    row[f"{name}_alone_pearson_mean"] = float(np.mean(list(alone.values())))
                rows.append(row)
                total = 0.0
                log.info(" ".join(f"{k}={v:.4f}" if k != "step" else f"step={v}" for k, v in row.items()))
                _checkpoint(run_dir, model, optimiser, step, rows)
                write_curves(run_dir, rows)
                data.refresh(config.refresh)
    for name, samples in data.held_out.items():
        scores = pearson(predict(model, samples)[0], samples.intensities)
        log.info("%s: %s", name, " ".join(f"{au} {r:.3f}" for au, r in scores.items()))
    export_onnx(
        model, config.output, {"licence": LICENCE, "version": "1", "config": (run_dir / "config.json").read_text()}
    )
    log.info("wrote %s", config.output)


def schedule(progress: float) -> float:
    """Learning rate over its peak: a short linear rise, then half a cosine down to zero. `progress` 0-1."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))


def known_loss(estimated: Tensor, true: Tensor, beta: float, weight: Tensor | float = 1.0) -> Tensor:
    """Mean smooth L1 loss; labels that are not known (NaN) count nothing."""
    error = F.smooth_l1_loss(estimated, torch.nan_to_num(true), reduction="none", beta=beta)
    return (error * torch.isfinite(true) * weight).mean()


def predict(model: AuRegressor, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Intensities and gaze of samples."""
    model.eval()
    with torch.no_grad():
        intensities, gaze = model(*inputs(samples))
    return intensities.numpy(), gaze.numpy()


def inputs(samples: Samples) -> list[Tensor]:
    """The network's inputs, in `forward`'s order."""
    return [torch.from_numpy(array) for array in samples.inputs().values()]


def _checkpoint(run_dir: Path, model: AuRegressor, optimiser: torch.optim.Optimizer, step: int, rows: list) -> None:
    """Weights and optimiser state in one safetensors file, written whole or not at all."""
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v).contiguous() for k, v in state.items()}
    part = run_dir / "checkpoint.safetensors.part"
    save_file(
        tensors, part, metadata={"step": str(step), "rows": json.dumps(rows), "aus": json.dumps(facs.INTENSITY_NAMES)}
    )
    part.replace(run_dir / "checkpoint.safetensors")


def _resume(run_dir: Path, model: AuRegressor, optimiser: torch.optim.Optimizer) -> tuple[int, list]:
    from safetensors import SafetensorError, safe_open

    path = run_dir / "checkpoint.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
    except (OSError, SafetensorError) as exc:
        raise InputError(f"{path} can't be read ({exc}): expected a run's checkpoint. Start without --resume.") from exc
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    state = optimiser.state_dict()
    state["state"] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".")
            state["state"].setdefault(int(index), {})[name] = value
    optimiser.load_state_dict(state)
    return int(metadata["step"]), json.loads(metadata["rows"])
