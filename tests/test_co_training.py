"""Deep co-training: who moves whom, what it learns of paired data, and its CPC form."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import ops
from support import pages
from support.encoders import toy_encoder

from mizoo import augment
from mizoo.errors import UserError
from mizoo.evaluate import measures
from mizoo.objectives import DeepCoTraining
from mizoo.objectives.base import ADVERSARY, INNER_INPUT

TENSORFLOW = keras.backend.backend() == "tensorflow"
VIEWS = augment.preset("views")


class Pairs:
    """Two numbers of six stay what they are, with uniform noise of unit width; the others become noise."""

    noise_size = 6

    def __call__(self, x, noise):
        noise = np.sqrt(12) * (noise - 0.5)
        return ops.concatenate([x[:, :2] + noise[:, :2] / np.sqrt(12), noise[:, 2:]], axis=-1)


def on_vectors(**arguments) -> DeepCoTraining:
    keras.utils.set_random_seed(3)
    x = keras.Input((6,))
    y = keras.layers.Dense(2, use_bias=False, name="global")(x)
    arguments = {"hidden": (8,), "augment": Pairs(), **arguments}
    return DeepCoTraining(keras.Model(x, {"global": y}), **arguments)


def on_pictures(**arguments) -> DeepCoTraining:
    return DeepCoTraining(toy_encoder(), **{"hidden": (8,), "augment": VIEWS, **arguments})


def shaken(model, rng) -> DeepCoTraining:
    """Densities away from their start, so that every gradient has something to do."""
    for layer in (model.marginal, model.conditional):
        for variable in layer.trainable_variables:
            variable.assign(0.3 * rng.standard_normal(variable.shape))
    return model


def inputs(rng, model, size: int = 16):
    return (
        rng.standard_normal((2 * size, 6)).astype("float32"),
        rng.random((size, model.own_noise_size), dtype="float32"),
    )


def gradients(loss_of, variables) -> list[np.ndarray]:
    """Gradients, zeros where there are none."""
    if TENSORFLOW:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = loss_of()
        slopes = tape.gradient(loss, [v.value for v in variables], unconnected_gradients="zero")
        return [ops.convert_to_numpy(g) for g in slopes]
    import jax

    def stateless(values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values))):
            return loss_of()

    return [np.asarray(g) for g in jax.grad(stateless)([v.value for v in variables])]


def numpy(values) -> list[np.ndarray]:
    return [ops.convert_to_numpy(v).copy() for v in values]


def same(first, second, **tolerance) -> None:
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, **{"atol": 1e-5, **tolerance})


def test_the_gradients_of_density_and_encoder_never_meet(rng):
    model = shaken(on_vectors(beta=0.25), rng)
    images, noise = inputs(rng, model)
    own = model.encoder.trainable_variables
    apart = model.marginal.trainable_variables + model.conditional.trainable_variables
    assert all(ADVERSARY in v.path for v in apart) and not any(ADVERSARY in v.path for v in own)
    assert len(own) + len(apart) == len(model.trainable_variables)

    def part(name):
        return lambda: model.compute_terms(images, noise)[1][name]

    def fit():
        return model.inner_loss(model.compute_terms(images, noise)[1])

    def objective():
        terms = model.compute_terms(images, noise)[1]
        return terms["conditional_entropy"] - 0.75 * terms["feature_entropy"]

    for name in ("feature_entropy", "conditional_entropy"):
        assert all(not g.any() for g in gradients(part(name), apart))
    assert all(g.any() for g in gradients(part("feature_entropy"), own))
    assert all(not g.any() for g in gradients(fit, own))
    # The loss is the one for the encoder and the other for the density.
    whole = gradients(lambda: model.compute_terms(images, noise)[0], [*own, *apart])
    same(whole[: len(own)], gradients(objective, own))
    same(whole[len(own) :], gradients(fit, apart))
    assert all(g.any() for g in whole)


def test_the_density_s_optimiser_moves_the_density_alone_and_in_its_own_steps(rng):
    x = rng.standard_normal((64, 6)).astype("float32")
    outcomes = {}
    for rate in (0.0, 0.01):
        for steps in (1, 3):
            model = on_vectors(inner_steps=steps)
            model.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(rate), run_eagerly=True)
            start = numpy(model.marginal.trainable_variables)
            model.fit(x, batch_size=64, epochs=1, verbose=0)
            others = numpy(v for v in model.trainable_variables if ADVERSARY not in v.path)
            moved = [new - old for new, old in zip(numpy(model.marginal.trainable_variables), start)]
            outcomes[rate, steps] = others, sum(np.abs(m).sum() for m in moved), model.inner_optimizer()[0]
    for rate, steps in outcomes:
        same(outcomes[rate, steps][0], outcomes[0.0, 1][0], atol=1e-6)
    assert outcomes[0.0, 1][1] == outcomes[0.0, 3][1] == 0.0
    assert outcomes[0.01, 3][1] > 1.5 * outcomes[0.01, 1][1] > 0.0
    assert int(outcomes[0.01, 3][2].iterations) == 3 and outcomes[0.01, 1][2] is None


def test_an_inner_loop_of_many_steps_finds_the_entropy_of_the_features(rng):
    """With the encoder held still the density's value comes down to that of the Gaussian of the features."""
    model = shaken(on_vectors(inner_steps=5, density_rate=0.02), rng)
    model.encoder.trainable = False
    model.compile(keras.optimizers.SGD(0.0))
    x = rng.standard_normal((512, 6)).astype("float32")
    before = model.fit(x, batch_size=512, verbose=0).history["feature_entropy"][0]
    model.fit(np.tile(x, (120, 1)), batch_size=512, verbose=0)
    noise = rng.random((512, model.noise_size), dtype="float32")
    terms = model.forward(x, noise)[1]
    # The whitening took a volume out of these, which is put back below.
    white = ops.convert_to_numpy(terms[INNER_INPUT])[:, :2]
    covariance = ops.convert_to_numpy(model.moments.covariance / model.moments.weight)
    entropy = 0.5 * np.linalg.slogdet(2 * math.pi * math.e * np.cov(white.T))[1] - 2 * math.log(model.resolution)
    entropy += 0.5 * np.linalg.slogdet(covariance)[1]
    assert float(terms["feature_entropy"]) == pytest.approx(entropy, abs=0.05)
    assert before > float(terms["feature_entropy"]) + 0.05


@pytest.mark.parametrize("family", ["gaussian", pytest.param("logistic", marks=pytest.mark.slow)])
def test_it_finds_what_two_views_share_and_keeps_all_of_its_entropy(rng, family):
    model = on_vectors(family=family, density_rate=0.01)
    model.compile(keras.optimizers.Adam(0.02))
    x = rng.standard_normal((1024, 6)).astype("float32")
    history = model.fit(x, batch_size=256, epochs=40, verbose=0).history
    weights = ops.convert_to_numpy(model.encoder.trainable_variables[0])
    assert np.abs(weights[2:]).max() < 0.15 * np.abs(weights[:2]).max()
    features = model.predict(x, verbose=0)["global"]
    assert measures.effective_rank(features) > 1.8 and measures.spread(features) > 0.1
    # Two coordinates of correlation rho: the pairs have noise of variance 1/12, the features that of their width.
    variance = 1 + 1 / 12
    rho = (1 / variance) / (1 + model.resolution**2 / 12)
    truth = -math.log(1 - rho**2)
    assert history["global_mi"][0] < 0.5 * truth
    assert history["global_mi"][-1] == pytest.approx(truth, rel=0.15)
    ceiling = math.log(2 * math.pi * math.e * (1 + model.resolution**2 / 12)) - 2 * math.log(model.resolution)
    assert ceiling - 0.4 < history["feature_entropy"][-1] < ceiling + 0.15
    difference = history["feature_entropy"][-1] - history["conditional_entropy"][-1]
    assert difference == pytest.approx(history["global_mi"][-1], abs=1e-3)


def test_features_that_are_all_alike_have_no_entropy_left(rng):
    """What a collapse would look like in the log: the density fits the noise of the resolution and nothing else."""
    model = on_vectors(density_rate=0.05, inner_steps=3)
    model.encoder.trainable_variables[0].assign(np.zeros((6, 2)))
    model.encoder.trainable = False
    model.compile(keras.optimizers.SGD(0.0))
    x = rng.standard_normal((512, 6)).astype("float32")
    model.fit(np.tile(x, (200, 1)), batch_size=512, verbose=0)
    history = model.fit(x, batch_size=512, verbose=0).history
    # Two uniform variables under the best Gaussian: log(2 pi e / 12) / 2 each.
    assert history["feature_entropy"][-1] == pytest.approx(math.log(2 * math.pi * math.e / 12), abs=0.1)
    assert history["global_mi"][-1] < 0.1


def test_the_terms_do_not_change_with_the_scale_of_the_features(rng):
    model = shaken(on_vectors(), rng)
    images, noise = inputs(rng, model)
    before = model.compute_terms(images, noise)[1]
    kernel = model.encoder.trainable_variables[0]
    kernel.assign(kernel * np.array([50.0, 3.0], "float32"))
    after = model.compute_terms(images, noise)[1]
    for name in model.term_names:
        assert float(after[name]) == pytest.approx(float(before[name]), abs=1e-3)


def test_the_cpc_form_is_infonce_of_inner_products_by_a_direct_loop(rng):
    model = on_pictures(form="cpc")
    views = rng.integers(0, 256, (16, 32, 32, 3)).astype("float32")
    loss, terms = model.compute_terms(views, np.zeros((8, 0), "float32"))
    z = ops.convert_to_numpy(model.encoder(views, training=True)["global"]).astype("float64")
    total = 0.0
    for one, other in ((z[:8], z[8:]), (z[8:], z[:8])):
        for i in range(8):
            scores = [one[i] @ other[j] / math.sqrt(5) for j in range(8)]
            total += scores[i] - math.log(sum(math.exp(s) for s in scores)) + math.log(8)
    assert float(terms["global_mi"]) == pytest.approx(total / 16, abs=1e-4)
    assert float(loss) == pytest.approx(-total / 16, abs=1e-4)
    assert model.term_names == ("global_mi",) and model.own_noise_size == 0
    assert model.ceilings(8) == {"global_mi": pytest.approx(math.log(8))}


def test_the_cpc_form_rises_towards_its_ceiling_and_stays_below(rng):
    model = on_vectors(form="cpc")
    model.compile(keras.optimizers.Adam(0.05))
    x = rng.standard_normal((256, 6)).astype("float32")
    values = model.fit(x, batch_size=16, epochs=15, verbose=0).history["global_mi"]
    assert values[0] + 0.5 < values[-1] < model.ceilings(16)["global_mi"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"form": "nce"}, "doe, cpc"),
        ({"family": "cauchy"}, "gaussian, logistic"),
        ({"beta": 1.0}, "beta=1.0"),
        ({"beta": 0.5, "form": "cpc"}, "has none"),
        ({"hidden": ()}, "hidden"),
        ({"scale_range": -1.0}, "scale_range=-1.0"),
        ({"resolution": 0.0}, "resolution"),
        ({"density_rate": float("nan")}, "density_rate"),
        ({"inner_steps": 0}, "inner_steps"),
        ({"augment": None}, "augment"),
    ],
)
def test_impossible_arguments_are_named(arguments, words):
    with pytest.raises(UserError, match=words):
        on_vectors(**arguments)


def test_a_second_optimiser_without_a_density_and_an_encoder_without_global_are_refused():
    with pytest.raises(UserError, match="form='cpc' has none"):
        on_vectors(form="cpc").compile("adam", "adam")
    x = keras.Input((8, 8, 3))
    with pytest.raises(UserError, match="no endpoint global"):
        DeepCoTraining(keras.Model(x, {"fc": keras.layers.Dense(2)(x)}), augment=VIEWS)


def test_the_page_on_co_training_runs_as_printed_on_other_pictures(rng):
    smaller = ('"cifar10", "train", batch_size=256', "images, batch_size=8"), ("epochs=10", "epochs=1")
    images = rng.integers(0, 256, (16, 32, 32, 3), dtype="uint8")
    names = pages.run(pages.blocks("docs/co-training.md")[0], "docs/co-training.md", {"images": images}, *smaller)
    assert names["features"].shape == (16, 1024)
    assert set(names["history"].history) == {"loss", *names["model"].term_names}
    assert np.isfinite(list(names["history"].history.values())).all()
