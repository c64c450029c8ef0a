"""The report as one table: a column a variant, a row a measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from engines.protocol import PRECISIONS

STAGES = {
    "decode": "decode",
    "track": "track",
    "estimate": "estimate",
    "perform": "perform",
    "render": "generate and composite",
    "publish": "publish",
}
"""Stage in the statistics -> its row; all other stages are parts of "render", named by the generator."""
_NOT_RENDER = (*STAGES, "between_frames", "encode", "processor")


def print_report(report: Mapping[str, Any]) -> None:
    """Print it, as wide as it needs to be."""
    for size in dict.fromkeys(tuple(variant["size"]) for variant in report["variants"]):
        Console(width=_width(report), highlight=False).print(build_table(report, size))


def build_table(report: Mapping[str, Any], size: Sequence[int]) -> Table:
    """All rows for one rendered size."""
    variants = [variant for variant in report["variants"] if tuple(variant["size"]) == tuple(size)]
    hardware = report["hardware"]
    table = Table(
        title=f"{size[0]} x {size[1]}, driver {report['driver']}; {hardware['cpu']}, {hardware['cores']} cores, "
        f"{hardware['system']}; " + ", ".join(f"{k} {v}" for k, v in report["versions"].items()),
    )
    table.add_column("")
    for variant in variants:
        table.add_column(variant["name"], justify="right")

    def row(name: str, cell: Callable[[Mapping[str, Any]], str]) -> None:
        cells = [cell(variant) for variant in variants]
        if any(cells):
            table.add_row(name, *cells)

    def section(title: str) -> None:
        table.add_section()
        table.add_row(f"[bold]{title}[/bold]")

    section("as fast as possible")
    first = variants[0]
    row("frames a second", lambda v: f"{v['in_order']['fps']:.1f}")
    row(f"against {first['name']}", lambda v: f"{v['in_order']['fps'] / max(first['in_order']['fps'], 1e-9):.2f}")
    for stage, title in STAGES.items():
        row(f"{title}, ms", lambda v, s=stage: _milliseconds(v["in_order"]["stages_ms"].get(s)))
    section("from a camera's rate, live")
    row("frames a second", lambda v: f"{v['live']['fps']:.1f} of {v['live']['camera_fps']:.3g}")
    row("dropped", lambda v: f"{v['live']['frames']['dropped']} of {v['live']['frames']['in']}")
    row("capture to publish, ms", lambda v: _milliseconds(v["live"]["capture_to_publish_ms"]))
    section("generate and composite with nothing beside")
    row("all, ms", lambda v: _milliseconds(v["alone"]["stages_ms"].get("render")))
    row("its processor time, ms", lambda v: _milliseconds(v["alone"]["stages_ms"].get("processor")))
    for stage in dict.fromkeys(s for v in variants for s in v["alone"]["stages_ms"] if s not in _NOT_RENDER):
        row(f"  {stage}, ms", lambda v, s=stage: _milliseconds(v["alone"]["stages_ms"].get(s)))
    row("encode H.264, ms", lambda v: _milliseconds(v["alone"]["stages_ms"].get("encode")))
    _add_networks(report, section, row)
    _add_starts(report, section, row)
    notes = [f"{name}: {why}" for name, why in {**report["missing"], **report["left_out"]}.items()]
    if (imported := report["import"]) is not None:
        loaded = ", ".join(imported["loaded"]) or "none of the large libraries"
        notes.append(f"`import puppet` takes {imported['seconds']:.2f} s and loads {loaded}")
    table.caption = "\n".join(["milliseconds are p50 / p95; errors are shares of the output's range", *notes])
    return table


def _add_networks(report: Mapping[str, Any], section: Callable, row: Callable) -> None:
    networks = {(n["network"], n["engine"], n["device"]): n["run_ms"] for n in report["networks"]}
    processor = {(n["network"], n["engine"], n["device"]): n["processor_ms"] for n in report["networks"]}
    parity = {(p["network"], p["engine"], p["device"], p["precision"]): p for p in report.get("parity", ())}
    section("networks alone, fp32")
    names = dict.fromkeys(name for name, _, _ in networks)

    def plain(variant: Mapping[str, Any]) -> bool:
        return variant["texture"] == "off"

    for name in names:
        count = report["ganimation_parameters"].get(name)
        title = f"{name} ({count / 1e6:.1f} M parameters)" if count else name
        row(
            f"{title}, ms",
            lambda v, n=name: _milliseconds(networks.get((n, v["engine"], v["device"]))) if plain(v) else "",
        )
    for name in report["ganimation_parameters"]:
        row(f"{name} / our generate", lambda v, n=name: _ratio(networks, "render", n, v) if plain(v) else "")
        row("  in processor time", lambda v, n=name: _ratio(processor, "processor", n, v) if plain(v) else "")
    for precision in PRECISIONS:
        measured = (key for key in parity if key[3] == precision and parity[key]["max_error"] is not None)
        for name in dict.fromkeys(key[0] for key in measured):
            row(
                f"{name}, error in {precision}",
                lambda v, n=name, p=precision: (
                    _parity_cell(parity.get((n, v["engine"], v["device"], p))) if plain(v) else ""
                ),
            )


def _add_starts(report: Mapping[str, Any], section: Callable, row: Callable) -> None:
    if not report["starts"]:
        return
    section("the whole program, started")
    starts = {(s["engine"], s["device"], s["texture"], s["cache"]): s for s in report["starts"]}

    def found(variant: Mapping[str, Any], cache: str) -> Mapping[str, Any]:
        key = (variant["engine"], variant["device"], variant["texture"], cache)
        return {} if variant["recording"] else starts.get(key, {})

    for cache, title in (("cold", "empty cache"), ("warm", "warm cache")):
        row(f"first frame, {title}, s", lambda v, c=cache: _seconds(found(v, c).get("first_frame_s")))
    row("peak memory, MiB", lambda v: _whole(found(v, "warm").get("peak_memory_mib")))


def _milliseconds(stage: Mapping[str, float] | None) -> str:
    return f"{stage['p50']:.1f} / {stage['p95']:.1f}" if stage else ""


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _seconds(values: Sequence[float | None] | None) -> str:
    known = [value for value in values or () if value is not None]
    return f"{min(known):.1f} to {max(known):.1f}" if len(known) > 1 else f"{known[0]:.1f}" if known else ""


def _ratio(networks: Mapping, stage: str, name: str, variant: Mapping[str, Any]) -> str:
    run = networks.get((name, variant["engine"], variant["device"]))
    own = variant["alone"]["stages_ms"].get(stage)
    return f"{run['p50'] / own['p50']:.1f}" if run and own else ""


def _parity_cell(result: Mapping[str, Any] | None) -> str:
    if result is None or result["max_error"] is None:
        return ""
    return f"{result['max_error']:.1e}" + ("" if result["is_within"] else " (!)")


def _width(report: Mapping[str, Any]) -> int | None:
    """Wide enough for all columns; None leaves it to the terminal where that is wider."""
    longest = max(len(variant["name"]) for variant in report["variants"])
    needed = 44 + (max(longest, 14) + 3) * len(report["variants"])
    return max(needed, Console().width)
