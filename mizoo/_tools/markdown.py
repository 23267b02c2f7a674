"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A markdown table; all columns but the first are aligned to the right."""
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(['---'] + ['--:'] * (len(head) - 1))}|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in body])


def number(value: float, spread: float | None = None) -> str:
    """A value to two digits, with its standard deviation where there is one."""
    return f"{value:.2f}" if spread is None else f"{value:.2f} ± {spread:.2f}"


def shape(sizes: Iterable[int | None], times: str = "x") -> str:
    """The shape of an endpoint without the batch; a length that is free reads "any"."""
    names = ["any" if size is None else str(size) for size in sizes]
    return (" x " if "any" in names else times).join(names)
