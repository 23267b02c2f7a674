"""Data sets packed into a few files, for training that streams and for machines without TFDS and TensorFlow.

A split is ArrayRecord files (shards), whose records are picture files in a fixed order, and an array of labels.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mizoo._tools import files
from mizoo._tools.progress import bar
from mizoo.data import mosaics
from mizoo.data.bands import COLOURS
from mizoo.data.dataset import Dataset
from mizoo.data.packing import FORMAT, INDEX, write
from mizoo.data.records import ShardRecords
from mizoo.data.resizing import Size, both_sides
from mizoo.data.streams import Stream, decode_all, fit
from mizoo.errors import UserError

__all__ = ["is_packed", "read", "splits", "stream", "write"]

_REMEDY = "Pack the data again with `mizoo data pack`, or copy the folder again."
_SLOW = 10_000  # pictures, from which on decoding them shows its progress


def read(path: str | os.PathLike, split: str, size: Size | None = None, channels: int | None = None) -> Dataset:
    """Read one split into memory. Every shard is checked against its hash before it is opened.

    Args:
        path: the folder.
        split: "train", "test" or whatever was packed.
        size: side of the square, or height and width, that every picture is brought to; needed where they differ.
        channels: 1 for grey pictures of colours, which they are before they are brought to `size`; others are left.

    Returns:
        The Dataset, in the order in which it was packed.

    Raises:
        UserError: a split that is not there, pictures of several sizes without `size`, or an index or shard that is
            missing or damaged, by name.

    Warns:
        DeprecationWarning: for data that version 0.1.0 packed.
    """
    path = files.user_path(path)
    index, facts = _split(path, split)
    if index["format"] == mosaics.FORMAT:
        message = f"{path} was packed by version 0.1.0, which the next release does not read. {_again(path)}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return mosaics.read(path, index, split)
    records = _records(path, facts, by_hash=True)
    shape = _shape(path, facts, size)
    if (shape[2], channels) == (3, 1):
        shape = (*shape[:2], 1)

    def decode(record: int) -> np.ndarray:
        """A picture in the shape of all."""
        return fit(records.decode(record), shape, records.name, record, resize=size is not None)

    with bar(f"reading {index['name']}", len(records), shown=len(records) >= _SLOW, unit="pictures") as advance:
        images = decode_all(range(len(records)), decode, shape, advance)
    return Dataset(index["name"], images, _labels(path, facts), tuple(index["classes"]))


def stream(path: str | os.PathLike, split: str, size: Size | None = None) -> Dataset:
    """One split as a Dataset whose pictures are a `mizoo.data.streams.Stream`.

    Args:
        path, split, size: as of `read`.

    Raises:
        UserError: as of `read`; for data that version 0.1.0 packed. Of the shards the sizes are compared, and not the
            hashes.
    """
    path = files.user_path(path)
    index, facts = _split(path, split)
    if index["format"] == mosaics.FORMAT:
        raise UserError(f"{path} was packed by version 0.1.0, whose files cannot be streamed. {_again(path)}")
    records = _records(path, facts, by_hash=False)
    images: Any = Stream(records, np.arange(len(records)), _shape(path, facts, size))
    return Dataset(index["name"], images, _labels(path, facts), tuple(index["classes"]))


def splits(path: str | os.PathLike) -> tuple[str, ...]:
    """The splits in a packed folder; errors as of `read`."""
    return tuple(_read_index(files.user_path(path))["splits"])


def count(path: str | os.PathLike, split: str) -> int:
    """How many pictures a split holds; errors as of `read`."""
    return int(_split(files.user_path(path), split)[1]["count"])


def hashes(path: str | os.PathLike, split: str) -> dict[str, str]:
    """File of a split, of pictures or labels -> its SHA-256, as the index tells; errors as of `read`."""
    index, facts = _split(files.user_path(path), split)
    if index["format"] == mosaics.FORMAT:
        return {chunk["file"]: chunk["sha256"] for chunk in facts["chunks"]}
    labels = [facts["labels"]] if facts["labels"] else []
    return {each["file"]: each["sha256"] for each in facts["shards"] + labels}


def channels(path: str | os.PathLike, split: str) -> int | None:
    """The channels of the pictures of a split; None of one that version 0.1.0 packed. Errors as of `read`."""
    return _split(files.user_path(path), split)[1].get("channels")


def is_packed(path: str | os.PathLike) -> bool:
    """Whether a folder holds packed data; one with a damaged index counts, so that `read` names the damage."""
    index = files.user_path(path) / INDEX
    if not index.is_file():
        return False
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except ValueError:
        shards: Callable[[str], Any] = index.parent.glob
        return any(any(shards(f"*-[0-9][0-9][0-9][0-9][0-9].{suffix}")) for suffix in ("array_record", "npz"))
    return isinstance(content, dict) and str(content.get("format", "")).startswith("mizoo packed pictures")


def _split(path: Path, split: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The index of a folder, and what it says of one split."""
    index = _read_index(path)
    if split not in index["splits"]:
        raise UserError(f"{path} has the splits {', '.join(index['splits'])}. Received: split={split!r}")
    return index, index["splits"][split]


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} holds no packed data: {error.strerror}: {path / INDEX}") from error
    except ValueError as error:
        raise UserError(f"The index of the packed data is damaged: {path / INDEX}. {_REMEDY}") from error
    if not isinstance(index, dict) or index.get("format") not in (FORMAT, mosaics.FORMAT):
        raise UserError(f"{path / INDEX} is not of the format {FORMAT!r}. {_REMEDY}")
    return index


def _records(path: Path, facts: dict[str, Any], by_hash: bool) -> ShardRecords:
    """The records of a split; all shards are there, and whole as far as their size or hash tells."""
    shards = [files.checked(path, shard, "shard", by_hash) for shard in facts["shards"]]
    channels = None if facts["channels"] in COLOURS else facts["channels"]
    return ShardRecords(shards, [shard["count"] for shard in facts["shards"]], channels)


def _labels(path: Path, facts: dict[str, Any]) -> np.ndarray | None:
    if facts["labels"] is None:
        return None
    return np.load(files.checked(path, facts["labels"], "file of labels"), allow_pickle=False)


def _shape(path: Path, facts: dict[str, Any], size: Size | None) -> tuple[int, int, int]:
    if size is not None:
        return (*both_sides(size), facts["channels"])
    if facts["size"] is None:
        raise UserError(f"The pictures in {path} differ in size. Pass `size` (--size) to bring all to one square.")
    return (*facts["size"], facts["channels"])


def _again(path: Path) -> str:
    return f"Pack it again: `mizoo data pack {path} --out NEW`."
