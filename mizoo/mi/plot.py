"""A picture of an estimate: its curves, its error bar, its ceiling."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mizoo._tools import files
from mizoo.errors import UserError

_NEAR = 1.5  # times the largest value that is drawn: how high the ceiling is drawn at most


def plot(result, path: str | Path | None = None, truth: float | None = None):
    """Draw an `Estimate`; see its method `plot`.

    Returns:
        The matplotlib figure.

    Raises:
        UserError: without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError('The plot takes matplotlib: pip install ".[mi]" in a clone.') from None
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axis = figure.subplots()
    for i, curve in enumerate(result.curve):
        steps, fitted, validation = np.array(curve, "float64").T
        axis.plot(steps, validation, color="tab:blue", linewidth=1, label="validation rows" if i == 0 else None)
        axis.plot(steps, fitted, color="tab:grey", linewidth=0.8, label="training batches" if i == 0 else None)
    error = 2 * result.standard_error
    axis.axhspan(result.nats - error, result.nats + error, color="tab:orange", alpha=0.25, linewidth=0)
    axis.axhline(result.nats, color="tab:orange", label=f"estimate {result.nats:.2f} ± 2 · {result.standard_error:.2f}")
    if truth is not None:
        axis.axhline(truth, color="black", linewidth=1, label=f"truth {truth:.2f}")
    if result.ceiling is not None:
        near = result.ceiling <= _NEAR * axis.get_ylim()[1]  # one far above would flatten the curves
        label = f"ceiling {result.ceiling:.2f}" + ("" if near else ", above")
        axis.plot([], [], color="grey", linestyle=":", label=label)
        if near:
            axis.axhline(result.ceiling, color="grey", linestyle=":")
    axis.set_xlabel("step")
    axis.set_ylabel("nats")
    axis.set_title(result.bound)
    axis.legend(fontsize=8, loc="best")
    if path is not None:
        with files.atomic(files.user_path(path)) as temporary:
            figure.savefig(temporary, dpi=120)
    return figure
