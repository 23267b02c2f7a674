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
LARGEST_LOGIT = 30.0


def gaussian_log_density(z, mean, log_scale):
    """Log density of independent Gaussian coordinates.

    Args:
        z, mean, log_scale: (..., d), broadcast against each other; the scale is the standard deviation.

    Returns:
        (...,) nats, summed over the coordinates.
    """
    return ops.sum(_gaussian_coordinates(z, mean, log_scale), axis=-1)


def logistic_log_density(z, mean, log_scale):
    """Log density of independent logistic coordinates (McAllester and Stratos 2020, section 5).

    Args:
        z, mean, log_scale: (..., d), broadcast against each other; the standard deviation is pi / sqrt(3) times
            the scale.

    Returns:
        (...,) nats, summed over the coordinates.
    """
    return ops.sum(_logistic_coordinates(z, mean, log_scale), axis=-1)


def _gaussian_coordinates(z, mean, log_scale):
    standard = (z - mean) * ops.exp(-log_scale)
    return -0.5 * ops.square(standard) - log_scale - 0.5 * math.log(2.0 * math.pi)


def _logistic_coordinates(z, mean, log_scale):
    standard = (z - mean) * ops.exp(-log_scale)
    # -s - 2 log(1 + exp(-s)), written so that neither tail overflows.
    return -ops.softplus(standard) - ops.softplus(-standard) - log_scale


_COORDINATES = {"gaussian": _gaussian_coordinates, "logistic": _logistic_coordinates}
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


class Atoms:
    """Values of single columns that many rows have, such as the 0 of a ReLU: a density of the rest, and shares of them.

    Rows (N, d) are followed by a column for each atom that says whether its column has that value, (N, d + A); the
    column itself is 0 there. The density is then one with respect to lengths and to the atoms.

    Args:
        size: d.
        columns: of each atom the column that has it, () for none.
    """

    def __init__(self, size: int, columns: Sequence[int]) -> None:
        self.size, self.columns = size, tuple(columns)
        self.member = np.zeros((len(self.columns), size), "float32")
        self.member[np.arange(len(self.columns)), list(self.columns)] = 1.0

    def split(self, rows):
        """Rows (N, d + A) as (N, d) and the columns of the atoms, (N, A)."""
        return rows[:, : self.size], rows[:, self.size :]

    def log_odds(self, hits: np.ndarray) -> np.ndarray:
        """Logarithm of the share of each atom over that of the other values of its column (A,), of samples (N, A)."""
        shares = hits.mean(axis=0)
        rest = 1.0 - (shares @ self.member)[list(self.columns)]
        return np.log(np.maximum(shares, 1e-6) / np.maximum(rest, 1e-6))

    def log_density(self, coordinates, hits, logits):
        """Log densities (...,) of coordinates (..., d), which count where no atom is hit, hits and logits (..., A)."""
        if not self.columns:
            return ops.sum(coordinates, axis=-1)
        hits = ops.cast(hits, "float32")
        none = 1.0 - ops.matmul(hits, self.member)
        level = ops.log1p(ops.matmul(ops.exp(logits), self.member))
        return ops.sum(none * coordinates - level, axis=-1) + ops.sum(hits * logits, axis=-1)


class Marginal(layers.Layer):
    """A density of vectors (N, d): independent coordinates after a triangular map, so that they may be correlated.

    With "gaussian" it is any Gaussian.

    Args:
        size: d.
        family: "gaussian" or "logistic".
        name: name of the layer.
        atoms: of each value that many rows share the column that has it; the vectors are then (N, d + A), see `Atoms`.
    """

    def __init__(self, size: int, family: str = "gaussian", name: str | None = None, atoms: Sequence[int] = ()) -> None:
        super().__init__(dtype="float32", name=name)
        check_choice(family, "family", FAMILIES)
        self.family, self.size = family, check_size(size, "size")
        size = self.size
        self.atoms = Atoms(size, atoms)
        self.mean = self.add_weight(shape=(size,), initializer="zeros", name="mean")
        unit = keras.initializers.Constant(_UNIT_SCALE[family])
        self.log_scale = self.add_weight(shape=(size,), initializer=unit, name="log_scale")
        self.mix = self.add_weight(shape=(size, size), initializer="zeros", name="mix")
        self.below = np.tril(np.ones((size, size), "float32"), -1)
        if atoms:
            self.logits = self.add_weight(shape=(len(atoms),), initializer="zeros", name="logits")
        self.built = True

    def mixed(self, z):
        """The image of z (..., d) under the triangular map of determinant 1."""
        return z + ops.matmul(z, ops.transpose(self.mix * self.below))

    def start_at(self, z: np.ndarray) -> None:
        """Take mean, covariance and shares of atoms from samples z (N, d), or (N, d + A)."""
        z, hits = self.atoms.split(z)
        if self.atoms.columns:
            self.logits.assign(self.atoms.log_odds(hits))
            z = _without_atoms(z, hits)
        covariance = np.atleast_2d(np.cov(z.T))
        covariance += np.diag(np.where(np.diag(covariance) > 0, 0.0, 1.0))  # a column of atoms alone
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
        """Log densities (N,) in nats of z (N, d), or (N, d + A)."""
        z, hits = self.atoms.split(z)
        coordinates = _COORDINATES[self.family](self.mixed(z), self.mean, self.log_scale)
        return self.atoms.log_density(coordinates, hits, self.logits if self.atoms.columns else None)


def _without_atoms(z: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """The rows of z (N, ...) that no atom has, for a start; all of them where these are few."""
    free = ~hits.any(axis=1)
    return z[free] if free.mean() > 0.1 and free.sum() > 50 else z


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
        self.size = size = check_size(size, "size")
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
        atoms: as for `Marginal`; a network gives their shares as well.
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
        atoms: Sequence[int] = (),
    ) -> None:
        super().__init__(dtype="float32", name=name)
        condition, size = check_size(condition, "condition"), check_size(size, "size")
        self.size = size
        self.scale_range = check_real(scale_range, "scale_range", minimum=0)
        hidden, seed = check_widths(hidden, "hidden", fewest=0), check_seed(seed)
        self.base = Marginal(size, family, atoms=atoms)
        self.linear = self.add_weight(shape=(condition, size), initializer="zeros", name="linear")
        self.moments = 2 * size if scale_range else size
        self.network = Network(condition, hidden, self.moments + len(tuple(atoms)), seed, zero=True)
        self.built = True

    def start_at(self, x: np.ndarray, y: np.ndarray) -> None:
        """Start as the linear regression of samples y (N, d_y) on x (N, d_x), with its residual covariance."""
        y, hits = self.base.atoms.split(y)
        free_x, free_y = (_without_atoms(values, hits) for values in (x, y))
        centred = free_x - free_x.mean(axis=0)
        gram = centred.T @ centred
        variances = np.diag(gram)
        gram += np.diag(1e-4 * np.maximum(variances, 1e-12 * max(variances.max(), 1e-300)))  # whatever the units
        slope = np.linalg.solve(gram, centred.T @ (free_y - free_y.mean(axis=0)))
        self.base.start_at(np.concatenate([y - x @ slope, hits], axis=1))
        mix = np.eye(self.size) + np.asarray(keras.ops.convert_to_numpy(self.base.mix))
        self.linear.assign(slope @ mix.T)

    def parameters(self, x):
        """Location (N, d_y) and log scale, (N, d_y) or the same (d_y,) for every row, of the mixed coordinates."""
        return self._parameters(self.network(x), x)

    def _parameters(self, change, x):
        location = ops.matmul(x, self.linear) + self.base.mean + change[:, : self.size]
        if not self.scale_range:
            return location, self.base.log_scale
        # The tanh keeps one outlying row from a scale of zero.
        change = ops.tanh(change[:, self.size : self.moments] / self.scale_range)
        return location, self.base.log_scale + self.scale_range * change

    def _logits(self, change):
        """Of the atoms (N, A), kept from where their exponential overflows; None without atoms."""
        if not self.base.atoms.columns:
            return None
        return LARGEST_LOGIT * ops.tanh((self.base.logits + change[:, self.moments :]) / LARGEST_LOGIT)

    def call(self, x, y):
        """Log densities (N,) in nats of y (N, d_y), or (N, d_y + A), row by row given x (N, d_x)."""
        y, hits = self.base.atoms.split(y)
        change = self.network(x)
        coordinates = _COORDINATES[self.base.family](self.base.mixed(y), *self._parameters(change, x))
        return self.base.atoms.log_density(coordinates, hits, self._logits(change))

    def scores(self, x, y):
        """Log densities (N, M) in nats of every y (M, d_y), or (M, d_y + A), given every x (N, d_x)."""
        y, hits = self.base.atoms.split(y)
        change = self.network(x)
        location, log_scale = self._parameters(change, x)
        coordinates = _COORDINATES[self.base.family](
            self.base.mixed(y)[None], location[:, None], log_scale[..., None, :]
        )
        logits = self._logits(change)
        return self.base.atoms.log_density(coordinates, hits[None], None if logits is None else logits[:, None])


def conditional_scores(conditional: Conditional, x, y):
    """Log densities of every y given every x: scores (N, 1, M) for `mizoo.bounds.club`.

    Args:
        conditional: a density of y given x.
        x: (N, d_x).
        y: (M, d_y), or (M, d_y + A) with atoms.
    """
    return conditional.scores(x, y)[:, None]
