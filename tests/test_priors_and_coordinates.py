"""Deep InfoMax's Gaussian prior and its coordinates task."""

from __future__ import annotations

import math
from statistics import NormalDist

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from support.encoders import toy_encoder

from mizoo.errors import UserError
from mizoo.objectives import DeepInfoMax
from mizoo.objectives.coordinates import coordinate_classifier, coordinate_losses
from mizoo.objectives.prior_matching import discriminator, gaussian_samples, matched, prior_losses


def test_samples_of_the_gaussian_are_its_quantiles_and_finite():
    uniform = np.array([0.0, 0.001, 0.25, 0.5, 0.9, 1 - 2**-24], "float32")
    samples = ops.convert_to_numpy(gaussian_samples(uniform))
    expected = [NormalDist().inv_cdf(float(u)) for u in uniform[1:-1]]
    np.testing.assert_allclose(samples[1:-1], expected, atol=1e-4)
    assert samples[0] < -5 and samples[-1] > 5 and np.isfinite(samples).all()


def share_recognised(y, rng, prior: str = "gaussian") -> float:
    """How often a discriminator, trained to tell `y` from the prior, is right on rows that it has not seen."""
    keras.utils.set_random_seed(0)
    model = discriminator(y.shape[1], widths=(32,))
    optimizer = keras.optimizers.Adam(0.003)
    half = len(y) // 2

    @tf.function
    def step(rows, uniform):
        with tf.GradientTape() as tape:
            loss = prior_losses(model, rows, uniform, prior)[1]
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)

    for _ in range(300):
        step(y[rng.integers(0, half, 256)], rng.random((256, y.shape[1]), dtype="float32"))
    real = model(gaussian_samples(rng.random((half, y.shape[1]), dtype="float32")))
    fake = model(matched(y[half:], prior))
    return float(np.mean(np.concatenate([ops.convert_to_numpy(real) > 0, ops.convert_to_numpy(fake) < 0])))


def test_a_gaussian_representation_is_not_told_from_the_prior_and_another_is(rng):
    gaussian = rng.standard_normal((4000, 3)).astype("float32")
    assert share_recognised(gaussian, rng) == pytest.approx(0.5, abs=0.03)
    logistic = rng.logistic(size=(4000, 3)).astype("float32")  # what matches the uniform prior before its sigmoid
    assert share_recognised(logistic, rng) > 0.6


def test_neither_side_of_the_gaussian_prior_reaches_the_other(rng):
    model = discriminator(4, widths=(8, 6))
    y = tf.constant(rng.standard_normal((16, 4)).astype("float32"))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(y)
        encoder_loss, adversary_loss = prior_losses(model, y, rng.random((16, 4), dtype="float32"), "gaussian")
    weights = [v.value for v in model.trainable_variables]
    assert tape.gradient(adversary_loss, y) is None and all(g is None for g in tape.gradient(encoder_loss, weights))
    assert float(tf.norm(tape.gradient(encoder_loss, y))) > 0
    values = ops.convert_to_numpy(model(y))  # Y itself, and no sigmoid of it
    assert float(encoder_loss) == pytest.approx(np.mean(np.log1p(np.exp(-values))), rel=1e-5)


def map_with_places(rng, rows: int, places: bool) -> np.ndarray:
    """Local features (B, 4, 2, 6) of noise, in which row and column are written if `places`."""
    local = rng.standard_normal((rows, 4, 2, 6)).astype("float32")
    if places:
        local[..., 0] = 3 * np.arange(4)[:, None] - 4.5
        local[..., 1] = 3 * np.arange(2)[None] - 1.5
    return local


@pytest.mark.parametrize("places", [True, False])
def test_places_are_learned_where_the_features_hold_them_and_stay_at_chance_where_not(places, rng):
    keras.utils.set_random_seed(0)
    model = coordinate_classifier((4, 2, 6), 3, width=32)
    optimizer = keras.optimizers.Adam(0.01)

    @tf.function
    def step(local, y):
        with tf.GradientTape() as tape:
            loss, _ = coordinate_losses(model, local, y)
        optimizer.apply(tape.gradient(loss, [v.value for v in model.trainable_variables]), model.trainable_variables)

    for _ in range(150):
        step(map_with_places(rng, 64, places), rng.standard_normal((64, 3)).astype("float32"))
    loss, right = coordinate_losses(model, map_with_places(rng, 500, places), np.zeros((500, 3), "float32"))
    if places:
        assert float(right) > 0.99 and float(loss) < 0.1
    else:
        assert float(right) == pytest.approx(1 / 8, abs=0.03) and float(loss) > math.log(8) - 0.02


def test_the_loss_of_the_places_is_that_of_a_loop(rng):
    model = coordinate_classifier((4, 2, 6), 3, width=8)
    local, y = map_with_places(rng, 5, False), rng.standard_normal((5, 3)).astype("float32")
    rows, columns = (ops.convert_to_numpy(each) for each in model([*map(tf.constant, (local.reshape(5, 8, 6), y))]))
    total, right = 0.0, 0
    for b in range(5):
        for i in range(4):
            for j in range(2):
                for logits, place in ((rows[b, 2 * i + j], i), (columns[b, 2 * i + j], j)):
                    total += (math.log(sum(math.exp(v) for v in logits)) - logits[place]) / 40
                right += rows[b, 2 * i + j].argmax() == i and columns[b, 2 * i + j].argmax() == j
    loss, share = coordinate_losses(model, local, y)
    assert float(loss) == pytest.approx(total, rel=1e-4) and float(share) == pytest.approx(right / 40)


@pytest.mark.parametrize("occlusion", [0.0, 0.7])
def test_the_task_reaches_encoder_and_classifier_with_its_own_weight(occlusion, rng):
    model = DeepInfoMax(toy_encoder(), critic_width=8, prior_weight=0.0, coordinates_weight=0.5, occlusion=occlusion)
    pictures = rng.integers(0, 256, (8, 32, 32, 3)).astype("float32")
    with tf.GradientTape(persistent=True) as tape:
        loss, terms = model.compute_terms(pictures, rng.random((8, model.own_noise_size), dtype="float32"))
    for part in (model.encoder.get_layer("conv1"), model.encoder.get_layer("output"), model.coordinates):
        gradients = tape.gradient(terms["coordinates"], [v.value for v in part.trainable_variables])
        assert all(float(tf.norm(gradient)) > 0 for gradient in gradients)
    assert float(loss) == pytest.approx(0.5 * float(terms["coordinates"]) - float(terms["local_mi"]), rel=1e-4)
    assert 0 <= float(terms["accuracy_coordinates"]) <= 1


def test_priors_and_maps_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="`prior` is one of uniform, gaussian"):
        DeepInfoMax(toy_encoder(), prior="normal")
    images = keras.Input((8, 8, 3))
    flat = keras.layers.Flatten()(images)
    vectors = keras.Model(images, {"local": flat, "global": flat})
    with pytest.raises(UserError, match="`local` is a map"):
        DeepInfoMax(vectors, coordinates_weight=1.0)
