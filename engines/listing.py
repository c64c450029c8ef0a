"""What `python -m engines list` shows: the backends of this machine and the engines that are kept."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from engines.cache import EngineCache, Entry
from engines.errors import one_line
from engines.registry import Attempt

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def print_backends(attempts: Sequence[Attempt]) -> None:
    """One row each: what works, or why it does not."""
    table = _table("backend", "device", "")
    for attempt in attempts:
        table.add_row(attempt.backend, attempt.device, attempt.reason or "runs here")
    _print(table)


def print_entries(cache: EngineCache, *, now_s: float | None = None) -> None:
    """One row each: what was compiled for what, how fast it was then, its size and error, how long ago it was made and
    used. `now_s` is Unix time.
    """
    entries = list(cache.entries())
    print(f"\n{cache.folder}: {len(entries)} engines, {sum(e.size_bytes for e in entries) / 1e6:.1f} MB")
    if not entries:
        return
    titles = ("model", "backend", "precision", "device", "ms", "MB", "age", "used", "error", "against")
    table = _table(*titles, numbers=(4, 5, 6, 7, 8))
    for entry in entries:
        now = time.time() if now_s is None else now_s
        ages = [_age(now - then_s) for then_s in (entry.made_s, entry.used_s)]
        try:
            row = _row(entry)
        except (AttributeError, KeyError, TypeError, ValueError):  # another program's, or edited
            row = [entry.path.stem, "damaged", "", "", "", "", ""]
        row[5:5] = [f"{entry.size_bytes / 1e6:.1f}", *ages]
        table.add_row(*(Text(one_line(cell)) for cell in row))
    _print(table)


def _row(entry: Entry) -> list[str]:
    """All cells but size and age."""
    key, check = entry.content["key"], entry.content.get("check") or {}
    fingerprint: Mapping[str, Any] = key.get("fingerprint", {})
    return [
        str(key["model"]),
        str(key["backend"]),
        str(key["precision"]),
        str(fingerprint.get("device_name", key["device"])),
        f"{float(check['run_ms']):.2f}" if "run_ms" in check else "",
        f"{float(check['max_error']):.1e}" if "max_error" in check else "",
        "refused" if "refused" in entry.content else str(check.get("reference", "")),
    ]


def _age(seconds: float) -> str:
    for unit_s, name in _UNITS:
        if seconds >= unit_s:
            return f"{seconds / unit_s:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"


def _table(*titles: str, numbers: Sequence[int] = ()) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place in numbers else "left", no_wrap=True)
    return table


def _print(table: Table) -> None:
    """In full width, also where the output is no terminal."""
    console = Console(highlight=False)
    width = Measurement.get(console, console.options.update(width=10_000), table).maximum
    Console(width=max(width, 20), highlight=False).print(table)
