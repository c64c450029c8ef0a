"""One process of a long run: attacks one target until told to stop; what it was reading when it died lies in a file."""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import json
import random
import resource
import sys
import time
import traceback
from pathlib import Path

from .mutate import damaged, random_damages
from .targets import TARGETS, execute

LONGEST_S = 20.0
MOST_MIB = 1024  # above what the process held before


def made(name: str, seeds: list[bytes], seed: int, index: int) -> bytes:
    """The input number `index` of a run."""
    target, source = TARGETS[name], random.Random(f"{name} {seed} {index}")
    data = damaged(source.choice(seeds), random_damages(source), tokens=target.tokens, others=seeds)
    return target.repair(data) if target.repair and source.random() < 0.7 else data


def main() -> None:
    """Count executions; one line of JSON at the end. Findings go to files and stop nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--start", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    target = TARGETS[options.target]
    seeds = list(target.seeds())
    accepted_seeds = sum(execute(target, data, options.folder) for data in seeds)
    held = _peak_mib()
    limit = int((_virtual_mib() + 3 * MOST_MIB) * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    index, accepted, slowest, peak, end = options.start, 0, 0.0, 0.0, time.monotonic() + options.seconds
    while time.monotonic() < end:
        (options.folder / "index").write_text(str(index))
        data = made(options.target, seeds, options.seed, index)
        faulthandler.dump_traceback_later(LONGEST_S, exit=True)
        began = time.monotonic()
        try:
            accepted += execute(target, data, options.folder)
        except Exception as error:
            _note(options.folder, data, error)
        faulthandler.cancel_dump_traceback_later()
        slowest, peak = max(slowest, time.monotonic() - began), _peak_mib() - held
        if peak > MOST_MIB:
            _note(options.folder, data, MemoryError(f"{peak:.0f} MiB"))
            held += peak
        index += 1
    print(json.dumps({"next": index, "accepted": accepted, "valid_seeds": accepted_seeds, "seeds": len(seeds),
                      "slowest_s": round(slowest, 2), "peak_mib": round(peak)}))  # fmt: skip


def _note(folder: Path, data: bytes, error: Exception) -> None:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/tests/" not in f.filename]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    name = hashlib.sha256(f"{type(error).__name__} {place}".encode()).hexdigest()[:12]
    text = folder / f"found-{name}.txt"
    if not text.exists():
        (folder / f"found-{name}.bin").write_bytes(data)
        text.write_text("".join(traceback.format_exception(error)), errors="backslashreplace")
        print(f"found {name}: {type(error).__name__} at {place}: {str(error)[:200]!r}", file=sys.stderr)


def _peak_mib() -> float:
    return _status("VmHWM")


def _virtual_mib() -> float:
    return _status("VmSize")


def _status(name: str) -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
