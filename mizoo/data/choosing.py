"""Whether the pictures of a training are held in memory or streamed."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Collection
from typing import Literal

from mizoo._tools.hardware import memory
from mizoo.data import packed, pictures
from mizoo.data.dataset import Dataset, parse_split
from mizoo.data.loading import Shape, as_folder, load, splits, stream, wanted_shape
from mizoo.errors import UserError

SHARE = 0.25
"""Of the memory: data sets that take more of it, decoded, are streamed. To load them takes twice their size."""


def load_or_stream(
    source: str | os.PathLike,
    split: str = "train",
    size: Shape | None = None,
    streamed: bool | Literal["auto"] = "auto",
    labelled: bool = False,
    depth: int | None = None,
    without: Collection[str] = (),
) -> Dataset:
    """One split in memory, as of `mizoo.data.load`, or as a stream, as of `mizoo.data.stream`: the same pictures.

    Args:
        source, split, size: as of both.
        streamed: whether to stream; "auto" does so where the decoded pictures take more than `SHARE` of the memory.
        labelled, depth, without: as of `stream`.

    Raises:
        UserError: as of both; for a data set that should be streamed and cannot, with what to do.
    """
    if streamed is True:
        return stream(source, split, size, depth, labelled, without=without)
    wanted, channels = wanted_shape(size, None)
    if streamed is False or wanted is None:
        return load(source, split, size, depth, without=without)
    needed, there = decoded_bytes(source, split, (*wanted, channels)), memory()
    if there is None or needed <= SHARE * there:
        return load(source, split, size, depth, without=without)
    try:
        selected = stream(source, split, size, depth, labelled, without=without)
        high, wide = wanted
        print(
            f"{source}: {len(selected):,} pictures of {wide} x {high} pixels are streamed, {_against(needed, there)}.",
            file=sys.stderr,
        )
        return selected
    except UserError as error:
        raise UserError(
            f"{error} (Its pictures take {_against(needed, there)}; `data.stream: false` loads them none the less.)"
        ) from error


def _against(needed: int, there: int) -> str:
    return f"{needed / 1e9:,.1f} GB decoded, where the memory has {there / 1e9:,.1f} GB"


def decoded_bytes(source: str | os.PathLike, split: str, size: Shape) -> int:
    """What the pictures of a split take in memory at `size`, by their number; nothing is decoded.

    Raises:
        UserError: as of `mizoo.data.load`, as far as it shows without reading.
    """
    name, rows = parse_split(split)
    wanted, channels = wanted_shape(size, None)
    if wanted is None:
        raise UserError(f"What pictures take follows from their height and width. Received: size={size!r}")
    return len(range(_count(source, name, channels))[rows]) * wanted[0] * wanted[1] * (channels or 3)


def _count(source: str | os.PathLike, split: str, channels: int | None) -> int:
    path = as_folder(source)
    if path is None:
        from mizoo.data import _tfds

        return _tfds.count(str(source), split)
    if packed.is_packed(path):
        return packed.count(path, split)
    below = path / split if "test" in splits(path) and (path / split).is_dir() else path
    return sum(1 for _ in pictures.stream(below, [], Counter(), channels))
