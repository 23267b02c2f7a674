"""Rows in groups: copies of rounded values for nearest neighbours, and tests for independence that exchange groups."""

from __future__ import annotations

import math

import numpy as np
import pytest

import mizoo
from mizoo.errors import UserError
from mizoo.mi import copies, ksg, scoring

pytest.importorskip("scipy")
UNEVEN = np.repeat(np.arange(45), [60] * 5 + [3] * 40)


def pair(rng, rows: int, rho: float):
    x = rng.standard_normal(rows)
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal(rows)


@pytest.mark.parametrize("rho", [0.0, 0.8])
@pytest.mark.parametrize("decimals", [1, 2, 3])
@pytest.mark.parametrize("times", [5, 10])
def test_copies_of_rounded_values_change_nothing(rng, rho, decimals, times):
    x, y = (np.round(side, decimals) for side in pair(rng, 400, rho))
    source = np.repeat(np.arange(400), times)
    once = mizoo.mi.estimate(x, y, "ksg")
    found = mizoo.mi.estimate(x[source], y[source], "ksg", groups=source)
    assert found.nats == pytest.approx(once.nats, abs=1e-9) and found.rows == 400
    assert once.nats == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.03 + 2.5 * once.standard_error)


@pytest.mark.parametrize("values", ["whole numbers", "classes", "zeros", "decimals", "continuous"])
def test_each_row_of_a_group_copied_as_often_stands_once(rng, values):
    """Also where its values are frequent: equal rows that were so before the copying all stay."""
    x, y = pair(rng, 300, 0.8)
    kinds = {"whole numbers": np.round, "zeros": lambda v: np.maximum(v, 0), "classes": lambda v: v > 0}
    kinds |= {"decimals": lambda v: np.round(v, 2), "continuous": lambda v: v}
    x, y = (kinds[values](side).astype("float64")[:, None] for side in (x, y))
    source = rng.permutation(np.repeat(np.arange(300), 4))
    for size in (1, 5):
        kept = copies.without_copies(x[source], y[source], source // size)
        received = np.column_stack([source // size, x[source, 0], y[source, 0]])[kept]
        expected = np.column_stack([np.arange(300) // size, x[:, 0], y[:, 0]])
        np.testing.assert_array_equal(*(rows[np.lexsort(rows.T)] for rows in (received, expected)))


def test_copies_of_uneven_number_are_left_out_or_refused(rng):
    """Of fine values each different row of a group stays; of coarse ones equal rows may have been so before."""
    source = np.sort(rng.integers(0, 400, 1200))
    x, y = (side[source, None] for side in pair(rng, 400, 0.8))
    for decimals in (0, 1, 2, 3):
        assert len(copies.without_copies(np.round(x, decimals), np.round(y, decimals), source)) == len(set(source))
    kept = copies.without_copies(np.round(x, 3), np.round(y, 3), source // 5)
    assert len(kept) == len(np.unique(np.column_stack([source // 5, np.round(x, 3), np.round(y, 3)]), axis=0))
    with pytest.raises(UserError, match="cannot be told.*leave all but one.*add noise.*among 1200"):
        mizoo.mi.estimate(np.round(x, 1), np.round(y, 1), "ksg", groups=source // 5)


def test_rounded_measurements_of_a_subject_are_no_copies(rng):
    """x once for each of 200 subjects, y ten times, from one that tells nothing of x to one that nearly is x."""
    subject = np.repeat(np.arange(200), 10)
    x = rng.standard_normal(200)[subject, None]
    for rho in (0.0, 0.5, 0.8, 0.95):
        y = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((2000, 1))
        for decimals in (0, 1, 2, 3):
            assert len(copies.without_copies(x, np.round(y, decimals), subject)) == 2000
    y = np.round(0.99 * x + math.sqrt(1 - 0.99**2) * rng.standard_normal((2000, 1)), 1)
    found = mizoo.mi.estimate(x, y, "ksg", groups=subject)
    assert found.nats == pytest.approx(-0.5 * math.log(1 - 0.99**2), abs=0.1 + found.standard_error)


def test_groups_of_unequal_size_have_the_level_and_power_of_their_test():
    """5 groups of 60 and 40 of 3 rows of nearly one value: at most 8 of 60 independent pairs have p of 5 percent."""
    level, power = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)

        def series():
            return (rng.standard_normal(45)[UNEVEN] + 0.05 * rng.standard_normal(len(UNEVEN)))[:, None]  # noqa: B023

        def p_value(x, y):
            drawn = [np.arange(len(x)), *(scoring.permutation(UNEVEN, len(x), rng) for _ in range(19))]  # noqa: B023
            return scoring.p_value(np.array([ksg.ksg(x, y[each], 3, UNEVEN).mean() for each in drawn]))

        x = series()
        level.append(p_value(x, series()))
        if seed < 10:
            power.append(p_value(x, 0.95 * x + math.sqrt(1 - 0.95**2) * series()))
    assert np.sum(np.array(level) <= 0.05) <= 8, level
    assert np.mean(np.array(power) <= 0.05) >= 0.6


def test_only_groups_of_equal_size_are_exchanged(rng):
    groups = rng.permutation(np.repeat(np.arange(13), [9] + [7] * 6 + [3] * 6))
    pairing = scoring.permutation(groups, len(groups), rng)
    np.testing.assert_array_equal(np.sort(pairing), np.arange(len(groups)))
    for group in range(13):
        rows = np.flatnonzero(groups == group)
        np.testing.assert_array_equal(pairing[rows], np.flatnonzero(groups == groups[pairing[rows[0]]]))
    np.testing.assert_array_equal(pairing[groups == 0], np.flatnonzero(groups == 0))


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ("ksg", "20 other arrangements.*Received: 0, of 12 groups"),
        ("infonce", "20 other arrangements.*in each fold.*Received: 0, of 4 groups"),
    ],
)
def test_groups_that_cannot_be_exchanged_are_not_tested(rng, bound, message):
    groups = np.repeat(np.arange(12), np.arange(3, 15))
    x, y = pair(rng, len(groups), 0.5)
    with pytest.raises(UserError, match=message):
        mizoo.mi.estimate(x, y, bound, groups=groups, permutations=19, progress=False)
    scoring.check_arrangements([[np.arange(4)]])  # 4! - 1 = 23
    scoring.check_arrangements([[np.arange(3), np.arange(3)]])
    scoring.check_arrangements([[np.arange(4)]] * 3)
    for folds, received in (([[np.arange(3)]], "5, of 3"), ([[np.arange(4)], [np.arange(3)]], "5, of 3")):
        with pytest.raises(UserError, match=f"Received: {received} groups"):
            scoring.check_arrangements(folds)


def test_a_critic_is_tested_on_whole_groups(rng):
    """Of more rows than are scored together: each group is in one block, and has all its rows there."""
    groups = rng.permutation(np.repeat(np.arange(300), [10] * 290 + [400] * 10))
    rows = rng.permutation(len(groups))
    blocks = scoring.whole_blocks(rows, groups, rng)
    assert len(blocks) > 5 and max(map(len, blocks)) <= scoring.BLOCK
    assert sum(len(set(groups[block])) for block in blocks) == 300
    assert len(np.unique(np.concatenate(blocks))) == sum(map(len, blocks)) == 2900 + 10 * 256
    group = np.repeat(np.arange(60), [10] * 30 + [4] * 30)
    x = rng.standard_normal(60)[group] + 0.05 * rng.standard_normal(len(group))
    quick = {"critic": "bilinear", "max_steps": 50, "progress": False, "groups": group}
    found = mizoo.mi.estimate(x, x + rng.standard_normal(len(group)), "infonce", permutations=39, **quick)
    assert found.p_value == pytest.approx(1 / 40)


def test_groups_of_any_labels(rng):
    x, y = pair(rng, 400, 0.6)
    numbers = np.repeat(np.arange(100), 4)
    mixed = np.array([f"film {n}" if n % 2 else int(n) for n in numbers], dtype=object)
    kinds = [int, float, np.int64, np.float32]
    equal = np.array([kinds[i % 4](n) for i, n in enumerate(numbers)], dtype=object)  # the same numbers
    found = [mizoo.mi.estimate(x, y, "ksg", groups=groups).nats for groups in (numbers, mixed, equal)]
    assert found[0] == found[1] == found[2]
    settings = {"bound": "infonce", "critic": "bilinear", "max_steps": 1, "progress": False}
    z = rng.standard_normal(400)
    for combined in (mizoo.mi.conditional, mizoo.mi.total_correlation):
        assert combined(x, y, z, groups=mixed, **settings).standard_error > 0


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_rows_without_a_group_are_refused(rng, nothing):
    x, y = pair(rng, 400, 0.6)
    groups = np.repeat(np.arange(100), 4).astype(object)
    groups[7] = nothing
    with pytest.raises(UserError, match="missing values.* 1 of them, the first in row 7"):
        mizoo.mi.estimate(x, y, "ksg", groups=groups)
