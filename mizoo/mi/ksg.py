"""Nearest neighbours instead of a network: the estimator of Kraskov, Stoegbauer and Grassberger (2004)."""

from __future__ import annotations

import numpy as np

from mizoo.errors import UserError


def ksg(x: np.ndarray, y: np.ndarray, neighbours: int) -> np.ndarray:
    """Terms of the KSG estimator (Kraskov et al. 2004, eq. 8); their mean is the estimate.

    Args:
        x, y: (N, d_x) and (N, d_y), on comparable scales.
        neighbours: k.

    Returns:
        (N,) nats.

    Raises:
        UserError: for rows that coincide in all columns with `neighbours` others: the neighbours of continuous values
            lie apart.
    """
    from scipy.spatial import cKDTree
    from scipy.special import digamma

    both = np.concatenate([x, y], axis=1).astype("float64")
    distance = cKDTree(both).query(both, neighbours + 1, p=np.inf)[0][:, -1]
    if tied := int((distance == 0).sum()):
        raise UserError(
            f"Nearest neighbours are for continuous values, and {tied} of {len(x)} rows are equal in all columns of x "
            f"and y to {neighbours} others or more. For discrete values take a bound with a critic, such as 'infonce'."
        )
    # The neighbours strictly nearer than the k-th, the point itself not counted.
    radius = np.nextafter(distance, 0)
    nearer = []
    for side in (both[:, : x.shape[1]], both[:, x.shape[1] :]):
        nearer.append(cKDTree(side).query_ball_point(side, radius, p=np.inf, return_length=True) - 1)
    return digamma(neighbours) + digamma(len(x)) - digamma(nearer[0] + 1) - digamma(nearer[1] + 1)


def ceiling(rows: int, neighbours: int) -> float:
    """The largest value of the estimator, in nats: on either side at least k - 1 rows lie nearer than the k-th."""
    from scipy.special import digamma

    return float(digamma(rows) - digamma(neighbours))
