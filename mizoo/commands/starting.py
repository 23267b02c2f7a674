"""`mizoo new`: a recipe for a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def new(
    recipe: Annotated[Path, typer.Argument(help="The recipe to write, such as my.yaml; its name is that of the run.")],
    data: Annotated[Path, typer.Option(help="Folder of pictures.")],
    side: Annotated[int | None, typer.Option(help="Of the encoder, in pixels, a multiple of 8 from 32 on.")] = None,
    hours: Annotated[float, typer.Option(help="How long the training may take.")] = 2.0,
    labelled: Annotated[
        Path | None, typer.Option(help="Folder of class folders, by which the run is watched; it decides nothing.")
    ] = None,
    centre: Annotated[
        bool, typer.Option("--centre", "--center", help="Take the centre square of pictures that are very long.")
    ] = False,
    check_seconds: Annotated[float, typer.Option(min=0, help="Time for opening files; 0 for all of them.")] = 120.0,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite the recipe.")] = False,
) -> None:
    """Write a commented recipe for a folder of pictures and this machine, after a look at both."""
    from mizoo.new import new as run

    print(run(recipe, data, side, hours, labelled, centre, check_seconds, replace))
