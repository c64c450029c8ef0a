"""What a soak run has to keep to, and whether it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .script import CALM, Scene

MAX_GAP_MS = 100.0
MOST_GAP_FRAMES = 2.0  # 99 % of gaps stay under this many frames' time
RATE_SHARE = (0.98, 1.02)
LATENCY_DRIFT_MS = 10.0
MEMORY_GROWTH_MIB = 40.0
RECOVERY_S = 5.0  # after the worst of faults; a camera is looked for every second
LEAST_SEEN_SHARE = 0.98  # of a driver's pixels that the leak check would notice


@dataclass(frozen=True)
class Run:
    """What was measured. One entry a published frame, unless said otherwise; times in seconds on one clock."""

    fps: float
    cycle_s: float
    time_s: np.ndarray
    latency_ms: np.ndarray  # NaN where a frame shows nothing newly captured
    has_face: np.ndarray
    is_new: np.ndarray  # False: the picture before was published again
    scene: np.ndarray  # number of the scene, counted on through the cycles
    scenes: Sequence[Scene]
    memory_time_s: np.ndarray = field(default_factory=lambda: np.zeros(0))
    memory_mib: np.ndarray = field(default_factory=lambda: np.zeros(0))  # resident; empty where the system is silent
    leaks: int = 0  # frames with something of the driver in them
    foreign: int = 0  # frames unlike any portrait
    recorded: int = 0  # frames of recordings that were looked at
    recording_leaks: int = 0
    recording_foreign: int = 0
    driver_seen_share: float = 1.0
    errors: int = 0
    opened: int = 1
    closed_s: float | None = None
    exit_code: int = 0

    def kinds(self) -> np.ndarray:
        return np.array([scene.kind for scene in self.scenes])[self.scene % len(self.scenes)]


@dataclass(frozen=True)
class Verdict:
    """One line of the table; `has_passed` None: told, not judged."""

    name: str
    value: str
    aim: str
    has_passed: bool | None


def gaps_ms(run: Run) -> np.ndarray:
    return np.diff(run.time_s) * 1e3


def judge(run: Run, *, with_faults: bool) -> list[Verdict]:
    """All that a run is held to, in the order of the table."""
    gaps = gaps_ms(run)
    if len(gaps) < 2:
        return [Verdict("frames published", str(len(run.time_s)), "more than two", False)]
    frame_ms = 1e3 / run.fps
    rate = len(gaps) / (run.time_s[-1] - run.time_s[0])
    latency = run.latency_ms[~np.isnan(run.latency_ms)]
    p50, p95, p99 = np.percentile(latency, (50, 95, 99)) if len(latency) else (np.nan,) * 3
    verdicts = [
        _at_most("longest gap between frames", gaps.max(), MAX_GAP_MS, "ms"),
        _at_most("99 % of gaps", np.percentile(gaps, 99), MOST_GAP_FRAMES * frame_ms, "ms"),
        Verdict("rate kept", f"{rate:.2f} fps", f"{run.fps:g} fps, 2 %",
                bool(RATE_SHARE[0] <= rate / run.fps <= RATE_SHARE[1])),
        Verdict("frames published; pictures repeated", f"{len(run.time_s)}; {1 - run.is_new.mean():.1%}", "", None),
        Verdict("capture to publish p50, p95, p99", f"{p50:.1f}, {p95:.1f}, {p99:.1f} ms", "", None),
        _latency_drift(run),
        _memory_growth(run),
        _zero("published frames with driver pixels", run.leaks),
        _zero("published frames unlike any portrait", run.foreign),
        Verdict("of a driver's pixels the check would see", f"{run.driver_seen_share:.1%}",
                f"at least {LEAST_SEEN_SHARE:.0%}", run.driver_seen_share >= LEAST_SEEN_SHARE),
        Verdict("device opened; closed before the end", f"{run.opened} time; {_closed_early(run)}", "once; never",
                run.opened == 1 and not _closed_early(run)),
        _zero("exit code", run.exit_code),
    ]  # fmt: skip
    if with_faults:
        worst, count = _recoveries(run)
        verdicts += [
            _zero(f"recorded frames with driver pixels (of {run.recorded})", run.recording_leaks),
            _zero(f"recorded frames unlike any portrait (of {run.recorded})", run.recording_foreign),
            Verdict("recordings looked at", f"{run.recorded} frames", "some", run.recorded > 0),
            Verdict("errors survived", str(run.errors), "some", run.errors > 0),
            Verdict(f"face back after a fault, slowest of {count}", f"{worst:.1f} s", f"at most {RECOVERY_S:g} s",
                    bool(count and worst <= RECOVERY_S)),
        ]  # fmt: skip
    return verdicts


def _at_most(name: str, value: float, most: float, unit: str) -> Verdict:
    return Verdict(name, f"{value:.1f} {unit}", f"at most {most:.0f} {unit}", bool(value <= most))


def _zero(name: str, count: int) -> Verdict:
    return Verdict(name, str(count), "0", count == 0)


def _first_and_last(time_s: np.ndarray, values: np.ndarray, window_s: float) -> tuple[float, float] | None:
    """Medians of the window after the first one, and of the last; None for a run of less than three windows."""
    if not len(time_s) or time_s[-1] - time_s[0] < 3 * window_s:
        return None
    since = time_s - time_s[0]
    first = values[(since >= window_s) & (since < 2 * window_s)]
    last = values[since >= since[-1] - window_s]
    if not len(first) or not len(last) or np.isnan(first).all() or np.isnan(last).all():
        return None
    return float(np.nanmedian(first)), float(np.nanmedian(last))


def _latency_drift(run: Run) -> Verdict:
    ends = _first_and_last(run.time_s, run.latency_ms, run.cycle_s)
    if ends is None:
        return Verdict("latency, second cycle and last", "run too short", "", None)
    return Verdict("latency, second cycle and last", f"{ends[0]:.1f}, {ends[1]:.1f} ms",
                   f"{LATENCY_DRIFT_MS:g} ms more at most", ends[1] - ends[0] <= LATENCY_DRIFT_MS)  # fmt: skip


def _memory_growth(run: Run) -> Verdict:
    ends = _first_and_last(run.memory_time_s, run.memory_mib, run.cycle_s)
    if ends is None:
        return Verdict("memory, second cycle and last", "not measured", "", None)
    return Verdict("memory, second cycle and last", f"{ends[0]:.0f}, {ends[1]:.0f} MiB",
                   f"{MEMORY_GROWTH_MIB:g} MiB more at most", ends[1] - ends[0] <= MEMORY_GROWTH_MIB)  # fmt: skip


def _closed_early(run: Run) -> bool:
    return run.closed_s is not None and run.closed_s < run.time_s[-1]


def _recoveries(run: Run) -> tuple[float, int]:
    """The longest time without a face at the start of a calm scene, and how many of them there were."""
    waits = []
    for number in np.unique(run.scene)[:-1]:  # the last one may be cut
        if run.scenes[number % len(run.scenes)].kind != CALM:
            continue
        inside = run.scene == number
        seen = np.flatnonzero(run.has_face[inside])
        times = run.time_s[inside]
        waits.append(times[seen[0]] - times[0] if len(seen) else np.inf)
    return (max(waits), len(waits)) if waits else (np.inf, 0)


def by_scene(run: Run) -> list[dict]:
    """One row a kind of scene: frames, longest gap, share of repeated pictures, share with a face, latency p50."""
    kinds, gaps, rows = run.kinds(), np.append(0.0, gaps_ms(run)), []
    for kind in dict.fromkeys(kinds):
        inside = kinds == kind
        latency = run.latency_ms[inside]
        rows.append(
            {
                "scene": str(kind),
                "frames": int(inside.sum()),
                "longest_gap_ms": round(float(gaps[inside].max()), 1),
                "repeated": round(float(1 - run.is_new[inside].mean()), 3),
                "with_face": round(float(run.has_face[inside].mean()), 3),
                "latency_p50_ms": None if np.isnan(latency).all() else round(float(np.nanmedian(latency)), 1),
            }
        )
    return rows
