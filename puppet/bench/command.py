"""The command: open all variants, let them take turns, print one table, write the JSON."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import engines
from engines.protocol import PRECISIONS
from puppet.bench.clip import FPS, act_demo, shorten
from puppet.bench.options import BenchOptions, parse
from puppet.config import Texture
from puppet.demo import DURATION_S
from puppet.errors import ConfigError, DeviceError, InputError
from puppet.gallery import portrait_paths
from puppet.stats import hardware, versions

log = logging.getLogger(__name__)

SLICE_FRAMES = 60
IN_ORDER, LIVE, ALONE = 0.4, 0.4, 0.2  # shares of a variant's time
_FRAMES_EXPECTED_FPS = 60  # as fast as possible: to turn seconds into frames, the same number for all
_NETWORK_SHARE = 0.05  # of a variant's time, for each network on each engine
_START_FRAMES = 60
_TEXTURES: tuple[Texture, ...] = ("off", "auto")  # with the first engine "on" as well


def bench(args: Sequence[str]) -> int:
    """Measure, print, and write where asked; 0."""
    options = parse(args)
    from puppet.bench.table import print_report

    with tempfile.TemporaryDirectory(prefix="puppet-bench-") as folder, _progress() as note:
        report = measure(options, Path(folder), note)
    print_report(report)
    if options.output is not None:
        try:
            options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise DeviceError(f"--output {options.output} can't be written: {error.strerror}.") from error
        print(f"written to {options.output}")
    return 0


def measure(options: BenchOptions, folder: Path, note: Callable[[float, str], None]) -> dict[str, Any]:
    """Everything, ready for JSON. `note(share, what)` is told how far it is; `folder` is for files that go again.

    Raises:
        PuppetError, EngineError: no engine, or a picture or clip that can't be used.
    """
    places, missing = _places(options.engine)
    note(0.0, "the driver's clip")
    clip = _clip(options, folder)
    report: dict[str, Any] = {
        "versions": versions() | _engine_versions(places),
        "hardware": hardware(),
        "options": json.loads(json.dumps(asdict(options), default=str)),
        "driver": str(options.driver or "demo"),
        "missing": missing,
    }
    report |= _measure_running(options, places, clip, folder, note)
    report["parity"] = _parity(options, places, folder, note)
    report["import"], report["starts"] = _measure_starts(options, places, clip, folder, note)
    note(1.0, "done")
    return report


def _measure_running(
    options: BenchOptions, places: list[tuple[str, str]], clip: Path, folder: Path, note: Callable[[float, str], None]
) -> dict[str, Any]:
    """Variants and networks, in turns."""
    from puppet.bench.lane import Lane, Variant
    from puppet.bench.networks import NetworkLane, ganimation_networks, packaged_networks

    variants = [
        Variant(engine, device, size, texture)
        for size in options.sizes
        for engine, device in places
        for texture in _TEXTURES
    ]
    first = (*places[0], options.sizes[0])
    variants[2:2] = [Variant(*first, "on"), Variant(*first, "auto", is_recording=True)]
    with ExitStack() as stack:
        lanes, left_out, parameters = [], {}, {}
        for variant in variants:
            note(0.05, f"opening {variant.name}")
            lanes.append(stack.enter_context(closing(Lane(variant, target=options.target, clip=clip, folder=folder))))
        paths = packaged_networks()
        if options.ganimation:
            try:
                found = ganimation_networks(folder)
                parameters = {path.stem: count for path, count in found.items()}
                paths += found
            except InputError as error:
                left_out["ganimation"] = str(error)
        networks, cache = [], engines.EngineCache(folder / "engines")
        for path in paths:
            for engine, device in places:
                note(0.1, f"opening {path.stem} on {engine}")
                networks.append(stack.enter_context(closing(NetworkLane(path, engine, device, cache))))
        controls = lanes[0].controls(_frames(options.seconds * ALONE, _FRAMES_EXPECTED_FPS))
        _take_turns(lanes, networks, controls, options.seconds, note)
        return {
            "variants": [lane.report() for lane in lanes],
            "networks": [network.report() for network in networks],
            "ganimation_parameters": parameters,
            "left_out": left_out,
        }


def _take_turns(lanes, networks, controls: np.ndarray, seconds: float, note: Callable[[float, str], None]) -> None:
    """Rounds in which each variant has one slice of everything; who begins moves on from round to round."""
    in_order = _frames(seconds * IN_ORDER, _FRAMES_EXPECTED_FPS)
    rounds = max(1, round(in_order / SLICE_FRAMES))
    live = _frames(seconds * LIVE, FPS)
    pieces = np.array_split(controls, rounds)
    for turn in range(rounds):
        for place in range(len(lanes)):
            lane = lanes[(place + turn) % len(lanes)]
            note(0.2 + 0.5 * (turn + place / len(lanes)) / rounds, f"round {turn + 1} of {rounds}, {lane.variant.name}")
            lane.run_in_order(in_order // rounds)
            lane.run_live(live // rounds)
            lane.run_alone(pieces[turn])
        note(0.2 + 0.5 * (turn + 0.95) / rounds, f"round {turn + 1} of {rounds}, networks")
        for place in range(len(networks)):
            networks[(place + turn) % len(networks)].run(seconds * _NETWORK_SHARE / rounds)


def _measure_starts(
    options: BenchOptions, places: list[tuple[str, str]], clip: Path, folder: Path, note: Callable[[float, str], None]
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Fresh processes: the import, then each engine with an empty cache and again with what that one left."""
    if not options.starts:
        return None, []
    from puppet.bench.starts import start_program, time_import

    note(0.8, "import")
    imported = asdict(time_import())
    short = folder / "start.mp4"
    shorten(short, clip, frames=_START_FRAMES)
    runs = [(turn, place, texture) for turn in range(1 + options.starts) for place in places for texture in _TEXTURES]
    found: dict[tuple, list[dict]] = {}
    for number, (turn, (engine, device), texture) in enumerate(runs):
        state = "warm" if turn else "cold"
        note(0.8 + 0.2 * number / len(runs), f"start, {engine}, {state}")
        started = start_program(
            clip=short,
            target=options.target,
            size=options.sizes[0],
            engine=engine,
            device=device,
            texture=texture,
            folder=folder,
            cache=folder / f"cache-{engine}-{device.replace(':', '-')}-{texture}",
        )
        found.setdefault((engine, device, texture, state), []).append(started)
    return imported, [
        {
            "engine": engine,
            "device": device,
            "texture": texture,
            "cache": state,
            "first_frame_s": [one["start_s"] for one in started],
            "peak_memory_mib": max((one["peak_memory_mib"] or 0.0) for one in started) or None,
        }
        for (engine, device, texture, state), started in found.items()
    ]


def _parity(
    options: BenchOptions, places: list[tuple[str, str]], folder: Path, note: Callable[[float, str], None]
) -> list[dict[str, Any]]:
    from puppet.bench.parity import collect_inputs, compare, compare_generators

    found = []
    if options.parity:
        note(0.75, "parity")
        variants = [(*place, precision) for place in places for precision in PRECISIONS]
        found += compare(collect_inputs(options.parity), variants)
    if options.whole_parity:
        note(0.78, "parity of whole pictures")
        portraits = portrait_paths(options.target)
        cache = engines.EngineCache(folder / "engines")
        found += compare_generators(portraits, places, count=options.whole_parity, size=options.sizes[0], cache=cache)
    return [asdict(one) | {"is_within": one.is_within} for one in found]


def _places(wanted: Sequence[str]) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """(engine, device) pairs that work here, in the order `auto` takes them, and why the others don't.

    Raises:
        ConfigError: an engine that is wanted is unknown or does not work.
    """
    for name in wanted:
        if name not in engines.BACKENDS:
            raise ConfigError(f"--engine {name!r}: expected one of {', '.join(engines.BACKENDS)}.")
    attempts = [a for a in engines.survey() if not wanted or a.backend in wanted]
    places = [(a.backend, a.device) for a in attempts if a.reason is None]
    missing = {f"{a.backend} on {a.device}": a.reason for a in attempts if a.reason is not None}
    if not places:
        raise ConfigError("no engine works here. " + " ".join(f"{name}: {why}" for name, why in missing.items()))
    return places, missing


def _clip(options: BenchOptions, folder: Path) -> Path:
    if options.driver is not None:
        if not options.driver.is_file():
            raise InputError(f"--driver {options.driver}: no such file. Give a video of a face.")
        return options.driver.resolve()
    path = folder / "demo.mp4"
    act_demo(path, seconds=min(DURATION_S, options.seconds))
    return path


def _frames(seconds: float, fps: float) -> int:
    return max(5, round(seconds * fps))


def _engine_versions(places: list[tuple[str, str]]) -> dict[str, str]:
    from engines.registry import backend_class

    found = [backend_class(engine).fingerprint(device) for engine, device in places]
    return {name: text for about in found for name, text in about.items() if name in engines.BACKENDS}


@contextmanager
def _progress() -> Iterator[Callable[[float, str], None]]:
    """A bar on a terminal; the engines' own lines are left out meanwhile."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    registry = logging.getLogger("engines.registry")
    level = registry.level
    registry.setLevel(max(level, logging.WARNING))
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=1.0)
            yield lambda share, what: progress.update(task, completed=share, description=what)
    finally:
        registry.setLevel(level)
