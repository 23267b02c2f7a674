"""Closed-form starts of a critic: Gaussians fitted to the training rows, the best of them chosen on validation rows.

Each start is a set of paired variates, functions of x and of y alone, with a correlation for each pair: the log density
ratio of the Gaussian with those correlations. What differs is which functions, and how spurious correlations are kept
out:

- "canonical": canonical variates of the columns, the first few of them (the number is chosen by their likelihood on the
  validation rows);
- "shrunken": all of them, each correlation times one factor: where many weak directions add up;
- "sparse": the correlations between single columns that stand out of their noise: where many weak pairs of columns
  add up;
- "radial": canonical variates of the columns and of the columns times powers of their common norm;
- "polynomials": canonical variates of products of up to three columns, where there are few;
- "waves": canonical variates of cosines of each column's rank, where there are few columns.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from mizoo.mi.gaussian import canonical, canonical_log_ratios, coefficients

GAUSSIAN = ("canonical", "shrunken", "sparse")
OTHERS = ("radial", "polynomials", "waves")
ALL = (*GAUSSIAN, *OTHERS)
SHRINKAGES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.9)
THRESHOLDS = (2.0, 3.0, 4.0)
"""Of a correlation of two columns, in standard errors of that of independent ones."""
DEGREES = (1, 3)
PRODUCTS = (3, 2)
"""Of how many columns, the first of which the rows are enough for."""
WAVES = 16
ROWS_FOR_EACH_FEATURE = 10
MOST_VARIATES = 12
"""Of the starts that are no Gaussian of the columns themselves."""
MOST_CHOOSING = 2700
"""Validation rows that a start is chosen by: those of 20,000 rows in 10 folds. Every one is scored with every other."""


@dataclass(frozen=True)
class Start:
    """Paired variates with their correlations, largest first.

    Attributes:
        name: one of `ALL`, with what was chosen; "none" without any dependence.
        row_variates, column_variates: from x (N, d_x) and y (N, d_y) to (N, R).
        correlations: (R,), in [0, 1).
        value: InfoNCE in nats of the rows it was chosen by.
    """

    name: str
    row_variates: Callable[[np.ndarray], np.ndarray]
    column_variates: Callable[[np.ndarray], np.ndarray]
    correlations: np.ndarray
    value: float = 0.0

    def scores(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Log density ratios (N, M) in nats of every x (N, d_x) with every y (M, d_y)."""
        cross, square, level = coefficients(self.correlations)
        u, v = self.row_variates(x), self.column_variates(y)
        return (u * cross) @ v.T - (u**2 @ square)[:, None] - (v**2 @ square)[None] + level


def choose(x, y, x_other, y_other, kinds: tuple[str, ...] = GAUSSIAN) -> Start:
    """The start, fitted to x (N, d_x) and y (N, d_y), that tells the other rows' pairs from mismatches best.

    Args:
        x, y: training rows, of about unit scale.
        x_other, y_other: validation rows in random order, of which the first `MOST_CHOOSING` are used.
        kinds: which of `ALL` are tried.
    """
    x_other, y_other = x_other[:MOST_CHOOSING], y_other[:MOST_CHOOSING]
    x, y, x_other, y_other = (np.asarray(values, "float64") for values in (x, y, x_other, y_other))
    best = _none(x, y)
    for start in _candidates(x, y, x_other, y_other, kinds):
        value = _infonce(start.scores(x_other, y_other))
        if value > best.value:
            best = replace(start, value=value)
    return best


def every_correlation(x: np.ndarray, y: np.ndarray) -> Start:
    """All canonical correlations of x (N, d_x) and y (N, d_y), spurious ones too."""
    return _canonical_variates("canonical", _itself, _itself, _itself(x), _itself(y))


def _none(x, y) -> Start:
    return Start("none", lambda x: np.zeros((len(x), 1)), lambda y: np.zeros((len(y), 1)), np.zeros(1))


def _infonce(scores: np.ndarray) -> float:
    top = scores.max(axis=1, keepdims=True)
    return float(np.mean(np.diag(scores) - top[:, 0] - np.log(np.exp(scores - top).mean(axis=1))))


def _candidates(x, y, x_other, y_other, kinds) -> Iterator[Start]:
    if "canonical" in kinds or "shrunken" in kinds:
        plain = _canonical_variates("canonical", _itself, _itself, x, y)
        if "canonical" in kinds:
            yield _truncated(plain, x_other, y_other)
        for factor in SHRINKAGES if "shrunken" in kinds and len(plain.correlations) > 1 else ():
            yield Start(f"shrunken {factor:g}", plain.row_variates, plain.column_variates, factor * plain.correlations)
    if "sparse" in kinds and min(x.shape[1], y.shape[1]) > 1:
        yield from _sparse(x, y)
    if "radial" in kinds and x.shape[1] + y.shape[1] > 2:
        for degree in DEGREES:
            if max(x.shape[1], y.shape[1]) * (degree + 1) * ROWS_FOR_EACH_FEATURE <= len(x):
                features = _radial(degree)
                start = _canonical_variates(f"radial {degree}", features, features, x, y, MOST_VARIATES)
                yield _truncated(start, x_other, y_other)
    columns = max(x.shape[1], y.shape[1])
    for degree in PRODUCTS if "polynomials" in kinds and columns > 1 else ():
        if math.comb(columns + degree, degree) * ROWS_FOR_EACH_FEATURE <= len(x):
            features = _polynomials(degree)
            start = _canonical_variates(f"polynomials {degree}", features, features, x, y, MOST_VARIATES)
            yield _truncated(start, x_other, y_other)
            break
    waves = min(WAVES, len(x) // (ROWS_FOR_EACH_FEATURE * columns))
    if "waves" in kinds and waves >= WAVES // 2:
        features = _cosines(waves)
        yield _truncated(_canonical_variates("waves", features, features, x, y, MOST_VARIATES), x_other, y_other)


def _itself(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, "float64")


def _radial(degree: int):
    """Columns, and columns times powers of how much longer than usual the row is: what a rotation by an angle that
    depends on the norm is made of."""

    def features(x):
        """Columns of x times the powers of its scaled squared norm."""
        x = np.asarray(x, "float64")
        size = x.shape[1]
        length = np.clip((np.square(x).sum(axis=1, keepdims=True) - size) / np.sqrt(2.0 * size), -4.0, 4.0)
        return np.concatenate([x * length**power for power in range(degree + 1)], axis=1)

    return features


def _polynomials(degree: int):
    """Products of up to `degree` columns, which also stand for what turns around another centre than the mean."""

    def features(x):
        """All products of 1 to `degree` columns of x."""
        x = np.clip(np.asarray(x, "float64"), -4.0, 4.0)
        chosen = [
            list(each)
            for size in range(1, degree + 1)
            for each in itertools.combinations_with_replacement(range(x.shape[1]), size)
        ]
        return np.stack([x[:, each].prod(axis=1) for each in chosen], axis=1)

    return features


def _cosines(count: int):
    """Cosines of up to `count` half periods over the ranks of each column (normal scores)."""

    def features(x):
        """Cosines of the ranks of the columns of x."""
        from scipy.special import ndtr

        ranks = ndtr(np.asarray(x, "float64"))
        return np.concatenate([np.cos(np.pi * wave * ranks) for wave in range(1, count + 1)], axis=1)

    return features


def _canonical_variates(name, row_features, column_features, x, y, most: int | None = None) -> Start:
    rows, columns = row_features(x), column_features(y)
    row_map, column_map, correlations = canonical(rows, columns)
    row_map, column_map, correlations = row_map[:, :most], column_map[:, :most], correlations[:most]
    row_mean, column_mean = rows.mean(axis=0) @ row_map, columns.mean(axis=0) @ column_map
    return Start(
        name,
        lambda x: row_features(x) @ row_map - row_mean,
        lambda y: column_features(y) @ column_map - column_mean,
        correlations,
    )


def _truncated(start: Start, x_other, y_other) -> Start:
    """As many of the pairs as the likelihood of the other rows gains by, or where they are few, as InfoNCE does.

    The likelihood is that of a Gaussian, which variates that are no linear map of the columns do not follow.
    """
    u, v = start.row_variates(x_other), start.column_variates(y_other)
    if start.name == "canonical":
        gained = np.cumsum(canonical_log_ratios(u, v, start.correlations).mean(axis=0))
    else:
        fixed = [Start("", lambda x: u, lambda y: v, _first(start.correlations, k + 1)) for k in range(u.shape[1])]
        gained = np.array([_infonce(each.scores(u, v)) for each in fixed])
    rank = int(np.argmax(gained)) + 1
    if gained[rank - 1] <= 0:
        return _none(x_other, y_other)
    return Start(
        f"{start.name}, {rank} of {len(start.correlations)}",
        lambda x: start.row_variates(x)[:, :rank],
        lambda y: start.column_variates(y)[:, :rank],
        start.correlations[:rank],
    )


def _first(correlations: np.ndarray, count: int) -> np.ndarray:
    return np.where(np.arange(len(correlations)) < count, correlations, 0.0)


def _sparse(x, y) -> Iterator[Start]:
    """Correlations of single columns, as they are and once what the columns of a side share is taken out."""
    means = x.mean(axis=0), y.mean(axis=0)
    for whitened in (False, True):
        maps = [_symmetric_whitening(values, whitened) for values in (x, y)]
        u, v = (x - means[0]) @ maps[0], (y - means[1]) @ maps[1]
        cross = u.T @ v / len(u)
        last = -1
        for threshold in THRESHOLDS:
            kept = np.where(np.abs(cross) > threshold / np.sqrt(len(u)), cross, 0.0)
            count = int(np.count_nonzero(kept))
            if not count or count == last:
                continue
            last = count
            left, correlations, right = np.linalg.svd(kept, full_matrices=False)
            yield _linear(
                f"sparse, {count} of {kept.size}{' (whitened)' if whitened else ''}",
                means,
                (maps[0] @ left, maps[1] @ right.T),
                np.clip(correlations, 0.0, 1.0 - 1e-6),
            )


def _linear(name, means, maps, correlations) -> Start:
    return Start(
        name,
        lambda x: (np.asarray(x, "float64") - means[0]) @ maps[0],
        lambda y: (np.asarray(y, "float64") - means[1]) @ maps[1],
        correlations,
    )


def _symmetric_whitening(x: np.ndarray, whitened: bool, ridge: float = 1e-4) -> np.ndarray:
    """A map (d, d) to unit variances, and to no correlations if `whitened`, that keeps column i near column i."""
    covariance = np.atleast_2d(np.cov(x.T, bias=True))
    scale = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    if not whitened:
        return np.diag(1.0 / scale)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    return (vectors / np.sqrt(np.maximum(values, 0.0) + ridge)) @ vectors.T / scale[:, None]
