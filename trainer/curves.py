"""A run's curves as a table and as a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from trainer.disk import written_whole


def write_curves(folder: Path, rows: Sequence[dict[str, float]]) -> None:
    """`curves.csv` and `curves.png`: loss terms as they count, and what is measured on held-out people (`dev_...`).

    Raises:
        DiskError: the disk is full.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    with written_whole(folder / "curves.csv") as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    steps = [row["step"] for row in rows]
    for place, (title, is_shown) in enumerate(
        (
            ("training, weighted terms", lambda n: not n.startswith("dev_")),
            ("held-out people, grey levels", lambda n: n.startswith("dev_") and n.endswith("_l1")),
            ("held-out people, feature distance", lambda n: n.startswith("dev_") and n.endswith("_squeeze")),
        ),
        1,
    ):
        axes = figure.add_subplot(1, 3, place)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("step")
        shown = [name for name in names if name != "step" and is_shown(name)]
        for name in shown:
            axes.plot(steps, [row.get(name, float("nan")) for row in rows], label=name)
        if shown:
            axes.legend(fontsize=7)
    with written_whole(folder / "curves.png") as part:
        figure.savefig(part, dpi=80, format="png")
