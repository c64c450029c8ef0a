"""`python -m trainer evaluate-loop`: does what is commanded come out of the rendering?

Portrait -> `python -m puppet --driver commands.csv --record loop.mp4` -> `python -m puppet --driver loop.mp4 --au-log`:
both ends are the program as users run it. Rules, written before results were looked at:

- Each portrait performs the same random commands (a new combination every 0.7 s, eased, after 3 s of neutral face).
  Pearson correlation over frames between commanded and re-estimated intensity, sides averaged, OpenFace's 17 AUs; the
  mean over portraits and AUs counts.
- Eyes: rendered opening between the lids (area of the opening's mask) at AU45 = 5 as a share of the neutral one, and
  beside it the opening that the tracker sees in the picture, whose floor on photographs of truly closed eyes is about
  0.25.
- Lips: rendered gap between the lips at AU25 = 0 while the jaw is dropped to AU26 = 0, 2 and 4, and what the tracker
  sees of it, in inter-ocular distances.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from puppet import facs
from puppet.easing import minimum_jerk
from puppet.errors import InputError, PuppetError
from puppet.generate.motion import head_pose
from puppet.input_file import pictures_in
from puppet.landmarks import LIDS
from puppet.openface import TrackWriter, read_track
from puppet.picture import SUFFIXES
from puppet.puppet import Puppet
from puppet.rig import LandmarkRig
from puppet.track import FaceTracker
from trainer.au_sampling import sample_intensities

_FPS = 25.0
_NEUTRAL_S, _HOLD_S, _EASE_S = 3.0, 0.4, 0.3


@dataclass(frozen=True)
class EvaluateLoopConfig:
    """Measure how well commanded actions come back from renderings."""

    portraits: Path = Path("../shared/faces/portraits")
    """Folder of portraits."""
    combinations: int = 60
    """Random combinations that each portrait performs, 0.7 s each."""
    seed: int = 0
    """Of the commands."""
    output: Path = Path("runs/evaluate-loop.json")
    """Where all figures go."""
    dry_run: bool = False
    """Print what would be measured and stop."""


def evaluate_loop(config: EvaluateLoopConfig) -> None:
    """Print one table and write a JSON file.

    Raises:
        InputError: no portraits, or the program failed on all of them.
    """
    paths = pictures_in(config.portraits, SUFFIXES)
    if config.dry_run:
        print(f"{len(paths)} portraits, {config.combinations} combinations, seed {config.seed} -> {config.output}")
        return
    commands = command_track(config.combinations, config.seed)
    results = {}
    for path in track(paths, description="portraits"):
        try:
            results[path.stem] = {**_correlations(path, commands), **_closures(path)}
        except PuppetError as error:
            print(f"{path.stem} left out: {error}", file=sys.stderr)
    if not results:
        raise InputError(f"none of the {len(paths)} portraits in {config.portraits} could be measured.")
    _report(results)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps({"seed": config.seed, "portraits": results}, indent=1))


def command_track(combinations: int, seed: int) -> np.ndarray:
    """`(frames, SIZE)` float32 at 25 fps: a neutral face, then one random combination after the other, eased."""
    rng = np.random.default_rng(seed)
    keys = np.zeros((combinations + 1, facs.INTENSITY_COUNT), np.float32)
    keys[1:] = sample_intensities(rng, combinations, LandmarkRig.load())
    step = round((_HOLD_S + _EASE_S) * _FPS)
    ease = minimum_jerk(np.arange(1, step + 1) / (_EASE_S * _FPS)).astype(np.float32)[:, None]
    moves = [before + (after - before) * ease for before, after in pairwise(keys)]
    intensities = np.concatenate([np.zeros((round(_NEUTRAL_S * _FPS), keys.shape[1]), np.float32), *moves])
    out = np.tile(facs.rest(), (len(intensities), 1))
    out[:, : facs.INTENSITY_COUNT] = intensities
    return out


def _correlations(portrait: Path, commands: np.ndarray) -> dict:
    """Pearson per AU between commands and what the program reads from its own recording."""
    with tempfile.TemporaryDirectory() as folder:
        csv, video, log = (Path(folder) / name for name in ("commands.csv", "loop.mp4", "log.csv"))
        with closing(TrackWriter(csv)) as writer:
            for frame, control in enumerate(commands):
                writer.write(control, frame=frame, time_s=frame / _FPS, confidence=1.0, has_face=True)
        quick = ("--as-fast-as-possible", "--output", "null")
        _run("--target", portrait, "--driver", csv, "--record", video, *quick)
        _run("--target", portrait, "--driver", video, "--au-log", log, *quick)
        seen = read_track(log).control
    if len(seen) != len(commands):
        raise InputError(f"{len(seen)} frames came back of {len(commands)}.")
    settled = slice(round(_NEUTRAL_S * _FPS), None)
    out = {}
    for au in facs.OPENFACE_AUS:
        wanted, got = facs.unsided(commands[settled], au), facs.unsided(seen[settled], au)
        is_flat = wanted.std() < 1e-6 or got.std() < 1e-6
        out[au] = 0.0 if is_flat else float(np.corrcoef(wanted, got)[0, 1])
    return {"pearson": out}


def _run(*arguments: object) -> None:
    command = [sys.executable, "-m", "puppet", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}")


def _closures(path: Path) -> dict:
    """How far lids and lips come together."""
    puppet, tracker = Puppet.load(path), FaceTracker(static=True)
    try:
        eyes = [_eyes(puppet, tracker, facs.control(AU45=i)) for i in (0, 5)]
        lips = [_lips(puppet, tracker, facs.control(AU25=0, AU26=jaw)) for jaw in (0, 2, 4)]
    finally:
        tracker.close()
        puppet.close()
    return {
        "eye_rendered": eyes[1][0] / max(eyes[0][0], 1e-6),
        "eye_tracked": None if None in (eyes[0][1], eyes[1][1]) else eyes[1][1] / eyes[0][1],
        "lips_rendered": max(rendered for rendered, _ in lips),
        "lips_tracked": max((tracked for _, tracked in lips if tracked is not None), default=None),
    }


def _openings(puppet: Puppet, control: np.ndarray):
    generator = puppet.generator
    return generator.move(generator.weights_at(control), head_pose(control, generator.field), control).openings


def _eyes(puppet: Puppet, tracker: FaceTracker, control: np.ndarray) -> tuple[float, float | None]:
    """Area of both rendered openings, px; the tracked lids' distance over the eyes' width."""
    openings = _openings(puppet, control)
    area = float(sum(openings[side].mask.sum() for side in "RL"))
    face = tracker.track(puppet.render(control))
    if face is None:
        return area, None
    points, shares = face.landmarks_px[:, :2], []
    for upper, lower in LIDS.values():
        height = np.linalg.norm(points[list(upper[2:7])] - points[list(lower[2:7])], axis=1).mean()
        shares.append(height / np.linalg.norm(points[upper[0]] - points[upper[-1]]))
    return area, float(np.mean(shares))


def _lips(puppet: Puppet, tracker: FaceTracker, control: np.ndarray) -> tuple[float, float | None]:
    """Rendered and tracked gap of the lips, in inter-ocular distances."""
    ocular = puppet.generator.anatomy.ocular_px
    opening = _openings(puppet, control)["mouth"]
    rendered = float((opening.gap_px * (opening.mask > 0.5)).max()) / ocular if opening.mask.size else 0.0
    face = tracker.track(puppet.render(control))
    if face is None:
        return rendered, None
    points = face.landmarks_px[:, :2]
    return rendered, max(0.0, float(points[14, 1] - points[13, 1])) / ocular


def _report(results: dict) -> None:
    table = Table(title="closed loop: commanded against re-estimated")
    for title in (
        "portrait",
        "mean r",
        *facs.OPENFACE_AUS,
        "eye rendered",
        "eye tracked",
        "lips rendered",
        "lips tracked",
    ):
        table.add_column(title.replace("AU", ""), justify="left" if title == "portrait" else "right")
    for name, result in results.items():
        values = list(result["pearson"].values())
        tail = [result[k] for k in ("eye_rendered", "eye_tracked", "lips_rendered", "lips_tracked")]
        row = [np.mean(values), *values, *tail]
        table.add_row(name, *("-" if v is None else f"{v:.2f}" for v in row))
    per_au = np.array([list(r["pearson"].values()) for r in results.values()])
    table.add_section()
    table.add_row("mean", f"{per_au.mean():.3f}", *(f"{v:.2f}" for v in per_au.mean(0)), "", "", "", "")
    Console(width=200).print(table)
