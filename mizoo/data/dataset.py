"""Decoded pictures, or sequences, in memory, and the names of their splits."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mizoo.errors import UserError

_SPLIT = re.compile(r"(?P<name>\w+)(?:\[(?P<start>-?\d+)?:(?P<stop>-?\d+)?\])?")


@dataclass(frozen=True)
class Dataset:
    """Decoded pictures, or sequences, and, where they exist, their labels.

    Attributes:
        name: of the source.
        images: uint8 (N, H, W, 3); of sequences float32 (N, T) or (N, T, d).
        labels: int64 (N,), or None.
        classes: the names of the classes, or ().
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


def parse_split(split: str) -> tuple[str, slice]:
    """Split "train[:-5000]" into its name and a slice.

    Raises:
        UserError: if `split` is not of that form.
    """
    match = _SPLIT.fullmatch(split)
    if match is None:
        raise UserError(f"`split` is a name with an optional slice, such as 'train[:-5000]'. Received: split={split!r}")
    start, stop = (int(v) if v else None for v in (match["start"], match["stop"]))
    return match["name"], slice(start, stop)
