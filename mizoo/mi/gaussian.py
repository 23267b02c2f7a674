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


def coefficients(correlations: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Factors of u v (R,) and of minus u^2 and v^2 (R,), and the constant, of the Gaussian's log density ratio."""
    rest = 1.0 - correlations**2
    return correlations / rest, 0.5 * correlations**2 / rest, float(-0.5 * np.log(rest).sum())


class GaussianTerm(VectorCritic):
    """Scores of a Gaussian of paired variates, the last columns of both sides; constant while a network is trained.

    Args:
        variates: their number R; `start` fills in the correlations.
    """

    def __init__(self, variates: int) -> None:
        super().__init__()
        self.variates = variates

        def constant(shape, name):
            """A variable that `start` fills."""
            return self.add_weight(shape=shape, initializer="zeros", name=name, trainable=False)

        self.cross, self.square = constant((variates,), "cross"), constant((variates,), "square")
        self.level = constant((), "level")

    def start(self, correlations: np.ndarray) -> None:
        """Take the correlations (R,) of the variates."""
        for variable, value in zip((self.cross, self.square, self.level), coefficients(correlations)):
            variable.assign(value)

    def sides(self, x, y):
        """Vectors whose dot product is the log density ratio."""
        u, v = x[:, -self.variates :], y[:, -self.variates :]
        u_term = self.level - ops.sum(self.square * ops.square(u), axis=-1, keepdims=True)
        v_term = -ops.sum(self.square * ops.square(v), axis=-1, keepdims=True)
        rows = ops.concatenate([u * self.cross, u_term, ops.ones_like(u_term)], axis=-1)
        return rows, ops.concatenate([v, ops.ones_like(v_term), v_term], axis=-1)
