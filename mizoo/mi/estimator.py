"""`estimate`: mutual information of paired rows, on rows that the critic did not see."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from mizoo._tools.progress import bar
from mizoo.errors import UserError
from mizoo.mi.inputs import check_pairs, rescale
from mizoo.mi.settings import BOUNDS, KIND_OF_BOUND, check_settings

__all__ = ["BOUNDS", "Estimate", "estimate"]

NEAR_CEILING = 0.1
FEWEST_SCORED = 100
"""Scored rows below which an estimate varies by more than its standard error says."""
ROWS_FOR_EACH_COLUMN = {"club": 20, "doe": 20}
"""Rows for each column of both sides that the density of an estimator takes; others take `ROWS_FOR_A_CRITIC`."""
ROWS_FOR_A_CRITIC = 5
MOST_COLUMNS_OF_NEIGHBOURS = 10
"""Columns of both sides together up to which nearest neighbours are near: "ksg" comes out far too small beyond."""


@dataclass(frozen=True)
class Estimate:
    """An estimate of mutual information.

    Attributes:
        nats: the estimate. A lower bound on few rows can come out below zero: read that as no dependence found.
        standard_error: of `nats`, from the spread over the scored rows, given the fitted critic.
        ceiling: the largest value this estimator can report, in nats; None where it has none.
        kind: "lower": in expectation below the truth ("dv" and "mine" as far as their mean over mismatched rows is well
            sampled: there is a warning where it is not). "upper": above it, if the fitted density is right. "neither".
        bound: the estimator.
        curve: for each fold the tuples (step, value on training batches, value on validation rows), in nats.
        warnings: what a reader of the number has to know.
        rows: scored rows.
        settings: the arguments of `estimate` and what it chose itself.
    """

    nats: float
    standard_error: float
    ceiling: float | None
    kind: str
    bound: str
    curve: tuple[tuple[tuple[int, float, float], ...], ...] = ()
    warnings: tuple[str, ...] = ()
    rows: int = 0
    settings: dict = field(default_factory=dict)

    def __str__(self) -> str:
        kind = {"lower": "lower bound", "upper": "upper bound", "neither": "neither bound"}[self.kind]
        ceiling = "no ceiling" if self.ceiling is None else f"ceiling {self.ceiling:.2f}"
        return f"{self.nats:.3f} ± {self.standard_error:.3f} nats ({self.bound}, {kind}, {ceiling})"


def estimate(
    x,
    y,
    bound: str = "infonce",
    critic: str | None = None,
    seed: int = 0,
    *,
    preprocess: str = "rank",
    gaussian: bool = True,
    norms: bool = True,
    folds: int = 3,
    hidden: Sequence[int] = (64, 64),
    embedding: int = 32,
    candidates: int = 15,
    family: str = "gaussian",
    tau: float = 5.0,
    neighbours: int = 5,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    max_steps: int = 4000,
    patience: int = 5,
    progress: bool = True,
) -> Estimate:
    """Estimate the mutual information of paired rows.

    The rows are split into folds. For each, a critic is fitted on the rows of the others, except the 15% that early
    stopping is decided by, and scores the fold that it was not fitted on; the estimate is the mean over all rows. The
    defaults take about 6 seconds of a CPU for 5,000 rows of few columns (benchmarks/mi_tasks.json), "separable" takes
    less.

    Args:
        x: (N, d_x) real numbers, one row for each example; (N,) counts as one column.
        y: (N, d_y), paired with x row by row.
        bound: "infonce", "nwj", "jsd" (trained as that, reported as NWJ), "dv", "mine" (DV with its gradient
            corrected): lower bounds. "club": upper bound. "smile", "doe" (difference of entropies), "ksg" (nearest
            neighbours, no network): neither.
        critic: "concat" (the default), "separable", "bilinear", "inner" (`mizoo.critics.vector_critic`). Not for
            "club", "doe" and "ksg".
        seed: of the split, the initial weights and the order of the rows: the same seed, the same estimate.
        preprocess: "rank" (normal scores of each column), "standardise" or "none". Mutual information does not change
            under the first two; the first also takes heavy tails away.
        gaussian: begin at the log density ratio of the Gaussian that fits best in closed form, so that the network
            learns only what that leaves over; for the bounds with a critic.
        norms: let the critics "concat" and "separable" also see the norm of each side.
        folds: number of folds; 1 scores a third of the rows and leaves the others unscored.
        hidden: widths of the hidden layers of the networks.
        embedding: of the separable critic.
        candidates: mismatched columns for each row of a training batch, for the critic "concat"; the others have all.
        family: "gaussian" or "logistic", of the densities of "club" and "doe".
        tau: the clip of SMILE.
        neighbours: k of KSG.
        batch_size, learning_rate, max_steps, patience: of the fit; `patience` in evaluations of the validation
            rows, one every 50 steps.
        progress: show progress on standard error.

    Returns:
        An `Estimate`.

    Raises:
        UserError: for arrays that are not paired, finite, real rows of more than half precision with columns that
            vary, and for an unknown or contradictory setting.

    Warns:
        UserWarning: with each of `Estimate.warnings`: rows that are few, at all or for their columns; an estimate near
            its ceiling or that is not finite; discrete values where a density is fitted.
    """
    x, y = check_pairs(x, y)
    check_settings(
        bound,
        critic,
        preprocess,
        folds,
        neighbours,
        candidates,
        tau,
        batch_size,
        max_steps,
        patience,
        learning_rate,
        seed=seed,
        hidden=hidden,
        embedding=embedding,
        family=family,
    )
    messages = _discrete_warnings(bound, y) if bound in ("club", "doe") else []
    few = _size_warnings(bound, len(x), x.shape[1] + y.shape[1], folds)
    x, y = rescale(x, preprocess), rescale(y, preprocess)
    settings = {"seed": seed, "preprocess": preprocess}
    if bound == "ksg":
        from mizoo.mi import ksg

        if neighbours >= len(x):
            raise UserError(f"`neighbours` is below the number of rows. Received: {neighbours} and {len(x)} rows.")
        shares = ksg.ksg(x, y, neighbours)
        settings |= {"neighbours": neighbours}
        return _result(
            bound, float(shares.mean()), shares, ksg.ceiling(len(x), neighbours), (), settings, messages, few
        )

    from mizoo.critics import vector_critic
    from mizoo.mi import fit, models, scoring
    from mizoo.mi.gaussian import GaussianTerm

    d_x, d_y = x.shape[1], y.shape[1]
    schedule = fit.FitSchedule(batch_size, learning_rate, max_steps, patience=patience)
    settings |= {"hidden": tuple(hidden), "batch_size": batch_size, "learning_rate": learning_rate}
    settings |= {"max_steps": max_steps, "patience": patience, "folds": folds}
    if bound in models.DENSITY:
        settings |= {"family": family}
        model = models.DensityPair(bound, d_x, d_y, family, hidden, seed)
    else:
        critic = critic or "concat"
        settings |= {"critic": critic, "gaussian": gaussian, "norms": norms}
        settings |= {"candidates": candidates} if critic == "concat" else {}
        settings |= {"embedding": embedding} if critic == "separable" else {}
        settings |= {"tau": tau} if bound == "smile" else {}
        if norms and critic in ("concat", "separable"):
            network = models.WithNorm(vector_critic(critic, d_x + 1, d_y + 1, hidden, embedding, seed))
        else:
            network = vector_critic(critic, d_x, d_y, hidden, embedding, seed)
        base = GaussianTerm(d_x, d_y) if gaussian else None
        model = models.Contrast(bound, network, base, candidates if critic == "concat" else None, tau)

    rng = np.random.default_rng(seed)
    splits = list(_folds(len(x), folds, rng))
    fitter = fit.Fitter(model, schedule, min(batch_size, min(len(train) for train, _, _ in splits)))
    values, sizes, shares, curves = [], [], [], []
    with bar("fitting", len(splits) * max_steps, progress) as advance:
        for train, validation, test in splits:
            fitter.restart()
            if bound in models.DENSITY:
                model.conditional.start_at(x[train].astype("float64"), y[train].astype("float64"))
                model.marginal.start_at(y[train].astype("float64"))
            elif gaussian:
                base.fit(x[train], y[train], x[validation], y[validation])
            curve = fitter.fit((x[train], y[train]), (x[validation], y[validation]), rng, advance)
            advance(max_steps - curve[-1][0])  # what early stopping saved
            curves.append(tuple(curve))
            for block in scoring.blocks(len(test)):
                rows = test[block]
                if bound == "doe":
                    share = scoring.log_ratios(model, x[rows], y[rows])
                    value = float(share.mean())
                else:
                    value, share = scoring.value_and_shares(bound, scoring.scores(model, x[rows], y[rows]), tau)
                values.append(value)
                sizes.append(len(rows))
                shares.append(share)
    nats = float(np.average(values, weights=sizes))
    ceiling = models.infonce_ceilings(sizes) if bound == "infonce" else None
    if ceiling is not None:
        nats = min(nats, ceiling)  # float32 rounds a perfect score up by a few units of its last place
    log_pairs = sum(size * math.log(size * (size - 1)) for size in sizes) / sum(sizes)
    if bound in ("dv", "mine") and nats > log_pairs:
        messages.append(
            f"The estimate of {nats:.2f} nats is above {log_pairs:.2f}, the logarithm of the mismatched pairs that are "
            f"scored together: their mean is badly sampled there, and {bound!r} can be far above the truth. Use more "
            "rows, or 'infonce'."
        )
    return _result(bound, nats, np.concatenate(shares), ceiling, tuple(curves), settings, messages, few)


def _discrete_warnings(bound: str, y: np.ndarray) -> list[str]:
    """A warning if a column repeats most of its values, as numbers that count or name something do."""
    fewest = min(len(np.unique(column)) for column in y.T)
    if fewest >= len(y) / 2:
        return []
    return [
        f"`y` has a column of {fewest} different values in {len(y)} rows, and {bound!r} fits a density of continuous "
        "values to it: the number depends more on that density than on the information. Use 'infonce'."
    ]


def _size_warnings(bound: str, rows: int, columns: int, folds: int) -> list[str]:
    """Warnings of rows that are too few for the columns of both sides together, or to be scored at all."""
    scored = rows if bound == "ksg" or folds > 1 else rows // 3
    needed = 0 if bound == "ksg" else columns * ROWS_FOR_EACH_COLUMN.get(bound, ROWS_FOR_A_CRITIC)
    messages = []
    if scored < FEWEST_SCORED:
        messages.append(
            f"{scored} scored rows are few: the estimate can be wide of the truth by more than its standard error, "
            f"which leaves out how the fit varies. Use {FEWEST_SCORED} rows at least, better thousands"
            + (", or folds=3, which scores them all." if scored < rows else ".")
        )
    if rows < needed:
        messages.append(
            f"{rows} rows are few for {columns} columns of `x` and `y` together: {bound!r} takes about {needed} to be "
            "fitted. Use more rows, or fewer columns (the first principal components, say)."
        )
    if bound == "ksg" and columns > MOST_COLUMNS_OF_NEIGHBOURS:
        messages.append(
            f"'ksg' comes out far too small with {columns} columns of `x` and `y` together, where no row is near "
            f"another. Use {MOST_COLUMNS_OF_NEIGHBOURS} columns at most, or a bound with a critic, such as 'infonce'."
        )
    return messages


def _result(
    bound: str,
    nats: float,
    shares: np.ndarray,
    ceiling: float | None,
    curve,
    settings: dict,
    messages: list[str],
    few: list[str],
) -> Estimate:
    messages = list(messages)
    if ceiling is not None and nats > (1.0 - NEAR_CEILING) * ceiling:
        messages.append(
            f"The estimate of {nats:.2f} nats is within 10% of {ceiling:.2f}, the most that {bound!r} can report on "
            "these rows: the truth may be far above. Use more rows, or an estimator without ceiling ('smile', 'doe')."
        )
    if not math.isfinite(nats):
        messages.append(f"The estimate is not finite: {bound!r} diverged. Use 'infonce', or a smaller `learning_rate`.")
    messages += few
    for message in messages:
        warnings.warn(message, UserWarning, stacklevel=3)
    error = float(shares.std(ddof=1) / math.sqrt(len(shares)))
    return Estimate(nats, error, ceiling, KIND_OF_BOUND[bound], bound, curve, tuple(messages), len(shares), settings)


def _folds(rows: int, folds: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows to fit on, rows for early stopping (15% of what is not scored), and rows to score, for each fold."""
    fold_rows = np.array_split(rng.permutation(rows), max(folds, 3))
    for i in range(folds):
        rest = np.concatenate([fold for j, fold in enumerate(fold_rows) if j != i])
        validation_size = max(len(rest) * 15 // 100, 5)
        yield rest[validation_size:], rest[:validation_size], fold_rows[i]
