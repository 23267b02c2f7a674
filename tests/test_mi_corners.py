"""What users have: rounded values, copies, units, point masses, blocks, nothing at all; each with its right value."""

from __future__ import annotations

import dataclasses
import math
import re
import time
import warnings

import numpy as np
import pytest

import mizoo
from mizoo.critics import vector_critic
from mizoo.errors import UserError
from mizoo.mi import copies, crossfit, inputs, ksg, models, scoring

pytest.importorskip("scipy")
QUICK = {"critic": "bilinear", "max_steps": 50, "progress": False}


def pair(rng, rows: int, rho: float = 0.8, columns: int = 1):
    x = rng.standard_normal((rows, columns))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((rows, columns))


TRUTH = -0.5 * math.log(1 - 0.64)


@pytest.mark.parametrize("preprocess", ["rank", "standardise", "none"])
@pytest.mark.parametrize("step", [1 / 30, 0.3])
def test_rounding_adds_no_information(rng, preprocess, step):
    x, y = (step * np.round(each / step) for each in pair(rng, 3000))
    found = mizoo.mi.estimate(x, y, "ksg", preprocess=preprocess)
    assert found.nats == pytest.approx(TRUTH - 0.5 * step**2 * 0.1, abs=2.5 * found.standard_error + 0.01)


def test_neighbours_of_discrete_values(rng):
    """y equals x in nine of ten rows: the table of both gives the information."""
    x = rng.integers(0, 4, 3000)
    y = np.where(rng.random(3000) < 0.9, x, rng.integers(0, 4, 3000))
    same, other = 0.925 / 4, 0.025 / 4
    truth = 4 * same * math.log(same * 16) + 12 * other * math.log(other * 16)
    assert mizoo.mi.estimate(x, y, "ksg").nats == pytest.approx(truth, abs=0.08)


def in_groups(rng, rows: int = 2000):
    """Dependent pairs that `groups` must not change, by name."""
    x, y = pair(rng, rows)
    classes = rng.integers(0, 4, (rows, 1))
    return {
        "classes": (classes, np.where(rng.random((rows, 1)) < 0.8, classes, rng.integers(0, 4, (rows, 1)))),
        "a class and a number": (classes, classes + 0.3 * rng.standard_normal((rows, 1))),
        "whole numbers": (np.round(x), np.round(y)),
        "decimals": (np.round(x, 1), np.round(y, 1)),
        "zeros": (np.maximum(x, 0), np.maximum(y, 0)),
        "continuous": (x, y),
    }


@pytest.mark.parametrize(
    "kind", ["classes", "a class and a number", "whole numbers", "decimals", "zeros", "continuous"]
)
def test_groups_of_independent_rows_leave_the_estimate_of_neighbours_as_it_is(rng, kind):
    x, y = in_groups(rng)[kind]
    alone = mizoo.mi.estimate(x, y, "ksg")
    single, tens = (mizoo.mi.estimate(x, y, "ksg", groups=np.arange(2000) // size) for size in (1, 10))
    assert single.nats == pytest.approx(alone.nats, abs=1e-9) and alone.nats > 0.3
    assert tens.nats == pytest.approx(alone.nats, abs=0.02) and tens.rows == len(tens.shares) == 2000


def test_subjects_measured_several_times_have_the_information_of_their_rows(rng):
    """One side once for each of 200 subjects, the other ten times: as it is, rounded, and as one of two classes."""
    subject = np.repeat(np.arange(200), 10)
    x = rng.standard_normal(200)[subject]
    y = 0.8 * x + 0.6 * rng.standard_normal(2000)
    chance = 1 / (1 + np.exp(-3 * x))
    answer = rng.random(2000) < chance
    p = np.mean(answer)
    of_answer = np.mean(chance * np.log(chance / p) + (1 - chance) * np.log((1 - chance) / (1 - p)))
    for side, truth in ((y, TRUTH), (np.round(y), 0.447), (answer, of_answer)):
        found = mizoo.mi.estimate(x, side, "ksg", groups=subject)
        assert found.nats == pytest.approx(truth, abs=0.05 + found.standard_error) and found.rows == 2000


def test_copies_within_groups_change_nothing_and_have_no_share(rng):
    x, y = pair(rng, 400)
    source = np.sort(rng.integers(0, 400, 1000))
    _, first = np.unique(source, return_index=True)
    once = mizoo.mi.estimate(x[source[first]], y[source[first]], "ksg")
    found = mizoo.mi.estimate(x[source], y[source], "ksg", groups=source)
    assert found.nats == pytest.approx(once.nats, abs=1e-9) and found.rows == len(first)
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(found.shares)), first)
    assert np.nanmean(found.shares) == pytest.approx(found.nats, abs=1e-12) and len(found.shares) == 1000
    few = np.arange(240) // 20  # of 12 groups, too, whose values are too few to tell by their gaps
    with pytest.warns(UserWarning, match="^12 scored rows are few"):
        assert mizoo.mi.estimate(x[few], y[few], "ksg", groups=few).rows == 12


def test_copies_among_frequent_equal_rows_are_refused(rng):
    x, y = (np.maximum(each, 0) for each in pair(rng, 500))
    source = np.sort(rng.integers(0, 500, 1000))
    with pytest.raises(UserError, match="cannot be told.*leave all but one of each out first"):
        mizoo.mi.estimate(x[source], y[source], "ksg", groups=source // 5)


def test_the_test_for_independence_of_neighbours_has_power_and_level_in_groups(rng):
    """Ten rows of nearly one value in each of 60 groups."""
    group = np.repeat(np.arange(60), 10)

    def series():
        return rng.standard_normal(60)[group] + 0.05 * rng.standard_normal(600)

    x = series()
    found = mizoo.mi.estimate(x, 0.9 * x + math.sqrt(0.19) * series(), "ksg", groups=group, permutations=19)
    assert found.p_value == pytest.approx(0.05)
    p = [mizoo.mi.estimate(x, series(), "ksg", groups=group, permutations=9).p_value for _ in range(8)]
    assert 0.25 < np.mean(p) < 0.9


def test_spread_ties_keep_order_and_values(rng):
    x = np.column_stack([rng.integers(0, 5, 300), rng.standard_normal(300)]).astype("float64")
    spread = inputs.spread_ties(x, rng)
    np.testing.assert_array_equal(np.round(spread[:, 0]), x[:, 0])
    np.testing.assert_array_equal(spread[:, 1], x[:, 1])
    assert len(np.unique(spread[:, 0])) == 300


def test_the_error_bar_of_neighbours_covers(rng):
    """Of 120 estimates nine in ten lie within two standard errors of their mean, which has the bias, too."""
    found = [mizoo.mi.estimate(*pair(rng, 500, 0.6), "ksg") for _ in range(120)]
    values, errors = (np.array([getattr(each, name) for each in found]) for name in ("nats", "standard_error"))
    assert (np.abs(values - values.mean()) < 2 * errors).mean() >= 0.9
    assert errors.mean() == pytest.approx(values.std(), rel=0.3)


def test_copies_are_warned_of_and_kept_together_by_groups(rng):
    x, y = rng.standard_normal((2, 100, 1))
    group = np.repeat(np.arange(100), 15)
    with pytest.warns(UserWarning, match="1500 of 1500 rows equal another row.*`groups`"):
        apart = mizoo.mi.estimate(x[group], y[group], "ksg")
    assert apart.nats > 1
    for bound, options in (("ksg", {}), ("infonce", QUICK)):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            found = mizoo.mi.estimate(x[group], y[group], bound, groups=group, **options)
        assert abs(found.nats) < 0.05 + 3 * found.standard_error


def test_discrete_rows_and_common_zeros_are_no_copies(rng):
    counts = rng.integers(0, 10, (2, 2000, 1)).astype("float64")
    decimals = np.round(rng.standard_normal((2, 2000, 1)), 1)
    zeros = np.maximum(rng.standard_normal((2, 2000, 2)), 0)
    for x, y in (counts, decimals, zeros, rng.standard_normal((2, 2000, 1))):
        assert copies.coinciding(x, y) == 0
    x, y = rng.standard_normal((2, 2000, 2))
    x[50:60], y[50:60] = x[:10], y[:10]
    assert copies.coinciding(x, y) == 20


@pytest.mark.parametrize("folds", [1, 4])
def test_groups_stay_whole_in_every_part(rng, folds):
    groups = rng.integers(0, 60, 700)
    scored = []
    for parts in crossfit.split(700, folds, rng, groups):
        of_part = [set(groups[part]) for part in parts]
        assert not (of_part[0] & of_part[1] or of_part[0] & of_part[2] or of_part[1] & of_part[2])
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(700))
        scored.append(parts[2])
    if folds > 1:
        np.testing.assert_array_equal(np.sort(np.concatenate(scored)), np.arange(700))


def test_blocks_of_slow_series_are_no_dependence(rng):
    from scipy.signal import lfilter

    series = lfilter([1.0], [1.0, -0.99], rng.standard_normal((2, 6000)), axis=1)[:, 2000:]
    blocks = np.arange(4000) // 200
    found = mizoo.mi.estimate(*series, groups=blocks, folds=5, **QUICK)
    assert found.nats < 2.5 * found.standard_error + 0.01
    shares = np.repeat(rng.standard_normal(50), 20)
    assert scoring.standard_error(shares, np.arange(1000) // 20) > 4 * scoring.standard_error(shares)


def test_wrong_groups_are_refused(rng):
    x, y = pair(rng, 100)
    for groups, message in (
        (np.arange(99), "one label for each of the 100 rows"),
        (np.zeros(100), "6 of them at least"),
    ):
        with pytest.raises(UserError, match=message):
            mizoo.mi.estimate(x, y, groups=groups, progress=False)


def test_nothing_found_is_said_and_its_value_and_error_agree(rng):
    found = mizoo.mi.estimate(*rng.standard_normal((2, 600, 2)), **{**QUICK, "learning_rate": 1e-9, "gaussian": False})
    assert abs(found.nats) < 1e-6 and not found.found and "found no dependence" in str(found)
    assert np.nanmean(found.shares) == pytest.approx(found.nats, abs=1e-12)


def test_the_test_for_independence_has_its_level_and_power(rng):
    options = {"bound": "infonce", "critic": "bilinear", "folds": 1, "max_steps": 1, "permutations": 99}
    p = []
    for _ in range(200):  # the scores of any critic whatever
        x, y = rng.standard_normal((2, 40, 1))
        scores = np.tanh(x + y.T)[:, None] * x[:, None]
        drawn = [scoring.permutation(None, 40, rng) for _ in range(99)]
        p.append(scoring.p_value(scoring.permuted(scores, drawn)))
    assert 4 <= np.sum(np.array(p) < 0.05) <= 18 and np.mean(p) == pytest.approx(0.5, abs=0.08)
    assert mizoo.mi.estimate(*pair(rng, 300), progress=False, **options).p_value == pytest.approx(0.01)
    assert mizoo.mi.estimate(*pair(rng, 300), "ksg", permutations=19).p_value == pytest.approx(0.05)
    assert mizoo.mi.estimate(*pair(rng, 300), "ksg").p_value is None


@pytest.mark.slow
@pytest.mark.parametrize("bound", ["infonce", "ksg"])
def test_of_200_independent_pairs_4_to_18_have_p_below_5_percent(bound):
    p = []
    for seed in range(200):
        x, y = np.random.default_rng(seed).standard_normal((2, 200, 2))
        options = {"critic": "separable", "hidden": (8,), "max_steps": 50, "folds": 1} if bound == "infonce" else {}
        p.append(mizoo.mi.estimate(x, y, bound, permutations=99, progress=False, **options).p_value)
    assert 4 <= np.sum(np.array(p) < 0.05) <= 18


def test_whole_groups_are_exchanged(rng):
    groups = np.repeat(np.arange(8), 25)
    pairing = scoring.permutation(groups, 200, rng)
    np.testing.assert_array_equal(np.sort(pairing), np.arange(200))
    for block in pairing.reshape(8, 25):
        np.testing.assert_array_equal(block, block[0] + np.arange(25))


@pytest.mark.parametrize("preprocess", ["none", "standardise", "rank"])
def test_units_do_not_matter(rng, preprocess):
    """To any estimator: they see columns that are the same in any unit of the side."""
    x, y = pair(rng, 400)
    seen = [inputs.rescale(unit * y, preprocess) for unit in (1.0, 1e-6, 1e6)]
    for other in seen[1:]:
        np.testing.assert_allclose(other, seen[0], atol=1e-6)
    plain, tiny = (mizoo.mi.estimate(x, unit * y, "ksg", preprocess=preprocess).nats for unit in (1, 1e-6))
    assert tiny == pytest.approx(plain, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("bound", ["doe", "club", "infonce"])
def test_units_do_not_matter_to_networks(rng, bound):
    x, y = pair(rng, 400)
    options = {"hidden": (8,), "max_steps": 20, "folds": 1, "preprocess": "none", "progress": False}
    plain, tiny = (mizoo.mi.estimate(x, unit * y, bound, **options).nats for unit in (1, 1e-6))
    assert tiny == pytest.approx(plain, abs=2e-3)


def test_columns_of_very_different_units_are_refused_as_they_are(rng):
    x, y = pair(rng, 200, columns=2)
    with pytest.raises(UserError, match="comparable units"):
        mizoo.mi.estimate(x * np.array([1, 1e-6]), y, "ksg", preprocess="none")


def test_densities_do_not_depend_on_units(rng):
    from keras import ops

    from mizoo.densities import Conditional, Marginal

    x, y = pair(rng, 2000, 0.99999, 2)
    for unit in (1.0, 1e-5, 1e5):
        marginal, conditional = Marginal(2), Conditional(2, 2, hidden=(4,))
        marginal.start_at(unit * y)
        conditional.start_at(unit * x, unit * y)
        given = [(unit * each).astype("float32") for each in (x, y)]
        value = np.mean(ops.convert_to_numpy(conditional(*given)) - ops.convert_to_numpy(marginal(given[1])))
        assert value == pytest.approx(-math.log(1 - 0.99999**2), abs=0.1)


def test_point_masses_are_told_apart_from_the_density(rng):
    """A Gaussian pair of correlation 0.8 through a ReLU with 45 % zeros; without a density of its own for the zeros it
    comes out at 0.54, and at 0.29 where they are spread."""
    x, y = pair(rng, 3000)
    found = mizoo.mi.estimate(x, np.maximum(y + 0.126, 0), "doe", hidden=(32,), folds=1, progress=False)
    assert found.nats == pytest.approx(0.407, abs=0.06) and not found.warnings


def test_a_density_of_nothing_but_point_masses_gives_the_information_of_classes(rng):
    kinds = rng.integers(0, 4, 2000)
    seen = np.where(rng.uniform(size=2000) < 0.9, kinds, rng.integers(0, 4, 2000))
    truth = math.log(4) + 0.925 * math.log(0.925) + 0.075 * math.log(0.025)
    x = np.eye(4)[kinds][:, :3]
    found = mizoo.mi.estimate(x, seen, "doe", hidden=(16,), folds=1, preprocess="none", progress=False)
    assert found.nats == pytest.approx(truth, abs=0.07)


def test_atoms_and_the_density_of_the_rest_integrate_to_one():
    from keras import ops

    from mizoo.densities import Conditional, Marginal

    marginal, conditional = Marginal(1, atoms=(0, 0)), Conditional(2, 1, hidden=(4,), atoms=(0, 0))
    for layer in (marginal, conditional):
        for weight in layer.weights:
            weight.assign(np.random.default_rng(3).normal(0, 0.5, weight.shape))
    grid = np.linspace(-40, 40, 4001)
    rows = np.zeros((4003, 3), "float32")
    rows[:4001, 0] = grid
    rows[4001, 1] = rows[4002, 2] = 1.0
    condition = np.tile(np.array([[0.3, -1.2]], "float32"), (4003, 1))
    for log_density in (marginal(rows), conditional(condition, rows), conditional.scores(condition[:1], rows)[0]):
        density = np.exp(ops.convert_to_numpy(log_density).astype("float64"))
        assert density[:4001].sum() * (grid[1] - grid[0]) + density[4001:].sum() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("bound", "nats", "warned"), [("nwj", 7.5, True), ("nwj", 3.0, False), ("smile", 9.0, True)])
def test_values_out_of_an_estimators_reach_are_warned_of(bound, nats, warned):
    from mizoo.mi import messages

    assert bool(messages.of_value(bound, nats, None, [1024], 5.0)) == warned


def test_smile_with_its_own_clip_stays_near_the_truth_at_8_nats(rng):
    """With the exact critic of 1,000 pairs; a clip of 5 is 1.4 nats too high."""
    rho = math.sqrt(1 - math.exp(-2 * 8.3 / 20))
    values = {None: [], 5.0: []}
    for _ in range(4):
        x, y = pair(rng, 1000, rho, 20)
        squares = np.square(y[None] - rho * x[:, None]).sum(-1) / (1 - rho**2)
        scores = -0.5 * squares - 10 * math.log(1 - rho**2) + 0.5 * np.square(y).sum(-1)[None]
        for tau in values:
            values[tau].append(scoring.value_and_shares("smile", scores[:, None], tau)[0])
    assert np.mean(values[None]) == pytest.approx(8.3, abs=0.4) and np.mean(values[5.0]) > 9


@pytest.mark.parametrize("wide", ["concat", "club"])
def test_wide_networks_and_many_columns_are_scored_in_little_memory(rng, monkeypatch, wide):
    x, y = rng.standard_normal((2, 260, 500)).astype("float32")
    if wide == "club":
        model = models.DensityPair("club", 500, 500, "gaussian", (4,), 0)
    else:
        model = models.Contrast("infonce", vector_critic("concat", 500, 500, (512,)))
        model.critic.rest.parts[-1].kernel.assign(rng.standard_normal((512, 1)))
    whole = np.asarray(model.scores(x, y))
    formed, scores = [], type(model).scores
    monkeypatch.setattr(type(model), "scores", lambda self, x, y: formed.append(len(x) * len(y)) or scores(self, x, y))
    np.testing.assert_allclose(scoring.scores(model, x, y), whole, rtol=1e-4, atol=1e-3)
    if wide == "club":
        assert np.isfinite([float(each) for each in model.criterion(x, y)]).all()
    assert 4 * 500 * max(formed) <= 1 << 26


def test_repeats_are_averaged(rng):
    x, y = pair(rng, 400)
    one, two = (mizoo.mi.estimate(x, y, repeats=count, **{**QUICK, "max_steps": 50}) for count in (1, 2))
    assert two.settings["repeats"] == 2 and len(two.curve) == 6 and two.rows == 400
    assert two.nats != one.nats and two.nats == pytest.approx(TRUTH, abs=4 * two.standard_error)


def test_conditional_information_and_total_correlation_of_gaussians(rng):
    """A chain x - z - y has none given z; a common cause has it without."""
    z = rng.standard_normal(3000)
    x, y = (z + rng.standard_normal(3000) for _ in range(2))
    assert mizoo.mi.estimate(x, y, "ksg").nats == pytest.approx(-0.5 * math.log(1 - 0.25), abs=0.05)
    found = mizoo.mi.conditional(x, y, z, "infonce", critic="bilinear", max_steps=1, folds=3, progress=False)
    assert found.nats == pytest.approx(0, abs=0.02 + 3 * found.standard_error)
    total = mizoo.mi.total_correlation(x, y, z, critic="bilinear", max_steps=1, progress=False)
    truth = -0.5 * math.log(np.linalg.det(np.corrcoef([x, y, z])))
    assert total.kind == "lower" and total.nats == pytest.approx(truth, abs=0.03 + 3 * total.standard_error)
    v = x + y  # given the sum, independent x and y depend on each other
    a, b = rng.standard_normal((2, 3000))
    c = a + b + rng.standard_normal(3000)
    found = mizoo.mi.conditional(a, b, c, critic="bilinear", max_steps=1, progress=False)
    assert found.nats == pytest.approx(0.5 * math.log(4 / 3), abs=0.03 + 3 * found.standard_error) and len(v)
    with pytest.raises(UserError, match="permutations"):
        mizoo.mi.conditional(a, b, c, permutations=9)


def test_sums_of_neighbour_estimates_take_copies_within_groups(rng):
    """Two sides once for each of 100 subjects, which are copies without the third, measured six times."""
    subject = np.repeat(np.arange(100), 6)
    x, z = (rng.standard_normal(100)[subject] for _ in range(2))
    y = x + rng.standard_normal(600)
    total = mizoo.mi.total_correlation(x, z, y, bound="ksg", groups=subject)
    given = mizoo.mi.conditional(x, y, z, "ksg", groups=subject)
    for found in (total, given):
        assert len(found.shares) == 600 and found.rows == np.isfinite(found.shares).sum() == 600
        assert np.mean(found.shares) == pytest.approx(found.nats, abs=1e-12)
        assert found.nats == pytest.approx(0.5 * math.log(2), abs=0.1 + 2 * found.standard_error)
    twice = np.arange(1200) // 2
    copied = mizoo.mi.conditional(x[twice], y[twice], z[twice], "ksg", groups=subject[twice])
    assert len(copied.shares) == 1200 and copied.rows == 600 and copied.nats == pytest.approx(given.nats, abs=0.02)


def test_lists_and_data_frames_are_taken(rng):
    pandas = pytest.importorskip("pandas")
    x, y = pair(rng, 400)
    colour = np.where(x[:, 0] > 0, "red", np.where(x[:, 0] > -1, "green", "blue"))
    frame = pandas.DataFrame({"size": x[:, 0], "colour": colour})
    listed = mizoo.mi.estimate(x[:, 0].tolist(), y[:, 0].tolist(), "ksg")
    assert listed.nats == mizoo.mi.estimate(frame["size"], y, "ksg").nats
    found = mizoo.mi.estimate(frame, y, **{**QUICK, "folds": 1})
    assert found.settings["x_columns"] == ("size", "colour=blue", "colour=green")
    frame["name"] = [f"row {i}" for i in range(400)]
    with pytest.raises(UserError, match="nearly all different.*'name'"):
        mizoo.mi.estimate(frame, y)
    frame["name"] = ["?", "?", *rng.integers(20, 80, 398).tolist()]
    with pytest.raises(UserError, match="Column 'name' of `x` holds numbers and text: .*'\\?' \\(2\\)"):
        mizoo.mi.estimate(frame, y)


def test_truth_values_of_a_data_frame_are_names_beside_text():
    pandas = pytest.importorskip("pandas")
    answers = np.array([True, False, np.True_, np.False_, "unknown"], dtype=object)[np.arange(400) % 5]
    found, names = inputs.one_hot_columns("x", pandas.DataFrame({"answer": answers}))
    assert names == ("answer=False", "answer=True") and found.sum(axis=0).tolist() == [160, 160]


def test_text_of_a_data_frame_that_stands_for_nothing_is_no_value_but_a_category_is():
    pandas = pytest.importorskip("pandas")
    grade = pandas.Series(["mild", "severe", "N/A", "mild"] * 100)
    with pytest.raises(UserError, match="Column 'c' of `x` has missing values: .* 100 of them, such as 'N/A'"):
        inputs.one_hot_columns("x", pandas.DataFrame({"c": grade}))
    assert inputs.one_hot_columns("x", pandas.DataFrame({"c": grade.astype("category")}))[1] == ("c=N/A", "c=mild")
    with pytest.raises(UserError, match="`groups` has missing values.* 100 of them, such as 'N/A'"):
        inputs.number_groups(grade, 400)


def test_a_column_of_text_is_one_variable(rng):
    """Three colours beside an independent size: no total correlation, of which their dummy columns have some."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"colour": rng.choice(["red", "green", "blue"], 900), "size": rng.standard_normal(900)})
    found = mizoo.mi.total_correlation(frame, **{"bound": "infonce", **QUICK})
    assert found.nats == mizoo.mi.total_correlation(frame[["colour"]], frame["size"], bound="infonce", **QUICK).nats
    assert abs(found.nats) < 0.05
    for alone in (frame["colour"], frame[["colour"]]):
        with pytest.raises(UserError, match="two variables or more. Received: 1"):
            mizoo.mi.total_correlation(alone)


@pytest.fixture
def mi_estimate(monkeypatch, capsys):
    """`mizoo mi estimate` with some arguments: its exit status, what it printed and what it said of a mistake."""
    from mizoo import cli

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["mizoo", "mi", "estimate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


def test_a_table_is_estimated_from_the_command_line(rng, tmp_path, mi_estimate, monkeypatch):
    x, y = pair(rng, 600)
    lines = ["a,b,kind", *(f"{p},{q},{'up' if p > 0 else 'down'}" for p, q in zip(x[:, 0], y[:, 0]))]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    (tmp_path / "data.TSV").write_text("\n".join(lines).replace(",", "\t"))
    monkeypatch.setenv("HOME", str(tmp_path))
    options = ("--x", "a,kind", "--bound", "ksg", "--y")
    found = [mi_estimate(path, *options, "b") for path in (tmp_path / "data.csv", "~/data.csv", "~/data.TSV")]
    assert found[0][0] == 0 and "nats (ksg" in found[0][1] and found[0] == found[1] == found[2]
    assert "column kind is text: each of its 2 values but the last is a column of 0 and 1\n" in found[0][2]
    _, _, said = mi_estimate(tmp_path / "data.csv", *options, "b", "--given", "kind")
    assert said.count("column kind is text") == 1
    code, _, said = mi_estimate(tmp_path / "data.csv", *options, "c")
    assert code == 2 and "columns a, b, kind. Received: c" in said
    for option, name in (("--permutations", "permutations"), ("--repeats", "repeats")):
        code, _, said = mi_estimate(tmp_path / "data.csv", "--x", "a", "--y", "b", "--given", "kind", option, "9")
        assert code == 2 and f"of a single estimate, not of a sum of several. Received: {name}" in said


COLUMN = np.arange(60.0)


@pytest.mark.parametrize(
    ("stored", "options", "message"),
    [
        (b"a,b\n\xe9t\xe9,1\n", (), "cannot be read as a table in UTF-8"),
        (b"a,b,g\n1,2,3\n", ("--groups", "g,a"), "`groups` is the name of one column. Received: 'g,a'"),
        (b"a,b,g\n1,2,3\n", ("--groups", ""), "`groups` is the name of one column. Received: ''"),
        (b"no archive", (".npz",), "cannot be read as an .npz file"),
        ({"a": COLUMN.astype(object), "b": COLUMN}, (), "cannot be read as an .npz file"),
        (COLUMN, (), "cannot be read as an .npz file"),
        ({"a": COLUMN, "c": COLUMN}, (), "has the columns a, c. Received: b"),
        ({"a": COLUMN, "b": COLUMN[1:]}, (), "of one length. Received: 'a' of 60 rows, 'b' of 59 rows"),
        ({"a": COLUMN, "b": np.float64(3)}, (), r"Received: 'b' in .*, of shape \(\) and"),
        ({"a": COLUMN, "b": COLUMN.reshape(60, 1, 1)}, (), "Received: 'b'.* shape"),
        ({"a": COLUMN, "b": COLUMN.astype(str).reshape(30, 2)}, (), "'b'.*dtype <U"),
    ],
)
def test_tables_that_are_none_are_refused_in_one_line(tmp_path, mi_estimate, stored, options, message):
    path = tmp_path / ("data.csv" if isinstance(stored, bytes) and ".npz" not in options else "data.npz")
    with open(path, "wb") as stream:
        if isinstance(stored, bytes):
            stream.write(stored)
        elif isinstance(stored, dict):
            np.savez(stream, **stored)
        else:
            np.save(stream, stored)
    options = [each for each in options if each != ".npz"]
    code, _, said = mi_estimate(path, "--x", "a", "--y", "b", "--bound", "ksg", *options)
    assert code == 2 and len(said.splitlines()) == 1 and re.search(message, said)


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("a", "N/A", "Column 'a' has missing values: .* 2 of them, such as 'N/A'"),
        ("a", "?", r"Column 'a' holds numbers and text: .*'\?' \(2\)"),
        ("a", "None", "if 'None' is a value of its own, write it otherwise .such as 'none'.. Received: 2 of them"),
        ("g", "", "Column 'g' has missing values: .* a group of its own, .* Received: 2 of them, such as ''"),
        ("g", "null", "Column 'g' has missing values"),
    ],
)
def test_cells_of_a_table_that_stand_for_nothing_are_no_values(rng, tmp_path, mi_estimate, column, cell, message):
    """Two of them made each number of the column a category, and rows without a group one group."""
    lines = {name: [str(value) for value in rng.integers(20, 40, 300)] for name in "abg"}
    lines[column][7] = lines[column][90] = cell
    (tmp_path / "data.csv").write_text("\n".join(["a,b,g", *map(",".join, zip(*lines.values()))]))
    code, _, said = mi_estimate(tmp_path / "data.csv", "--x", "a", "--y", "b", "--groups", "g", "--bound", "ksg")
    assert code == 2 and len(said.splitlines()) == 1 and re.search(message, said)


def test_an_estimate_is_drawn(rng, tmp_path):
    pytest.importorskip("matplotlib")
    found = mizoo.mi.estimate(*pair(rng, 300), **{**QUICK, "folds": 1})
    figure = found.plot(tmp_path / "curve.png", truth=TRUTH)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert any("truth 0.51" in text for text in labels) and "ceiling 4.61, above" in labels
    assert figure.axes[0].get_ylim()[1] < 2, "a ceiling far above does not flatten the curves"
    assert (tmp_path / "curve.png").stat().st_size > 1000
    near = dataclasses.replace(found, ceiling=found.nats + 0.1).plot().axes[0]
    assert any(line.get_ydata()[0] == found.nats + 0.1 for line in near.lines if len(line.get_ydata()))


def test_neighbours_with_groups_are_their_definition(rng):
    """Against counts by a double loop that leaves the own group out."""
    from scipy.special import digamma

    x, y = pair(rng, 60, columns=2)
    groups = rng.integers(0, 12, 60)
    apart = [np.abs(v[:, None] - v[None]).max(axis=-1) for v in (x, y)]
    both, expected = np.maximum(*apart), []
    for i in range(60):
        others = np.flatnonzero(groups != groups[i])
        radius = np.sort(both[i, others])[2]
        counts = [(side[i, others] < radius).sum() for side in apart]
        expected.append(digamma(3) + digamma(len(others) + 1) - digamma(counts[0] + 1) - digamma(counts[1] + 1))
    np.testing.assert_allclose(ksg.ksg(x, y, 3, groups), expected, rtol=1e-9)


@pytest.mark.parametrize("decimals", [1, 9])  # with ties and without
@pytest.mark.parametrize("sizes", [[40, 30, 50], [1] * 60 + [60], [3] * 40, [9, 111]])
def test_neighbours_with_groups_of_any_size_are_those_of_the_whole_matrix(rng, sizes, decimals):
    from scipy.special import digamma

    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x, y = (np.round(scale * side, decimals) for scale, side in zip((1.0, 30.0), pair(rng, len(groups), columns=2)))
    apart = np.array([np.abs(side[:, None] - side[None]).max(axis=-1) for side in (x, y)])
    apart[:, groups[:, None] == groups[None]] = np.inf
    radius = np.sort(apart.max(axis=0), axis=1)[:, 4, None]
    counts = (apart < radius).sum(axis=-1)
    others = len(groups) - np.bincount(groups)[groups]
    expected = digamma(5) + digamma(others + 1) - digamma(counts + 1).sum(axis=0)
    np.testing.assert_allclose(ksg.ksg(x, y, 5, groups), expected, rtol=1e-9)


def test_a_few_large_groups_take_hardly_longer_than_none(rng):
    x, y = pair(rng, 12000)
    started = time.process_time()
    ksg.ksg(x, y, 5, np.arange(12000) % 6)
    assert time.process_time() - started < 5  # 55 seconds with a matrix of each group


def test_estimates_of_one_seed_are_equal(rng):
    x, y = pair(rng, 300)
    one, same, other = (mizoo.mi.estimate(x, y, "infonce", seed=seed, **QUICK) for seed in (0, 0, 1))
    assert one == same and hash(one) == hash(same) and one != other and len({one, same, other}) == 2
