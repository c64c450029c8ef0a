"""Gaps, latency and memory over a run's time, as one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .judge import MAX_GAP_MS, Run, gaps_ms
from .script import CALM

BIN_S = 2.0


def draw(run: Run, path: Path) -> None:
    """Write a PNG. Needs matplotlib (`pip install ".[train]"`)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    since_min = (run.time_s - run.time_s[0]) / 60
    figure, (top, middle, bottom) = pyplot.subplots(3, 1, figsize=(11, 8), sharex=True, constrained_layout=True)
    at, longest = _longest_by_bin(since_min[1:] * 60, gaps_ms(run))
    top.plot(at / 60, longest, lw=0.8, color="tab:blue")
    top.axhline(MAX_GAP_MS, color="tab:red", lw=0.8, ls="--")
    top.set(ylabel=f"longest gap\nin {BIN_S:g} s, ms", ylim=(0, max(1.2 * MAX_GAP_MS, 1.1 * longest.max())))
    shown = ~np.isnan(run.latency_ms)
    middle.plot(since_min[shown], run.latency_ms[shown], ".", ms=0.8, color="tab:green", rasterized=True)
    middle.set(ylabel="capture to publish, ms", ylim=(0, None))
    if len(run.memory_mib):
        bottom.plot((run.memory_time_s - run.time_s[0]) / 60, run.memory_mib, color="tab:purple", lw=1)
    bottom.set(ylabel="resident memory, MiB", xlabel="minutes", ylim=(0, None))
    _shade_faults(run, since_min, (top, middle, bottom))
    figure.suptitle(f"{len(run.time_s)} frames published in {since_min[-1]:.1f} minutes; grey: faults")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _longest_by_bin(at_s: np.ndarray, gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    bins = (at_s // BIN_S).astype(int)
    starts = np.flatnonzero(np.append(True, np.diff(bins) > 0))
    return at_s[starts], np.maximum.reduceat(gaps, starts)


def _shade_faults(run: Run, since_min: np.ndarray, axes) -> None:
    changes = np.flatnonzero(np.append(True, np.diff(run.scene) != 0))
    ends = np.append(changes[1:], len(run.scene) - 1)
    for first, last in zip(changes, ends, strict=True):
        if run.scenes[run.scene[first] % len(run.scenes)].kind != CALM:
            for axis in axes:
                axis.axvspan(since_min[first], since_min[last], color="0.9", lw=0)
