"""Where encoded pictures lie: in files of a folder, in ArrayRecord shards, in a data set of TFDS prepared as such.

Each kind has a length, gives the bytes of a picture and its name by number, and travels to other processes as what it
takes to open it there. Importing this imports neither Keras nor TensorFlow, and reading a picture neither.
"""

from __future__ import annotations

import abc
import array
import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mizoo.data import pictures
from mizoo.errors import UserError

Notes = list[tuple[Path, str]]  # what to know of pictures that were read, see `mizoo.data.pictures.read`
_BUDGET = 400  # open shards at most; more are closed and opened again


class Records(abc.ABC):
    """Encoded pictures by number.

    Attributes:
        noted: whether a warning has said of some, as they were read in batches, that they come out almost black.
    """

    noted = False

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """What messages call a picture."""

    @abc.abstractmethod
    def content(self, index: int) -> bytes:
        """The bytes of the picture's file.

        Raises:
            UserError: if they cannot be read.
        """

    def decode(self, index: int, depth: int | None = None, notes: Notes | None = None) -> np.ndarray:
        """A picture, uint8 (H, W, 3), as of `mizoo.data.pictures.read`; errors as of that and of `content`."""
        return pictures.decode(self.content(index), self.name(index), depth, notes=notes)


class FileRecords(Records):
    """The files of a folder. Their names take their bytes and 8 more each, in every process that reads.

    Args:
        folder: that the names begin from.
        paths: the files below it.
        channels: that they are read with, as of `mizoo.data.pictures.read`.
    """

    def __init__(self, folder: Path, paths: Iterable[Path], channels: int | None = None) -> None:
        self.folder, self.channels = str(folder), channels
        names, ends = bytearray(), array.array("q")
        for path in paths:
            names += os.fsencode(path.relative_to(folder))
            ends.append(len(names))
        self._names, self._ends = bytes(names), np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def path(self, index: int) -> Path:
        """The file of a picture."""
        return Path(self.folder, self.inner(index))

    def inner(self, index: int) -> str:
        """The path of a file from the folder on."""
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(self._names[start : self._ends[index]])

    def name(self, index: int) -> str:
        """What messages call a picture: its path."""
        return str(self.path(index))

    def content(self, index: int) -> bytes:
        """The bytes of the file; errors as of `Records`."""
        path = self.path(index)
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such file.") from error
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}.") from error

    def decode(self, index: int, depth: int | None = None, notes: Notes | None = None) -> np.ndarray:
        """A picture, as of `Records`."""
        return pictures.read(self.path(index), depth, notes=notes, channels=self.channels)


class ShardRecords(Records):
    """The records of ArrayRecord files, one after the other. A shard is opened when a record of it is read.

    Args:
        paths: the files.
        counts: how many records each holds.
        channels: that they are read with, as of `mizoo.data.pictures.read`.
    """

    def __init__(self, paths: Sequence[Path], counts: Sequence[int], channels: int | None = None) -> None:
        self.channels = channels
        self.paths = [str(path) for path in paths]
        self._ends = np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def name(self, index: int) -> str:
        """What messages call a picture: its shard, and its number there."""
        path, number = self._locate(index)
        return f"{path}, record {number}"

    def content(self, index: int) -> bytes:
        """The bytes of a record; errors as of `Records`, for a shard that is not there or damaged."""
        path, number = self._locate(index)
        try:
            return _reader(path).read([number])[0]
        except Exception as error:  # array_record raises RuntimeError, IndexError and others
            raise UserError(f"{path}: {_why(path, error)}. Copy it again, or pack the data again.") from error

    def decode(self, index: int, depth: int | None = None, notes: Notes | None = None) -> np.ndarray:
        """A picture, as of `Records`."""
        return pictures.decode(self.content(index), self.name(index), depth, notes=notes, channels=self.channels)

    def _locate(self, index: int) -> tuple[str, int]:
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return self.paths[shard], int(index - (self._ends[shard - 1] if shard else 0))


@functools.lru_cache(maxsize=_BUDGET)
def _reader(path: str) -> Any:
    """An open shard of this process."""
    from array_record.python.array_record_module import ArrayRecordReader

    return ArrayRecordReader(path, "readahead_buffer_size:0,index_storage_option:in_memory")


def _why(path: str, error: Exception) -> str:
    if not os.path.exists(path):
        return "no such shard"
    return f"the shard is damaged or cannot be read ({' '.join(str(error).split())[:200]})"


class TfdsRecords(Records):
    """A split of a data set that TFDS has prepared as ArrayRecord, read where it is and without TensorFlow.

    Args:
        folder: of the prepared data, with their dataset_info.json.
        split: its name.
    """

    def __init__(self, folder: str | os.PathLike, split: str) -> None:
        self.folder, self.split = str(folder), split

    def __len__(self) -> int:
        return len(_tfds_source(self.folder, self.split))

    def name(self, index: int) -> str:
        """What messages call a picture."""
        return f"{self.folder}, {self.split} {index}"

    def content(self, index: int) -> bytes:
        """The bytes of the picture's file; errors as of `Records`."""
        return self._example(index)["image"]

    def label(self, index: int) -> int:
        """The class of a picture; errors as of `content`."""
        return int(self._example(index)["label"])

    def item(self, index: int) -> tuple[bytes, int | None]:
        """Bytes and class of a picture, None where it has none; errors as of `content`."""
        example = self._example(index)
        return example["image"], int(example["label"]) if "label" in example else None

    def _example(self, index: int) -> dict[str, Any]:
        try:
            return _tfds_source(self.folder, self.split)[int(index)]
        except Exception as error:  # as of `ShardRecords.content`
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{self.name(index)}: cannot be read ({reason}). Prepare the data set again, or copy it again."
            ) from error


@functools.lru_cache(maxsize=8)
def _tfds_source(folder: str, split: str) -> Any:
    """The examples of a split, the pictures among them as they are stored."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    return builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
