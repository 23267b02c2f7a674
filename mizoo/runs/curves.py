"""The log of a run as a picture: every bound with its ceiling, every accuracy."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mizoo._tools.files import atomic
from mizoo.errors import UserError
from mizoo.runs.folder import read_log

_BOUND, _ACCURACY = re.compile(r"mi_\d+|\w*_mi"), re.compile(r"accuracy_\d+")


def plot(run: str | os.PathLike, out: str | os.PathLike | None = None) -> Path:
    """Draw the terms of a run by epoch: nats and their ceilings, and the shares of right picks where there are some.

    Args:
        run: a run folder, which holds log.csv.
        out: the picture file, by its suffix PNG, SVG or PDF; curves.png in the run folder if None.

    Returns:
        The picture file.

    Raises:
        UserError: if the folder holds no log, the log no bound, or matplotlib is not installed.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError('Plots need matplotlib: `pip install ".[demo]"` in a clone.') from error
    run = Path(run)
    out = run / "curves.png" if out is None else Path(out)
    lines = read_log(run)
    bounds = [key for key in lines[0] if _BOUND.fullmatch(key) or f"{key}_ceiling" in lines[0]]
    accuracies = [key for key in lines[0] if _ACCURACY.fullmatch(key)]
    if not bounds:
        raise UserError(f"The log of {run} holds no bound: its columns are {', '.join(lines[0])}.")

    marker = "o" if len(lines) == 1 else None  # a line through one point is none
    panels = [(bounds, "nats")] + ([(accuracies, "share of right picks")] if accuracies else [])
    figure = Figure(figsize=(5.5 * len(panels), 4), layout="constrained")
    for axes, (keys, unit) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        for i, key in enumerate(sorted(keys, key=_step_number)):
            colour = colormaps["viridis"](0.9 * i / max(len(keys) - 1, 1))
            values = [line[key] for line in lines]
            axes.plot([line["epoch"] for line in lines], values, color=colour, label=key, marker=marker)
        for ceiling in sorted({lines[-1][f"{key}_ceiling"] for key in keys if f"{key}_ceiling" in lines[-1]}):
            axes.axhline(ceiling, linestyle="--", color="grey", linewidth=1)
            axes.annotate("ceiling", (0.01, ceiling), xycoords=("axes fraction", "data"), va="bottom", color="grey")
        axes.margins(y=0.08)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.set(xlabel="epoch", ylabel=unit)
        axes.legend(fontsize="small", ncols=2)
    with atomic(out) as temporary:
        figure.savefig(temporary, dpi=120)
    return out


def _step_number(key: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", key)
    return (int(digits.group()) if digits else 0, key)
