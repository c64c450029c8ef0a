"""SqueezeNet 1.0 (Iandola et al. 2016) features, ImageNet weights, for a perceptual distance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puppet.errors import InputError

_MEAN_BGR = (104.0, 117.0, 123.0)
_FIRES = ((2, False), (3, False), (4, True), (5, False), (6, False), (7, False), (8, True))  # pool after it?


class SqueezeFeatures(nn.Module):
    """Activations after conv1 and some fire modules.

    Raises:
        InputError: the weights are missing or not SqueezeNet 1.0's.
    """

    def __init__(self, path: Path, *, depth: int = 5, taps: tuple[int, ...] = (1, 3, 5)) -> None:
        """`depth` is the last fire module computed; `taps` those whose output is used, 1 for conv1."""
        super().__init__()
        self._depth, self._taps = depth, taps
        try:
            with np.load(path) as file:
                arrays = {name: torch.from_numpy(file[name].astype(np.float32)) for name in file}
            for name, array in arrays.items():
                self.register_buffer(_flat(name), array)
            self.conv1  # noqa: B018
        except (OSError, ValueError, AttributeError) as exc:
            raise InputError(
                f"{path} can't be read ({exc}): expected SqueezeNet 1.0 weights. "
                "Give them with --squeezenet, or none with --squeezenet None."
            ) from exc
        self.register_buffer("_mean", torch.tensor(_MEAN_BGR)[:, None, None])

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Features `(N, C, h, w)` of RGB pictures `(N, 3, H, W)` -1 to 1."""
        x = (picture.flip(1) + 1) * 127.5 - self._mean
        x = F.relu(F.conv2d(x, self.conv1, self.conv1_b, stride=2))
        out = [x] if 1 in self._taps else []
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        for number, is_pooled in _FIRES:
            if number > self._depth:
                break
            x = self._fire(x, number)
            if number in self._taps:
                out.append(x)
            if is_pooled:
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        return out

    def _fire(self, x: Tensor, number: int) -> Tensor:
        def conv(x: Tensor, name: str, padding: int = 0) -> Tensor:
            key = _flat(f"fire{number}/{name}")
            return F.relu(F.conv2d(x, getattr(self, key), getattr(self, f"{key}_b"), padding=padding))

        squeezed = conv(x, "conv1x1_1")
        return torch.cat([conv(squeezed, "conv1x1_2"), conv(squeezed, "conv3x3_2", 1)], 1)

    def distance(self, a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
        """`(N,)`: squared distance of channel-normalised features, mean over places, summed over layers.

        LPIPS (Zhang et al. 2018) without its learnt channel weights. `weight` `(N, 1, H, W)` says which places count.
        """
        errors = self.errors(a, b)
        return sum(error.mean((1, 2, 3)) for error in errors) if weight is None else self.mean_error(errors, weight)

    def errors(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """`(N, 1, h, w)` for each layer: squared distance of channel-normalised features."""
        errors = []
        for x, y in zip(self(a), self(b), strict=True):
            x, y = (v / (v.square().sum(1, keepdim=True) + 1e-6).sqrt() for v in (x, y))
            errors.append((x - y).square().sum(1, keepdim=True))
        return errors

    def mean_error(self, errors: list[Tensor], weight: Tensor) -> Tensor:
        """`(N,)`: mean over the places that `weight` `(N or 1, 1, H, W)` counts, summed over layers."""
        total = 0
        for error in errors:
            share = F.adaptive_avg_pool2d(weight, error.shape[2:])
            total = total + (error * share).sum((1, 2, 3)) / (share.sum((1, 2, 3)) + 1e-6)
        return total


def _flat(name: str) -> str:
    return name.replace("/", "_")
