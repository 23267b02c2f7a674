"""Fitted densities on features: entropies, the upper bound CLUB, difference of entropies.

Log densities are in nats. Only vectors of moderate size are modelled, never pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from mizoo._tools.checks import check_choice, check_real, check_seed, check_size, check_widths
from mizoo.critics import Network

FAMILIES = ("gaussian", "logistic")


def gaussian_log_density(z, mean, log_scale):
    """Log density of independent Gaussian coordinates.

    Args:
        z, mean, log_scale: (..., d), broadcast against each other; the scale is the standard deviation.

    Returns:
        (...,) nats, summed over the coordinates.
    """
    standard = (z - mean) * ops.exp(-log_scale)
    return ops.sum(-0.5 * ops.square(standard) - log_scale - 0.5 * math.log(2.0 * math.pi), axis=-1)


def logistic_log_density(z, mean, log_scale):
    """Log density of independent logistic coordinates (McAllester and Stratos 2020, section 5).

    Args:
        z, mean, log_scale: (..., d), broadcast against each other; the standard deviation is pi / sqrt(3) times
            the scale.

    Returns:
        (...,) nats, summed over the coordinates.
    """
    standard = (z - mean) * ops.exp(-log_scale)
    # -s - 2 log(1 + exp(-s)), written so that neither tail overflows.
    return ops.sum(-ops.softplus(standard) - ops.softplus(-standard) - log_scale, axis=-1)


_LOG_DENSITY = {"gaussian": gaussian_log_density, "logistic": logistic_log_density}
# Logarithm of the scale at unit standard deviation.
_UNIT_SCALE = {"gaussian": 0.0, "logistic": math.log(math.sqrt(3.0) / math.pi)}


def difference_of_entropies(log_marginal, log_conditional):
    """Difference of entropies (McAllester and Stratos 2020, eq. 6): H_hat(y) - H_hat(y|x), cross-entropies both.

    Exact with the true densities. With fitted ones neither a lower nor an upper bound: each cross-entropy lies above
    its entropy.

    Args:
        log_marginal: (N,), log p(y_i).
        log_conditional: (N,), log p(y_i | x_i).

    Returns:
        Nats.
    """
    return ops.mean(log_conditional) - ops.mean(log_marginal)


class Marginal(layers.Layer):
    """A density of vectors (N, d): independent coordinates after a triangular map, so that they may be correlated.

    With "gaussian" it is any Gaussian.

    Args:
        size: d.
        family: "gaussian" or "logistic".
        name: name of the layer.
    """

    def __init__(self, size: int, family: str = "gaussian", name: str | None = None) -> None:
        super().__init__(dtype="float32", name=name)
        check_choice(family, "family", FAMILIES)
        check_size(size, "size")
        self.family, self.size = family, size
        self.mean = self.add_weight(shape=(size,), initializer="zeros", name="mean")
        unit = keras.initializers.Constant(_UNIT_SCALE[family])
        self.log_scale = self.add_weight(shape=(size,), initializer=unit, name="log_scale")
        self.mix = self.add_weight(shape=(size, size), initializer="zeros", name="mix")
        self.below = np.tril(np.ones((size, size), "float32"), -1)
        self.built = True

    def mixed(self, z):
        """The image of z (..., d) under the triangular map of determinant 1."""
        return z + ops.matmul(z, ops.transpose(self.mix * self.below))

    def start_at(self, z: np.ndarray) -> None:
        """Take mean and covariance from samples z (N, d)."""
        covariance = np.atleast_2d(np.cov(z.T))
        variances = np.diag(covariance)
        # A ridge relative to each coordinate: the density does not depend on units.
        covariance += np.diag(1e-6 * np.maximum(variances, 1e-12 * max(variances.max(), 1e-300)))
        inverse = np.linalg.inv(np.linalg.cholesky(covariance))  # of unit variance after it
        scale = 1.0 / np.diag(inverse)
        mix = scale[:, None] * inverse
        self.mix.assign(mix - np.eye(self.size))
        self.mean.assign(mix @ z.mean(axis=0))
        self.log_scale.assign(np.log(scale) + _UNIT_SCALE[self.family])

    def call(self, z):
        """Log densities (N,) in nats of z (N, d)."""
        return _LOG_DENSITY[self.family](self.mixed(z), self.mean, self.log_scale)


class PairMoments(layers.Layer):
    """Second moments of pairs x, y (N, d) of mean 0 and of the same distribution, as a running mean over batches.

    A density of features that still move is fitted to what remains when these are removed: gradient steps then have
    little to follow, and the loss is equally steep in all directions.

    Args:
        size: d.
        momentum: share of the running mean that is kept at each batch. With 0.9 it lags so far behind an encoder in
            training that what the encoder gains on it is lost in the batch.
        name: name of the layer.
    """

    def __init__(self, size: int, momentum: float = 0.5, name: str | None = None) -> None:
        super().__init__(dtype="float32", name=name)
        self.size = check_size(size, "size")
        self.momentum = check_real(momentum, "momentum", minimum=0, below=1)
        fixed = {"initializer": "zeros", "trainable": False, "aggregation": "mean"}
        self.covariance = self.add_weight(shape=(size, size), name="covariance", **fixed)
        self.cross = self.add_weight(shape=(size, size), name="cross", **fixed)
        self.weight = self.add_weight(shape=(), name="weight", **fixed)
        self.built = True

    def update(self, x, y):
        """Add a batch of pairs.

        Returns:
            Without gradients: the lower triangular factor (d, d) of the covariance, the slope (d, d) of the regression
            of one on the other, x @ slope, and the factor of the covariance of its residuals.
        """
        x, y = ops.stop_gradient(x), ops.stop_gradient(y)
        rows = 2.0 * ops.cast(ops.shape(x)[0], "float32")
        product = ops.matmul(ops.transpose(x), y)
        batch = (ops.matmul(ops.transpose(x), x) + ops.matmul(ops.transpose(y), y)) / rows
        updates = [
            (self.covariance, batch),
            (self.cross, (product + ops.transpose(product)) / rows),
            (self.weight, 1.0),
        ]
        averages = []
        for variable, new in updates:
            averages.append(self.momentum * variable + (1.0 - self.momentum) * new)
            variable.assign(averages[-1])
        # A batch of fewer rows than `size` leaves directions without variance, and float32 rounds 1e-6 of them away.
        small = 1e-4 * ops.eye(self.size)
        covariance, cross = averages[0] / averages[2] + small, averages[1] / averages[2]
        slope = ops.linalg.solve(covariance, cross)
        residual = covariance - ops.matmul(cross, slope)
        residual = (residual + ops.transpose(residual)) / 2.0 + small
        return ops.linalg.cholesky(covariance), slope, ops.linalg.cholesky(residual)


def whitened(z, factor):
    """z (N, d) without the covariance of that lower triangular factor, and what this adds to a log density, in nats."""
    white = ops.transpose(ops.linalg.solve_triangular(factor, ops.transpose(z), lower=True))
    return white, -ops.sum(ops.log(ops.diagonal(factor)))


class Conditional(layers.Layer):
    """A density of y (N, d_y) given x (N, d_x): a network gives location and scale of each coordinate.

    The location is the sum of a linear map and the network. As in `Marginal`, a triangular map lets coordinates be
    correlated given x.

    Args:
        condition: d_x.
        size: d_y.
        family: "gaussian" or "logistic".
        hidden: widths of the hidden layers.
        seed: of the initial weights.
        name: name of the layer.
        scale_range: how far x may move the logarithm of a scale, either way; 0 leaves one scale for every x.
    """

    def __init__(
        self,
        condition: int,
        size: int,
        family: str = "gaussian",
        hidden: Sequence[int] = (128, 128),
        seed: int = 0,
        name: str | None = None,
        scale_range: float = 3.0,
    ) -> None:
        super().__init__(dtype="float32", name=name)
        check_size(condition, "condition")
        self.size = check_size(size, "size")
        self.scale_range = check_real(scale_range, "scale_range", minimum=0)
        hidden, seed = check_widths(hidden, "hidden", fewest=0), check_seed(seed)
        self.base = Marginal(size, family)
        self.linear = self.add_weight(shape=(condition, size), initializer="zeros", name="linear")
        self.network = Network(condition, hidden, 2 * size if scale_range else size, seed, zero=True)
        self.built = True

    def start_at(self, x: np.ndarray, y: np.ndarray) -> None:
        """Start as the linear regression of samples y (N, d_y) on x (N, d_x), with its residual covariance."""
        centre = x.mean(axis=0)
        gram = (x - centre).T @ (x - centre)
        variances = np.diag(gram)
        gram += np.diag(1e-4 * np.maximum(variances, 1e-12 * max(variances.max(), 1e-300)))  # whatever the units
        slope = np.linalg.solve(gram, (x - centre).T @ (y - y.mean(axis=0)))
        self.base.start_at(y - x @ slope)
        mix = np.eye(self.size) + np.asarray(keras.ops.convert_to_numpy(self.base.mix))
        self.linear.assign(slope @ mix.T)

    def parameters(self, x):
        """Location (N, d_y) and log scale, (N, d_y) or the same (d_y,) for every row, of the mixed coordinates."""
        change = self.network(x)
        location = ops.matmul(x, self.linear) + self.base.mean + change[:, : self.size]
        if not self.scale_range:
            return location, self.base.log_scale
        # The tanh keeps one outlying row from a scale of zero.
        return location, self.base.log_scale + self.scale_range * ops.tanh(change[:, self.size :] / self.scale_range)

    def call(self, x, y):
        """Log densities (N,) in nats of y (N, d_y), row by row given x (N, d_x)."""
        return _LOG_DENSITY[self.base.family](self.base.mixed(y), *self.parameters(x))


def conditional_scores(conditional: Conditional, x, y):
    """Log densities of every y given every x: scores (N, 1, M) for `mizoo.bounds.club`.

    Args:
        conditional: a density of y given x.
        x: (N, d_x).
        y: (M, d_y).
    """
    location, log_scale = conditional.parameters(x)
    mixed = conditional.base.mixed(y)
    return _LOG_DENSITY[conditional.base.family](mixed[None], location[:, None], log_scale[..., None, :])[:, None]
