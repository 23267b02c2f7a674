"""Estimates against closed forms; what cannot matter does not; bad input is refused."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import mizoo
from mizoo.errors import UserError

pytest.importorskip("scipy")
SMALL = {"critic": "separable", "hidden": (32,), "folds": 1, "max_steps": 200, "progress": False}


def gaussian_pair(rng, rows: int, dimensions: int, rho: float):
    x = rng.standard_normal((rows, dimensions))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((rows, dimensions))


def nats(dimensions: int, rho: float) -> float:
    return -0.5 * dimensions * math.log(1 - rho**2)


def mirrored_pair(rng, rows: int):
    """Correlated values with signs of their own: no correlation, and the true information by Monte Carlo."""
    rho = 0.95
    a, b = gaussian_pair(rng, 400_000, 1, rho)

    def log_joint(x, y):
        rest = 1 - rho**2
        both = [-0.5 * (x**2 + y**2 - 2 * s * rho * x * y) / rest for s in (1, -1)]
        return np.logaddexp(*both) - math.log(2) - 0.5 * math.log(rest)

    truth = (log_joint(a, b) + 0.5 * (a**2 + b**2)).mean()
    signs = rng.choice([-1, 1], (2, rows, 1))
    return a[:rows] * signs[0], b[:rows] * signs[1], float(truth)


def slow(*values) -> list:
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.parametrize("bound", ["infonce", "nwj", "dv", "smile", "doe", *slow("jsd", "mine")])
def test_every_network_estimator_finds_the_information_of_a_gaussian_pair(rng, bound):
    x, y = gaussian_pair(rng, 2000, 2, 0.7)
    options = {k: v for k, v in SMALL.items() if bound != "doe" or k != "critic"}
    found = mizoo.mi.estimate(x, y, bound=bound, **options)
    assert found.nats == pytest.approx(nats(2, 0.7), abs=0.04 + 3 * found.standard_error)
    assert 0 < found.standard_error < 0.1
    assert found.rows == 667
    assert found.curve[0][0][0] == 0
    assert (found.ceiling is None) == (bound != "infonce")
    assert found.kind == ("neither" if bound in ("smile", "doe") else "lower")
    assert bound in str(found)


def test_club_is_above(rng):
    x, y = gaussian_pair(rng, 2000, 2, 0.7)
    found = mizoo.mi.estimate(x, y, bound="club", folds=1, hidden=(16,), max_steps=100, progress=False)
    assert found.kind == "upper"
    assert found.nats > nats(2, 0.7)
    assert found.nats == pytest.approx(2 * 0.49 / 0.51, abs=0.1 + 4 * found.standard_error)


def test_a_network_finds_what_correlation_does_not(rng):
    x, y, truth = mirrored_pair(rng, 3000)
    assert abs(np.corrcoef(x[:, 0], y[:, 0])[0, 1]) < 0.06
    options = {**SMALL, "critic": "concat", "hidden": (32, 32), "max_steps": 600, "learning_rate": 3e-3}
    found = mizoo.mi.estimate(x, y, **options)
    assert truth - 0.15 - 3 * found.standard_error < found.nats < truth + 3 * found.standard_error


def test_every_row_is_scored_once_in_folds(rng):
    x, y = gaussian_pair(rng, 1001, 1, 0.5)
    found = mizoo.mi.estimate(x, y, **{**SMALL, "folds": 3, "max_steps": 50})
    assert found.rows == 1001
    assert len(found.curve) == 3
    assert found.ceiling == pytest.approx(math.log(334), abs=0.005)


def test_the_same_seed_gives_the_same_estimate_and_another_seed_another(rng):
    x, y, _ = mirrored_pair(rng, 500)
    first, again, other = (mizoo.mi.estimate(x, y, seed=seed, **{**SMALL, "max_steps": 50}) for seed in (1, 1, 2))
    assert first.nats == again.nats
    assert first.nats != other.nats


def test_monotone_maps_of_columns_change_nothing_at_all(rng):
    x, y = gaussian_pair(rng, 600, 2, 0.8)
    few_steps = {**SMALL, "max_steps": 50}
    plain = mizoo.mi.estimate(x, y, **few_steps)
    warped = mizoo.mi.estimate(np.exp(3 * x), y**3, **few_steps)
    assert warped.nats == plain.nats
    assert mizoo.mi.estimate(np.exp(x), y**3, bound="ksg").nats == mizoo.mi.estimate(x, y, bound="ksg").nats


@pytest.mark.slow
def test_rotations_change_little(rng):
    x, y = gaussian_pair(rng, 2000, 2, 0.8)
    turn = np.linalg.qr(rng.standard_normal((2, 2)))[0]
    plain, turned = mizoo.mi.estimate(x, y, **SMALL), mizoo.mi.estimate(x @ turn, y + 0.5 * y[:, ::-1], **SMALL)
    assert turned.nats == pytest.approx(plain.nats, abs=0.05 + plain.standard_error)


def test_independent_rows_have_none(rng):
    x, y = rng.standard_normal((2, 1500, 3))
    for found in (mizoo.mi.estimate(x, y, **SMALL), mizoo.mi.estimate(x, y, bound="ksg")):
        assert abs(found.nats) < 0.03 + 3 * found.standard_error


def test_infonce_warns_near_its_ceiling_and_never_passes_it(rng):
    x, y = gaussian_pair(rng, 150, 3, 0.99999)
    with pytest.warns(UserWarning, match="within 10%"):
        found = mizoo.mi.estimate(x, y, **SMALL)
    assert found.nats <= found.ceiling == pytest.approx(math.log(50))
    assert nats(3, 0.99999) > 10
    assert "truth may be far above" in found.warnings[0]


def test_ksg_is_its_definition(rng):
    """Against counts by a double loop."""
    from scipy.special import digamma

    from mizoo.mi.ksg import ceiling, ksg

    x, y = gaussian_pair(rng, 80, 2, 0.8)
    apart = [np.abs(v[:, None] - v[None]).max(axis=-1) for v in (x, y)]
    both, expected = np.maximum(*apart), []
    for i in range(80):
        radius = np.sort(np.delete(both[i], i))[2]
        counts = [sum(side[i, j] < radius for j in range(80) if j != i) for side in apart]
        expected.append(digamma(3) + digamma(80) - digamma(counts[0] + 1) - digamma(counts[1] + 1))
    np.testing.assert_allclose(ksg(x, y, 3), expected, rtol=1e-9)
    assert ksg(x, x, 3).mean() <= ceiling(80, 3) + 1e-9


def test_ksg_finds_a_gaussian_pair(rng):
    found = mizoo.mi.estimate(*gaussian_pair(rng, 4000, 1, 0.8), bound="ksg")
    assert found.nats == pytest.approx(nats(1, 0.8), abs=0.03 + 3 * found.standard_error)
    assert found.kind == "neither"


@pytest.mark.parametrize("bound", ["infonce", "nwj", "dv", "smile", "club"])
def test_the_error_bar_is_that_of_leaving_rows_out(rng, bound):
    """The shares of the rows against the jackknife, which knows nothing of the bound's form."""
    from mizoo.mi.scoring import value_and_shares

    x, y = gaussian_pair(rng, 60, 1, 0.7)
    scores = (0.9 * x * y.T - 0.3 * (x**2 + y.T**2))[:, None, :]
    value, shares = value_and_shares(bound, scores, 1.0)
    left = []
    for i in range(60):
        kept = np.delete(np.arange(60), i)
        left.append(value_and_shares(bound, scores[np.ix_(kept, [0], kept)], 1.0)[0])
    jackknife = math.sqrt(59 / 60 * ((np.array(left) - np.mean(left)) ** 2).sum())
    assert shares.mean() == pytest.approx(value, abs=1e-5)
    assert shares.std(ddof=1) / math.sqrt(60) == pytest.approx(jackknife, rel=0.12)


GOOD = np.random.default_rng(0).standard_normal((100, 2))


@pytest.mark.parametrize(
    "x, y, message",
    [
        (GOOD, GOOD[:90], "100 rows and 90 rows"),
        (np.where(np.arange(200).reshape(100, 2) == 7, np.nan, GOOD), GOOD, "NaN or infinity.*among them 3"),
        (GOOD, np.where(GOOD > 2, np.inf, GOOD), "`y` holds NaN or infinity"),
        (np.column_stack([GOOD, np.ones(100)]), GOOD, "constant columns 2 of 3"),
        (GOOD[:1], GOOD[:1], "50 rows at least.*Received: 1"),
        (GOOD[:, :0], GOOD, "no column"),
        (GOOD.astype("float16"), GOOD, "half precision"),
        (GOOD.astype(complex), GOOD, "real numbers"),
        (GOOD.astype(object), GOOD, "real numbers"),
        (GOOD[:, :, None], GOOD, r"shape \(N, d\)"),
    ],
)
def test_bad_rows_are_refused(x, y, message):
    with pytest.raises(UserError, match=message):
        mizoo.mi.estimate(x, y, bound="ksg")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "is None"),
        ([[1], [1, 2]], "must be one array"),
        (np.ones(300), "one value in all rows"),
        (np.arange(299.0), "paired row by row. Received: 300 rows, 300 rows and 299 rows"),
        (np.arange(300.0)[:, None, None], "has the shape"),
        (np.arange(300, dtype="float16"), "half precision"),
        (np.ma.array(np.arange(300.0), mask=np.arange(300) < 9), "9 masked values"),
        (np.where(np.arange(300) == 3, np.nan, np.arange(300)), "NaN or infinity"),
    ],
)
def test_sums_of_estimates_refuse_bad_rows_by_name(rng, values, message):
    x, y = rng.standard_normal((2, 300))
    for arguments, name in (((x, y, values), "z"), ((x, values, y), "y"), ((values, x, y), "x")):
        name = "`x`, `y` and `z`" if "paired" in message else f"`{name}`"
        received = "paired row by row" if "paired" in message else message
        with pytest.raises(UserError, match=f"{name} .*{received}"):
            mizoo.mi.conditional(*arguments, "ksg")
    name = r"`variables\[0\]`, `variables\[1\]` and `variables\[2\]`" if "paired" in message else r"`variables\[2\]`"
    with pytest.raises(UserError, match=f"{name} .*{message}"):
        mizoo.mi.total_correlation(x, y, values, bound="ksg")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"bound": "mutual"}, "infonce, nwj"),
        ({"critic": "dot"}, "separable, bilinear"),
        ({"bound": "ksg", "critic": "concat"}, "has no critic"),
        ({"bound": "ksg", "neighbours": 100}, "below the number of rows"),
        ({"bound": "ksg", "repeats": 5}, "leave `repeats` out"),
        ({"preprocess": "whiten"}, "rank, standardise, none"),
        ({"folds": 2}, "1, or 3 to 10"),
        ({"batch_size": 1}, "2 or more"),
        ({"bound": "smile", "tau": 0}, "`tau` is above 0"),
        ({"candidates": 0}, "`candidates` is 1 or more"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        mizoo.mi.estimate(GOOD, GOOD[::-1], progress=False, **options)


def test_vectors_and_integers_are_columns(rng):
    x = rng.integers(0, 5, 300)
    found = mizoo.mi.estimate(x, x + rng.integers(0, 2, 300), **{**SMALL, "max_steps": 50})
    assert found.nats > 0.3


@pytest.mark.parametrize(
    ("rows", "columns", "bound", "message"),
    [
        (90, 1, "infonce", "^30 scored rows are few.*folds=3"),
        (90, 1, "ksg", "^90 scored rows are few"),
        (400, 50, "infonce", "^400 rows are few for 100 columns.*takes about 500 to be fitted"),
        (400, 12, "club", "^400 rows are few for 24 columns.*takes about 480 to be fitted"),
        (400, 3, "ksg", "too small with 6 columns"),
    ],
)
def test_few_rows_or_many_columns_are_warned_of(rng, rows, columns, bound, message):
    x, y = rng.normal(size=(2, rows, columns))
    options = {} if bound == "ksg" else {"max_steps": 2, "folds": 1 if rows < 100 else 3}
    with pytest.warns(UserWarning) as warned:
        found = mizoo.mi.estimate(x, y, bound, **options)
    assert any(re.search(message, text) for text in found.warnings)
    assert {str(warning.message) for warning in warned} >= set(found.warnings)
    assert not any(
        "rows are few" in text for text in mizoo.mi.estimate(*gaussian_pair(rng, 400, 1, 0.5), "ksg").warnings
    )


def test_estimators_of_continuous_values_say_so_of_discrete_ones(rng):
    x = rng.integers(0, 40, 400)
    few = {"folds": 1, "hidden": (8,), "max_steps": 50, "progress": False}
    with pytest.warns(UserWarning, match="40 different values in 400 rows, none of them in .* and 'doe'"):
        found = mizoo.mi.estimate(rng.normal(size=400), x, bound="doe", **few)
    assert len(found.warnings) == 1 and not math.isnan(found.nats) and found.settings["max_steps"] == 50


@pytest.mark.parametrize("preprocess", ["rank", "none"])
def test_a_value_that_one_row_alone_has_does_not_stop_the_estimate(rng, preprocess):
    x = np.zeros(300)
    x[7] = 1.0
    found = mizoo.mi.estimate(x, rng.normal(size=300), preprocess=preprocess, **{**SMALL, "folds": 3, "max_steps": 50})
    assert abs(found.nats) < 0.1


def test_large_offsets_cost_no_digits(rng):
    t = 1.7e9 + 10 * rng.normal(size=500)
    plain, ranked = (
        mizoo.mi.estimate(t, t - 1.7e9 + rng.normal(size=500), bound="ksg", preprocess=how, progress=False)
        for how in ("none", "rank")
    )
    assert plain.nats == pytest.approx(ranked.nats, abs=0.4) and plain.nats > 1.5


def test_the_last_steps_of_a_budget_are_done(rng):
    x, y = gaussian_pair(rng, 300, 1, 0.7)
    found = mizoo.mi.estimate(x, y, **{**SMALL, "max_steps": 70, "patience": 9})
    assert [step for step, _, _ in found.curve[0]] == [0, 50, 70]


def test_donsker_varadhan_beyond_its_pairs_is_marked(rng):
    """20 nats between 20 columns: a mean over mismatched rows cannot show that much."""
    x = rng.standard_normal((400, 20))
    y = x + 0.37 * rng.standard_normal((400, 20))
    with pytest.warns(UserWarning, match="half the logarithm of the mismatched pairs.*'infonce'"):
        mizoo.mi.estimate(x, y, bound="dv", critic="bilinear", folds=1, max_steps=1, progress=False)


@pytest.mark.slow
def test_jax_agrees_with_tensorflow(rng, tmp_path):
    """The same rows, batches and closed-form start; the initial weights differ between the backends."""
    pytest.importorskip("jax")
    x, y = gaussian_pair(rng, 1500, 2, 0.7)
    np.savez(tmp_path / "pair.npz", x=x, y=y)
    program = (
        "import sys, numpy as np, mizoo\n"
        "data = np.load(sys.argv[1])\n"
        "for bound in ('infonce', 'mine', 'doe'):\n"
        "    options = {} if bound == 'doe' else {'critic': 'separable'}\n"
        "    print(mizoo.mi.estimate(data['x'], data['y'], bound, folds=1, hidden=(32,), max_steps=200,"
        " progress=False, **options).nats)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", program, str(tmp_path / "pair.npz")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.split():
        assert float(line) == pytest.approx(nats(2, 0.7), abs=0.15)
