"""Decoded pictures, or sequences, in memory, and the names of their splits."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mizoo._tools.arrays import to_numpy
from mizoo.errors import UserError

MAX_CLASSES = 100_000
"""The most classes that labels may number."""

_SPLIT = re.compile(r"(?P<name>\w+)(?:\[(?P<start>-?\d+)?:(?P<stop>-?\d+)?\])?")


@dataclass(frozen=True)
class Dataset:
    """Decoded pictures, or sequences, and, where they exist, their labels.

    Attributes:
        name: of the source.
        images: uint8 (N, H, W, 3); of sequences float32 (N, T) or (N, T, d). Of `mizoo.data.stream` a
            `mizoo.data.streams.Stream`, which gives the pictures of an index, a slice or an array of numbers.
        labels: int64 (N,), or None. Names of classes may be passed instead: they are numbered in the order of
            `classes`, or sorted where that is (). Labels that are all -1, as some sets have instead of none, are None.
        classes: the names of the classes, or ().

    Raises:
        UserError: for labels that are neither whole numbers from 0 on, below the number of `classes` where they are
            given, nor names of classes; or not one for each picture.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.classes, str):
            raise UserError(f"`classes` holds one name for each class. Received: classes={self.classes!r}")
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.labels is not None:
            labels, classes = _check_labels(self.labels, self.classes)
            object.__setattr__(self, "labels", labels)
            object.__setattr__(self, "classes", classes)
            if labels is not None and len(labels) != len(self.images):
                raise UserError(f"`labels` holds one label for each of {len(self)} pictures. Received: {len(labels)}")

    def __len__(self) -> int:
        return len(self.images)


def _check_labels(labels: object, classes: tuple[str, ...]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels as int64 (N,), and the names of their classes."""
    numbers = to_numpy(labels, "labels")
    if numbers.ndim != 1:
        remedy = " Of one-hot rows take `labels.argmax(axis=1)`." if numbers.ndim == 2 and numbers.shape[1] > 1 else ""
        raise UserError(f"`labels` has the shape (N,), one class for each picture. Received: {numbers.shape}.{remedy}")
    if numbers.dtype.kind == "U" or (numbers.dtype.kind == "O" and all(isinstance(name, str) for name in numbers)):
        return _numbered(numbers.astype(str), classes)
    if numbers.dtype.kind not in "iu" and numbers.size:
        raise UserError(
            f"`labels` holds whole numbers from 0 on, or names of classes. Received: dtype {numbers.dtype}. Cast "
            "numbers of classes by `labels.astype('int64')`; number other values by "
            "`numpy.unique(labels, return_inverse=True)[1]`."
        )
    if not numbers.size:
        return numbers.astype(np.int64), classes
    low, high = int(numbers.min()), int(numbers.max())
    if low == high == -1:
        return None, classes
    if low < 0 or high >= (len(classes) or MAX_CLASSES):
        known = f" with {len(classes)} classes" if classes else ""
        remedy = "Number them by `numpy.unique(labels, return_inverse=True)[1]`."
        if classes and low == 1 and high == len(classes):
            remedy = "They count from 1: subtract 1."
        raise UserError(
            f"`labels` numbers the classes from 0 on, {MAX_CLASSES:,} at most. Received: labels from {low} to "
            f"{high}{known}. {remedy}"
        )
    return numbers.astype(np.int64, copy=False), classes


def _numbered(names: np.ndarray, classes: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    known = classes or tuple(map(str, np.unique(names)))
    number = {name: i for i, name in enumerate(known)}
    if unknown := sorted(set(map(str, names)) - set(number)):
        raise UserError(
            f"`labels` holds names that are not among `classes`: {', '.join(unknown[:5])}. "
            f"Received: classes={', '.join(known[:10])}"
        )
    return np.array([number[str(name)] for name in names], np.int64), known


def parse_split(split: str) -> tuple[str, slice]:
    """Split "train[:-5000]" into its name and a slice.

    Raises:
        UserError: if `split` is not of that form.
    """
    match = _SPLIT.fullmatch(split) if isinstance(split, str) else None
    if match is None:
        raise UserError(f"`split` is a name with an optional slice, such as 'train[:-5000]'. Received: split={split!r}")
    start, stop = (int(v) if v else None for v in (match["start"], match["stop"]))
    return match["name"], slice(start, stop)
