"""Checkpoints of texture runs: one safetensors file with weights, averaged weights and optimisers."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from puppet.errors import InputError
from trainer.disk import written_whole


def write_checkpoint(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write it whole or not at all: what was there stays until the new one is complete.

    Raises:
        DiskError: the disk is full.
    """
    with written_whole(path) as part:
        try:
            save_file({name: value.clone().contiguous() for name, value in tensors.items()}, part, metadata=metadata)
        except SafetensorError as exc:  # the library's own word for an error of the system
            raise OSError(28 if "No space" in str(exc) else 5, str(exc)) from exc


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata.

    Raises:
        InputError: it is missing, damaged or no checkpoint of a texture run.
    """
    if not path.is_file():
        raise InputError(
            f"{path} does not exist: expected a checkpoint. Start without --resume, or give the run with --run-dir."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
    except (OSError, SafetensorError) as exc:
        raise InputError(
            f"{path} can't be read ({exc}): expected a checkpoint of `python -m trainer generator`. Delete it and "
            "start again, without --resume."
        ) from exc
    if "step" not in metadata or not any(name.startswith("ema.") for name in tensors):
        raise InputError(f"{path} is no checkpoint of a texture run: expected one of `python -m trainer generator`.")
    return tensors, metadata


def unlike(metadata: dict[str, str], region: str, sizes: dict[str, int]) -> str:
    """In which settings a checkpoint differs from a run's: 'region eye (here mouth), near 16 (here 12)', or ''."""
    config = json.loads(metadata.get("config", "{}"))
    found = {"region": config.get("region", region)} | {
        name: config.get("network", {}).get(name, value) for name, value in sizes.items()
    }
    wanted = {"region": region, **sizes}
    return ", ".join(f"{name} {found[name]} (here {wanted[name]})" for name in wanted if found[name] != wanted[name])


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def optimiser_tensors(optimiser: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """An optimiser's state by name."""
    states = optimiser.state_dict()["state"]
    return {f"{prefix}{n}.{k}": torch.as_tensor(v) for n, state in states.items() for k, v in state.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave, its prefix taken off."""
    state = optimiser.state_dict()
    state["state"] = {}
    for key, value in tensors.items():
        index, name = key.split(".")
        state["state"].setdefault(int(index), {})[name] = value
    optimiser.load_state_dict(state)
