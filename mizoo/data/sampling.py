"""Rows at random: parts in which every class has its share, or whether one has, and batches for a number of steps."""

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


def fair_sample(labels: np.ndarray, cut: int) -> bool:
    """Whether the labels from `cut` on have the classes of labels (N,) in about the shares that chance gives.

    Rows that are sorted by class, or stored in parts that are, do not.
    """
    _, labels = np.unique(labels, return_inverse=True)
    counts, last = np.bincount(labels), np.bincount(labels[cut:], minlength=labels.max() + 1)
    expected = counts * ((len(labels) - cut) / len(labels))
    # Pearson's statistic of two samples; its mean is the number of classes less one, its variance twice that.
    statistic = (np.square(last - expected) / expected).sum() * len(labels) / cut
    free = len(counts) - 1
    return bool(statistic <= free + 5 * np.sqrt(2 * free) + 5)


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
