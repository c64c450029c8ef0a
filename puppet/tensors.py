"""Tensors from safetensors files, bounded and checked before they are believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from puppet.errors import InputError
from puppet.input_file import reason, require_file

MAX_BYTES = 64 << 20
MAX_HEADER_BYTES = 1 << 20
REAL = ("F16", "F32")
BYTES = ("U8",)
INDICES = ("I32",)


@dataclass(frozen=True)
class Layout:
    """What one tensor of a file has to be.

    A letter in `shape` stands for a size that is the same wherever it occurs; `least` and `most` bound the values.
    """

    kinds: tuple[str, ...]
    shape: tuple[int | str, ...]
    least: float = -1e4
    most: float = 1e4


def read_tensors(path: Path, layouts: Mapping[str, Layout]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors named in `layouts` and the file's metadata.

    Raises:
        InputError: missing, cut or damaged; a tensor that is missing, of another type or shape, or out of its range.
    """
    size = require_file(path, expected="a safetensors file", max_bytes=MAX_BYTES)
    try:
        with open(path, "rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if not 2 <= header <= min(size - 8, MAX_HEADER_BYTES):
            raise InputError(f"{path} says that its header has {header} bytes, of {size} in all: it is cut or damaged.")
        with safe_open(path, framework="numpy") as file:
            _check_names(path, set(file.keys()), layouts)
            sizes: dict[str, int] = {}
            for name, layout in layouts.items():
                _check_shape(path, name, file.get_slice(name), layout, sizes)
            arrays = {name: _in_range(path, name, file.get_tensor(name), layouts[name]) for name in layouts}
            return arrays, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} can't be read: {reason(error)}. Reinstall the package or make the file again."
        ) from error


def _check_names(path: Path, names: set[str], layouts: Mapping[str, Layout]) -> None:
    if missing := sorted(layouts.keys() - names):
        raise InputError(f"{path} has no {missing[0]}.")


def _check_shape(path: Path, name: str, tensor, layout: Layout, sizes: dict[str, int]) -> None:
    kind, shape = tensor.get_dtype(), tuple(tensor.get_shape())
    fits = kind in layout.kinds and len(shape) == len(layout.shape)
    for have, want in zip(shape, layout.shape, strict=False):
        fits = fits and have == (sizes.setdefault(want, have) if isinstance(want, str) else want) and have > 0
    if not fits:
        wanted = " x ".join(str(sizes.get(n, n)) for n in layout.shape)
        raise InputError(f"{path}: {name} is {kind} {shape}, not {' or '.join(layout.kinds)} {wanted}.")


def _in_range(path: Path, name: str, array: np.ndarray, layout: Layout) -> np.ndarray:
    if not (layout.least <= array.min() and array.max() <= layout.most):  # false for NaN, too
        raise InputError(f"{path}: {name} holds numbers outside {layout.least:g} to {layout.most:g}.")
    return array
