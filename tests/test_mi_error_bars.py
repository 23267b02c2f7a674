"""The standard error of estimates with a critic: of one fit, of several, and how often it covers."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest

import mizoo
from mizoo.mi import crossfit, derived, estimator, scoring
from mizoo.mi.fit import FitSchedule
from mizoo.mi.settings import seed_of_repeat

QUICK = {"critic": "bilinear", "max_steps": 50, "progress": False}


def pair(rng, rows: int, rho: float = 0.6, columns: int = 1):
    x = rng.standard_normal((rows, columns))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((rows, columns))


def plan(**changes) -> crossfit.Plan:
    schedule = FitSchedule(64, 2e-3, 50)
    settings = {"bound": "infonce", "critic": "separable", "gaussian": False, "norms": True, "hidden": (8,)}
    settings |= {"embedding": 4, "candidates": 3, "family": "gaussian", "tau": None, "folds": 3, "seed": 0}
    return crossfit.Plan(**(settings | {"schedule": schedule} | changes))


def test_the_error_of_an_average_holds_both_the_rows_and_the_repeats():
    """By hand: the mean share of each row that was scored, and the spread of the estimates over the root of 2."""
    values, shares = np.array([1.0, 3.0]), np.array([[0.0, 2.0, np.nan, np.nan], [1.0, np.nan, 5.0, np.nan]])
    nats, error, share = scoring.averaged(values, shares, np.array([[0, 1, -1, -1], [0, -1, 1, -1]]))
    np.testing.assert_array_equal(share, [0.5, 2.0, 5.0, np.nan])
    assert nats == 2.0
    assert error == pytest.approx(math.hypot(np.std([0.5, 2.0, 5.0], ddof=1) / math.sqrt(3), math.sqrt(2 / 2)))


@pytest.mark.parametrize(
    ("share", "fold", "groups", "error"),
    [
        ([0.0, 2.0, 0.0, 2.0], [0, 0, 1, 1], None, math.sqrt(4 / 3) / 2),  # equal folds: that of the rows
        ([0.0, 0.0, 2.0, 2.0], [0, 0, 1, 1], None, 1.0),  # folds apart: the spread of their means over the root of 2
        ([0.0, 0.0, 2.0, np.nan], [0, 0, 1, -1], None, math.sqrt(8 / 9)),  # a fold counts by its rows
        ([0.0, 2.0, 0.0, 2.0], [0, 0, 0, 0], None, math.sqrt(4 / 3) / 2),  # a single fold
        ([0.0, 2.0, 0.0, 2.0], [0, 0, 1, 1], [0, 0, 1, 1], 0.0),  # rows of one group are one draw
    ],
)
def test_the_error_of_one_cross_fit_is_the_larger_of_rows_and_folds(share, fold, groups, error):
    shares = np.array([share])
    groups = None if groups is None else np.array(groups)
    found = scoring.averaged(np.array([np.nanmean(share)]), shares, np.array([fold]), groups)
    assert found[1] == pytest.approx(error)


def test_a_fold_whose_critic_failed_widens_the_error_bar(rng):
    """The critic of one fold scores all wrong: the rows alone do not show how unsure the mean of three folds is."""
    shares = rng.normal(0.2, 0.5, (1, 300))
    fold = np.arange(300)[None] // 100
    shares[0, fold[0] == 2] -= 0.9
    value = np.array([shares.mean()])
    assert scoring.averaged(value, shares, fold)[1] > 5 * scoring.standard_error(shares[0])


def test_a_difference_of_two_estimates_has_the_error_of_its_folds(rng, monkeypatch):
    """The critics of one fold failed in one of the terms."""
    fold = crossfit.fold_of(list(crossfit.split(300, 3, np.random.default_rng(5))), 300)
    both = rng.normal(0.2, 0.5, 300) - 0.9 * (fold == 2)
    known = rng.normal(0.1, 0.1, 300)
    made = iter(
        derived.Estimate(each.mean(), 0.0, None, "lower", "auto", settings={"folds": 3, "seed": 5}, shares=each)
        for each in (both, known)
    )
    monkeypatch.setattr(derived, "estimate", lambda *arguments, **options: next(made))
    found = mizoo.mi.conditional(*rng.standard_normal((3, 300)), seed=5)
    assert found.nats == pytest.approx((both - known).mean())
    assert found.standard_error > 5 * scoring.standard_error(both - known)


def test_repeats_average_the_estimates_of_their_seeds(rng):
    x, y = pair(rng, 300)
    options = {**QUICK, "critic": "separable", "hidden": (8,), "gaussian": False, "learning_rate": 0.05}
    both = mizoo.mi.estimate(x, y, seed=7, repeats=2, **options)
    each = [mizoo.mi.estimate(x, y, seed=seed_of_repeat(7, repeat), **options) for repeat in (0, 1)]
    assert each[0].nats != each[1].nats
    values, shares = (np.array([getattr(one, name) for one in each]) for name in ("nats", "shares"))
    nats, error, share = scoring.averaged(values, shares, np.zeros(shares.shape, int))
    assert (both.nats, both.standard_error) == (nats, error)
    np.testing.assert_array_equal(both.shares, share)


def test_a_fitter_that_is_used_again_leaves_nothing_behind(rng):
    """The same seed gives the same estimate, whatever the fitter was fitted to before."""
    options = {**QUICK, "critic": "separable", "hidden": (8,), "gaussian": False, "learning_rate": 0.05}
    x, y = pair(rng, 300)
    crossfit._LAST.clear()
    fresh = mizoo.mi.estimate(x, y, seed=1, **options)
    mizoo.mi.estimate(*pair(rng, 300, 0.95), seed=2, **options)
    (kept,) = crossfit._LAST.values()
    again = mizoo.mi.estimate(x, y, seed=1, **options)
    assert next(iter(crossfit._LAST.values())) is kept
    np.testing.assert_array_equal(again.shares, fresh.shares)


def test_two_estimates_at_a_time_have_a_fitter_each():
    with crossfit._fitter(plan(), 1, 1, 64) as (one, _), crossfit._fitter(plan(seed=3), 1, 1, 64) as (other, _):
        assert one is not other
    with crossfit._fitter(plan(hidden=(9,)), 1, 1, 64) as (another, _):
        assert another.model.critic.critic is not one.model.critic.critic


@pytest.mark.slow
@pytest.mark.parametrize(("bound", "repeats"), [("infonce", 1), ("nwj", 3)])
def test_the_error_bar_of_critics_is_as_wide_as_estimates_of_new_rows_scatter(bound, repeats):
    """Of 20 samples, each with its own fits. A bar of half the width is below every ratio that is allowed here."""
    options = {**QUICK, "critic": "separable", "hidden": (16,), "learning_rate": 5e-3, "max_steps": 100}
    found = [
        mizoo.mi.estimate(*pair(np.random.default_rng(seed), 300), bound, seed=seed, repeats=repeats, **options)
        for seed in range(20)
    ]
    values, errors = (np.array([getattr(each, name) for each in found]) for name in ("nats", "standard_error"))
    assert 0.7 < errors.mean() / values.std(ddof=1) < 1.4
    assert (np.abs(values - values.mean()) < 2 * errors).mean() >= 17 / 20


class NothingLearned:
    """In the place of a fitter: a critic of scores 0, so that the test is one of canonical correlations."""

    model = property(lambda self: self)
    pair_size = 1

    def restart(self):
        """As a `Fitter`."""

    def fit(self, train, validation, rng, advance):
        """A curve of one point."""
        return [(0, None, 0.0)]

    def scores(self, x, y):
        """All 0."""
        return np.zeros((len(x), 1, len(y)))


@pytest.fixture
def p_value_of(monkeypatch):
    """The p-value of a pair by 39 permutations, without a fit."""
    monkeypatch.setattr(crossfit, "_fitter", lambda *_: contextlib.nullcontext((NothingLearned(), 0)))
    settings = {"critic": "separable", "gaussian": False, "norms": True, "hidden": (8,), "embedding": 4}
    settings |= {"candidates": 3, "family": "gaussian", "tau": None, "schedule": (64, 2e-3, 0, 1)}
    settings |= {"bound": "infonce", "permutations": 39}
    return lambda x, y, folds, repeats, seed: (
        estimator._by_critic(x, y, repeats, None, False, folds=folds, seed=seed, **settings).result.p_value
    )


@pytest.mark.parametrize(("folds", "repeats"), [(3, 1), pytest.param(3, 5, marks=pytest.mark.slow)])
def test_folds_and_repeats_that_share_rows_keep_the_level_of_the_test(p_value_of, folds, repeats):
    """Of 1,500 independent pairs; a sum over the folds had p of 5 percent in 9 of 100, with 5 repeats in 27."""
    p = [
        p_value_of(*np.random.default_rng((7, seed)).standard_normal((2, 60, 1)), folds, repeats, seed)
        for seed in range(1500)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.06


@pytest.mark.parametrize(("folds", "repeats"), [(1, 1), (3, 1), (3, 5)])
def test_a_dependent_pair_has_the_smallest_p_of_its_permutations(rng, p_value_of, folds, repeats):
    assert p_value_of(*pair(rng, 300), folds, repeats, 0) == pytest.approx(1 / 40)


def test_a_weak_dependence_in_few_rows_is_found_mostly(p_value_of):
    """In 3 of 4 of 60 pairs with a correlation of 0.4; by twice the mean of the folds it was 1 of 10."""
    p = []
    for seed in range(60):
        x, noise = np.random.default_rng((8, seed)).standard_normal((2, 60, 1))
        p.append(p_value_of(x, 0.4 * x + math.sqrt(1 - 0.4**2) * noise, 3, 1, seed))
    assert np.mean(np.array(p) <= 0.05) > 0.55


def test_a_fold_in_which_a_side_does_not_vary_says_nothing(p_value_of):
    x = np.random.default_rng(0).standard_normal((300, 1))
    rare = np.zeros((300, 1))
    rare[:4] = 1.0
    x[:4] += 6.0
    found = [p_value_of(x, rare, 3, 1, seed) for seed in range(20)]
    assert np.mean(np.array(found) <= 0.05) >= 0.8  # but where one fold has all that is rare


def test_p_values_are_combined_as_the_mean_of_cauchy_variates():
    assert scoring.combined([0.3], 9) == 0.3 and scoring.combined([], 9) == 1.0
    assert scoring.combined([0.2, 0.2, 0.2], 99) == pytest.approx(0.2)  # of one test, three times
    assert scoring.combined([0.25, 0.75], 99) == pytest.approx(0.5)
    assert scoring.combined([0.01, 1.0], 99) == pytest.approx(0.5)  # 1 counts as 0.99
