"""Value and error bar on rows that the critic was not fitted on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from keras import ops

from mizoo.bounds import LARGEST_EXPONENT
from mizoo.errors import UserError
from mizoo.mi.models import REPORTED, scores_by_chunks, smile_tau

BLOCK = 1024  # candidates at most: larger score matrices cost more and change little
FEWEST_ARRANGEMENTS = 20
"""Of groups, other than the one received, that a test by permutation takes: its p-values are from 0.05 on then."""


def blocks(rows: int) -> list[slice]:
    """Near-equal blocks of `rows` rows, each of `BLOCK` at most."""
    edges = np.linspace(0, rows, -(-rows // BLOCK) + 1).astype(int)
    return [slice(start, stop) for start, stop in zip(edges[:-1], edges[1:])]


def scores(model, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Scores (N, 1, N) that a fitted model gives x (N, d_x) and y (N, d_y)."""
    return ops.convert_to_numpy(scores_by_chunks(model, ops.convert_to_tensor(x), ops.convert_to_tensor(y)))


def log_ratios(model, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log p(y|x) - log p(y) of each row (N,), in nats, of a fitted `DensityPair`."""
    marginal, conditional = model.log_densities(ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    return ops.convert_to_numpy(conditional).astype("float64") - ops.convert_to_numpy(marginal)


def value_and_shares(bound: str, scores: np.ndarray, tau: float | None) -> tuple[float, np.ndarray]:
    """Value of scores (N, 1, N) whose positives are the diagonal, and what each row adds to it, both in float64.

    The shares (N,) have the value as their mean. A row counts as a pair and, in its columns, as a candidate of the
    other rows; the spread of the shares over sqrt(N) is the standard error of the value (Hoeffding's projection of a
    two-sample statistic).
    """
    matrix = scores[:, 0].astype("float64")
    positive = np.diag(matrix).copy()
    name, rows = REPORTED.get(bound, bound), len(matrix)
    if name == "infonce":
        top = matrix.max(axis=1, keepdims=True)
        weights = np.exp(matrix - top)
        total = weights.sum(axis=1, keepdims=True)
        log_loss = positive - (np.log(total) + top)[:, 0]
        # A perfect score is log N exactly, and rounding passes it.
        value = min(float(log_loss.mean()) + np.log(rows), np.log(rows))
        shares = log_loss - (weights / total).sum(axis=0)
        return value, shares - shares.mean() + value
    if name == "smile":
        tau = tau or smile_tau(rows)
        matrix = np.clip(matrix, -tau, tau)
    level = 0.0
    if name in ("dv", "smile"):
        level = matrix.max()
        matrix = np.exp(matrix - level)
    elif name == "nwj":
        matrix = np.exp(np.minimum(matrix, LARGEST_EXPONENT))
    np.fill_diagonal(matrix, 0.0)
    row, column = matrix.sum(axis=1) / (rows - 1), matrix.sum(axis=0) / (rows - 1)
    mean = row.mean()
    if name in ("dv", "smile"):
        value, scale = positive.mean() - np.log(max(mean, 1e-300)) - level, max(mean, 1e-300)
    else:
        value, scale = (name == "nwj") + positive.mean() - mean, 1.0
    shares = positive - (row + column) / scale
    return float(value), shares - shares.mean() + value


def standard_error(shares: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Of the mean of shares (N,); rows of one group (N,) count as one draw."""
    rest = shares - shares.mean()
    if groups is None:
        return float(rest.std(ddof=1) / np.sqrt(len(rest)))
    sums = np.bincount(groups, rest)
    count = len(np.unique(groups))
    return float(np.sqrt(np.square(sums).sum() * count / max(count - 1, 1)) / len(rest))


def error_of_folds(share: np.ndarray, fold: np.ndarray) -> float:
    """Standard error of the mean of share (N,) from the spread of the means of its folds (N,), each fitted anew.

    It holds how the fits differ, which the spread of the rows does not, and is itself uncertain: 3 folds leave 2
    degrees of freedom. NaN for a single fold.
    """
    sizes = np.bincount(fold)
    means, weights = np.bincount(fold, share) / sizes, sizes / len(share)
    spread = np.sum(weights * np.square(means - share.mean()))
    return float(np.sqrt(spread / (len(sizes) - 1))) if len(sizes) > 1 else math.nan


def averaged(
    values: np.ndarray, shares: np.ndarray, folds: np.ndarray, groups: np.ndarray | None = None
) -> tuple[float, float, np.ndarray]:
    """The mean of the estimates that R cross-fits of the same rows gave, its standard error, and what each row adds.

    The standard error of a single cross-fit is the larger of what the rows and what the folds say. Where there are
    several, how they differ is measured, and is added to the spread of the rows' mean shares.

    Args:
        values: (R,) nats.
        shares: (R, N) nats, NaN for rows that were not scored.
        folds: (R, N) int, the fold of each scored row.
        groups: (N,) labels; rows of one group count as one draw.
    """
    scored = ~np.isnan(shares)
    share = np.where(scored, shares, 0.0).sum(axis=0) / np.maximum(scored.sum(axis=0), 1)
    share[~scored.any(axis=0)] = np.nan
    rows = np.isfinite(share) if np.isfinite(values).all() else ~np.isnan(shares[0])
    error = standard_error(share[rows], None if groups is None else groups[rows])
    if len(values) > 1:
        error = math.hypot(error, values.std(ddof=1) / math.sqrt(len(values)))
    elif np.isfinite(values).all():
        error = float(np.fmax(error, error_of_folds(share[rows], folds[0, rows])))
    return float(values.mean()), error, share


def permuted(scores: np.ndarray, permutations: list[np.ndarray]) -> np.ndarray:
    """Sums of the own scores of (N, 1, N), then of those under each permutation of the columns; standardised, or 0.

    What else a bound is made of does not change when its rows are paired anew.
    """
    rows = np.arange(len(scores))
    sums = np.array([scores[rows, 0, each].sum(dtype="float64") for each in (rows, *permutations)])
    spread = sums.std()
    if spread <= 1e-12 * np.abs(sums).max():  # rounding: no permutation changes anything
        return np.zeros_like(sums)
    return (sums - sums.mean()) / spread


def permutation(groups: np.ndarray | None, rows: int, rng: np.random.Generator) -> np.ndarray:
    """A random pairing of `rows` rows; whole groups of equal size are exchanged, each in its own order.

    A group whose size no other has stays where it is: in the place of another it would lie across several, which then
    would share less than groups do, and chance would look smaller than it is.
    """
    if groups is None:
        return rng.permutation(rows)
    pairing = np.arange(rows)
    parts = _parts(groups)
    sizes = np.array([len(part) for part in parts])
    for size in np.unique(sizes):
        alike = np.stack([parts[i] for i in np.flatnonzero(sizes == size)])
        pairing[alike] = alike[rng.permutation(len(alike))]
    return pairing


def _parts(groups: np.ndarray) -> list[np.ndarray]:
    """The rows of each group of groups (N,)."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def check_arrangements(folds: Sequence[Sequence[np.ndarray]]) -> None:
    """Refuse a test for independence whose groups can hardly be exchanged.

    Args:
        folds: for each the groups (N_b,) of the rows of each block, within which `permutation` exchanges them.

    Raises:
        UserError: for fewer than 20 arrangements other than the one received in a fold.
    """
    for together in folds:
        alike = [np.unique([len(part) for part in _parts(groups)], return_counts=True)[1] for groups in together]
        ways = math.prod(math.factorial(min(count, 5)) for counts in alike for count in counts.tolist())
        if ways <= FEWEST_ARRANGEMENTS:
            raise UserError(
                "`permutations` exchange whole `groups` of equal size that are scored together, and there are "
                f"{FEWEST_ARRANGEMENTS} other arrangements of them at least in each fold. Received: {ways - 1}, of "
                f"{sum(int(counts.sum()) for counts in alike)} groups of {sum(map(len, alike))} sizes. Cut the groups "
                "to fewer sizes, use more groups or fewer `folds`, or leave `permutations` out."
            )


def whole_blocks(rows: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The scored rows (M,) in blocks of `BLOCK` at most for `permutation`, with groups (N,) of all rows kept whole.

    Groups of one size come together, at random. Of a group of more than a quarter of a block some rows are left out.
    """
    rows = np.sort(rows)
    parts = [rows[part][: BLOCK // 4] for part in _parts(groups[rows])]
    found: list[list[np.ndarray]] = [[]]
    for i in sorted(rng.permutation(len(parts)), key=lambda i: len(parts[i])):
        if sum(map(len, found[-1])) + len(parts[i]) > BLOCK:
            found.append([])
        found[-1].append(parts[i])
    return [np.concatenate(block) for block in found]


def p_value(statistics: np.ndarray) -> float:
    """The share of statistics (1 + B,) that are at least the first."""
    return float(np.mean(statistics >= statistics[0] - 1e-12))


def combined(p_values: Sequence[float], permutations: int) -> float:
    """One p-value of several of the same hypothesis, by the Cauchy combination test (Liu and Xie 2020, eq. 1).

    It holds for p-values that depend on each other, as those of folds and repeats do, which share rows: at 5 % it
    rejects 2 to 4 of 100 independent pairs. Those of 1 are taken as the largest below it.

    Args:
        p_values: each the share of 1 + `permutations` statistics; none say nothing, which is 1.
        permutations: B.
    """
    if not p_values:
        return 1.0
    if len(p_values) == 1:
        return p_values[0]
    below = np.minimum(p_values, permutations / (permutations + 1))
    return float(0.5 - np.arctan(np.mean(np.tan((0.5 - below) * np.pi))) / np.pi)
