"""Bounds and estimates of mutual information: a score matrix in, nats out; each docstring states which it is.

Every function takes scores (N, L, M): the critic's value for row i against column j, L of them for each pair (the
locations of a feature map; 1 where there is one). `positives` (N,) is the column that belongs to each row; all other
columns of the row are samples from the product of the marginals. A replica that holds N rows of a larger gathered
batch of M columns calls the same functions.

A score of minus infinity, the usual way to mask a false negative, takes that column out of the row's candidates: it
adds nothing, and is not counted. A row without any other candidate says nothing: its share and its gradient are 0.
`positives` that are no column of the scores are refused, or give NaN where they are only known inside a compiled graph.
"""

from __future__ import annotations

import math

import numpy as np
from keras import ops

from mizoo._tools.arrays import check_whole, to_numpy
from mizoo._tools.checks import check_choice, check_real
from mizoo.errors import UserError

LINEAR_FROM = 10.0
"""From here on the gradient of the exponential of `nwj` is that of its tangent: exp(10), and no more."""
LARGEST_EXPONENT = 60.0
"""exp overflows float32 at 88, and a sum of many before; a critic that far off is reported as a huge negative bound."""


def _float32(scores, rank: int = 3):
    """Scores as a float32 tensor, once they are an array (N, L, M), or (N, M) for `rank` 2, of real numbers."""
    if not ops.is_tensor(scores):
        scores = to_numpy(scores, "scores")
        if scores.dtype.kind not in "fiub" and scores.dtype.name != "bfloat16":
            raise UserError(f"`scores` holds real numbers. Received: dtype {scores.dtype}")
    if len(scores.shape) != rank:
        shape = "(N, M): rows and columns"
        if rank == 3:
            shape = "(N, L, M): rows, locations of each and columns; `scores[:, None]` of one score a pair"
        raise UserError(f"`scores` has the shape {shape}. Received: {tuple(scores.shape)}")
    return ops.cast(ops.convert_to_tensor(scores), "float32")


def _positive_mask(scores, positives):
    """(N, 1, M), 1.0 at each row's own column."""
    _check_columns(positives, scores.shape[2], scores.shape[:1])
    return ops.expand_dims(ops.one_hot(positives, ops.shape(scores)[2], dtype="float32"), 1)


def _check_columns(positives, columns, shape=None) -> None:
    """Refuse column numbers that are none, not of this shape or out of range, where they and the sizes are known."""
    try:
        known = np.asarray(positives)
    except Exception:  # inside a compiled graph; every backend raises something else
        return
    fits = shape is None or None in shape or known.shape == tuple(shape)
    if known.dtype.kind not in "iu" or not fits:
        raise UserError(
            f"`positives` holds the column of each row, whole numbers. Received: {known.dtype} of shape {known.shape}"
        )
    if known.dtype.kind in "iu" and known.size and columns and not 0 <= known.min() <= known.max() < columns:
        raise UserError(
            f"Each row's own column is one of the {columns} columns of the scores, numbered from 0. Received: "
            f"columns from {known.min()} to {known.max()}."
        )


def _own(scores, mask):
    """Scores (N, L) of each row's own column; NaN where it has none, which is wrong in any case."""
    own = ops.sum(ops.where(mask > 0, scores, 0.0), axis=-1)
    return ops.where(ops.sum(mask, axis=-1) > 0, own, float("nan"))


def _mean_of_rows(scores, positives, on_positive, on_negative):
    """Mean over rows and locations of a function of the own score, and of another's mean over the row's mismatches.

    Also returned: the share of the rows that have a mismatch; the others count as 0.
    """
    scores = _float32(scores)
    mask = _positive_mask(scores, positives)
    others = ops.logical_and(mask == 0, scores != -float("inf"))
    count = ops.sum(ops.cast(others, "float32"), axis=-1)  # (N, L)
    has_others = count > 0
    # The second `where` keeps what is not taken out of the gradient, where 0 times infinity would be NaN.
    negative = ops.where(others, on_negative(ops.where(others, scores, 0.0)), 0.0)
    negative = ops.sum(negative, axis=-1) / ops.maximum(count, 1.0)
    positive = ops.where(has_others, on_positive(_own(scores, mask)), 0.0)
    return ops.mean(positive), ops.mean(negative), ops.mean(ops.cast(has_others, "float32"))


def _log_candidates(scores):
    """Logarithm (N, L) of how many columns of scores (N, L, M) are not masked."""
    return ops.log(ops.maximum(ops.sum(ops.cast(scores != -float("inf"), "float32"), axis=-1), 1.0))


def infonce(scores, positives, excluded=None):
    """InfoNCE: each location of a row picks its column among all M (van den Oord et al. 2018, eq. 4 and 5).

    Args:
        scores: (N, L, M).
        positives: (N,) int, the column of each row.
        excluded: (N,) int, a column of each row that is no candidate, such as the row itself; None for none.

    Returns:
        The logarithm of the number of candidates (M less those that are excluded or masked) minus the cross-entropy, in
        nats: a lower bound of the mutual information that never passes that logarithm.
    """
    scores = _float32(scores)
    positive = _own(scores, _positive_mask(scores, positives))
    if excluded is not None:
        scores = ops.where(_positive_mask(scores, excluded) > 0, -float("inf"), scores)
    return ops.mean(positive - ops.logsumexp(scores, axis=-1) + _log_candidates(scores))


def infonce_locations(scores, positives):
    """InfoNCE of Deep InfoMax: the positive against every location of every other picture (Hjelm et al. 2018, eq. 8).

    Rows are global vectors and columns are pictures whose L locations are candidates. The other locations of the
    row's own picture are left out of the softmax (not merely lowered by a constant).

    Args:
        scores: (N, L, M), global vector i against location l of picture j.
        positives: (N,) int, the picture of each row.

    Returns:
        Nats, at most log(1 + (M - 1) L). No lower bound of mutual information: the locations of one other picture are
        no independent draws, so the value can be larger than the information (two pictures, each drawn as one of two
        with the same feature at all of 64 locations: 2.1 nats, where the information is 0.69).
    """
    scores = _float32(scores)
    mask = _positive_mask(scores, positives)
    positive = _own(scores, mask)  # (N, L)
    others = ops.where(mask > 0, -float("inf"), scores)
    candidates = 1.0 + ops.sum(ops.cast(others != -float("inf"), "float32"), axis=(1, 2))[:, None]
    others = _log_sum_exp(others, axis=(1, 2))[:, None]
    return ops.mean(positive - ops.logaddexp(positive, others) + ops.log(candidates))


def _log_sum_exp(scores, axis):
    """logsumexp, and a finite stand-in for nothing (-1e30, whose exponential is 0) where all are masked."""
    nothing = ops.all(scores == -float("inf"), axis=axis)
    safe = ops.where(ops.expand_dims(nothing, axis) if isinstance(axis, int) else nothing[:, None, None], 0.0, scores)
    return ops.where(nothing, -1e30, ops.logsumexp(safe, axis=axis))


def infonce_views(scores, siblings):
    """InfoNCE between the views of pictures: each view picks every other view of its picture among other pictures'.

    The candidates of a pair are that one view and all views of all other pictures; further views of the same picture
    are left out of the softmax. With two views it is `infonce` without the row itself: NT-Xent (Chen et al. 2020).

    Args:
        scores: (N, M) of N views against the M views of the (gathered) batch.
        siblings: (N, V) int, the columns of all views of a row's picture, its own first.

    Returns:
        The mean over rows and their V - 1 pairs, in nats, at most log(1 + M - V).
    """
    scores = _float32(scores, 2)
    _check_columns(siblings, scores.shape[1])
    siblings = ops.convert_to_tensor(siblings)
    picture = ops.max(ops.one_hot(siblings, ops.shape(scores)[1], dtype="float32"), axis=1)
    others = ops.where(picture > 0, -float("inf"), scores)
    candidates = 1.0 + ops.sum(ops.cast(others != -float("inf"), "float32"), axis=1, keepdims=True)
    others = _log_sum_exp(others, axis=1)[:, None]
    positive = ops.take_along_axis(scores, siblings[:, 1:], axis=1)  # (N, V - 1)
    return ops.mean(positive - ops.logaddexp(positive, others) + ops.log(candidates))


def infonce_ceiling(columns: int, locations: int = 1, negatives: str = "images") -> float:
    """The largest value InfoNCE can report, in nats: the logarithm of the number of candidates.

    Args:
        columns: M, pictures in the (gathered) batch.
        locations: L.
        negatives: "images" for `infonce`, "locations" for `infonce_locations`.

    Raises:
        UserError: for numbers that are no whole ones from 1 on, or other negatives.
    """
    check_whole(columns, "columns", 1)
    check_whole(locations, "locations", 1)
    check_choice(negatives, "negatives", ("images", "locations"))
    return math.log(columns if negatives == "images" else 1 + (columns - 1) * locations)


def jsd(scores, positives):
    """Jensen-Shannon objective of Deep InfoMax (Hjelm et al. 2018, eq. 4). Not mutual information: not in nats.

    Args:
        scores: (N, L, M).
        positives: (N,) int.

    Returns:
        Mean of -softplus(-T) over positive pairs minus mean of softplus(T) over negative pairs, plus 2 log 2: between
        0 (scores without information) and 2 log 2 with the best critic, whose T is the log density ratio.
    """
    positive, negative, share = _mean_of_rows(scores, positives, lambda t: -ops.softplus(-t), ops.softplus)
    return positive - negative + 2.0 * math.log(2.0) * share


def nwj(scores, positives):
    """Nguyen-Wainwright-Jordan bound of a critic that estimates the log density ratio (Poole et al. 2019, eq. 7).

    For a critic trained with `jsd`, whose optimum is the log density ratio T: 1 + E_joint[T] - E_product[exp T],
    which is the bound's usual form at f = 1 + T.

    Args:
        scores: (N, L, M), T for each pair.
        positives: (N,) int.

    Returns:
        Nats: a lower bound of the mutual information, without ceiling and of large variance when that is large. The
        gradient of the exponential is held at exp(10) beyond a score of 10; the value is not changed by that.
    """
    positive, negative, share = _mean_of_rows(scores, positives, lambda t: t, _exp_of_bounded_gradient)
    return share + positive - negative


def _exp_of_bounded_gradient(t):
    """exp(t), up to exp(60); its gradient is that of exp up to `LINEAR_FROM`, and exp(10) beyond.

    Beyond, the gradient of exp is of no use: squared, it overflows in Adam, and a cap of the value alone has none.
    """
    bent = ops.exp(ops.minimum(t, LINEAR_FROM)) * (1.0 + ops.maximum(t - LINEAR_FROM, 0.0))
    return bent + ops.stop_gradient(ops.exp(ops.minimum(t, LARGEST_EXPONENT)) - bent)


def dv(scores, positives):
    """Donsker-Varadhan bound (Belghazi et al. 2018, eq. 2 and 10): E_joint[T] - log E_product[exp T].

    Both expectations run over pictures and over their L locations alike, with one logarithm of one mean: a bound of
    the information between the vector and the feature of a location drawn at random. It is never above the mean over
    the locations of a bound for each (Jensen), and so bounds that from below as well.

    Args:
        scores: (N, L, M), T for each pair.
        positives: (N,) int.

    Returns:
        Nats: a lower bound of the mutual information but for the logarithm of a mean over few samples, which makes it
        too large on average; without ceiling, and of large variance when the information is large. The value of a
        subset of the rows is not a share of that of all rows, because the logarithm is taken of the mean over all:
        see `joint_and_log_mean`.
    """
    positive, log_mean = joint_and_log_mean(scores, positives)
    return positive - log_mean


def mine(scores, positives, log_average, decay: float = 0.99):
    """The objective of MINE, whose gradient has the bias of Donsker-Varadhan's removed (Belghazi et al. 2018, eq. 12).

    The gradient of log E_product[exp T] has E_product[exp T] in its denominator; the mean over one batch is replaced
    by a moving average over the batches, held constant. What to report is `dv` of the same scores.

    Args:
        scores: (N, L, M), T for each pair.
        positives: (N,) int.
        log_average: logarithm of the moving average of E_product[exp T] so far: a scalar, 0 before the first batch.
        decay: share of the old average that is kept, in [0, 1).

    Returns:
        The objective to maximise, a scalar that is not mutual information, and the new `log_average`.
    """
    check_real(decay, "decay", minimum=0, below=1)
    positive, log_mean = joint_and_log_mean(scores, positives)
    old = ops.cast(log_average, "float32") + math.log(max(decay, 1e-30))
    new = ops.stop_gradient(ops.logaddexp(old, log_mean + math.log(1.0 - decay)))
    # Capped below the limit of float32's exp, for a batch far above the average.
    return positive - ops.exp(ops.minimum(log_mean - new, 80.0)), new


def smile(scores, positives, tau: float = 5.0):
    """SMILE (Song and Ermon 2020, eq. 15): Donsker-Varadhan with exp T clipped to [exp -tau, exp tau] in the log term.

    Args:
        scores: (N, L, M), T for each pair, of a critic that estimates the log density ratio (trained with `jsd`).
        positives: (N,) int.
        tau: the clip, above 0; a smaller one has less variance and more bias.

    Returns:
        Nats: neither a lower nor an upper bound.
    """
    check_real(tau, "tau", above=0)
    positive, _ = joint_and_log_mean(scores, positives)
    scores = _float32(scores)
    clipped = ops.where(scores != -float("inf"), ops.clip(scores, -tau, tau), scores)
    _, log_mean = joint_and_log_mean(clipped, positives)
    return positive - log_mean


def club(scores, positives):
    """CLUB, an upper bound (Cheng et al. 2020, eq. 10): E_joint[log q(y|x)] - E_product[log q(y|x)].

    Args:
        scores: (N, L, M), log q(y_j | x_i) of a conditional density; see `mizoo.densities.conditional_scores`.
        positives: (N,) int.

    Returns:
        Nats: an upper bound of the mutual information when q is the true conditional density; with a fitted one it
        is one only as far as q comes near the truth.
    """
    positive, negative, _ = _mean_of_rows(scores, positives, lambda t: t, lambda t: t)
    return positive - negative


def joint_and_log_mean(scores, positives):
    """The two terms of `dv`, for rows that are a share of a larger batch: there the second terms are averaged first.

    Args:
        scores: (N, L, M), T for each pair.
        positives: (N,) int.

    Returns:
        The mean of T over the N L positive pairs, and the logarithm of the mean of exp T over the N L (M - 1) others
        (of the rows' means, where columns are masked); 0 and 0 where there are no others, so that `dv` is 0.
    """
    scores = _float32(scores)
    mask = _positive_mask(scores, positives)
    negative = ops.where(mask > 0, -float("inf"), scores)
    count = ops.sum(ops.cast(negative != -float("inf"), "float32"), axis=-1, keepdims=True)
    has_others = count[..., 0] > 0
    rows = ops.maximum(ops.sum(ops.cast(has_others, "float32")), 1.0)
    # Each row's mean over its own candidates, so that rows with masked ones weigh as much as others.
    negative = negative - ops.log(ops.maximum(count, 1.0))
    no_others = ops.logical_not(ops.any(has_others))
    log_mean = ops.logsumexp(ops.where(no_others, 0.0, negative)) - ops.log(rows)
    positive = ops.sum(ops.where(has_others, _own(scores, mask), 0.0)) / rows
    return ops.where(no_others, 0.0, positive), ops.where(no_others, 0.0, log_mean)
