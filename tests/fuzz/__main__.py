"""`python -m tests.fuzz --minutes 20 --target portrait`: a long run, from the repository's folder, on Linux.

Each target runs in processes of their own, started anew every minute and after each death; a death, a hang (20 s), a
gigabyte more memory or another exception than the program's own is a finding. Findings stay in the folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .targets import TARGETS

ROUND_S = 60.0


def main() -> int:
    """1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", action="append", choices=TARGETS, help="may be repeated; without: all of them")
    parser.add_argument("--minutes", type=float, default=1.0, help="in all, shared by the targets")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same inputs")
    parser.add_argument("--folder", type=Path, help="of findings; default: a new temporary one")
    options = parser.parse_args()
    names = options.target or list(TARGETS)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    found = 0
    for name in names:
        found += attack(name, 60 * options.minutes / len(names), options.seed, folder / name)
    print(f"{found} findings in {folder}")
    return 1 if found else 0


def attack(name: str, seconds: float, seed: int, folder: Path) -> int:
    """Run one target; the number of findings."""
    folder.mkdir(parents=True, exist_ok=True)
    start, total, deaths, end = 0, {"accepted": 0, "slowest_s": 0.0, "peak_mib": 0}, 0, time.monotonic() + seconds
    while (left := end - time.monotonic()) > 1:
        command = [sys.executable, "-m", "tests.fuzz.worker", name, "--seed", str(seed), "--start", str(start),
                   "--seconds", str(min(ROUND_S, left)), "--folder", str(folder)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        sys.stderr.write("".join(f"{line}\n" for line in done.stderr.splitlines() if line.startswith("found ")))
        if done.returncode:
            deaths += 1
            index = int((folder / "index").read_text()) if (folder / "index").exists() else start
            shutil.copy(folder / f"input{TARGETS[name].suffix}", folder / f"found-death-{index}.bin")
            (folder / f"found-death-{index}.txt").write_text(f"exit {done.returncode}\n{done.stderr[-4000:]}")
            print(f"found a death ({done.returncode}) at {name} {seed} {index}", file=sys.stderr)
            start = index + 1
            continue
        report = json.loads(done.stdout.splitlines()[-1])
        start = report["next"]
        total["accepted"] += report["accepted"]
        for key in ("slowest_s", "peak_mib"):
            total[key] = max(total[key], report[key])
    findings = len(list(folder.glob("found-*.txt")))
    print(f"{name:12} seed {seed}: {start} inputs, {total['accepted']} accepted, slowest {total['slowest_s']} s, "
          f"{total['peak_mib']} MiB more, {findings} findings", flush=True)  # fmt: skip
    return findings


if __name__ == "__main__":
    sys.exit(main())
