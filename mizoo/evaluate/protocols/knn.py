"""Weighted k nearest neighbours on cosine similarity (Wu et al. 2018, arXiv 1805.01978, section 3.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mizoo._tools.arrays import unit_rows
from mizoo.errors import UserError
from mizoo.evaluate.protocols import Options, Score, Task

K = 200
TEMPERATURE = 0.1


def run(task: Task, options: Options, progress) -> Score:
    """The protocol `knn`."""
    progress.resize(len(task.test_x))
    return Score(*fit_score(*task.arrays, advance=progress.advance))


def fit_score(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    classes: int,
    k: int = K,
    temperature: float = TEMPERATURE,
    advance: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Accuracy of the vote of the k nearest training features, each weighing exp(similarity / temperature).

    Args:
        train_x: features (N, D).
        train_y: labels (N,), 0..classes-1.
        test_x: features (M, D).
        test_y: labels (M,).
        classes: number of classes.
        k: neighbours that vote; all of them if there are fewer.
        temperature: of the weights.
        advance: called with the number of test features done after each batch.

    Returns:
        Accuracy (1,) in percent and the settings used: `k` is how many voted.

    Raises:
        UserError: if `k` or `temperature` is not positive.
    """
    if k < 1 or temperature <= 0:
        raise UserError(f"`k` and `temperature` must be positive. Received: k={k}, temperature={temperature}")
    votes = class_votes(train_x, train_y, test_x, classes, k, temperature, advance)
    hits = (votes.argmax(axis=1) == test_y).mean()
    return np.array([100 * hits]), {"k": min(k, len(train_x)), "temperature": temperature, "similarity": "cosine"}


def class_votes(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    classes: int,
    k: int = K,
    temperature: float = TEMPERATURE,
    advance: Callable[[int], None] | None = None,
    batch_size: int = 500,
) -> np.ndarray:
    """Summed weights (M, classes) of the neighbours of each test feature; arguments as in `fit_score`.

    The nearest neighbour of each weighs 1: only ratios of weights decide a vote.
    """
    k = min(k, len(train_x))
    bank = unit_rows(train_x)
    votes = np.zeros((len(test_x), classes))
    for start in range(0, len(test_x), batch_size):
        similar = unit_rows(test_x[start : start + batch_size]) @ bank.T
        nearest = np.argpartition(similar, -k, axis=1)[:, -k:]
        similar_of_nearest = np.take_along_axis(similar, nearest, axis=1).astype("float64")
        # Less the row's largest, so that at a low temperature not all of a row's weights become 0.
        weights = np.exp((similar_of_nearest - similar_of_nearest.max(axis=1, keepdims=True)) / temperature)
        rows = start + np.arange(len(similar))
        np.add.at(votes, (rows[:, None], train_y[nearest]), weights)
        if advance is not None:
            advance(len(similar))
    return votes
