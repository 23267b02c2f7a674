"""Pictures of the same class among the nearest ones: precision at 1, 10 and 100, and mean average precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mizoo._tools.arrays import unit_rows
from mizoo.evaluate.protocols import Options, Score, Task

DEPTHS = (1, 10, 100)
_BLOCK = 250


def run(task: Task, options: Options, progress) -> dict[str, Score]:
    """The protocol `retrieval`: each scored picture asks, all training pictures are ranked by cosine similarity.

    Precision at k is left out where fewer than k pictures can be found.
    """
    progress.resize(len(task.test_x))
    assert task.train_x is not None and task.train_y is not None and task.test_y is not None
    values = precisions(task.train_x, task.train_y, task.test_x, task.test_y, advance=progress.advance)
    settings = {"similarity": "cosine", "gallery": len(task.train_x), "queries": len(task.test_x)}
    return {name: Score(100 * value, {"variant": name, **settings}) for name, value in values.items()}


def precisions(
    gallery_x: np.ndarray,
    gallery_y: np.ndarray,
    query_x: np.ndarray,
    query_y: np.ndarray,
    advance: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Mean over the queries of precision at `DEPTHS` and of average precision (Manning et al. 2008, section 8.4).

    Args:
        gallery_x: features (N, D) that are ranked.
        gallery_y: their labels (N,).
        query_x: features (M, D).
        query_y: their labels (M,), each of which the gallery has.
        advance: called with the number of queries done.

    Returns:
        "p1", "p10", "p100" (those of no more than N) and "map", each in 0..1. Average precision is the mean, over the
        pictures of the query's class, of the precision at the rank of each. Equal similarities are ranked as they come.
    """
    gallery = unit_rows(gallery_x)
    depths = [depth for depth in DEPTHS if depth <= len(gallery)]
    totals = dict.fromkeys([*(f"p{depth}" for depth in depths), "map"], 0.0)
    for start in range(0, len(query_x), _BLOCK):
        similar = unit_rows(query_x[start : start + _BLOCK]) @ gallery.T
        order = np.argsort(-similar, axis=1)
        right = gallery_y[order] == query_y[start : start + len(similar), None]
        for depth in depths:
            totals[f"p{depth}"] += float(right[:, :depth].mean(axis=1).sum())
        queries, ranks = np.nonzero(right)  # in the order of the ranks within each query
        counts = right.sum(axis=1)
        before = np.cumsum(counts) - counts
        precision = (np.arange(len(ranks)) - before[queries] + 1) / (ranks + 1)
        totals["map"] += float((np.bincount(queries, precision) / counts).sum())
        if advance is not None:
            advance(len(similar))
    return {name: total / len(query_x) for name, total in totals.items()}
