"""Nearest neighbours instead of a network: the estimator of Kraskov, Stoegbauer and Grassberger (2004)."""

from __future__ import annotations

import numpy as np

PARTS, PARTITIONS = 4, 20  # of the rows, for the standard error


def ksg(x: np.ndarray, y: np.ndarray, neighbours: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Terms of the KSG estimator (Kraskov et al. 2004, eq. 8); their mean is the estimate.

    Values that occur more than once have to be spread first (`mizoo.mi.inputs.spread_ties`): among rows that lie on a
    lattice, those at the distance of the k-th neighbour would be left out of the counts.

    Args:
        x, y: (N, d_x) and (N, d_y), on comparable scales.
        neighbours: k.
        groups: (N,) int; rows of a row's own group are no neighbours of it.

    Returns:
        (N,) nats; neither a lower nor an upper bound.
    """
    from scipy.spatial import cKDTree
    from scipy.special import digamma

    both = np.concatenate([x, y], axis=1).astype("float64")
    sides = both[:, : x.shape[1]], both[:, x.shape[1] :]
    others = np.full(len(both), len(both) - 1)
    if groups is None:
        distance = cKDTree(both).query(both, neighbours + 1, p=np.inf)[0][:, -1]
    else:
        sizes = np.bincount(groups)[groups]
        others = len(both) - sizes
        nearest, rows = cKDTree(both).query(both, min(neighbours + sizes.max(), len(both)), p=np.inf)
        foreign = groups[rows] != groups[:, None]
        kth = np.argmax(np.cumsum(foreign, axis=1) == neighbours, axis=1)
        distance = nearest[np.arange(len(both)), kth]
    # The neighbours strictly nearer than the k-th, the point itself not counted.
    radius = np.nextafter(distance, 0)
    nearer = []
    for side in sides:
        counts = cKDTree(side).query_ball_point(side, radius, p=np.inf, return_length=True) - 1
        nearer.append(counts if groups is None else counts - _nearer_in_group(side, radius, groups))
    return digamma(neighbours) + digamma(others + 1) - digamma(nearer[0] + 1) - digamma(nearer[1] + 1)


def _nearer_in_group(side: np.ndarray, radius: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """How many other rows of its group lie within the radius of each row."""
    counts = np.zeros(len(side), int)
    order = np.argsort(groups, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        distance = np.abs(side[rows][:, None] - side[rows][None]).max(axis=-1)
        counts[rows] = (distance <= radius[rows, None]).sum(axis=1) - 1
    return counts


def standard_error(
    x: np.ndarray, y: np.ndarray, neighbours: int, groups: np.ndarray | None, rng: np.random.Generator
) -> float:
    """Of the mean of the terms, from estimates on disjoint parts of the rows (Holmes and Nemenman 2019).

    The terms depend on each other through shared neighbours, so their own spread says too little. The variance of
    the estimate falls like 1 / N; that of parts of N / 4 rows is measured over several random partitions.
    """
    units = np.arange(len(x)) if groups is None else groups
    count = int(units.max()) + 1
    parts = min(PARTS, count, len(x) // (5 * neighbours))
    if parts < 2:
        return float(ksg(x, y, neighbours, groups).std(ddof=1) / np.sqrt(len(x)))
    variances = []
    for _ in range(PARTITIONS):
        part = (rng.permutation(count) % parts)[units]
        values = []
        for i in range(parts):
            rows = np.flatnonzero(part == i)
            own = None if groups is None else np.unique(groups[rows], return_inverse=True)[1]
            if len(rows) > neighbours + (0 if own is None else np.bincount(own).max()):
                values.append(ksg(x[rows], y[rows], neighbours, own).mean())
        variances.append(np.var(values, ddof=1) / parts if len(values) > 1 else np.nan)
    return float(np.sqrt(np.nanmean(variances)))


def ceiling(rows: int, neighbours: int) -> float:
    """The largest value of the estimator, in nats: on either side at least k - 1 rows lie nearer than the k-th."""
    from scipy.special import digamma

    return float(digamma(rows) - digamma(neighbours))
