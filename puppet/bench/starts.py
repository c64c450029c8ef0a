"""Starts of the whole program in processes of their own: time to the first frame, memory, what an import loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from puppet.config import Texture
from puppet.errors import InputError
from puppet.gallery import demo_portrait

ROOT = Path(__file__).parent.parent.parent
HEAVY = ("torch", "onnxruntime", "openvino", "tensorrt", "torch_tensorrt", "mediapipe", "cv2")
_LIMIT_S = 600


@dataclass(frozen=True)
class Import:
    """`import puppet`: the median of some, and which of the heavy libraries it loaded."""

    seconds: float
    loaded: tuple[str, ...]


def time_import(repeats: int = 3) -> Import:
    """`import puppet` in fresh interpreters."""
    code = (
        "import sys, time; start = time.perf_counter(); import puppet; "
        f"print(time.perf_counter() - start, *sorted(set({HEAVY}) & set(sys.modules)))"
    )
    runs = [_output([sys.executable, "-c", code], None).split() for _ in range(repeats)]
    return Import(float(np.median([float(run[0]) for run in runs])), tuple(runs[-1][1:]))


def start_program(
    *,
    clip: Path,
    target: str | None,
    size: tuple[int, int],
    engine: str,
    device: str,
    texture: Texture,
    folder: Path,
    cache: Path | None,
) -> dict:
    """Run `python -m puppet` on a clip; its `start_s` and `peak_memory_mib` (None where the system does not say).

    `cache` is the user's cache folder for this run, where that can be set (Linux); None is the usual one.
    """
    stats = folder / "start.json"
    flags = ["--driver", clip, "--size", f"{size[0]}x{size[1]}", "--engine", engine, "--device", device]
    flags += ["--texture", texture, "--as-fast-as-possible", "--output", "null"]
    flags += ["--stats", stats, "--target", Path(target or demo_portrait()).resolve()]
    flags += [] if target else ["--framing", "head"]  # as the program itself shows the demo portrait
    _output([sys.executable, "-m", "puppet", *map(str, flags)], cache)
    report = json.loads(stats.read_text(encoding="utf-8"))
    return {name: report[name] for name in ("start_s", "peak_memory_mib", "fps")}


def _output(command: list[str], cache: Path | None) -> str:
    """What a command prints.

    Raises:
        InputError: it failed.
    """
    environment = os.environ | ({"XDG_CACHE_HOME": str(cache)} if cache else {})
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=_LIMIT_S, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"`{' '.join(command[1:4])} ...` ended with {done.returncode}: {last}")
    return done.stdout
