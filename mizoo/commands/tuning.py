"""`mizoo tune`: a search over keys of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mizoo.commands.changes import parse_changes


def tune(
    recipe: Annotated[str, typer.Argument(help="A recipe file (.yaml) with a section `search`.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the search; runs/<name>_tuning by default.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key: --set search.epochs=60. Repeatable.")
    ] = None,
) -> None:
    """Search over keys of a recipe, by a probe on the validation part. The same command resumes it."""
    from mizoo import recipes
    from mizoo.tuning import trials, tune
    from mizoo.tuning.search import BEST

    folder = tune(recipes.load(recipe, parse_changes(changes or [])), out)
    print((folder / trials.TABLE).read_text(encoding="utf-8"))
    print(folder / BEST)
