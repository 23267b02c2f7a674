"""The closed-form starts: against the density ratio, and what each is for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mizoo.mi import starts

pytest.importorskip("scipy")


def held_out(start, x, y) -> float:
    """InfoNCE of a start in nats, by its definition."""
    scores = start.scores(x, y)
    return float(np.mean([s[i] - math.log(np.exp(s - s.max()).mean()) - s.max() for i, s in enumerate(scores)]))


def chosen(x, y, kinds, fitted: int, validation: int = 500):
    """The start that is chosen, and its value on the rows that are left."""
    stop = fitted + validation
    start = starts.choose(x[:fitted], y[:fitted], x[fitted:stop], y[fitted:stop], kinds)
    return start, held_out(start, x[stop:], y[stop:])


@pytest.mark.parametrize("kind", starts.GAUSSIAN)
def test_a_start_is_the_log_density_ratio(rng, kind):
    from scipy.stats import multivariate_normal

    x = rng.standard_normal((20000, 3))
    y = x[:, :2] @ np.array([[0.8, 0.1], [0.3, 0.5]]) + 0.5 * rng.standard_normal((20000, 2))
    start = starts.choose(x, y, x[:2000], y[:2000], (kind,))
    scores = start.scores(x[:20], y[:20])
    joint = multivariate_normal(np.zeros(5), np.cov(np.concatenate([x, y], axis=1).T))
    alone = [multivariate_normal(np.zeros(v.shape[1]), np.cov(v.T)).logpdf(v[:20]) for v in (x, y)]
    pairs = np.concatenate([np.repeat(x[:20], 20, axis=0), np.tile(y[:20], (20, 1))], axis=1)
    expected = joint.logpdf(pairs).reshape(20, 20) - alone[0][:, None] - alone[1][None]
    if kind != "canonical":  # the others change correlations: by a factor, or leave small ones out
        assert np.corrcoef(scores.ravel(), expected.ravel())[0, 1] > 0.97
    else:
        np.testing.assert_allclose(scores, expected, atol=0.06, rtol=0.02)


def test_the_term_of_a_critic_has_the_scores_of_its_start(rng):
    from keras import ops

    from mizoo.mi.gaussian import GaussianTerm

    u, v, correlations = *rng.standard_normal((2, 7, 3)), np.array([0.9, 0.4, 0.0])
    term = GaussianTerm(3)
    term.start(correlations)
    columns = rng.standard_normal((7, 2))  # not the term's business
    given = (np.concatenate([columns, each], axis=1).astype("float32") for each in (u, v))
    start = starts.Start("", lambda x: u, lambda y: v, correlations)
    np.testing.assert_allclose(ops.convert_to_numpy(term(*given))[:, 0], start.scores(u, v), rtol=1e-4, atol=1e-4)


def test_many_weak_pairs_of_columns_add_up(rng):
    """1.005 nats in 200 columns of correlation 0.1, of which no direction stands out."""
    x = rng.standard_normal((4000, 200))
    y = 0.1 * x + math.sqrt(0.99) * rng.standard_normal((4000, 200))
    start, value = chosen(x, y, starts.GAUSSIAN, 2833)
    assert start.name.startswith("sparse") and value > 0.75


@pytest.mark.slow
def test_many_weak_directions_add_up_in_part(rng):
    x = rng.standard_normal((5000, 200))
    turn = np.linalg.qr(rng.standard_normal((200, 200)))[0]
    y = (0.1 * x + math.sqrt(0.99) * rng.standard_normal((5000, 200))) @ turn
    start, value = chosen(x, y, starts.GAUSSIAN, 2833)
    assert start.name.startswith("shrunken") and value > 0.09


@pytest.mark.slow
@pytest.mark.parametrize(("turned", "low", "high"), [(False, 0.8, 1.05), (True, 0.09, 1.05)])
def test_an_estimate_finds_most_of_many_weak_pairs_and_a_tenth_of_many_weak_directions(rng, turned, low, high):
    """The 1.005 nats of 200 columns, with all defaults: 0.88 to 0.93 and, in directions, 0.107 to 0.117 were found."""
    import mizoo

    x = rng.standard_normal((5000, 200))
    y = 0.1 * x + math.sqrt(0.99) * rng.standard_normal((5000, 200))
    turn = np.linalg.qr(rng.standard_normal((200, 200)))[0] if turned else np.eye(200)
    assert low < mizoo.mi.estimate(x, y @ turn, progress=False).nats < high


def test_nothing_is_found_between_independent_columns(rng):
    x, y = rng.standard_normal((2, 2000, 30))
    assert abs(chosen(x, y, starts.ALL, 1000)[1]) < 0.03
    y[:, 0] = x[:, 4] + 0.3 * y[:, 0]
    start, value = chosen(x, y, starts.GAUSSIAN, 1000)
    assert value == pytest.approx(-0.5 * math.log(1 - 1 / 1.09), abs=0.15)


def test_rotations_by_the_norm_are_found(rng):
    """Each side turned in a plane by an angle that depends on the norm: the same information, little correlation."""

    def turned(x):
        angle = np.square(x).sum(axis=1) / x.shape[1]
        c, s = np.cos(angle), np.sin(angle)
        return np.column_stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1], x[:, 2:]])

    x = rng.standard_normal((4000, 5))
    y = x.copy()
    y[:, :2] = 0.8 * x[:, :2] + 0.6 * rng.standard_normal((4000, 2))
    y[:, 2:] = rng.standard_normal((4000, 3))
    truth = -math.log(1 - 0.64)
    _, plain = chosen(turned(x), turned(y), starts.GAUSSIAN, 2833)
    _, found = chosen(turned(x), turned(y), starts.ALL, 2833)
    assert plain < 0.7 * truth and found == pytest.approx(truth, abs=0.1)


def test_fast_oscillations_are_found(rng):
    x = rng.uniform(-1, 1, (4000, 1))
    y = np.sin(6 * np.pi * x) + 0.3 * rng.standard_normal((4000, 1))
    start, value = chosen(x, y, starts.ALL, 2833)
    assert start.name.startswith("waves") and value > 0.6


def test_products_of_columns_are_found(rng):
    """A dependence through squares and products, which no correlation of the columns shows."""
    x = rng.standard_normal((4000, 3))
    y = np.column_stack([x[:, 0] * x[:, 1], np.square(x[:, 2])]) + 0.3 * rng.standard_normal((4000, 2))
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    start, value = chosen(x, y, starts.ALL, 2833)
    assert start.name.startswith("polynomials") and value > 0.6
    assert chosen(x, y, starts.GAUSSIAN, 2833)[1] < 0.1


def test_the_better_of_two_fits_is_kept(rng):
    """On a sine of six periods "auto" is fitted twice a fold and keeps the waves; on a Gaussian pair once."""
    import mizoo

    few = {"folds": 1, "max_steps": 300, "hidden": (16,), "progress": False}
    x = rng.uniform(-1, 1, 3000)
    y = np.sin(6 * np.pi * x) + 0.3 * rng.standard_normal(3000)
    plain, auto = (mizoo.mi.estimate(x, y, bound, **few) for bound in ("infonce", "auto"))
    assert auto.settings["starts"][0].startswith("waves") and auto.nats > max(plain.nats, 0.6)
    x, noise = rng.standard_normal((2, 3000))
    assert mizoo.mi.estimate(x, 0.8 * x + 0.6 * noise, "auto", **few).settings["starts"][0].startswith("canonical")


def test_more_validation_rows_than_it_takes_to_choose_change_nothing(rng, monkeypatch):
    """Their scores are a matrix of all with all."""
    x = rng.standard_normal((2000, 2))
    y = 0.6 * x + 0.8 * rng.standard_normal((2000, 2))
    largest = []
    infonce = starts._infonce
    monkeypatch.setattr(starts, "_infonce", lambda scores: largest.append(len(scores)) or infonce(scores))
    kept, fitted = 300, 1000
    monkeypatch.setattr(starts, "MOST_CHOOSING", kept)
    for kinds in (starts.GAUSSIAN, starts.OTHERS):
        every, first = (
            starts.choose(x[:fitted], y[:fitted], x[fitted:stop], y[fitted:stop], kinds) for stop in (2000, 1300)
        )
        assert (every.name, every.value) == (first.name, first.value)
    assert max(largest) == kept
