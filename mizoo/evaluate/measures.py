"""Label-free measures of a representation that show a collapse at once."""

from __future__ import annotations

import math

import numpy as np

from mizoo._tools.arrays import unit_rows
from mizoo._tools.checks import check_choice

PRIORS = ("uniform", "gaussian")


def spread(features: np.ndarray) -> float:
    """Mean standard deviation of the coordinates of `features` (N, d); 0 when every picture gets the same vector."""
    return float(np.std(np.asarray(features, np.float64), axis=0).mean())


def effective_rank(features: np.ndarray) -> float:
    """Effective rank of centred `features` (N, d): the exponential of the entropy of the normalised singular values.

    Between 1 (all variation along one line, or none) and d (the same variation along every direction). Source: Roy and
    Vetterli 2007, "The effective rank", definition 1.
    """
    centred = np.asarray(features, np.float64)
    centred = centred - centred.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)
    total = values.sum()
    if total <= 1e-12:
        return 1.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def uniform_where_matched(features: np.ndarray, prior: str | None = "uniform") -> np.ndarray:
    """Coordinates mapped to 0..1 so that those that follow a prior of `mizoo.DeepInfoMax` are uniform there.

    Args:
        features: any shape, of `global` as the encoder gives it.
        prior: "uniform" or None: by the sigmoid, after which that prior is uniform; "gaussian": by the standard normal
            distribution function.

    Raises:
        UserError: for another prior.
    """
    features = np.asarray(features, np.float64)
    if check_choice(prior or "uniform", "prior", PRIORS) == "uniform":
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-features))
    return 0.5 * np.vectorize(math.erfc, otypes=[np.float64])(-features / math.sqrt(2))


def prior_fit(features: np.ndarray, prior: str = "uniform") -> np.ndarray:
    """Kolmogorov-Smirnov distance of each coordinate from the prior.

    Args:
        features: (N, d), `global` as the encoder gives it.
        prior: of `mizoo.DeepInfoMax`: "uniform" compares the sigmoid of each coordinate with the uniform distribution
            on [0, 1], "gaussian" the coordinate itself with the standard Gaussian.

    Returns:
        (d,) in 0..1: 0.5 / N at best, near 1 for a coordinate far from the prior, such as one that the sigmoid
        saturates. What is left by chance with coordinates that follow the prior exactly is about 0.87 / sqrt(N).

    Raises:
        UserError: for another prior.
    """
    ordered = np.sort(uniform_where_matched(features, prior), axis=0)
    steps = np.arange(len(ordered) + 1)[:, None] / len(ordered)
    return np.maximum(steps[1:] - ordered, ordered - steps[:-1]).max(axis=0)


def alignment(first: np.ndarray, second: np.ndarray) -> float:
    """Mean squared distance of paired features on the unit sphere (Wang and Isola 2020, l_align with alpha = 2).

    Args:
        first: features (N, d) of one view of each picture.
        second: features (N, d) of another.

    Returns:
        0 (both views at the same point) to 4 (at opposite ones); 2 where the views have nothing in common.
    """
    return float(np.square(unit_rows(first, "float64") - unit_rows(second, "float64")).sum(axis=1).mean())


def uniformity(features: np.ndarray, t: float = 2.0, block: int = 1000) -> float:
    """Logarithm of the mean Gaussian potential on the unit sphere (Wang and Isola 2020, l_uniform).

    Args:
        features: (N, d), two rows at least.
        t: of the potential exp(-t squared distance).
        block: rows that are compared with all others at a time.

    Returns:
        The logarithm of the mean over all pairs of different rows: 0 where all rows have one direction, -4 t for two
        opposite points, and for rows spread evenly over a sphere of many dimensions near -2 t.
    """
    points = unit_rows(features, "float64")
    lengths = np.square(points).sum(axis=1)  # 1, or 0 of a row of zeros, which has no direction
    count, total = len(points), 0.0
    for start in range(0, count, block):
        near = points[start : start + block] @ points.T
        squares = lengths[start : start + block, None] + lengths - 2 * near
        total += np.exp(-t * np.maximum(squares, 0.0)).sum(dtype=np.float64)
    # Every row met itself once, at distance 0.
    return float(np.log(max(total - count, np.finfo(np.float64).tiny) / (count * (count - 1))))
