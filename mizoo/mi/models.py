"""What is fitted: a critic that a bound trains, or the densities of an entropy estimate."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from keras import layers, ops

from mizoo import bounds, densities
from mizoo.critics import VectorCritic

CONTRASTIVE = ("infonce", "jsd", "nwj", "dv", "mine", "smile")
DENSITY = ("club", "doe")
# What is reported of the critic that a bound trained.
REPORTED = {"jsd": "nwj", "mine": "dv"}
CHUNK = 1 << 26
"""Bytes of each array that scoring forms on the way to the scores, 64 MiB: where all pairs would take more, it forms
the scores of some rows at a time."""


def reported_value(bound: str, scores, positives, tau: float | None = None):
    """The value in nats, as `estimate` reports it, of scores (N, L, M) of a model trained for `bound`."""
    name = REPORTED.get(bound, bound)
    if name == "smile":
        return bounds.smile(scores, positives, tau or smile_tau(scores.shape[-1]))
    return getattr(bounds, name)(scores, positives)


def scores_by_chunks(model, x, y):
    """The scores (N, 1, M) that a model gives x (N, d_x) and y (M, d_y), in memory that does not grow with its width.

    Args:
        model: has `scores`, and `pair_size`, the numbers that it forms for each pair.
        x, y: tensors.
    """
    rows = max(CHUNK // (4 * model.pair_size * y.shape[0]), 1)
    if rows >= x.shape[0]:
        return model.scores(x, y)
    parts = []
    for first in range(0, x.shape[0], rows):
        start = min(first, x.shape[0] - rows)  # the last overlaps the one before: JAX compiles anew for another shape
        parts.append(model.scores(x[start : start + rows], y)[first - start :])
    return ops.concatenate(parts)


def smile_tau(rows: int) -> float:
    """The clip of SMILE: the logarithm of the mismatched pairs of `rows` rows, the largest weight they can resolve.

    The paper's 5 adds 2.0 nats to the value of the best critic at 10 nats, this (8.3 at a batch of 64) 0.9.
    """
    return math.log(max(rows * (rows - 1), 3))


class Inputs(VectorCritic):
    """A critic of columns that are followed by variates (`mizoo.mi.starts`): what of them it sees.

    Rows that share a scale (heavy tails, bursts) depend on each other through their norms alone, which a small network
    is slow to form from many columns.

    Args:
        critic: made for the number of inputs on each side that `inputs` gives.
        rows, columns: d_x and d_y.
        norms: whether it sees the norm of each side.
        variates: how many columns of variates follow, for it to see.
    """

    def __init__(self, critic: VectorCritic, rows: int, columns: int, norms: bool, variates: int) -> None:
        super().__init__()
        self.critic, self.sizes, self.norms, self.variates = critic, (rows, columns), norms, variates
        self.pair_size = critic.pair_size

    def sides(self, x, y):
        """The sides of the critic."""
        return self.critic.sides(*(self._inputs(each, size) for each, size in zip((x, y), self.sizes)))

    def pair(self, rows, columns):
        """As the critic pairs them."""
        return self.critic.pair(rows, columns)

    def _inputs(self, x, size: int):
        plain, variates = x[:, :size], x[:, size : size + self.variates]
        plain = _with_norm(plain) if self.norms else plain
        return ops.concatenate([plain, variates], axis=-1) if self.variates else plain


def inputs(size: int, norms: bool, variates: int) -> int:
    """How many inputs a side of `size` columns gives the critic of `Inputs`."""
    return size + norms + variates


def _with_norm(x):
    """x (N, d) of about unit scale with its norm, less what that is for independent columns: (N, d + 1)."""
    norm = ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-6)
    return ops.concatenate([x, norm - x.shape[-1] ** 0.5], axis=-1)


class Contrast(layers.Layer):
    """A critic, trained to distinguish pairs from mismatched pairs.

    Args:
        bound: one of `CONTRASTIVE`.
        critic: a `mizoo.critics.VectorCritic`.
        base: a second critic whose scores are added, or None.
        candidates: mismatched columns for each row; None for all other rows of the batch.
        tau: of SMILE; `smile_tau` of the columns that are scored together if None.
        decay: of MINE's moving average.
    """

    def __init__(
        self,
        bound: str,
        critic: VectorCritic,
        base: VectorCritic | None = None,
        candidates: int | None = None,
        tau: float | None = None,
        decay: float = 0.99,
    ) -> None:
        super().__init__(dtype="float32")
        self.bound, self.critic, self.base = bound, critic, base
        self.pair_size = critic.pair_size
        self.candidates, self.tau, self.decay = candidates, tau, decay
        self.log_average = self.add_weight(shape=(), initializer="zeros", name="log_average", trainable=False)
        self.built = True

    def scores(self, x, y, candidates: int | None = None):
        """Scores (N, 1, M); see `mizoo.critics.VectorCritic.call`."""
        scores = self.critic(x, y, candidates=candidates)
        return scores if self.base is None else scores + self.base(x, y, candidates=candidates)

    def _batch_scores(self, x, y):
        rows = x.shape[0]
        if self.candidates is None or self.candidates >= rows - 1:
            return self.scores(x, y), ops.arange(rows)
        return self.scores(x, y, candidates=self.candidates), ops.zeros((rows,), dtype="int32")

    def terms(self, x, y):
        """Loss to minimise, and value in nats, of a training batch x (B, d_x), y (B, d_y)."""
        scores, positives = self._batch_scores(x, y)
        value = reported_value(self.bound, scores, positives, self.tau)
        if self.bound == "mine":
            objective, log_average = bounds.mine(scores, positives, self.log_average, self.decay)
            self.log_average.assign(log_average)
        elif self.bound in ("jsd", "smile"):  # SMILE's clip has no gradient where it acts
            objective = bounds.jsd(scores, positives)
        else:
            objective = value
        return -objective, value

    def criterion(self, x, y):
        """What early stopping is decided by, to be minimised, and value in nats, of validation rows."""
        scores, positives = self._batch_scores(x, y)
        value = reported_value(self.bound, scores, positives, self.tau)
        # The bounds with an exponential are too noisy to choose by; their best critic is the log density ratio too.
        return -bounds.infonce(scores, positives) if self.bound == "infonce" else -bounds.jsd(scores, positives), value


class DensityPair(layers.Layer):
    """A density of y given x for CLUB, and for difference of entropies one of y as well.

    Args:
        bound: "club" or "doe".
        rows, columns: d_x and d_y.
        family: "gaussian" or "logistic".
        hidden: widths of the hidden layers of the conditional density.
        seed: of the initial weights.
        atoms: of each value that many rows share the column of y that has it, see `mizoo.densities.Atoms`.
    """

    def __init__(
        self,
        bound: str,
        rows: int,
        columns: int,
        family: str,
        hidden: Sequence[int],
        seed: int,
        atoms: Sequence[int] = (),
    ) -> None:
        super().__init__(dtype="float32")
        self.bound, self.pair_size = bound, columns + len(atoms)
        self.conditional = densities.Conditional(rows, columns, family, hidden, seed, atoms=atoms)
        self.marginal = densities.Marginal(columns, family, atoms=atoms)
        self.built = True

    def scores(self, x, y, candidates: int | None = None):
        """Log densities of every y given every x: (N, 1, M)."""
        return densities.conditional_scores(self.conditional, x, y)

    def log_densities(self, x, y):
        """log p(y) and log p(y|x), each (N,)."""
        return self.marginal(y), self.conditional(x, y)

    def terms(self, x, y):
        """Loss to minimise, and value in nats (CLUB, or the difference of entropies), of a training batch."""
        return self._terms(x, y, self.scores)

    def criterion(self, x, y):
        """The same of validation rows, which are many."""
        return self._terms(x, y, functools.partial(scores_by_chunks, self))

    def _terms(self, x, y, scores):
        marginal, conditional = self.log_densities(x, y)
        loss = -ops.mean(conditional) - ops.mean(marginal)
        if self.bound == "club":
            return loss, bounds.club(scores(x, y), ops.arange(x.shape[0]))
        return loss, densities.difference_of_entropies(marginal, conditional)


def infonce_ceilings(sizes: Sequence[int]) -> float:
    """The ceiling in nats of InfoNCE averaged over the rows of blocks of these sizes, each its own candidates."""
    return sum(size * math.log(size) for size in sizes) / sum(sizes)
