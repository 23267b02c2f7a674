"""Bounds against closed forms, direct loops and the optimal critic of Gaussian pairs."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import ops

from mizoo import bounds
from mizoo.errors import UserError

BOUNDS = (bounds.infonce, bounds.infonce_locations, bounds.jsd, bounds.nwj)


def gaussian_scores(rng, batch: int, dimensions: int, rho: float) -> np.ndarray:
    """Log density ratios (batch, 1, batch) of correlated Gaussian pairs: the optimal critic."""
    x = rng.standard_normal((batch, dimensions))
    y = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((batch, dimensions))
    residual = y[None] - rho * x[:, None]
    conditional = -0.5 * (residual**2).sum(-1) / (1 - rho**2) - 0.5 * dimensions * math.log(1 - rho**2)
    return (conditional + 0.5 * (y[None] ** 2).sum(-1))[:, None, :]


def nats(dimensions: int, rho: float) -> float:
    return -0.5 * dimensions * math.log(1 - rho**2)


@pytest.mark.parametrize("truth, rho, expected", [(2, 0.4258, 1.815), (4, 0.5742, 3.070)])
def test_infonce_with_the_optimal_critic_reaches_its_own_expectation(rng, truth, rho, expected):
    assert nats(20, rho) == pytest.approx(truth, abs=0.01)
    values = [float(bounds.infonce(gaussian_scores(rng, 64, 20, rho), np.arange(64))) for _ in range(400)]
    assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / 20 + 0.005)


def test_nwj_with_the_optimal_critic_is_the_truth(rng):
    values = [float(bounds.nwj(gaussian_scores(rng, 128, 2, 0.6), np.arange(128))) for _ in range(300)]
    assert np.mean(values) == pytest.approx(nats(2, 0.6), abs=4 * np.std(values) / math.sqrt(300))


def test_jsd_with_the_optimal_critic_is_twice_the_divergence(rng):
    """2 JS(joint, product), estimated from log ratios of independent samples of both."""
    values = [float(bounds.jsd(gaussian_scores(rng, 128, 2, 0.6), np.arange(128))) for _ in range(300)]
    n = 400_000
    x = rng.standard_normal((n, 2))
    noise = math.sqrt(1 - 0.36) * rng.standard_normal((n, 2))

    def log_ratio(y):
        return -0.5 * ((y - 0.6 * x) ** 2).sum(-1) / 0.64 - math.log(0.64) + 0.5 * (y**2).sum(-1)

    joint, product = log_ratio(0.6 * x + noise), log_ratio(rng.standard_normal((n, 2)))
    divergence = (math.log(2) - np.log1p(np.exp(-joint))).mean() + (math.log(2) - np.log1p(np.exp(product))).mean()
    assert np.mean(values) == pytest.approx(divergence, abs=0.01)


def test_dv_with_the_optimal_critic_is_the_truth(rng):
    values = [float(bounds.dv(gaussian_scores(rng, 128, 2, 0.6), np.arange(128))) for _ in range(300)]
    assert np.mean(values) == pytest.approx(nats(2, 0.6), abs=4 * np.std(values) / math.sqrt(300) + 0.005)


@pytest.mark.parametrize("bound", [bounds.dv, bounds.nwj])
def test_the_optimal_critic_does_not_save_an_exponential_from_its_variance(rng, bound):
    """At 8 nats a batch of 64 says little, where InfoNCE is steady at its ceiling."""
    rho = math.sqrt(1 - math.exp(-2 * 8 / 20))
    scores = [gaussian_scores(rng, 64, 20, rho) for _ in range(100)]
    loud = np.std([float(bound(s, np.arange(64))) for s in scores])
    steady = [float(bounds.infonce(s, np.arange(64))) for s in scores]
    assert loud > 8 * np.std(steady)
    assert max(steady) <= math.log(64) + 1e-5


def test_dv_nwj_and_smile_against_direct_loops(rng):
    scores = 3 * rng.standard_normal((5, 3, 7)).astype("float32")
    positives = np.array([2, 3, 4, 5, 6])
    own = np.mean([scores[i, k, positives[i]] for i in range(5) for k in range(3)])
    others = np.array([scores[i, k, j] for i in range(5) for k in range(3) for j in range(7) if j != positives[i]])
    expected = {
        "dv": own - math.log(np.exp(others).mean()),
        "nwj": 1 + own - np.exp(others).mean(),
        "smile": own - math.log(np.exp(np.clip(others, -1.5, 1.5)).mean()),
    }
    assert float(bounds.dv(scores, positives)) == pytest.approx(expected["dv"], abs=1e-4)
    assert float(bounds.nwj(scores, positives)) == pytest.approx(expected["nwj"], rel=1e-4)
    assert float(bounds.smile(scores, positives, tau=1.5)) == pytest.approx(expected["smile"], abs=1e-4)
    assert float(bounds.smile(scores, positives, tau=50.0)) == pytest.approx(expected["dv"], abs=1e-4)


def test_mine_has_the_gradient_of_its_paper(rng):
    """d/dT is 1/pairs at a positive, and -exp T / (pairs x moving average) elsewhere (Belghazi et al., eq. 12)."""
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("gradients by tf.GradientTape")
    scores = tf.constant(rng.standard_normal((6, 1, 6)).astype("float32"))
    mask = np.eye(6)[:, None, :] > 0
    mean = np.exp(scores.numpy())[~mask].mean()
    average = 0.9 * 2.0 + 0.1 * mean
    with tf.GradientTape() as tape:
        tape.watch(scores)
        objective, log_average = bounds.mine(scores, np.arange(6), math.log(2.0), decay=0.9)
    assert math.exp(float(log_average)) == pytest.approx(average, rel=1e-5)
    expected = np.where(mask, 1 / 6, -np.exp(scores.numpy()) / (30 * average))
    np.testing.assert_allclose(tape.gradient(objective, scores), expected, rtol=1e-4, atol=1e-7)


def test_club_with_the_true_conditional_is_above_the_truth(rng):
    """Its expectation for the Gaussian pair is d rho^2 / (1 - rho^2); the marginal in the scores cancels nothing."""
    dimensions, rho, values = 5, 0.6, []
    for _ in range(200):
        x = rng.standard_normal((64, dimensions))
        y = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((64, dimensions))
        log_q = -0.5 * ((y[None] - rho * x[:, None]) ** 2).sum(-1) / (1 - rho**2)
        values.append(float(bounds.club(log_q[:, None], np.arange(64))))
    expected = dimensions * rho**2 / (1 - rho**2)
    assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / math.sqrt(200))
    assert np.mean(values) > nats(dimensions, rho)


def test_infonce_against_a_direct_double_loop(rng):
    scores = rng.standard_normal((5, 3, 7)).astype("float32")
    positives = np.array([2, 3, 4, 5, 6])
    total = 0.0
    for i in range(5):
        for location in range(3):
            row = scores[i, location]
            total += row[positives[i]] - math.log(sum(math.exp(s) for s in row)) + math.log(7)
    assert float(bounds.infonce(scores, positives)) == pytest.approx(total / 15, abs=1e-5)


def test_locations_leave_the_other_locations_of_the_own_picture_out(rng):
    scores = rng.standard_normal((4, 3, 6)).astype("float32")
    positives = np.array([1, 2, 3, 4])
    total = 0.0
    for i in range(4):
        others = [math.exp(scores[i, k, j]) for j in range(6) if j != positives[i] for k in range(3)]
        for location in range(3):
            own = scores[i, location, positives[i]]
            total += own - math.log(math.exp(own) + sum(others)) + math.log(1 + 5 * 3)
    assert float(bounds.infonce_locations(scores, positives)) == pytest.approx(total / 12, abs=1e-5)
    # What is left out cannot matter: the own picture's other locations move no other location's share.
    changed = scores.copy()
    changed[0, 1, 1] += 50.0
    share = bounds.infonce_locations(changed[:1], positives[:1]) - bounds.infonce_locations(scores[:1], positives[:1])
    own, rest = scores[0, 1, 1], np.log(np.exp(np.delete(scores[0], 1, axis=1)).sum())
    assert float(share) == pytest.approx((np.logaddexp(own, rest) - own) / 3, abs=1e-4)


@pytest.mark.parametrize("negatives, bound", [("images", bounds.infonce), ("locations", bounds.infonce_locations)])
def test_perfect_scores_meet_the_ceiling_and_never_pass_it(negatives, bound):
    scores = np.where(np.eye(8)[:, None, :] > 0, 60.0, -60.0).repeat(5, axis=1).astype("float32")
    ceiling = bounds.infonce_ceiling(8, 5, negatives)
    assert float(bound(scores, np.arange(8))) == pytest.approx(ceiling, abs=1e-5)


@pytest.mark.parametrize("bound", [*BOUNDS, bounds.dv, bounds.smile, bounds.club])
def test_scores_that_tell_nothing_give_zero(bound):
    assert float(bound(np.zeros((6, 4, 6), "float32"), np.arange(6))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("bound", [*BOUNDS, bounds.club])
def test_rows_of_a_gathered_batch_add_up_to_the_whole(rng, bound):
    """Two replicas with half of the rows each, against all columns, average to the single device's value."""
    scores = rng.standard_normal((6, 4, 6)).astype("float32")
    halves = [bound(scores[i : i + 3], np.arange(i, i + 3)) for i in (0, 3)]
    assert float(sum(halves)) / 2 == pytest.approx(float(bound(scores, np.arange(6))), abs=1e-5)


@pytest.mark.parametrize("bound", [*BOUNDS, bounds.dv, bounds.smile, bounds.club])
def test_huge_scores_stay_finite(bound):
    for rows, locations in ((4, 1), (128, 64)):
        scores = np.where(np.eye(rows)[:, None, :] > 0, -500.0, 500.0).astype("float32").repeat(locations, axis=1)
        assert np.isfinite(ops.convert_to_numpy(bound(scores, np.arange(rows))))


def test_candidates_that_depend_on_each_other_are_no_lower_bound():
    """Two pictures, each one of two at random, their feature the same at all 64 locations: the value and ln 2."""
    values = []
    for same in (True, False):
        scores = np.full((2, 64, 2), -50.0, "float32")
        scores[np.arange(2), :, np.arange(2)] = 0.0
        values.append(float(bounds.infonce_locations(np.zeros_like(scores) if same else scores, np.arange(2))))
    assert np.mean(values) == pytest.approx(2.09, abs=0.01) and np.mean(values) > 3 * np.log(2)


EVERY = (*BOUNDS, bounds.dv, bounds.smile, bounds.club)


@pytest.mark.parametrize("bound", EVERY)
def test_a_critic_that_diverged_is_no_number(rng, bound):
    """NaN is no mask: one of it, of a pair or of a mismatch, is not left out of the mean."""
    scores = rng.standard_normal((4, 2, 4)).astype("float32")
    for where in (np.s_[:], np.s_[1, 0, 1], np.s_[1, 0, 2]):
        diverged = scores.copy()
        diverged[where] = float("nan")
        assert np.isnan(float(bound(diverged, np.arange(4))))


@pytest.mark.parametrize("bound", EVERY)
def test_a_masked_column_is_as_one_that_is_not_there(rng, bound):
    scores, positives = rng.standard_normal((4, 2, 6)).astype("float32"), np.arange(4)
    masked = scores.copy()
    masked[:, :, 5] = -np.inf
    assert float(bound(masked, positives)) == pytest.approx(float(bound(scores[:, :, :5], positives)), abs=1e-5)
    masked = scores.copy()
    masked[0, :, 5] = -np.inf  # of one row alone: a false negative
    assert np.isfinite(float(bound(masked, positives)))


@pytest.mark.parametrize("bound", [*EVERY, lambda scores, own: bounds.mine(scores, own, 0.0)[0]])
def test_masked_scores_and_rows_without_mismatches_leave_gradients_finite(rng, bound):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("gradients by tf.GradientTape")
    values = rng.standard_normal((4, 1, 4)).astype("float32")
    values[0, 0, 2] = -np.inf
    values[1, 0, [0, 2, 3]] = -np.inf  # a row whose other candidates are all masked says nothing
    scores = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value = bound(scores, np.arange(4))
    gradient = tape.gradient(value, scores).numpy()
    assert np.isfinite(float(value)) and np.isfinite(gradient).all()
    assert gradient[0, 0, 2] == 0 and gradient[0, 0, 0] > 0
    assert gradient[1, 0, 1] == pytest.approx(0, abs=1e-7) or bound is bounds.infonce_locations


@pytest.mark.parametrize("bound", EVERY)
def test_a_batch_of_one_says_nothing_and_teaches_nothing(bound):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("gradients by tf.GradientTape")
    scores = tf.constant([[[0.7]]])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value = bound(scores, np.arange(1))
    assert float(value) == pytest.approx(0, abs=1e-6) and abs(float(tape.gradient(value, scores)[0, 0, 0])) < 1e-6


@pytest.mark.parametrize("bound", EVERY)
def test_columns_out_of_range_are_no_silent_number(rng, bound):
    scores = rng.standard_normal((3, 1, 4)).astype("float32")
    for positives in ([1, 2, 4], [-1, 0, 1]):
        with pytest.raises(UserError, match="one of the 4 columns"):
            bound(scores, np.array(positives))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        graph = tf.function(bound, input_signature=[tf.TensorSpec((3, 1, 4)), tf.TensorSpec((3,), tf.int32)])
        assert np.isnan(float(graph(scores, np.array([1, 2, 4], "int32"))))
        assert np.isfinite(float(graph(scores, np.array([1, 2, 3], "int32"))))


def test_nwj_is_exact_far_out_and_its_gradient_is_bounded():
    """1 + mean of T - mean of exp T at scores of 3, 30 and 80; the gradient of exp beyond 10 is exp(10)."""
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("gradients by tf.GradientTape")
    for score, slope in ((3.0, math.exp(3)), (30.0, math.exp(10)), (80.0, math.exp(10))):
        scores = tf.constant([[[1.0, score]], [[score, 1.0]]])
        with tf.GradientTape() as tape:
            tape.watch(scores)
            value = bounds.nwj(scores, np.arange(2))
        assert float(value) == pytest.approx(2 - math.exp(min(score, 60)), rel=1e-5)
        assert float(tape.gradient(value, scores)[0, 0, 1]) == pytest.approx(-slope / 2, rel=1e-4)


NO_SCORES = (None, "a", 3, [[[1.0, 2.0]], [[1.0]]], np.zeros((2, 2)), np.zeros((2, 1, 2), complex))


@pytest.mark.parametrize("bound", ["infonce", "jsd", "nwj", "dv", "smile"])
def test_scores_and_columns_that_are_none_are_refused_by_name(bound):
    function = getattr(bounds, bound)
    scores, own = np.arange(8.0).reshape(2, 1, 4), np.arange(2)
    for wrong in (*NO_SCORES, np.ma.masked_array(scores, scores > 5)):
        with pytest.raises(UserError, match="`scores`"):
            function(wrong, own)
    for wrong in (np.arange(3), np.zeros(2), ["a", "b"], np.zeros((2, 1), int)):
        with pytest.raises(UserError, match="`positives`"):
            function(scores, wrong)
    assert float(function(scores.tolist(), own.tolist())) == pytest.approx(float(function(scores, own)))


def test_views_are_taken_as_lists(rng):
    scores, siblings = rng.standard_normal((4, 4)).astype("float32"), [[0, 2], [1, 3], [2, 0], [3, 1]]
    assert float(bounds.infonce_views(scores, siblings)) == float(bounds.infonce_views(scores, np.array(siblings)))
