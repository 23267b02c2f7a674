"""Bounds: a score matrix in, mutual information in nats out.

Every function takes scores (N, L, M): the critic's value for row i against column j, L of them for each pair (the
locations of a feature map; 1 where there is one). `positives` (N,) is the column that belongs to each row; all other
columns of the row are samples from the product of the marginals. A replica that holds N rows of a larger gathered
batch of M columns calls the same functions.
"""

from __future__ import annotations

import math

from keras import ops


def _float32(scores):
    return ops.cast(ops.convert_to_tensor(scores), "float32")


def _positive_mask(scores, positives):
    """(N, 1, M), 1.0 at each row's own column."""
    return ops.expand_dims(ops.one_hot(positives, ops.shape(scores)[2], dtype="float32"), 1)


def _split_means(scores, positives, on_positive, on_negative):
    """Means of two functions over the positive pairs and over the negative pairs."""
    scores = _float32(scores)
    mask = _positive_mask(scores, positives)
    pairs = ops.cast(ops.shape(scores)[0] * ops.shape(scores)[1], "float32")
    others = ops.cast(ops.shape(scores)[2] - 1, "float32")
    positive = ops.sum(on_positive(scores) * mask) / pairs
    negative = ops.sum(on_negative(scores) * (1.0 - mask)) / (pairs * others)
    return positive, negative


def infonce(scores, positives, excluded=None):
    """InfoNCE: each location of a row picks its column among all M (van den Oord et al. 2018, eq. 4 and 5).

    Args:
        scores: (N, L, M).
        positives: (N,) int, the column of each row.
        excluded: (N,) int, a column of each row that is no candidate, such as the row itself; None for none.

    Returns:
        The logarithm of the number of candidates (M, or M - 1) minus the cross-entropy, in nats: a lower bound of the
        mutual information that never passes that logarithm.
    """
    scores = _float32(scores)
    positive = ops.sum(scores * _positive_mask(scores, positives), axis=-1)
    candidates = ops.cast(ops.shape(scores)[2], "float32")
    if excluded is not None:
        scores = ops.where(_positive_mask(scores, excluded) > 0, -float("inf"), scores)
        candidates = candidates - 1.0
    return ops.mean(positive - ops.logsumexp(scores, axis=-1)) + ops.log(candidates)


def infonce_locations(scores, positives):
    """InfoNCE of Deep InfoMax: the positive against every location of every other picture (Hjelm et al. 2018, eq. 8).

    Rows are global vectors and columns are pictures whose L locations are candidates. The other locations of the
    row's own picture are left out of the softmax (not merely lowered by a constant).

    Args:
        scores: (N, L, M), global vector i against location l of picture j.
        positives: (N,) int, the picture of each row.

    Returns:
        Nats, at most log(1 + (M - 1) L).
    """
    scores = _float32(scores)
    mask = _positive_mask(scores, positives)
    positive = ops.sum(scores * mask, axis=-1)  # (N, L)
    others = ops.where(mask > 0, -float("inf"), scores)
    others = ops.logsumexp(others, axis=(1, 2), keepdims=True)[:, :, 0]  # (N, 1)
    locations, columns = ops.shape(scores)[1], ops.shape(scores)[2]
    candidates = ops.cast(1 + (columns - 1) * locations, "float32")
    return ops.mean(positive - ops.logaddexp(positive, others)) + ops.log(candidates)


def infonce_ceiling(columns: int, locations: int = 1, negatives: str = "images") -> float:
    """The largest value InfoNCE can report, in nats: the logarithm of the number of candidates.

    Args:
        columns: M, pictures in the (gathered) batch.
        locations: L.
        negatives: "images" for `infonce`, "locations" for `infonce_locations`.
    """
    return math.log(columns if negatives == "images" else 1 + (columns - 1) * locations)


def jsd(scores, positives):
    """Jensen-Shannon objective of Deep InfoMax (Hjelm et al. 2018, eq. 4). Not mutual information: not in nats.

    Args:
        scores: (N, L, M).
        positives: (N,) int.

    Returns:
        Mean of -softplus(-T) over positive pairs minus mean of softplus(T) over negative pairs, plus 2 log 2: between
        0 (scores that tell nothing) and 2 log 2 with the best critic, whose T is the log density ratio.
    """
    positive, negative = _split_means(scores, positives, lambda t: -ops.softplus(-t), ops.softplus)
    return positive - negative + 2.0 * math.log(2.0)


def nwj(scores, positives):
    """Nguyen-Wainwright-Jordan bound of a critic that estimates the log density ratio (Poole et al. 2019, eq. 7).

    For a critic trained with `jsd`, whose optimum is the log density ratio T: 1 + E_joint[T] - E_product[exp T],
    which is the bound's usual form at f = 1 + T.

    Args:
        scores: (N, L, M), T for each pair.
        positives: (N,) int.

    Returns:
        Nats: a lower bound of the mutual information, without ceiling and of large variance when that is large.
    """
    # exp overflows float32 at 88; a critic that far off is reported as a huge negative bound instead of a NaN.
    positive, negative = _split_means(scores, positives, lambda t: t, lambda t: ops.exp(ops.minimum(t, 80.0)))
    return 1.0 + positive - negative
