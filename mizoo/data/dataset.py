"""Decoded pictures, or sequences, in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Dataset:
    """Decoded pictures, or sequences, and, where they exist, their labels.

    Attributes:
        name: where they came from.
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
