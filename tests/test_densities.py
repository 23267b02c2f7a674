"""Densities against scipy's, and difference of entropies with the true ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from keras import ops

from mizoo import bounds, densities
from mizoo.errors import UserError

stats = pytest.importorskip("scipy.stats")


def correlated(rng, rows: int = 4000):
    """x (N, 3) and y (N, 2) linear in it, with correlated noise."""
    x = rng.standard_normal((rows, 3))
    slope = np.array([[1.0, 0.5], [0.0, -1.0], [2.0, 0.0]])
    noise = rng.standard_normal((rows, 2)) @ np.array([[0.5, 0.4], [0.0, 0.3]])
    return x, x @ slope + 1.0 + noise, np.cov(noise.T)


@pytest.mark.parametrize("family, reference", [("gaussian", stats.norm), ("logistic", stats.logistic)])
def test_log_densities_are_those_of_scipy(rng, family, reference):
    z, mean, scale = rng.standard_normal((7, 3)) * 20, rng.standard_normal(3), np.array([0.1, 1.0, 4.0])
    found = getattr(densities, f"{family}_log_density")(*(ops.convert_to_tensor(v) for v in (z, mean, np.log(scale))))
    expected = reference(mean, scale).logpdf(z).sum(axis=1)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-4)


def test_difference_of_entropies_with_the_true_densities_is_exact(rng):
    rho, rows = 0.9, 20000
    x = rng.standard_normal((rows, 4))
    y = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((rows, 4))
    log_scale = 0.5 * math.log(1 - rho**2)
    marginal = ops.convert_to_numpy(densities.gaussian_log_density(y, 0.0, ops.zeros(4, dtype="float64")))
    conditional = ops.convert_to_numpy(
        densities.gaussian_log_density(y, rho * x, log_scale + ops.zeros(4, dtype="float64"))
    )
    error = np.std(conditional - marginal) / math.sqrt(rows)
    found = float(densities.difference_of_entropies(marginal, conditional))
    assert found == pytest.approx(-2 * math.log(1 - rho**2), abs=4 * error)
    assert error < 0.02


def test_a_marginal_starts_as_the_gaussian_of_the_samples(rng):
    _, y, _ = correlated(rng)
    marginal = densities.Marginal(2)
    marginal.start_at(y)
    expected = stats.multivariate_normal(y.mean(axis=0), np.cov(y.T)).logpdf(y[:50])
    np.testing.assert_allclose(ops.convert_to_numpy(marginal(y[:50].astype("float32"))), expected, atol=1e-3)


def test_a_conditional_starts_as_the_regression_with_its_residual_covariance(rng):
    x, y, covariance = correlated(rng)
    conditional = densities.Conditional(3, 2, hidden=(8,))
    conditional.start_at(x, y)
    found = ops.convert_to_numpy(conditional(x.astype("float32"), y.astype("float32"))).mean()
    entropy = 0.5 * np.linalg.slogdet(2 * math.pi * math.e * covariance)[1]
    assert found == pytest.approx(-entropy, abs=0.02)


@pytest.mark.parametrize("scale_range", [3.0, 0.0])
def test_scores_of_all_pairs_hold_the_log_densities_of_the_pairs(rng, scale_range):
    x, y = rng.standard_normal((6, 3)).astype("float32"), rng.standard_normal((6, 2)).astype("float32")
    conditional = densities.Conditional(3, 2, "logistic", hidden=(8,), seed=3, scale_range=scale_range)
    for variable in conditional.trainable_variables:
        variable.assign(0.3 * rng.standard_normal(variable.shape))
    scores = ops.convert_to_numpy(densities.conditional_scores(conditional, x, y))
    assert scores.shape == (6, 1, 6)
    np.testing.assert_allclose(np.diag(scores[:, 0]), ops.convert_to_numpy(conditional(x, y)), rtol=1e-4)
    one = ops.convert_to_numpy(conditional(np.repeat(x[:1], 6, axis=0), y))
    np.testing.assert_allclose(scores[0, 0], one, rtol=1e-4)
    assert np.isfinite(float(bounds.club(scores, np.arange(6))))


def test_a_condition_moves_the_scales_no_further_than_it_may(rng):
    x = 50.0 * rng.standard_normal((40, 3)).astype("float32")
    spans = []
    for scale_range in (2.0, 0.0):
        conditional = densities.Conditional(3, 2, hidden=(8,), scale_range=scale_range)
        for variable in conditional.trainable_variables:
            variable.assign(rng.standard_normal(variable.shape))
        scales = np.broadcast_to(ops.convert_to_numpy(conditional.parameters(x)[1]), (40, 2))
        spans.append(np.ptp(scales, axis=0))
    assert (spans[0] > 1.0).all() and (spans[0] <= 4.0).all() and not spans[1].any()


def test_whitening_takes_out_a_covariance_and_says_what_that_changes(rng):
    _, y, _ = correlated(rng)
    covariance = np.cov(y.T)
    found, volume = densities.whitened(y[:50].astype("float32"), np.linalg.cholesky(covariance).astype("float32"))
    log_density = stats.multivariate_normal(np.zeros(2)).logpdf(ops.convert_to_numpy(found)) + float(volume)
    np.testing.assert_allclose(
        log_density, stats.multivariate_normal(np.zeros(2), covariance).logpdf(y[:50]), atol=1e-3
    )


def test_moments_of_pairs_are_running_means_and_give_the_regression(rng):
    moments = densities.PairMoments(2, momentum=0.75)
    common = rng.standard_normal((2000, 2)) @ np.array([[1.0, 0.8], [0.0, 0.5]])
    x, y = ((common + 0.3 * rng.standard_normal((2000, 2))).astype("float32") for _ in range(2))
    moments.update(x[:1000], y[:1000])
    factor, slope, residual_factor = (ops.convert_to_numpy(v) for v in moments.update(x[1000:], y[1000:]))
    weights = np.repeat([0.75, 1.0], 1000)[:, None] / 1.75 / 1000
    both, other = np.concatenate([x, y]), np.concatenate([y, x])
    weights = np.concatenate([weights, weights]) / 2
    covariance = both.T @ (weights * both)
    np.testing.assert_allclose(factor @ factor.T, covariance, atol=2e-4)  # what is added to it: 1e-4
    np.testing.assert_allclose(slope, np.linalg.lstsq(np.sqrt(weights) * other, np.sqrt(weights) * both)[0], atol=5e-4)
    left = both - other @ slope
    np.testing.assert_allclose(residual_factor @ residual_factor.T, left.T @ (weights * left), atol=4e-4)


def test_a_family_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="gaussian, logistic"):
        densities.Marginal(2, "cauchy")
