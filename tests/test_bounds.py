"""Bounds against closed forms, direct loops and the optimal critic of Gaussian pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from keras import ops

from mizoo import bounds


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


@pytest.mark.parametrize("bound", [bounds.infonce, bounds.infonce_locations, bounds.jsd, bounds.nwj])
def test_scores_that_tell_nothing_give_zero(bound):
    assert float(bound(np.zeros((6, 4, 6), "float32"), np.arange(6))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("bound", [bounds.infonce, bounds.infonce_locations, bounds.jsd, bounds.nwj])
def test_rows_of_a_gathered_batch_add_up_to_the_whole(rng, bound):
    """Two replicas with half of the rows each, against all columns, average to the single device's value."""
    scores = rng.standard_normal((6, 4, 6)).astype("float32")
    halves = [bound(scores[i : i + 3], np.arange(i, i + 3)) for i in (0, 3)]
    assert float(sum(halves)) / 2 == pytest.approx(float(bound(scores, np.arange(6))), abs=1e-5)


@pytest.mark.parametrize("bound", [bounds.infonce, bounds.infonce_locations, bounds.jsd, bounds.nwj])
def test_huge_scores_stay_finite(bound):
    scores = np.where(np.eye(4)[:, None, :] > 0, -500.0, 500.0).astype("float32")
    assert np.isfinite(ops.convert_to_numpy(bound(scores, np.arange(4))))
