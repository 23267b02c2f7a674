"""A data set by name, from a folder or from arrays -> a packed folder, without having all of it in memory."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mizoo._tools.checks import check_size
from mizoo.data import packed, packing
from mizoo.data.bands import format_of
from mizoo.data.dataset import Dataset
from mizoo.data.loading import as_folder, load, splits, stream
from mizoo.data.packing import CHUNK_MB, Item, Source
from mizoo.data.records import FileRecords
from mizoo.data.streams import Stream

_ANY_SIZE = 1  # of a stream whose pictures are taken as they are stored


def pack(
    source: str | os.PathLike | np.ndarray | Dataset,
    out: str | os.PathLike,
    chunk_mb: float = CHUNK_MB,
    size: int | None = None,
    depth: int | None = None,
    channels: int | None = None,
) -> dict[str, Any]:
    """Pack all splits of a data set into ArrayRecord files, which `load` and `stream` read without TFDS or TensorFlow.

    The order is that of `load`, and so are the pictures, but for one case: TensorFlow decodes the JPEG files of a set
    of TFDS, and Pillow those of a packed folder, which rounds otherwise. What is kept and what is encoded anew says
    `mizoo.data.packing.write_sources`.

    Args:
        source: as of `mizoo.data.load`. Pictures in files are read one by one.
        out: the folder to write into; made if it is missing.
        chunk_mb: the most that a shard may take, in megabytes of 10**6 bytes.
        size: side of the square that every picture is brought to; None packs them as they are.
        depth: bits of the values of deep files, of a folder of pictures: see `mizoo.data.pictures.read`.
        channels: as of `mizoo.data.load`; with another number than 1 and 3, pictures are packed as arrays.

    Returns:
        The index that is written last: of each split the count, the labels and the shards with their hashes.

    Raises:
        UserError: as of `load`; a folder that holds packed data already; pictures that cannot be read, by name.
    """
    size = size if size is None else check_size(size, "size")
    sources = {split: _source(source, split, size, depth, channels) for split in splits(source)}
    return packing.write_sources(sources, out, chunk_mb, size, depth, channels)


def _source(source: Any, split: str, size: int | None, depth: int | None, channels: int | None) -> Source:
    path = as_folder(source) if isinstance(source, (str, os.PathLike)) else None
    if isinstance(source, (str, os.PathLike)) and path is None:
        return _of_tfds(str(source), split)
    if path is None or (packed.is_packed(path) and not _is_streamed(path, split)):
        return packing.of_dataset(load(source, split, size, channels=channels))
    dataset = stream(source, split, _ANY_SIZE, depth, channels=None if packed.is_packed(path) else channels)
    return Source(dataset.name, dataset.classes, len(dataset), _items(dataset))


def _is_streamed(path: Any, split: str) -> bool:
    """Whether a packed folder is of today's format, and its pictures have three channels."""
    return packed.channels(path, split) == 3


def _of_tfds(name: str, split: str) -> Source:
    from mizoo.data import _tfds

    count, classes, pairs = _tfds.items(name, split)
    items = (Item(f"{name}, {split} {i}", functools.partial(_given, pair)) for i, pair in enumerate(pairs))
    return Source(name, classes, count, items)


def _given(pair: tuple[bytes, int | None]) -> tuple[bytes, int | None]:
    return pair


def _items(dataset: Dataset) -> Iterator[Item]:
    images: Any = dataset.images
    streamed: Stream = images

    def load_one(index: int) -> tuple[Path | bytes, int | None]:
        """The content of a picture's file, or its path where that is a TIFF or an array; and the label."""
        label = None if dataset.labels is None else int(dataset.labels[index])
        records, row = streamed.records, int(streamed.rows[index])
        content = records.content(row)
        of_bands = isinstance(records, FileRecords) and format_of(content) is not None
        return records.path(row) if of_bands else content, label  # type: ignore[attr-defined]

    for index, record in enumerate(streamed.rows):
        yield Item(streamed.records.name(int(record)), functools.partial(load_one, index))
