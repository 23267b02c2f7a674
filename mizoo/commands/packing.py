"""The command that packs a data set into a few files: `data pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pack(
    name: Annotated[str, typer.Argument(help="TFDS name, folder of pictures, or folder that was packed before.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    chunk_mb: Annotated[int, typer.Option(min=1, help="Largest size of a shard, in megabytes.")] = 256,
    size: Annotated[
        int | None, typer.Option(min=1, help="Height and width to resize the pictures to; as they are by default.")
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(min=8, max=32, help="Bits of the values of 16-bit grey files that hold fewer, such as 12."),
    ] = None,
    channels: Annotated[
        int | None, typer.Option(min=1, help="Of the pictures: 3 by default, 1 for grey, or as many as the files have.")
    ] = None,
) -> None:
    """Write a data set as ArrayRecord files, which stream, and need neither TFDS nor TensorFlow to read."""
    from mizoo import data

    index = data.pack(name, out, chunk_mb, size, depth, channels)
    for split, content in index["splits"].items():
        print(f"{split}: {content['count']} pictures in {len(content['shards'])} shards")
    print(out)
