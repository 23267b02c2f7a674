"""Drawings of a page as SVG whose lines and letters take the colours of the page, light or dark."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mizoo.errors import UserError
from mizoo.runs import curves

_INK, _FAINT = "#010203", "#040506"  # stand for the page's colours until the drawing is text
_SIZE = (4.2, 2.5)
_SHADES = (0.4, 0.75)  # that are seen on light and dark


def curve_panels(lines: Sequence[Mapping[str, float]], name: str) -> list[str]:
    """A drawing for each kind of column of a log but time and speed, as `mizoo curves` draws them."""
    columns = list(dict.fromkeys(key for line in lines for key in line))
    drawn = []
    for keys, unit in curves.panels_of(columns):
        if unit.startswith("seconds") or unit.endswith("per second"):
            continue

        def panel(axes: Any, keys: list[str] = keys, unit: str = unit) -> None:
            """The curves of one unit."""
            curves.draw(axes, lines, keys, unit, _SHADES)

        drawn.append(_svg(panel, f"{name} {unit}", unit))
    return drawn


def histogram(counts: np.ndarray, prior: str | None, name: str) -> str:
    """The distribution of the coordinates of `global`, mapped to 0..1, beside the prior where there is one.

    Args:
        counts: (bins,) of the mapped values.
        prior: "uniform" where they were mapped by the sigmoid, "gaussian" where by the normal distribution function,
            either of which makes the prior flat; None for the sigmoid and no prior.
        name: of the encoder.
    """
    density = counts / max(counts.sum(), 1) * len(counts)
    mapped = "normal distribution function" if prior == "gaussian" else "sigmoid"

    def bars(axes: Any) -> None:
        """The histogram and the prior."""
        axes.stairs(density, np.linspace(0, 1, len(counts) + 1), fill=True, color="#4f7cc4", alpha=0.75)
        if prior:
            axes.axhline(1, color="#d1702a", linestyle="--", label=f"{prior.capitalize()} prior")
            axes.legend(fontsize="small")
        axes.set(xlabel=f"{mapped} of the coordinates", ylabel="density", xlim=(0, 1), ylim=(0, None))

    return _svg(bars, f"{name} histogram", "distribution of the coordinates")


def label_curves(series: Mapping[str, Sequence[tuple[float, float, float]]], name: str) -> str:
    """Accuracy against the share of the labels, on a logarithmic axis.

    Args:
        series: encoder -> (share in percent, accuracy in percent, its standard deviation), in any order.
        name: of the drawing.
    """
    from matplotlib import colormaps

    def lines(axes: Any) -> None:
        """A line with its spread for each encoder."""
        for i, (label, points) in enumerate(series.items()):
            share, value, spread = np.array(sorted(points)).T
            colour = colormaps["turbo"](0.1 + 0.75 * i / max(len(series) - 1, 1))
            axes.errorbar(share, value, spread, marker="o", markersize=3, capsize=2, color=colour, label=label)
        shares = sorted({point[0] for points in series.values() for point in points})
        axes.set(xscale="log", xlabel="labels, %", ylabel="top-1 %")
        axes.set_xticks(shares, [f"{share:g}" for share in shares])
        axes.minorticks_off()
        axes.legend(fontsize="small")

    return _svg(lines, name, name, (6.0, 3.6))


def _svg(draw: Any, key: str, title: str, size: tuple[float, float] = _SIZE) -> str:
    """What `draw` draws on axes, as an <svg> element without anything of its surroundings."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError('The page\'s drawings need matplotlib: `pip install ".[report]"` in a clone.') from error
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": key,  # the same drawing has the same ids, and two drawings of a page have different ones
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.edgecolor": _FAINT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "axes.grid": True,
        "grid.color": _FAINT,
        "grid.linewidth": 0.4,
    }
    with rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        draw(axes)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _as_element(stream.getvalue(), key, title)


def _as_element(text: str, key: str, title: str) -> str:
    from html import escape

    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would hold for the whole page
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = text.replace(_INK, "currentColor").replace(_FAINT, "var(--line)").replace("'DejaVu Sans', ", "")
    prefix = "f" + hashlib.sha256(key.encode()).hexdigest()[:6]  # matplotlib's own ids repeat from one to the next
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}-", text)
    text = re.sub(r"\s*\n\s*", "\n", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1).strip()
