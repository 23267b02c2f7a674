"""The log density ratio of a Gaussian pair, fitted in closed form: where a critic starts."""

from __future__ import annotations

import numpy as np
from keras import ops

from mizoo.critics import VectorCritic


def canonical(x: np.ndarray, y: np.ndarray, ridge: float = 1e-4):
    """Canonical correlations of x (N, d_x) and y (N, d_y), largest first.

    Args:
        ridge: added to the diagonals of both covariances, as a share of their means. Columns that are constant on
            these rows have no variance, and correlations of 0.

    Returns:
        Maps (d_x, R) and (d_y, R) to canonical variates of unit variance, and correlations (R,), R = min(d_x, d_y).
    """
    rounding = [1e-12 * np.mean(np.square(values)) or 1.0 for values in (x, y)]
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    whiten = []
    for values, least in zip((x, y), rounding):
        covariance = values.T @ values / len(values)
        size = max(np.trace(covariance) / len(covariance), least)
        covariance += ridge * size * np.eye(len(covariance))
        eigenvalues, vectors = np.linalg.eigh(covariance)
        whiten.append(vectors / np.sqrt(eigenvalues))
    left, correlations, right = np.linalg.svd(whiten[0].T @ (x.T @ y / len(x)) @ whiten[1], full_matrices=False)
    return whiten[0] @ left, whiten[1] @ right.T, np.clip(correlations, 0.0, 1.0 - 1e-6)


def canonical_log_ratios(u: np.ndarray, v: np.ndarray, correlations: np.ndarray) -> np.ndarray:
    """Log density ratio (N, R) in nats of each pair of canonical variates u, v (N, R)."""
    rest = 1.0 - correlations**2
    return -0.5 * np.log(rest) + (correlations * u * v - 0.5 * correlations**2 * (u**2 + v**2)) / rest


class GaussianTerm(VectorCritic):
    """Scores of the Gaussian with the canonical correlations of the fitted rows; constant while a network is trained.

    How many of the correlations are used is decided by the likelihood of other rows, so a high dimension with few
    dependent directions does not drown in spurious ones.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        rank = min(rows, columns)

        def constant(shape, name):
            """A variable that `fit` fills."""
            return self.add_weight(shape=shape, initializer="zeros", name=name, trainable=False)

        self.row_map, self.column_map = constant((rows, rank), "row_map"), constant((columns, rank), "column_map")
        self.row_mean, self.column_mean = constant((rank,), "row_mean"), constant((rank,), "column_mean")
        self.cross, self.square = constant((rank,), "cross"), constant((rank,), "square")
        self.level = constant((), "level")

    def fit(self, x: np.ndarray, y: np.ndarray, x_other: np.ndarray, y_other: np.ndarray) -> int:
        """Fit to the rows of x and y, and choose the number of correlations on the other rows; returns that."""
        row_map, column_map, correlations = canonical(x.astype("float64"), y.astype("float64"))
        row_mean, column_mean = x.mean(axis=0) @ row_map, y.mean(axis=0) @ column_map
        u, v = x_other @ row_map - row_mean, y_other @ column_map - column_mean
        gained = np.concatenate([[0.0], np.cumsum(canonical_log_ratios(u, v, correlations).mean(axis=0))])
        rank = int(np.argmax(gained))
        used = np.where(np.arange(len(correlations)) < rank, correlations, 0.0)
        rest = 1.0 - used**2
        values = [
            (self.row_map, row_map),
            (self.column_map, column_map),
            (self.row_mean, row_mean),
            (self.column_mean, column_mean),
            (self.cross, used / rest),
            (self.square, 0.5 * used**2 / rest),
            (self.level, -0.5 * np.log(rest).sum()),
        ]
        for variable, value in values:
            variable.assign(value)
        return rank

    def sides(self, x, y):
        """Vectors whose dot product is the log density ratio."""
        u = ops.matmul(x, self.row_map) - self.row_mean
        v = ops.matmul(y, self.column_map) - self.column_mean
        u_term = self.level - ops.sum(self.square * ops.square(u), axis=-1, keepdims=True)
        v_term = -ops.sum(self.square * ops.square(v), axis=-1, keepdims=True)
        rows = ops.concatenate([u * self.cross, u_term, ops.ones_like(u_term)], axis=-1)
        return rows, ops.concatenate([v, ops.ones_like(v_term), v_term], axis=-1)
