"""`mizoo bundle` and `mizoo push`: entries and runs for others to load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bundle(
    names: Annotated[list[str] | None, typer.Argument(help="Entries, such as simclr_cifar10; all by default.")] = None,
    out: Annotated[Path, typer.Option("--out", "--output", "-o", help="Folder to write.")] = Path("bundle"),
) -> None:
    """Write the folder that MIZOO_URL serves, or that is copied to MIZOO_HOME: the files of entries."""
    from mizoo.zoo import bundling

    folder = bundling.bundle(out, names or ())
    print(folder)


def push(
    source: Annotated[str, typer.Argument(help="An entry of the zoo, or the folder of a finished run.")],
    repository: Annotated[str, typer.Argument(help="Where to: owner/name on the Hugging Face hub.")],
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="Of the weights of a run, such as CC-BY-4.0.")
    ] = None,
    dataset_name: Annotated[
        str | None, typer.Option(help="What the data of a run are called; needed where they were read from a path.")
    ] = None,
    private: Annotated[bool, typer.Option(help="Make a repository that only its owner sees.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "--output", "-o", help="Only write the folder that would be pushed, here.")
    ] = None,
) -> None:
    """Upload an encoder with its card, recipe and rows to the Hugging Face hub (extra: hub)."""
    from mizoo import push as pushing

    if out is not None:
        print(pushing.write_folder(source, out, repository, licence=licence, dataset=dataset_name))
        return
    print(pushing.push(source, repository, licence=licence, dataset=dataset_name, private=private))
