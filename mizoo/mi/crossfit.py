"""Fit on some folds of the rows, score the others: values, what each row adds, and the test by permutation."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mizoo._tools.progress import bar
from mizoo.mi import scoring

SEEN_VARIATES = 4
"""Of a start that is no Gaussian of the columns themselves, how many the network of "auto" sees."""
WORTH_A_FIT = 0.02
"""Nats that such a start has to gain on the validation rows over the best Gaussian one, for "auto" to try both."""
LEAST_DIFFERENCE = 1e-3
"""Of scores, in nats, below which a critic has found nothing: they make a difference of a millionth of a nat."""
_LAST: dict[tuple, Any] = {}
"""The fitter of the last estimate, by what it is compiled for."""


@dataclass
class Scored:
    """What scoring the folds gave.

    Attributes:
        values, sizes: value in nats and rows of each block that was scored together.
        shares: (N,) what each row adds, NaN for rows that were not scored.
        fold: (N,) the fold in which each row was scored, -1 for rows that were not.
        p_values: of the test by permutation in each fold where the pairing makes a difference.
        curves: of the fits.
        starts: the name of the start of each fold, without a start "none".
        varied: whether any block's scores differ between pairs.
    """

    shares: np.ndarray
    fold: np.ndarray
    values: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    p_values: list[float] = field(default_factory=list)
    curves: list[tuple] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    varied: bool = False

    @property
    def nats(self) -> float:
        """The mean over all scored rows."""
        return float(np.average(self.values, weights=self.sizes))


def split(rows: int, folds: int, rng: np.random.Generator, groups: np.ndarray | None = None) -> Iterator[tuple]:
    """Rows to fit on, rows for early stopping (15% of what is not scored), and rows to score, for each fold.

    Groups (N,) are kept whole in each of the three.
    """
    if groups is None:
        parts = np.array_split(rng.permutation(rows), max(folds, 3))
    else:
        order = np.argsort(groups, kind="stable")
        units = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
        parts = np.array_split(rng.permutation(len(units)), max(folds, 3))
    for i in range(folds):
        rest = np.concatenate([part for j, part in enumerate(parts) if j != i])
        if groups is None:
            held_out = max(len(rest) * 15 // 100, 5)
            yield rest[held_out:], rest[:held_out], parts[i]
        else:
            held_out = max(len(rest) * 15 // 100, 1)
            of_units = (rest[held_out:], rest[:held_out], parts[i])
            yield tuple(rng.permutation(np.concatenate([units[unit] for unit in each])) for each in of_units)


def fold_of(splits: Sequence[tuple], rows: int) -> np.ndarray:
    """The fold (N,) in which each of the rows is scored, -1 for those that are not."""
    folds = np.full(rows, -1)
    for fold, (_, _, scored) in enumerate(splits):
        folds[scored] = fold
    return folds


@dataclass(frozen=True)
class Plan:
    """What is fitted and how; see `mizoo.mi.estimate` for the arguments."""

    bound: str
    critic: str | None
    gaussian: bool
    norms: bool
    hidden: tuple[int, ...]
    embedding: int
    candidates: int
    family: str
    tau: float | None
    folds: int
    seed: int
    schedule: Any
    permutations: int = 0
    atoms: tuple[int, ...] = ()


def fit_and_score(
    x: np.ndarray, y: np.ndarray, plan: Plan, groups: np.ndarray | None = None, progress: bool = True
) -> Scored:
    """Fit to the folds in turn and score what each leaves out; x (N, d_x) and y (N, d_y), float32."""
    rng, pairing = np.random.default_rng(plan.seed), np.random.default_rng((plan.seed, 1))
    splits = list(split(len(x), plan.folds, rng, groups))
    if plan.permutations and groups is not None:
        preview = np.random.default_rng((plan.seed, 1))
        blocks = [scoring.whole_blocks(test, groups, preview) for _, _, test in splits]
        scoring.check_arrangements([[groups[block] for block in each] for each in blocks])
    batch_size = min(plan.schedule.batch_size, min(len(train) for train, _, _ in splits))
    with _fitter(plan, x.shape[1], y.shape[1], batch_size) as (fitter, variates):
        return _fit_and_score(fitter, variates, x, y, plan, groups, splits, (rng, pairing), progress)


def _fit_and_score(fitter, variates: int, x, y, plan: Plan, groups, splits, generators, progress: bool) -> Scored:
    """Fit and score each split, with the generators of the fits and of the permutations."""
    from mizoo.mi import models

    model, (rng, pairing) = fitter.model, generators
    scored = Scored(np.full(len(x), np.nan), fold_of(splits, len(x)))
    max_steps = plan.schedule.max_steps
    with bar("fitting", len(splits) * max_steps, progress) as advance:
        for train, validation, test in splits:
            fitter.restart()
            rows, columns = x, y
            if variates:
                fitted = _fit_from_starts(fitter, plan, variates, (x, y), train, validation, rng, advance)
                rows, columns, curve = fitted.rows, fitted.columns, fitted.curve
                scored.starts.append(fitted.start)
            else:
                if plan.bound in models.DENSITY:
                    model.conditional.start_at(x[train].astype("float64"), y[train].astype("float64"))
                    model.marginal.start_at(y[train].astype("float64"))
                curve = fitter.fit((x[train], y[train]), (x[validation], y[validation]), rng, advance)
                advance(max_steps - curve[-1][0])  # what early stopping saved
            scored.curves.append(tuple(curve))
            _score(scored, model, plan, (rows, columns), (x[train], y[train]), test, groups, pairing)
    return scored


@contextlib.contextmanager
def _fitter(plan: Plan, d_x: int, d_y: int, batch_size: int):
    """A fitter at the initial weights of the plan, and the number of variates that follow the columns.

    Compiling takes longer than many fits: the last fitter is kept for the next estimate of the same shape, such as a
    repeat. It is taken out while it is used, so that another thread makes its own.
    """
    from mizoo.mi import fit

    key = (dataclasses.replace(plan, seed=0, permutations=0), d_x, d_y, batch_size)
    model, variates = _model(plan, d_x, d_y)
    fitter = _LAST.pop(key, None)
    if fitter is None:
        fitter = fit.Fitter(model, plan.schedule, batch_size)
    else:
        fitter.start_from(model)
    yield fitter, variates
    _LAST.clear()
    _LAST[key] = fitter


@dataclass
class _Fitted:
    """A critic after its fit from a start, and the rows with the variates that it takes."""

    start: str
    rows: np.ndarray
    columns: np.ndarray
    curve: list[tuple]
    correlations: np.ndarray
    weights: list[np.ndarray]

    @property
    def best(self) -> float:
        """The largest value on the validation rows."""
        return max(value for _, _, value in self.curve)


def _fit_from_starts(fitter, plan: Plan, variates: int, pairs, train, validation, rng, advance) -> _Fitted:
    """Fit from each start worth it, and leave the model as the one that was best on the validation rows left it."""
    (x, y), model, fits = pairs, fitter.model, []
    chosen = _starts(x[train], y[train], x[validation], y[validation], plan.bound == "auto")
    for start, is_gaussian in chosen:
        fitter.restart()
        seen = 0 if is_gaussian else model.critic.variates
        rows, columns = (
            np.concatenate([side, _padded(both[:, :seen], model.critic.variates), _padded(both, variates)], axis=1)
            for side, both in ((x, start.row_variates(x)), (y, start.column_variates(y)))
        )
        correlations = _padded(start.correlations[None], variates)[0]
        model.base.start(correlations)
        curve = fitter.fit(
            (rows[train], columns[train]),
            (rows[validation], columns[validation]),
            rng,
            lambda steps: advance(steps / len(chosen)),
        )
        advance((plan.schedule.max_steps - curve[-1][0]) / len(chosen))  # what early stopping saved
        fits.append(_Fitted(start.name, rows, columns, curve, correlations, fitter.weights()))
    best = max(fits, key=lambda fitted: fitted.best)
    model.base.start(best.correlations)
    fitter.take(best.weights)
    return best


def _starts(x, y, x_other, y_other, every: bool) -> list[tuple]:
    """The best Gaussian start, and with `every` another that beats it, each with whether it is Gaussian."""
    from mizoo.mi import starts

    gaussian = starts.choose(x, y, x_other, y_other, starts.GAUSSIAN)
    chosen = [(gaussian, True)]
    if every:
        other = starts.choose(x, y, x_other, y_other, starts.OTHERS)
        if other.value > gaussian.value + WORTH_A_FIT:
            chosen.append((other, False))
    return chosen


def _padded(variates: np.ndarray, count: int) -> np.ndarray:
    """Variates (N, R) as (N, count) float32, zeros after them."""
    padded = np.zeros((len(variates), count), "float32")
    padded[:, : variates.shape[1]] = variates[:, :count]
    return padded


def _model(plan: Plan, d_x: int, d_y: int):
    """What is fitted, and the number of variates that follow the columns."""
    from mizoo.critics import vector_critic
    from mizoo.mi import models, starts
    from mizoo.mi.gaussian import GaussianTerm

    if plan.bound in models.DENSITY:
        columns = d_y - len(plan.atoms)
        return models.DensityPair(plan.bound, d_x, columns, plan.family, plan.hidden, plan.seed, plan.atoms), 0
    auto = plan.bound == "auto"
    most = max(min(d_x, d_y), starts.MOST_VARIATES) if auto else min(d_x, d_y)
    variates = most if plan.gaussian else 0
    seen = min(SEEN_VARIATES, variates) if auto and plan.critic in ("concat", "separable") else 0
    norms = plan.norms and plan.critic in ("concat", "separable")
    sizes = (models.inputs(d_x, norms, seen), models.inputs(d_y, norms, seen))
    network = vector_critic(plan.critic, *sizes, plan.hidden, plan.embedding, plan.seed)
    network = models.Inputs(network, d_x, d_y, norms, seen)
    base = GaussianTerm(variates) if variates else None
    candidates = plan.candidates if plan.critic == "concat" else None
    return models.Contrast("infonce" if auto else plan.bound, network, base, candidates, plan.tau), variates


def _score(scored: Scored, model, plan: Plan, data, train, test, groups, pairing) -> None:
    """Score the rows `test` of data (x, y) in blocks; `train` are the rows that were fitted, without variates."""
    x, y = data
    statistics = np.zeros(1 + plan.permutations)
    bound = "infonce" if plan.bound == "auto" else plan.bound
    for block in scoring.blocks(len(test)):
        rows = test[block]
        scores = None
        if bound != "doe" or (plan.permutations and groups is None):
            scores = scoring.scores(model, x[rows], y[rows])
        if bound == "doe":
            share = scoring.log_ratios(model, x[rows], y[rows])
            value, varied = float(share.mean()), True
        else:
            value, share = scoring.value_and_shares(bound, scores, plan.tau)
            varied = bool(np.ptp(scores) > LEAST_DIFFERENCE)
        scored.values.append(value)
        scored.sizes.append(len(rows))
        scored.shares[rows] = share
        scored.varied |= varied
        if plan.permutations and groups is None:
            statistics += _permuted(scores, varied, train, (x[rows], y[rows]), plan, pairing)
    for rows in scoring.whole_blocks(test, groups, pairing) if plan.permutations and groups is not None else ():
        scores = scoring.scores(model, x[rows], y[rows])
        varied = bool(np.ptp(scores) > LEAST_DIFFERENCE)
        data = x[rows], y[rows]
        statistics += _permuted(scores, varied, train, data, plan, pairing, groups[rows])
    if np.ptp(statistics) > 0:  # a side that does not vary in this fold says nothing, for or against
        scored.p_values.append(scoring.p_value(statistics))


def _permuted(scores, varied: bool, train, data, plan: Plan, pairing, groups=None) -> np.ndarray:
    """Statistics (1 + B,) of a block with these scores (N, 1, N), as it is and permuted."""
    if not varied:  # a critic that found nothing: test by correlations, spurious or not
        scores = _spare_scores(train, *data)
    drawn = [scoring.permutation(groups, len(scores), pairing) for _ in range(plan.permutations)]
    return scoring.permuted(scores, drawn)


def _spare_scores(train, x, y) -> np.ndarray:
    """Scores (N, 1, N) of all canonical correlations of the training rows."""
    from mizoo.mi.starts import every_correlation

    d_x, d_y = train[0].shape[1], train[1].shape[1]
    return every_correlation(*train).scores(x[:, :d_x], y[:, :d_y])[:, None]
