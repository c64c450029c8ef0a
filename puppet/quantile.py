"""Quantiles of an endless stream in bounded memory, with forgetting."""

from __future__ import annotations

import numpy as np


class RunningQuantile:
    """Quantiles of several columns at once, from one histogram a column whose weights fade."""

    def __init__(self, low: np.ndarray, high: np.ndarray, *, bins: int = 400):
        """`low` and `high` are `(N,)`; values outside count at the ends. Resolution is a bin, interpolated within."""
        self._low = np.asarray(low, np.float64)
        self._width = (np.asarray(high, np.float64) - self._low) / bins
        self._mass = np.zeros((len(self._low), bins))
        self._rows = np.arange(len(self._low))

    def observe(self, values: np.ndarray, weight: np.ndarray | float, *, keep: float = 1.0) -> None:
        """Add one `(N,)` observation with a weight a column; the past is multiplied by `keep` first."""
        place = ((values - self._low) / self._width).astype(int)
        self._mass *= keep
        self._mass[self._rows, np.clip(place, 0, self._mass.shape[1] - 1)] += weight

    def reset(self, values: np.ndarray, weight: np.ndarray | float) -> None:
        """Forget everything but one observation of that weight."""
        self._mass[:] = 0.0
        self.observe(values, weight)

    def quantile(self, share: np.ndarray) -> np.ndarray:
        """`(N,)` values below which `share` (`(N,)`, 0-1) of each column's weight lies."""
        total = np.cumsum(self._mass, axis=1)
        wanted = np.asarray(share) * total[:, -1]
        place = np.minimum((total < wanted[:, None]).sum(1), total.shape[1] - 1)
        inside = self._mass[self._rows, place]
        before = total[self._rows, place] - inside
        part = np.divide(wanted - before, inside, out=np.full(len(place), 0.5), where=inside > 0)
        return self._low + (place + np.clip(part, 0.0, 1.0)) * self._width
