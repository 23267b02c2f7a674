"""`mizoo list` and `mizoo speed`: what one chooses an entry by."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from mizoo.evaluate.overview import SORTS

_WIDE = 1000  # columns where no terminal folds the lines: an entry is one line


def list_entries(
    pattern: Annotated[str, typer.Argument(help="Wildcards, such as 'dim_*'.")] = "*",
    sort: Annotated[
        str, typer.Option(help=f"By {', '.join(SORTS)}; the best accuracies and the highest speeds come first.")
    ] = "name",
    as_json: Annotated[
        bool, typer.Option("--json", help="Everything, in JSON: also summaries, data, and how each was measured.")
    ] = False,
) -> None:
    """List the published entries: input, endpoints, size, objective, accuracy and speed."""
    from mizoo.evaluate import overview

    listed = overview.overview(pattern, sort, lambda message: print(f"warning: {message}", file=sys.stderr))
    if as_json:
        print(json.dumps(listed, indent=2))
        return
    if listed:
        _print_table(overview.HEAD, [overview.cells(each) for each in listed])
        for line in overview.legend(listed):
            print(line, file=sys.stderr)
    if alone := overview.recipes_alone(pattern):
        print(f"recipes without weights, for `mizoo pretrain`: {', '.join(alone)}", file=sys.stderr)


def _print_table(head, lines) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in head:
        text = title in ("entry", "input", "endpoints", "objective")
        table.add_column(title, justify="left" if text else "right", no_wrap=title != "endpoints", overflow="fold")
    for line in lines:
        table.add_row(*map(Text, line))  # without markup, which names might hold
    Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False).print(table)


def speed(
    name: Annotated[
        list[str] | None,
        typer.Argument(help="Entries, or .onnx files or folders that hold an encoder.onnx; all entries by default."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Inputs a call; 256 pictures, or 16 sounds of a second.")
    ] = None,
) -> None:
    """Measure what one core encodes a second on ONNX Runtime; in a clone, entries keep that of the usual batch."""
    from mizoo import zoo
    from mizoo._tools.progress import Progress
    from mizoo.evaluate import speed as speeds

    names, published, lines = name or zoo.list_models(), zoo.registry(), []
    try:
        with Progress() as display:  # what is printed while it is shown would go where it goes
            for each in names:
                line = display.start(f"speed of {each}", speeds.ROUNDS)
                found = speeds.measure(each, batch_size, line)
                line.finish(f"{found.rate:,.0f} {found.unit}/s")
                if each in published and zoo.clone() and batch_size is None:
                    speeds.keep(each, found)
                lines.append(f"{each}  {found}")
    finally:
        print(*lines, sep="\n")
