"""Value and error bar on rows that the critic was not fitted on."""

from __future__ import annotations

import numpy as np
from keras import ops

from mizoo.mi.models import REPORTED, reported_value

BLOCK = 1024  # candidates at most: larger score matrices cost more and change little


def blocks(rows: int) -> list[slice]:
    """Near-equal blocks of `rows` rows, each of `BLOCK` at most."""
    edges = np.linspace(0, rows, -(-rows // BLOCK) + 1).astype(int)
    return [slice(start, stop) for start, stop in zip(edges[:-1], edges[1:])]


def scores(model, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Scores (N, 1, N) that a fitted model gives x (N, d_x) and y (N, d_y)."""
    return ops.convert_to_numpy(model.scores(ops.convert_to_tensor(x), ops.convert_to_tensor(y)))


def log_ratios(model, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log p(y|x) - log p(y) of each row (N,), in nats, of a fitted `DensityPair`."""
    marginal, conditional = model.log_densities(ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    return ops.convert_to_numpy(conditional).astype("float64") - ops.convert_to_numpy(marginal)


def value_and_shares(bound: str, scores: np.ndarray, tau: float) -> tuple[float, np.ndarray]:
    """Value of scores (N, 1, N) whose positives are the diagonal, and what each row adds to it.

    The shares (N,) have the value as their mean. A row counts as a pair and, in its columns, as a candidate of the
    other rows; the spread of the shares over sqrt(N) is the standard error of the value (Hoeffding's projection of a
    two-sample statistic).
    """
    value = float(reported_value(bound, scores.astype("float32"), np.arange(len(scores)), tau))
    matrix = scores[:, 0].astype("float64")
    positive = np.diag(matrix).copy()
    name = REPORTED.get(bound, bound)
    if name == "infonce":
        top = matrix.max(axis=1, keepdims=True)
        weights = np.exp(matrix - top)
        total = weights.sum(axis=1, keepdims=True)
        shares = positive - (np.log(total) + top)[:, 0] - (weights / total).sum(axis=0)
    else:
        if name == "smile":
            matrix = np.clip(matrix, -tau, tau)
        if name != "club":
            # Beyond the range of exp only the size of the error bar is at stake.
            matrix = np.exp(matrix - matrix.max() if name in ("dv", "smile") else np.minimum(matrix, 80.0))
        np.fill_diagonal(matrix, 0.0)
        others = len(matrix) - 1
        row, column = matrix.sum(axis=1) / others, matrix.sum(axis=0) / others
        scale = max(row.mean(), 1e-300) if name in ("dv", "smile") else 1.0
        shares = positive - (row + column) / scale
    return value, shares - shares.mean() + value
