"""The table of `python -m trainer evaluate`: which columns stand against which, and what one gains on another."""

from __future__ import annotations

import numpy as np

COLUMNS = ("static", "warp", "motion", "folds", "texture", "whole", "bound")
COMPARED = (
    ("motion", "static"),
    ("texture", "static"),
    ("motion", "warp"),
    ("texture", "warp"),
    ("folds", "motion"),
    ("texture", "motion"),
    ("whole", "motion"),
    ("whole", "texture"),
    ("bound", "motion"),
)
"""Pairs of columns whose gain is told: the first on the second. On the static portrait only clips with motion count."""
LEAST_MOTION = 0.05
"""Of the distance between the eyes, some three millimetres: a face that moves less rests. See `Sequence.motion`."""
LESS_IS_BETTER = (
    *(
        f"{region}_{name}"
        for region in ("mouth", "eye")
        for name in ("squeeze", "gradient", "l1", "inside_squeeze", "inside_l1")
    ),
    "flicker",
    "flicker_raw",
)
"""`inside`: only where an opening is, or was in the portrait: what the texture step is there for."""
MOTION = "motion"
"""A row of its own, no metric: by how much each clip's face moves."""


def summary(rows: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Metric -> column -> mean, median and worst clip, and on how many clips it is better than other columns."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name in dict.fromkeys(metric for row in rows.values() for metric in row if metric != MOTION):
        is_less = name in LESS_IS_BETTER
        for column in COLUMNS:
            found = {c: row[name][column] for c, row in rows.items() if name in row and column in row[name]}
            if not found:
                continue
            worst = (max if is_less else min)(found, key=found.get)
            numbers = list(found.values())
            table.setdefault(name, {})[column] = {
                "mean": float(np.mean(numbers)),
                "median": float(np.median(numbers)),
                "worst": found[worst],
                "worst_clip": worst,
                "clips": len(numbers),
            }
        for better, worse in COMPARED:
            if better in table[name] and worse in table[name]:
                counted = [row for row in rows.values() if name in row and (worse != "static" or _moves(row))]
                pairs = [(row[name][worse], row[name][better]) for row in counted]
                is_better = [(b < w) if is_less else (b > w) for w, b in pairs]
                table[name][better][f"clips_better_than_{worse}"] = int(sum(is_better))
                table[name][better][f"clips_against_{worse}"] = len(pairs)
    return table


def _moves(row: dict[str, dict[str, float]]) -> bool:
    return MOTION not in row or row[MOTION]["truth"] >= LEAST_MOTION


def print_table(table: dict[str, dict[str, dict[str, float]]]) -> None:
    """Markdown: mean / median / worst clip of each column, then what one column gains on another in the mean."""
    columns_shown = [c for c in COLUMNS if any(c in columns for columns in table.values())]
    compared = [pair for pair in COMPARED if set(pair) <= set(columns_shown)]
    gains = [f"{better} on {worse}" for better, worse in compared]
    print("| " + " | ".join(["metric", *columns_shown, *gains]) + " |")
    print("|---" * (1 + len(columns_shown) + len(gains)) + "|")
    for name, columns in table.items():
        cells = [name]
        for column in columns_shown:
            v = columns.get(column)
            cells.append(f"{v['mean']:.3f} / {v['median']:.3f} / {v['worst']:.3f}" if v else "")
        for better, worse in compared:
            if better not in columns or worse not in columns:
                cells.append("")
                continue
            v = columns[better]
            share = f"{100 * (1 - v['mean'] / columns[worse]['mean']):+.1f} %, " if name in LESS_IS_BETTER else ""
            cells.append(f"{share}{v[f'clips_better_than_{worse}']} of {v[f'clips_against_{worse}']}")
        print("| " + " | ".join(cells) + " |")
