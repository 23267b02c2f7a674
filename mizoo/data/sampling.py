"""Rows at random: parts of labelled pictures in which every class has its share, and batches for a number of steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def stratified(labels: np.ndarray, count: int, seed: int = 0, at_least: int = 0) -> np.ndarray:
    """Rows of a random part, each class as often in it as its share of all asks for.

    Args:
        labels: classes (N,).
        count: rows to draw, 0..N.
        seed: decides the draw; a part of one seed holds those of the same seed that are smaller, up to rounding.
        at_least: rows of each class, as far as it has them; they are drawn beyond `count` where that is too few.

    Returns:
        Row numbers, int64, sorted. The classes' numbers are `count` times their shares, rounded so that they add up to
        it (largest remainders first).
    """
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / len(labels))
    numbers = np.floor(exact).astype(int)
    rest = count - numbers.sum()
    numbers[np.argsort(numbers - exact, kind="stable")[:rest]] += 1
    numbers = np.minimum(np.maximum(numbers, at_least), sizes)
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(labels == each))[:number] for each, number in zip(classes, numbers)]
    return np.sort(np.concatenate(rows)).astype(np.int64)


def shuffled_batches(count: int, batch_size: int, steps: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Row numbers (batch_size,) of each of a number of steps: one permutation of all rows after the other, cut up.

    Args:
        count: rows there are; fewer than `batch_size` are repeated within a batch.
        batch_size, steps: how many rows a step, and how many steps.
        rng: draws the permutations.
    """
    queue = np.empty(0, np.int64)
    for _ in range(steps):
        while len(queue) < batch_size:
            queue = np.concatenate([queue, rng.permutation(count)])
        yield queue[:batch_size]
        queue = queue[batch_size:]
