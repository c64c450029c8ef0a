"""`python -m tests.soak`: the program, the script, the table."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from puppet import assembly, cli, live
from puppet.config import parse_size
from puppet.gallery import demo_portrait
from puppet.generate.canvas import frame_portrait
from puppet.portrait import Portrait
from puppet.stats import hardware, versions

from . import driver, faults, judge, watch
from .script import WITH_FAULTS, WITHOUT_FAULTS, Script

SHARED_CLIP = Path(__file__).resolve().parents[3] / "shared/faces/train/clips/latentsync-demo3-video.mp4"
MEMORY_EVERY_S = 1.0


def main() -> int:
    options = _arguments()
    out = options.out or Path(time.strftime("soak-%Y%m%d-%H%M%S"))
    (out / "portraits").mkdir(parents=True, exist_ok=True)
    out = out.resolve()
    os.environ["XDG_CONFIG_HOME"] = str(out / "config")  # the soak driver's neutral is not a user's
    logging.basicConfig(filename=out / "log.txt", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    clip = options.clip or (SHARED_CLIP if SHARED_CLIP.exists() else None)
    run, stats = soak(out, minutes=options.minutes, with_faults=options.faults, clip=clip, size=options.size)
    verdicts = judge.judge(run, with_faults=options.faults)
    _write(out, run, stats, verdicts, clip)
    _print(run, verdicts)
    try:
        from .plot import draw

        draw(run, out / "soak.png")
    except ImportError as error:
        print(f'no plot: {error}. pip install ".[train]"', file=sys.stderr)
    print(f"written to {out}")
    return 0 if all(verdict.has_passed is not False for verdict in verdicts) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--faults", action="store_true", help="unplug, cover, stall, break and press keys")
    parser.add_argument("--out", type=Path, help="folder for table, plot, log and recordings")
    parser.add_argument("--clip", type=Path, help="a face to drive with (default: one beside the checkout, or a still)")
    parser.add_argument("--size", default="512x512", help="published size")
    return parser.parse_args()


def soak(out: Path, *, minutes: float, with_faults: bool, clip: Path | None, size: str) -> tuple[judge.Run, dict]:
    """Run the program in this process, look at what it recorded; what was measured, and its own statistics."""
    script = Script(WITH_FAULTS if with_faults else WITHOUT_FAULTS)
    photograph = _write_portraits(out / "portraits")
    webcam = driver.ScriptedWebcam(script, map(driver.green, driver.face_pictures(clip, photograph)))
    check = watch.LeakCheck(_stills(out / "portraits", parse_size(size)))
    seen = float(np.mean([check.sees(webcam.picture(i)[..., ::-1]) for i in range(0, len(webcam), 30)]))
    sink = watch.Watch(script, check, quit_after_s=60 * minutes)
    stats_path = out / "stats.json"
    openers = assembly.Openers(
        driver=lambda *_, **__: driver.camera(webcam),
        tracker=lambda: faults.FaultyTracker(assembly.open_tracker(), script),
        estimator=lambda *given: faults.FaultyEstimator(assembly.open_estimator(*given), script),
        gallery=lambda *given: faults.FaultyGallery(assembly.open_gallery(*given), script),
        sink=lambda *_, **__: sink.open(),
    )
    arguments = [f"--target={out / 'portraits'}", "--framing=head", f"--size={size}", "--fps=30", "--output=null"]
    options = cli.parse([*arguments, f"--stats={stats_path}"])
    memory = MemorySampler()
    before = Path.cwd()
    os.chdir(out)  # recordings started by a key are written where one is
    try:
        exit_code = live.run(options, openers)
    finally:
        os.chdir(before)
        memory.close()
    recorded = [watch.recording_leaks(path, check) for path in sorted(out.glob("puppet-*.mp4"))]
    totals = np.array(recorded, int).reshape(-1, 3).sum(0)
    stats = json.loads(stats_path.read_text(encoding="utf-8"))
    run = judge.Run(
        fps=30.0,
        cycle_s=script.cycle_s,
        time_s=np.array(sink.time_s),
        latency_ms=np.array(sink.latency_ms),
        has_face=np.array(sink.has_face, bool),
        is_new=np.array(sink.is_new, bool),
        scene=np.array(sink.scene, int),
        scenes=WITH_FAULTS if with_faults else WITHOUT_FAULTS,
        memory_time_s=np.array(memory.time_s),
        memory_mib=np.array(memory.mib),
        leaks=int(sink.leaks),
        foreign=int(sink.foreign),
        recorded=int(totals[0]),
        recording_leaks=int(totals[1]),
        recording_foreign=int(totals[2]),
        driver_seen_share=seen,
        errors=stats["frames"]["errors"],
        opened=sink.opened,
        closed_s=sink.closed_s,
        exit_code=exit_code,
    )
    return run, stats


class MemorySampler:
    """Resident memory of this process, now and then, in a thread; nothing where the system does not say."""

    def __init__(self) -> None:
        self.time_s: list[float] = []
        self.mib: list[float] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        statm = Path("/proc/self/statm")
        while statm.exists() and not self._closed.wait(MEMORY_EVERY_S):
            pages = int(statm.read_text().split()[1])
            self.time_s.append(time.perf_counter())
            self.mib.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


def _write_portraits(folder: Path) -> np.ndarray:
    """Three portraits, none of them green: a photograph (which is returned, RGB), grey, and mirrored in sepia."""
    bgr = cv2.imread(str(demo_portrait()))
    grey = cv2.cvtColor(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    sepia = (grey[:, ::-1] * np.array([0.55, 0.8, 1.0])).astype(np.uint8)
    warm = (bgr * np.array([0.95, 0.85, 1.0])).astype(np.uint8)
    portraits = {"a-photograph": warm, "b-grey": grey, "c-sepia": sepia}
    for name, picture in portraits.items():
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _stills(folder: Path, size: tuple[int, int]) -> list[np.ndarray]:
    """The portraits as they are published at rest."""
    return [frame_portrait(Portrait.load(path).cut_to_head(), size).still for path in sorted(folder.iterdir())]


def _write(out: Path, run: judge.Run, stats: dict, verdicts: list[judge.Verdict], clip: Path | None) -> None:
    report = {
        "command": "python -m tests.soak " + " ".join(sys.argv[1:]),
        "driver": clip.name if clip else "moved still",
        "verdicts": [vars(verdict) for verdict in verdicts],
        "scenes": judge.by_scene(run),
        "stats": stats,
        "versions": versions(),
        "hardware": hardware(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }
    (out / "soak.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    np.savez_compressed(
        out / "frames.npz",
        time_s=run.time_s,
        latency_ms=run.latency_ms,
        has_face=run.has_face,
        is_new=run.is_new,
        scene=run.scene,
        memory_time_s=run.memory_time_s,
        memory_mib=run.memory_mib,
    )


def _print(run: judge.Run, verdicts: list[judge.Verdict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "measured", "aim", "")
    for verdict in verdicts:
        mark = {True: "passed", False: "[bold red]FAILED", None: ""}[verdict.has_passed]
        table.add_row(verdict.name, verdict.value, verdict.aim, mark)
    console = Console(width=120)
    console.print(table)
    scenes = Table("scene", "frames", "longest gap, ms", "repeated", "with face", "latency p50, ms")
    for row in judge.by_scene(run):
        scenes.add_row(*("" if value is None else str(value) for value in row.values()))
    console.print(scenes)


if __name__ == "__main__":
    sys.exit(main())
