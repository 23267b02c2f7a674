"""The log of a run as a picture: every column by epoch, each bound with its ceiling."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mizoo._tools.files import atomic, user_path
from mizoo.errors import UserError
from mizoo.runs.columns import CEILING, PROBE, group_of
from mizoo.runs.folder import read_log

_LABELS = {
    "loss": "loss",
    "spread": "spread of the embedding",
    "effective_rank": "effective rank",
    "learning_rate": "learning rate",
    "seconds": "seconds since the start",
}
_COLUMNS = 2  # panels side by side


def plot(run: str | os.PathLike, out: str | os.PathLike | None = None) -> Path:
    """Draw everything that a run logs by epoch, under its name: a panel for each kind of column.

    Bounds are in nats, with their ceilings; then come the accuracy of watched probes, the shares of right picks, the
    loss, further terms, and what the run measures of itself: spread and effective rank of the embedding, learning rate,
    speed and time.

    Args:
        run: a run folder, which holds log.csv.
        out: the picture file, by its suffix PNG, SVG or PDF; curves.png in the run folder if None.

    Returns:
        The picture file.

    Raises:
        UserError: if the folder holds no log, the log no column but epochs, or matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError('Plots need matplotlib: `pip install ".[demo]"` in a clone.') from error
    run = user_path(run)
    out = run / "curves.png" if out is None else user_path(out)
    lines = read_log(run)
    panels = panels_of(list(dict.fromkeys(key for line in lines for key in line)))
    if not panels:
        raise UserError(f"The log of {run} holds nothing to draw: its columns are {', '.join(lines[0])}.")
    columns = min(len(panels), _COLUMNS)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.5 * columns, 3.4 * rows + 0.4), layout="constrained")
    figure.suptitle(run.resolve().name, parse_math=False)
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (keys, unit) in zip(every, panels):
        draw(axes, lines, keys, unit)
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    with atomic(out) as temporary:
        figure.savefig(temporary, dpi=120)
    return out


def panels_of(columns: Sequence[str]) -> list[tuple[list[str], str]]:
    """What is drawn together, and the name of its axis: every column of a log but the epoch."""
    left = [key for key in columns if key != "epoch" and not key.endswith(CEILING)]
    by_group: dict[str, list[str]] = {}
    for key in left:
        by_group.setdefault(group_of(key, columns), []).append(key)
    speeds = [key for key in left if key.endswith("_per_second")]
    panels = [
        (by_group.get("nats", []), "nats"),
        (by_group.get("probe", []), "accuracy of the probe, %"),
        (by_group.get("accuracy", []), "share of right picks"),
        (["loss"], _LABELS["loss"]),
        (by_group.get("terms", []), "other terms"),
    ]
    panels += [([key], label) for key, label in _LABELS.items() if key not in ("loss", "seconds")]
    panels += [([key], key.replace("_", " ")) for key in speeds] + [(["seconds"], _LABELS["seconds"])]
    return [(keys, unit) for keys, unit in panels if set(keys) & set(left)]


def draw(
    axes: Any,
    lines: Sequence[Mapping[str, float]],
    keys: Sequence[str],
    unit: str,
    shades: tuple[float, float] = (0.0, 0.9),
) -> None:
    """One panel: its columns by epoch, and their ceilings; `shades` of viridis, for the first and the last column."""
    from matplotlib import colormaps

    epochs = [line["epoch"] for line in lines]
    for i, key in enumerate(sorted(keys, key=_step_number)):
        colour = colormaps["viridis"](shades[0] + (shades[1] - shades[0]) * i / max(len(keys) - 1, 1))
        known = [(epoch, line[key]) for epoch, line in zip(epochs, lines) if key in line]  # a probe skips epochs
        marker = "o" if len(known) == 1 else None  # a line through one point is none
        axes.plot(*zip(*known), color=colour, label=key.removeprefix(PROBE), marker=marker)
    last = lines[-1]
    for ceiling in sorted({last[key + CEILING] for key in keys if key + CEILING in last}):
        axes.axhline(ceiling, linestyle="--", color="grey", linewidth=1)
        place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
        axes.annotate("ceiling", (0.99, ceiling), color="grey", **place)
    axes.margins(y=0.08)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set(xlabel="epoch", ylabel=unit)
    if len(keys) > 1 or unit not in (_LABELS.get(keys[0]), keys[0].replace("_", " ")):
        axes.legend(fontsize="small", ncols=2)


def _step_number(key: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", key)
    return (int(digits.group()) if digits else 0, key)
