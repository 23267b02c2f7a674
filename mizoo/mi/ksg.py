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
        others = len(both) - np.bincount(groups)[groups]
        distance = _to_other_groups(both, neighbours, groups)
    # The neighbours strictly nearer than the k-th, the point itself not counted.
    radius = np.nextafter(distance, 0)
    nearer = []
    for side in sides:
        counts = cKDTree(side).query_ball_point(side, radius, p=np.inf, return_length=True) - 1
        nearer.append(counts if groups is None else counts - _nearer_in_group(side, radius, groups))
    return digamma(neighbours) + digamma(others + 1) - digamma(nearer[0] + 1) - digamma(nearer[1] + 1)


def _to_other_groups(rows: np.ndarray, neighbours: int, groups: np.ndarray) -> np.ndarray:
    """Distance of each row to the k-th nearest of other groups; infinite where they have fewer rows.

    Two groups differ first in one bit of their numbers: for each bit, rows with 0 and with 1 there look for neighbours
    among each other, if the bits before are the same. So the size of a group costs nothing.
    """
    from scipy.spatial import cKDTree

    nearest, beyond = np.full((len(rows), neighbours), np.inf), float(np.ptp(rows, axis=0).max()) + 1.0
    for bit in range(int(groups.max()).bit_length()):
        placed = _apart(rows, groups >> (bit + 1), beyond)
        one = (groups >> bit) % 2 == 1
        for own, other in ((one, ~one), (~one, one)):
            found = cKDTree(placed[other]).query(placed[own], neighbours, p=np.inf, distance_upper_bound=beyond)[0]
            both = np.concatenate([nearest[own], found.reshape(-1, neighbours)], axis=1)
            nearest[own] = np.sort(both, axis=1)[:, :neighbours]
    return nearest[:, -1]


def _nearer_in_group(side: np.ndarray, radius: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """How many other rows of its group lie within the radius of each row."""
    from scipy.spatial import cKDTree

    placed = _apart(side, groups, float(radius.max()) + 1.0)
    return cKDTree(placed).query_ball_point(placed, radius, p=np.inf, return_length=True) - 1


def _apart(rows: np.ndarray, groups: np.ndarray, distance: float) -> np.ndarray:
    """Rows with a column more, by which those of different groups are twice a distance from each other."""
    return np.column_stack([rows, 2.0 * distance * groups])


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
