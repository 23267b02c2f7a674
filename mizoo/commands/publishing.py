"""`mizoo publish`, `mizoo card` and `mizoo tables`: they change files of the clone they are run in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def publish(
    run_folder: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    name: Annotated[str, typer.Argument(help="The entry to write.")],
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence", "--license", help="Of the weights, such as CC-BY-4.0; an entry that is replaced keeps its own."
        ),
    ] = None,
    dataset_name: Annotated[
        str | None,
        typer.Option(help="What the data are called; needed where they were read from a path, which is not published."),
    ] = None,
    replace: Annotated[bool, typer.Option(help="Replace a published encoder.")] = False,
    new_version: Annotated[
        bool, typer.Option("--new-version", help="Keep the published encoder loadable as NAME@1, and add the next one.")
    ] = False,
) -> None:
    """Turn a run into an entry: half-precision weights in both forms, recipe, pinned hashes. Run it in a clone."""
    from mizoo.publish import publish as run

    described: dict[str, Any] = {} if dataset_name is None else {"dataset": dataset_name}
    print(
        json.dumps(
            run(run_folder, name, licence=licence, replace=replace, new_version=new_version, **described), indent=2
        )
    )


def card(name: Annotated[str, typer.Argument(help="An entry of the zoo.")]) -> None:
    """Write the model card of an entry from its recipe, rows and manifest."""
    from mizoo import report

    print(report.write_card(name))


def tables() -> None:
    """Write the tables of README.md and docs/ again from the rows of all entries. Run it in a clone."""
    from mizoo import report

    for path in report.write_tables():
        print(path)
