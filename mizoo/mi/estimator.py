"""`estimate`: mutual information of paired rows, on rows that the critic did not see."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mizoo.errors import UserError
from mizoo.mi import messages
from mizoo.mi.copies import without_copies
from mizoo.mi.inputs import (
    check_groups,
    check_pairs,
    for_density,
    one_hot_columns,
    rescale,
    spread_ties,
)
from mizoo.mi.settings import BOUNDS, KIND_OF_BOUND, check_settings, seed_of_repeat

__all__ = ["BOUNDS", "Estimate", "estimate"]


@dataclass(frozen=True)
class Estimate:
    """An estimate of mutual information.

    Attributes:
        nats: the estimate. A lower bound on few rows can come out below zero: read that as no dependence found.
        standard_error: of `nats`: the larger of what the spread over the scored rows says, given the fitted critics,
            and the spread over the folds, which have a critic each. With `repeats`, that over the rows and how the
            repeats differ. For "ksg" from the spread over parts of the rows. What all fits miss is not in it.
        ceiling: the largest value this estimator can report, in nats; None where it has none.
        kind: "lower": in expectation below the truth ("dv" and "mine" as far as their mean over mismatched rows is well
            sampled: there is a warning where it is not). "upper": above it, if the fitted density is right. "neither".
        bound: the estimator.
        curve: for each fold the tuples (step, value on training batches, value on validation rows), in nats; None for
            the training batches of step 0.
        warnings: what a reader of the number has to know.
        rows: scored rows.
        settings: the arguments of `estimate` and what it chose itself.
        p_value: of the test for independence, if `permutations` were asked for: the share of permuted rows with a
            statistic at least as large, in one fold; of several folds and repeats theirs, combined (`permutations`).
        found: whether there is anything behind the number: False where the critic gives all pairs the same score,
            because none of what it tried helped on the validation rows.
        shares: (N,) nats, what each row adds to the estimate, their mean; NaN for rows that were not scored, and for
            the copies within `groups` that "ksg" leaves out.
    """

    nats: float
    standard_error: float
    ceiling: float | None
    kind: str
    bound: str
    curve: tuple[tuple[tuple[int, float | None, float], ...], ...] = ()
    warnings: tuple[str, ...] = ()
    rows: int = 0
    settings: dict = field(default_factory=dict, hash=False)
    p_value: float | None = None
    found: bool = True
    shares: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)

    def plot(self, path: str | None = None, truth: float | None = None):
        """The curves of the fits, the estimate with two standard errors, its ceiling, and the truth if it is known.

        Args:
            path: picture to write, or None.
            truth: in nats.

        Returns:
            The matplotlib figure.

        Raises:
            UserError: without matplotlib.
        """
        from mizoo.mi.plot import plot

        return plot(self, path, truth)

    def __str__(self) -> str:
        kind = {"lower": "lower bound", "upper": "upper bound", "neither": "neither bound"}[self.kind]
        ceiling = "no ceiling" if self.ceiling is None else f"ceiling {self.ceiling:.2f}"
        nothing = "" if self.found else "; the critic found no dependence"
        test = "" if self.p_value is None else f"; p = {self.p_value:.3g}"
        return f"{self.nats:.3f} ± {self.standard_error:.3f} nats ({self.bound}, {kind}, {ceiling}{test}{nothing})"


def estimate(
    x,
    y,
    bound: str = "auto",
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
    tau: float | None = None,
    neighbours: int = 5,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    max_steps: int = 4000,
    patience: int = 5,
    groups=None,
    permutations: int = 0,
    repeats: int = 1,
    progress: bool = True,
) -> Estimate:
    """Estimate the mutual information of paired rows.

    The rows are split into folds. For each, a critic is fitted on the rows of the others, except the 15% that early
    stopping is decided by, and scores the fold that it was not fitted on; the estimate is the mean over all rows. The
    defaults take about 9 seconds of a CPU for 5,000 rows of few columns, "infonce" 7 (benchmarks/mi_tasks.json), and
    "separable" less.

    Args:
        x: (N, d_x) real numbers, one row for each example; (N,) counts as one column. A list, or a DataFrame of pandas,
            whose columns of text and categories become one column for each value but the last (`settings` names them).
        y: (N, d_y), paired with x row by row.
        bound: "infonce", "nwj", "jsd" (trained as that, reported as NWJ), "dv", "mine" (DV with its gradient
            corrected): lower bounds. "auto", also a lower bound: InfoNCE whose critic is also fitted from rotations by
            the norm, products of columns or waves over ranks, where these tell more of the validation rows than a
            Gaussian does; the better of the two fits is kept. "club": upper bound. "smile", "doe" (difference of
            entropies), "ksg" (nearest neighbours, no network): neither.
        critic: "concat" (the default), "separable", "bilinear", "inner" (`mizoo.critics.vector_critic`). Not for
            "club", "doe" and "ksg".
        seed: of the split, the initial weights and the order of the rows: the same seed, the same estimate.
        preprocess: "rank" (normal scores of each column), "standardise" or "none" (one scale for each side). Mutual
            information does not change under the first two; the first also takes heavy tails away.
        gaussian: begin at the log density ratio of a Gaussian that is fitted in closed form, so that the network
            learns only what that leaves over; for the bounds with a critic. Which of a few Gaussians (the leading
            canonical correlations, all of them shrunken, single correlations that stand out) is chosen on the
            validation rows.
        norms: let the critics "concat" and "separable" also see the norm of each side.
        folds: number of folds; 1 scores a third of the rows and leaves the others unscored.
        hidden: widths of the hidden layers of the networks.
        embedding: of the separable critic.
        candidates: mismatched columns for each row of a training batch, for the critic "concat"; the others have all.
        family: "gaussian" or "logistic", of the densities of "club" and "doe". A value that more than a twentieth of
            the rows share in a column of y, such as the 0 of a ReLU, has a probability of its own beside the density.
        tau: the clip of SMILE; the logarithm of the mismatched pairs that are scored together if None.
        neighbours: k of KSG.
        batch_size, learning_rate, max_steps, patience: of the fit; `patience` in evaluations of the validation
            rows, one every 50 steps.
        groups: (N,) labels of rows that belong together: copies, frames of one film, blocks of a time series. They
            stay in one fold, count as one draw in the standard error, and are no neighbours of each other. "ksg"
            leaves copies of a row within its group out, and keeps equal rows of discrete values, which are
            frequencies: more frequent than in other groups they are not.
        permutations: test independence by as many permutations of the scored rows under the fitted critic, without
            fitting it anew: `Estimate.p_value`, from 1 / (B + 1) on with B of them, 0.005 with 199. With a critic each
            fold and repeat has a p-value; they are combined by the Cauchy combination test, which allows for the rows
            that they share (Liu and Xie 2020). With `groups`, whole groups of equal size are exchanged, and a group
            whose size no other has stays where it is.
        repeats: estimate as often, with other splits, weights and orders, and average: the estimate then varies less
            with the fits, and the standard error holds how much they differ. Only the first is compiled.
        progress: show progress on standard error.

    Returns:
        An `Estimate`.

    Raises:
        UserError: for arrays that are not paired, finite, real rows of more than half precision with columns that
            vary, for an unknown or contradictory setting, for "ksg" with `groups` that hold many equal rows which may
            be copies or not, for `repeats` of "ksg", and for `permutations` of `groups` of which fewer than 20 other
            arrangements exist in a fold.

    Warns:
        UserWarning: with each of `Estimate.warnings`: rows that are few, at all or for their columns; an estimate near
            its ceiling or that is not finite; discrete values where a density is fitted.
    """
    (x, x_names), (y, y_names) = one_hot_columns("x", x), one_hot_columns("y", y)
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
        permutations=permutations,
        repeats=repeats,
    )
    groups = check_groups(groups, len(x), folds)
    notes = messages.of_data(bound, x, y, groups is not None)
    kept = without_copies(x, y, groups) if bound == "ksg" and groups is not None else np.arange(len(x))
    notes_on_size = messages.of_sizes(bound, len(kept), x.shape[1] + y.shape[1], folds)
    settings = {"seed": seed, "preprocess": preprocess}
    settings |= {"x_columns": x_names} if x_names else {}
    settings |= {"y_columns": y_names} if y_names else {}
    settings |= {"groups": int(groups.max()) + 1} if groups is not None else {}
    spreading = np.random.default_rng((seed, 2))
    if bound == "ksg":
        x, y = (rescale(spread_ties(side[kept], spreading), preprocess) for side in (x, y))
        settings |= {"neighbours": neighbours}
        found = _by_neighbours(x, y, neighbours, groups, kept, permutations, seed)
    else:
        x, atoms = rescale(x, preprocess), ()
        if bound in ("club", "doe"):
            y, atoms = for_density(y, preprocess, spreading)
        else:
            y = rescale(y, preprocess)
        critic = None if bound in ("club", "doe") else critic or "concat"
        settings |= {"hidden": tuple(hidden), "batch_size": batch_size, "learning_rate": learning_rate}
        settings |= {"max_steps": max_steps, "patience": patience, "folds": folds}
        settings |= {"family": family} if critic is None else {"critic": critic, "gaussian": gaussian, "norms": norms}
        settings |= {"candidates": candidates} if critic == "concat" else {}
        settings |= {"embedding": embedding} if critic == "separable" else {}
        settings |= {"repeats": repeats} if repeats > 1 else {}
        found = _by_critic(
            x,
            y,
            repeats,
            groups,
            progress,
            bound=bound,
            critic=critic,
            gaussian=gaussian,
            norms=norms,
            hidden=tuple(hidden),
            embedding=embedding,
            candidates=candidates,
            family=family,
            tau=tau,
            folds=folds,
            seed=seed,
            permutations=permutations,
            atoms=atoms,
            schedule=(batch_size, learning_rate, max_steps, patience),
        )
        if bound == "smile":
            settings |= {"tau": tau if tau is not None else _usual_tau(found.sizes)}
    settings |= found.settings
    result = found.result
    notes += messages.of_value(bound, result.nats, result.ceiling, found.sizes, tau) + notes_on_size
    for message in notes:
        warnings.warn(message, UserWarning, stacklevel=2)
    return dataclasses.replace(result, settings=settings, warnings=tuple(notes))


@dataclass
class _Found:
    """An estimate, with what its warnings and settings need."""

    result: Estimate
    sizes: list[int]
    settings: dict = field(default_factory=dict)


def _usual_tau(sizes: list[int]) -> float:
    from mizoo.mi.models import smile_tau

    return round(smile_tau(max(sizes)), 4)


def _by_neighbours(x, y, neighbours: int, groups, kept: np.ndarray, permutations: int, seed: int) -> _Found:
    """The estimate of the rows `kept` of all, x (K, d_x) and y (K, d_y); `groups` (N,) are those of all rows."""
    from mizoo.mi import ksg, scoring

    rows = len(x) if groups is None else len(groups)
    if groups is not None:
        groups = np.unique(groups[kept], return_inverse=True)[1]
    largest = 1 if groups is None else int(np.bincount(groups).max())
    if neighbours + largest > len(x):
        apart = "" if groups is None else f" without copies, {largest} in one group, which are no neighbours"
        raise UserError(f"`neighbours` is below the number of rows. Received: {neighbours} and {len(x)} rows{apart}.")
    if permutations and groups is not None:
        scoring.check_arrangements([[groups]])
    rng = np.random.default_rng((seed, 3))
    terms = ksg.ksg(x, y, neighbours, groups)
    p_value = None
    if permutations:
        drawn = [scoring.permutation(groups, len(x), rng) for _ in range(permutations)]
        values = [float(terms.mean()), *(ksg.ksg(x, y[each], neighbours, groups).mean() for each in drawn)]
        p_value = scoring.p_value(np.array(values))
    error = ksg.standard_error(x, y, neighbours, groups, rng)
    ceiling = ksg.ceiling(len(x), neighbours)
    shares = np.full(rows, np.nan)
    shares[kept] = terms
    result = Estimate(
        float(terms.mean()), error, ceiling, "neither", "ksg", rows=len(x), p_value=p_value, shares=shares
    )
    return _Found(result, [len(x)])


def _by_critic(x, y, repeats: int, groups, progress: bool, schedule, **plan) -> _Found:
    from mizoo.mi import crossfit, fit, models, scoring

    batch_size, learning_rate, max_steps, patience = schedule
    plan["schedule"] = fit.FitSchedule(batch_size, learning_rate, max_steps, patience=patience)
    scored = []
    for repeat in range(repeats):
        this = crossfit.Plan(**(plan | {"seed": seed_of_repeat(plan["seed"], repeat)}))
        scored.append(crossfit.fit_and_score(x, y, this, groups, progress))
    bound, sizes = plan["bound"], [size for each in scored for size in each.sizes]
    values, shares, folds = (np.array([getattr(each, name) for each in scored]) for name in ("nats", "shares", "fold"))
    nats, error, share = scoring.averaged(values, shares, folds, groups)
    ceiling = models.infonce_ceilings(sizes) if bound in ("infonce", "auto") else None
    p_value = None
    if plan["permutations"]:
        p_value = scoring.combined([p for each in scored for p in each.p_values], plan["permutations"])
    result = Estimate(
        nats,
        error,
        ceiling,
        KIND_OF_BOUND[bound],
        bound,
        tuple(curve for each in scored for curve in each.curves),
        rows=int((~np.isnan(share)).sum()),
        p_value=p_value,
        found=any(each.varied for each in scored),
        shares=share,
    )
    names = tuple(name for each in scored for name in each.starts)
    return _Found(result, sizes, {"starts": names} if names and plan["gaussian"] else {})
