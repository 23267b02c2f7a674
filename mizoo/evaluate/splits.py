"""The two splits of a data set that a number needs: one to fit on, one to score."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo.data.sampling import fair_sample
from mizoo.errors import UserError
from mizoo.zoo import interface

if TYPE_CHECKING:
    from mizoo.data.dataset import Dataset

VALIDATION_SIZE = 5000
VALIDATION_SHARE = 5  # one in so many, of fewer pictures


def validation_size(count: int) -> int:
    """How many of the last of `count` training pictures are scored as validation split."""
    return min(VALIDATION_SIZE, count // VALIDATION_SHARE)


def fit_and_test_splits(
    dataset: Any,
    split: str,
    train_split: str,
    size: interface.Shape | None,
    fitted: bool = True,
    depth: int | None = None,
    without: Collection[str] = (),
) -> tuple[Dataset | None, Dataset]:
    """Load the pictures to fit on and those to score.

    Args:
        dataset: as `mizoo.data.load` takes it.
        split: "test": `train_split` and the test split. "validation": both from `train_split`, whose last 5,000
            pictures are scored, a fifth where that is fewer; the test split is not read. Where the last do not have
            the classes in about their shares, as in data that are sorted by class, all are shuffled before.
        train_split: the training split; a whole one for "validation".
        size: what the pictures are brought to, as of `mizoo.data.load`.
        fitted: whether anything is fitted; if not, `train_split` is not read for "test" and is None.
        depth, without: as of `mizoo.data.load`, of a folder of pictures.

    Returns:
        What is fitted on, None where nothing is, and what is scored.

    Raises:
        UserError: for what `mizoo.data.load` refuses, a slice of a split or fewer than five pictures to take a
            validation split from.
    """
    from mizoo import data

    load = functools.partial(data.load, dataset, size=size, depth=depth, without=without)
    if split == "test":
        train = load(train_split) if fitted else None
        return train, load("test")
    if "[" in train_split:
        raise UserError(
            'With split="validation" the last pictures of `train_split` are scored, so it has to be a whole split. '
            f"Received: {train_split!r}"
        )
    whole = load(train_split)
    cut = len(whole) - validation_size(len(whole))
    if cut == len(whole):
        raise UserError(
            f"{whole.name} has {len(whole)} pictures, too few to score a fifth of them as validation split."
        )
    if whole.labels is not None and not fair_sample(whole.labels, cut):
        whole = _rows(whole, np.random.default_rng(0).permutation(len(whole)))
    return _rows(whole, slice(None, cut)), _rows(whole, slice(cut, None))


def _rows(whole: Dataset, rows: slice | np.ndarray) -> Dataset:
    return replace(whole, images=whole.images[rows], labels=None if whole.labels is None else whole.labels[rows])
