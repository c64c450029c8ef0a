"""Torch modules around a program's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class Typed(nn.Module):
    """A module whose outputs are cast to NumPy types."""

    def __init__(self, module: nn.Module, dtypes: Sequence[np.dtype]) -> None:
        super().__init__()
        self.module = module
        self._dtypes = [getattr(torch, np.dtype(dtype).name) for dtype in dtypes]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...] | Tensor:
        results = self.module(*inputs)
        results = results if isinstance(results, (tuple, list)) else (results,)
        typed = tuple(result.to(dtype) for result, dtype in zip(results, self._dtypes, strict=True))
        return typed if len(typed) > 1 else typed[0]
