"""Pictures that do not fit in memory: decoded when they are asked for, in the place of an array of all."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from mizoo._tools.threads import in_order
from mizoo.data import pictures
from mizoo.data.bands import with_channels
from mizoo.data.records import Notes, Records
from mizoo.data.resizing import fit as resize_to
from mizoo.errors import UserError


@dataclass(frozen=True)
class Stream:
    """Pictures that lie encoded in files; indexing decodes those that are asked for, and nothing is kept.

    It has the attributes of an array uint8 (N, H, W, C) and its length, and an index, a slice or an array of row
    numbers gives what it gives of the array of all pictures. It is never converted to one as a whole by itself.

    Attributes:
        records: the encoded pictures.
        rows: int64 (N,), their numbers among the records, in the order of the stream.
        shape: (N, H, W, C).
        depth: bits of the values of deep grey files: see `mizoo.data.pictures.read`.
    """

    records: Records
    rows: np.ndarray
    picture_shape: tuple[int, int, int]
    depth: int | None = None

    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return (len(self.rows), *self.picture_shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all pictures take, decoded."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Pictures, uint8 (n, H, W, C), or one of them, (H, W, C), decoded on all cores; errors as of `read`."""
        chosen = self.rows[index]
        if np.ndim(chosen) == 0:
            return self._picture(int(chosen), None)
        return self.part(index).load()

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UserError(
            f"{len(self):,} pictures that are streamed are not put into memory by themselves. Take rows of them, "
            "`stream[:1000]`, train on `mizoo.data.batches(...)`, or load all by `mizoo.data.load(...)`"
        )

    def load(self, advance: Callable[[int], Any] | None = None) -> np.ndarray:
        """All pictures as one array, decoded on all cores; `advance` is called with 1 after each."""
        notes: Notes = []
        decoded = decode_all(self.rows, functools.partial(self._picture, notes=notes), self.picture_shape, advance)
        if notes:
            notes.sort()  # the threads finish in any order
            warnings.warn(pictures.summary(notes, len(self)), UserWarning, stacklevel=3)
        return decoded

    def part(self, rows: slice | np.ndarray) -> Stream:
        """The stream of some of the pictures, none of which is decoded."""
        return Stream(self.records, self.rows[rows], self.picture_shape, self.depth)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Pictures by row numbers, uint8 (n, H, W, C), decoded one by one on one core.

        Raises:
            UserError: naming the file or shard, for a picture that cannot be read or has another shape.
        """
        notes: Notes = []
        out = np.empty((len(rows), *self.picture_shape), np.uint8)
        for i, row in enumerate(rows):
            out[i] = self._picture(int(self.rows[row]), notes)
        if notes and not self.records.noted:  # once, not for every batch
            self.records.noted = True
            notes.sort()
            warnings.warn(pictures.summary(notes, len(rows)), UserWarning, stacklevel=2)
        return out

    def _picture(self, record: int, notes: Notes | None) -> np.ndarray:
        picture = self.records.decode(record, self.depth, notes)
        return fit(picture, self.picture_shape, self.records.name, record)


def fit(
    picture: np.ndarray, shape: Sequence[int], name: Callable[[int], str], index: int, resize: bool = True
) -> np.ndarray:
    """A decoded picture in the shape that is wanted.

    Args:
        picture: uint8 (H, W, 3 or C).
        shape: (H, W, C), C = 1 for the grey picture of three channels.
        name: of a picture by its number, for messages.
        index: the picture's number.
        resize: whether a picture of another size is brought to it by `mizoo.data.pictures.fit`.

    Raises:
        UserError: if it has another size and is not resized, or other channels.
    """
    have, wanted = picture.shape[2], shape[2]
    if have != wanted and (have, wanted) != (3, 1):
        raise UserError(
            f"{name(index)}: the picture has {have} channels and {wanted} are wanted, as the first one has. Pass "
            "`channels`, or move the others away."
        )
    picture = with_channels(picture, wanted, name(index))  # before it is resized, as everywhere
    if picture.shape[:2] != tuple(shape[:2]):
        if not resize:
            raise UserError(
                f"{name(index)}: the picture is {picture.shape[1]}x{picture.shape[0]} and the others are "
                f"{shape[1]}x{shape[0]} (width x height). Pass `size` (--size) to bring all to one square."
            )
        picture = resize_to(picture, shape[:2])
    return picture


def decode_all(
    records: Sequence[int] | np.ndarray,
    decode: Callable[[int], np.ndarray],
    shape: tuple[int, ...],
    advance: Callable[[int], Any] | None = None,
) -> np.ndarray:
    """Pictures by their numbers as one array, decoded by a thread for each core.

    Args:
        records: the numbers.
        decode: a number -> uint8 `shape`.
        shape: (H, W, C).
        advance: called with 1 after each picture.

    Returns:
        uint8 (n, H, W, C).
    """
    out = np.empty((len(records), *shape), np.uint8)
    for i, picture in enumerate(in_order(decode, map(int, records))):
        out[i] = picture
        if advance is not None:
            advance(1)
    return out
