"""Pictures that are scored and were fitted on as well: an accuracy on them says nothing about new pictures."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from mizoo import data
from mizoo._tools.files import user_path
from mizoo.data import duplicates, packed


def count(dataset: Any, fitted: np.ndarray, scored: np.ndarray) -> int:
    """How many scored pictures are among those fitted on, value by value; 0 of TFDS sets, which are as published.

    Args:
        dataset: as `mizoo.data.load` took it.
        fitted, scored: pictures of it (N, H, W, C) and (M, H, W, C).
    """
    if isinstance(dataset, (str, os.PathLike)) and not user_path(dataset).is_dir():
        return 0
    return int(duplicates.seen(scored, fitted).sum())


def sentence(dataset: Any, copies: int, scored: np.ndarray, split: str) -> str:
    """What to tell of them: their number, and one by name where they are the same files in `train` and `test`."""
    pair: tuple[str, str] | None = None
    if split == "test" and isinstance(dataset, (str, os.PathLike)) and len(data.splits(dataset)) > 1:
        folder = user_path(dataset)
        pair = None if packed.is_packed(folder) else duplicates.in_both(folder, scored.shape[-1])
    example = f", such as {pair[0]}, which is {pair[1]} too" if pair else ""
    return (
        f"{copies:,} of {len(scored):,} scored pictures are also among those that are fitted on{example}, so the "
        "accuracy on them says nothing about new pictures. Keep one copy of each."
    )
