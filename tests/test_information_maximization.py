"""Information by log-determinants against the closed form of Gaussian views, and its gradient."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from support.encoders import toy_encoder

from mizoo import augment
from mizoo.errors import UserError
from mizoo.objectives import InformationMaximization
from mizoo.objectives.information_maximization import gaussian_information


def closed_form(shared: np.ndarray, own: np.ndarray, noise: float) -> float:
    """I(z; z') in nats of z = s + n, z' = s + n' with covariances of s and of n, both read with the noise."""
    total = shared + own + noise * np.eye(len(shared))
    joint = np.block([[total, shared], [shared, total]])
    return np.linalg.slogdet(total)[1] - 0.5 * np.linalg.slogdet(joint)[1]


@pytest.mark.parametrize("count", [2, 4])
def test_gaussian_views_give_their_information(rng, count):
    mix, scale = rng.standard_normal((3, 3)), np.array([0.3, 1.0, 0.5])
    shared, own, noise = mix @ mix.T, np.diag(scale**2), 0.04
    s = rng.standard_normal((60_000, 3)) @ mix.T
    views = np.stack([s + rng.standard_normal(s.shape) * scale for _ in range(count)]).astype("float32")
    terms = {key: float(value) for key, value in gaussian_information(ops.convert_to_tensor(views), noise).items()}
    assert terms["global_mi"] == pytest.approx(closed_form(shared, own, noise), abs=0.02)
    entropy = 0.5 * np.linalg.slogdet(shared + own + noise * np.eye(3))[1] - 1.5 * np.log(noise)
    assert terms["feature_entropy"] == pytest.approx(entropy, abs=0.02)
    assert terms["feature_entropy"] - terms["conditional_entropy"] == pytest.approx(terms["global_mi"], abs=1e-4)


def test_views_that_agree_are_below_the_ceiling_and_features_that_are_alike_have_nothing(rng):
    model = InformationMaximization(toy_encoder(), augment=augment.preset("views"))
    z = rng.standard_normal((2000, 5))
    z = (z / np.linalg.norm(z, axis=1, keepdims=True) * 5**0.5).astype("float32")
    ceiling = model.ceilings(2000)["global_mi"]
    same = float(gaussian_information(ops.convert_to_tensor(np.stack([z, z])), model.resolution**2)["global_mi"])
    assert 0.97 * ceiling < same <= ceiling + 1e-3
    alike = np.broadcast_to(z[:1], z.shape)
    none = gaussian_information(ops.convert_to_tensor(np.stack([alike, alike])), model.resolution**2)
    assert {key: pytest.approx(0.0, abs=1e-3) for key in none} == {key: float(value) for key, value in none.items()}


def test_the_gradient_is_that_of_finite_differences(rng):
    views = rng.standard_normal((3, 20, 4)).astype("float32")
    direction = rng.standard_normal(views.shape).astype("float32")

    def value(step: float):
        return gaussian_information(ops.convert_to_tensor(views + np.float32(step) * direction), 0.1)["global_mi"]

    numeric = (float(value(1e-2)) - float(value(-1e-2))) / 2e-2
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.constant(views)
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = gaussian_information(x, 0.1)["global_mi"]
        gradient = tape.gradient(result, x).numpy()
    else:
        import jax

        gradient = np.asarray(jax.grad(lambda x: gaussian_information(x, 0.1)["global_mi"])(views))
    assert float((gradient * direction).sum()) == pytest.approx(numeric, rel=2e-2)


def test_fewer_pictures_than_coordinates_are_refused_and_teach_nothing(rng):
    """There views that disagree score higher; from as many on they score lower."""
    d = 32

    def value(rows: int, apart: float) -> float:
        z = rng.standard_normal((rows, d))
        views = np.stack([z + apart * rng.standard_normal((rows, d)) for _ in range(2)])
        views *= d**0.5 / np.linalg.norm(views, axis=-1, keepdims=True)
        return float(gaussian_information(ops.convert_to_tensor(views.astype("float32")), 0.09)["global_mi"])

    assert value(d // 4, 0.0) < value(d // 4, 10.0)
    assert value(d, 0.0) > value(d, 0.5) > value(d, 10.0)
    model = InformationMaximization(toy_encoder(), augment=augment.preset("views"))
    assert model.fewest_rows == 5
    model.compile(keras.optimizers.SGD(0.1))
    images = rng.integers(0, 256, (7, 32, 32, 3), dtype="uint8")
    with pytest.raises(UserError, match="5 inputs or more: the covariances are those of the batch.*a batch of 4"):
        model.fit(images[:4], verbose=0)
    for rows, scale in ((4, 0.0), (5, 1.0)):
        noise = rng.random((rows, 2 * model.augment.noise_size), dtype="float32")
        loss, terms = model.forward(ops.convert_to_tensor(images[:rows]), ops.convert_to_tensor(noise))
        assert float(loss) == pytest.approx(-scale * float(terms["global_mi"]))


def test_a_last_batch_of_fewer_pictures_than_coordinates_counts_in_no_mean(rng):
    images = rng.integers(0, 256, (7, 32, 32, 3), dtype="uint8")
    logs = []
    for rows in (5, 7):
        keras.utils.set_random_seed(2)
        model = InformationMaximization(toy_encoder(), augment=augment.preset("views"))
        model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
        logs.append(model.fit(images[:rows], batch_size=5, shuffle=False, verbose=0).history)
    assert logs[0] == logs[1] and logs[0]["loss"][0] == pytest.approx(-logs[0]["global_mi"][0])


@pytest.mark.parametrize(
    ("arguments", "words"), [({"resolution": 0.0}, "`resolution` is above 0"), ({"views": 1}, "2 or more")]
)
def test_impossible_arguments_are_named(arguments, words):
    with pytest.raises(UserError, match=words):
        InformationMaximization(toy_encoder(), augment=augment.preset("views"), **arguments)
