"""Deep InfoMax within a picture, and the step of every objective: isolation of the prior, precision, saving."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import ops
from support.encoders import toy_encoder

from mizoo import augment, data
from mizoo.errors import UserError
from mizoo.objectives import DeepCoTraining, DeepInfoMax, InformationMaximization, Objective, SimCLR, Supervised
from mizoo.objectives.base import ADVERSARY, COUNTS, INNER_INPUT
from mizoo.objectives.prior_matching import discriminator, prior_losses

TENSORFLOW = keras.backend.backend() == "tensorflow"


def deep_infomax(**arguments) -> DeepInfoMax:
    return DeepInfoMax(toy_encoder(), **{"critic_width": 12, **arguments})


def batch(rng, model, size: int = 8) -> dict[str, np.ndarray]:
    images = rng.integers(0, 256, (size, 32, 32, 3), dtype="uint8")
    return {"images": images, "noise": rng.random((size, model.noise_size), dtype="float32")}


def gradients_of(loss_of, variables) -> list[float]:
    """Largest absolute gradient of each variable."""
    if TENSORFLOW:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = loss_of()
        gradients = tape.gradient(loss, [v.value for v in variables])
        return [0.0 if g is None else float(np.abs(ops.convert_to_numpy(g)).max()) for g in gradients]
    import jax

    def stateless(values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values))):
            return loss_of()

    return [float(np.abs(g).max()) for g in jax.grad(stateless)([v.value for v in variables])]


def test_the_gradient_of_the_prior_never_reaches_the_wrong_side(rng):
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    model = discriminator(4, widths=(8, 6))
    x, uniform = rng.standard_normal((16, 3)).astype("float32"), rng.random((16, 4), dtype="float32")
    variables = [*encoder.trainable_variables, *model.trainable_variables]
    own = len(encoder.trainable_variables)
    sides = [gradients_of(lambda i=i: prior_losses(model, encoder(x), uniform)[i], variables) for i in (0, 1)]
    assert min(sides[0][:own]) > 0 and max(sides[0][own:]) == 0.0
    assert max(sides[1][:own]) == 0.0 and min(sides[1][own:]) > 0


def test_the_encoder_is_pulled_towards_fooling_the_discriminator(rng):
    """One step down the encoder's loss raises the discriminator's logit of the representation."""
    model = discriminator(4, widths=(8, 6))
    uniform = rng.random((16, 4), dtype="float32")
    y = keras.Variable(rng.standard_normal((16, 4)).astype("float32"))
    before = float(ops.mean(model(ops.sigmoid(y))))
    if TENSORFLOW:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = prior_losses(model, y.value, uniform)[0]
        slope = tape.gradient(loss, y.value)
    else:
        import jax

        slope = jax.grad(lambda v: prior_losses(model, v, uniform)[0])(y.value)
    y.assign(y - 0.5 * slope)
    assert float(ops.mean(model(ops.sigmoid(y)))) > before


def test_two_optimisers_each_move_their_own_variables(rng):
    model = deep_infomax(prior_weight=1.0)
    model.compile(keras.optimizers.Adam(1e-2), keras.optimizers.SGD(0.0), run_eagerly=True)
    sides = {side: [v for v in model.trainable_variables if (ADVERSARY in v.path) == side] for side in (True, False)}
    before = {side: [ops.convert_to_numpy(v) for v in group] for side, group in sides.items()}
    model.fit(data.batches(batch(rng, model)["images"], batch_size=8), epochs=1, verbose=0)
    moved = {
        side: [not np.array_equal(ops.convert_to_numpy(v), old) for v, old in zip(sides[side], before[side])]
        for side in sides
    }
    assert len(sides[True]) == 6 and not any(moved[True])
    assert sum(moved[False]) > len(moved[False]) * 0.8


def test_the_prior_optimizer_spares_the_same_from_weight_decay():
    model = deep_infomax()
    first = keras.optimizers.AdamW(3e-4, weight_decay=0.1)
    first.exclude_from_weight_decay(var_names=["bias", "gamma"])
    model.compile(first)
    adversary = [v for v in model.trainable_variables if ADVERSARY in v.path]
    (prior,) = (each for each in model.optimizer.optimizers if each is not first)
    spared = {v.name for v in adversary if not prior._use_weight_decay(v)}
    assert spared == {"bias"} and len(adversary) > len([v for v in adversary if v.name == "bias"])


def test_there_is_no_validation_step_and_it_says_what_there_is(rng):
    model = deep_infomax()
    model.compile("adam", run_eagerly=True)
    images = rng.integers(0, 256, (8, 32, 32, 3), dtype="uint8")
    with pytest.raises(UserError, match="no validation step.*mizoo.evaluate"):
        model.fit(images, validation_data=images, batch_size=8, verbose=0)
    assert int(model.optimizer.iterations) == 0  # before an epoch is lost
    with pytest.raises(UserError, match="no validation step"):
        model.evaluate(images, batch_size=8, verbose=0)


@pytest.mark.parametrize("bound", ["infonce", "jsd", "dv"])
def test_a_last_batch_of_one_picture_leaves_weights_finite(rng, bound):
    model = deep_infomax(bound=bound)
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    images = rng.integers(0, 256, (9, 32, 32, 3), dtype="uint8")
    history = model.fit(images, batch_size=8, shuffle=False, verbose=0).history
    assert np.isfinite(list(history.values())).all()
    assert all(np.isfinite(ops.convert_to_numpy(v)).all() for v in model.trainable_variables)


class Brightness(Objective):
    term_names = ("mean",)

    def compute_terms(self, images, noise):
        mean = ops.mean(images)
        return 0.0 * ops.mean(self.encoder.trainable_variables[0]) + mean, {"mean": mean}


def test_the_numbers_of_an_epoch_count_every_picture_once():
    images = np.repeat(np.arange(5, dtype="float32"), 32 * 32 * 3).reshape(5, 32, 32, 3) * 50
    model = Brightness(toy_encoder())
    model.track_terms()
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=TENSORFLOW)
    logs = model.fit(images, batch_size=4, shuffle=False, verbose=0).history
    assert logs["loss"] == logs["mean"] == pytest.approx([images.mean()])


class Counting(Brightness):
    term_names = ("mean", "counts", "inner_input")

    def compute_terms(self, images, noise):
        loss, terms = super().compute_terms(images, noise)
        return loss, terms | dict.fromkeys(self.term_names, terms["mean"])


def test_a_term_of_any_name_is_logged_as_it_is_or_refused():
    images = np.repeat(np.arange(4, dtype="float32"), 32 * 32 * 3).reshape(4, 32, 32, 3) * 50
    model = Counting(toy_encoder())
    model.track_terms()
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=TENSORFLOW)
    logs = model.fit(images, batch_size=2, shuffle=False, verbose=0).history
    assert logs["loss"] == logs["counts"] == pytest.approx([images.mean()])
    for name in ("loss", COUNTS, INNER_INPUT):
        model.term_names = ("mean", name)
        with pytest.raises(UserError, match=f"`term_names` with {name}. Give the term another name"):
            model.track_terms()


def test_the_prior_optimizer_is_a_copy_unless_given():
    model = deep_infomax()
    first = keras.optimizers.Adam(3e-4, beta_1=0.5)
    model.compile(first)
    main, prior = (
        model.optimizer.optimizers if model.optimizer.optimizers[0] is first else reversed(model.optimizer.optimizers)
    )
    assert main is first and prior is not first
    assert {k: v for k, v in prior.get_config().items() if k != "name"} == {
        k: v for k, v in first.get_config().items() if k != "name"
    }


@pytest.mark.parametrize(
    "arguments, terms",
    [
        ({}, ["loss", "local_mi", "prior", "adversary"]),
        ({"negatives": "locations", "prior_weight": 0.0}, ["loss", "local_mi"]),
        (
            {"bound": "jsd", "global_weight": 0.5},
            ["loss", "local_mi", "local_jsd", "global_mi", "global_jsd", "prior", "adversary"],
        ),
        ({"local_weight": 0.0, "global_weight": 1.0, "prior_weight": 0.0}, ["loss", "global_mi"]),
        (
            {"bound": "dv", "critic": "concat_conv", "global_weight": 0.5, "prior_weight": 0.0},
            ["loss", "local_mi", "global_mi"],
        ),
        ({"bound": "dv", "prior_weight": 0.0}, ["loss", "local_mi"]),
    ],
)
def test_terms_add_up_to_the_loss_and_stay_below_their_ceilings(rng, arguments, terms):
    model = deep_infomax(**arguments)
    slow = model.critic == "concat_conv"
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=not slow)  # a dozen steps take less than a trace
    batches = data.batches(batch(rng, model)["images"], batch_size=8)
    history = model.fit(batches, epochs=40 if slow else 12, verbose=0).history
    assert sorted(history) == sorted(terms)
    last = {name: values[-1] for name, values in history.items()}
    key = "jsd" if model.bound == "jsd" else "mi"
    expected = -model.local_weight * last.get(f"local_{key}", 0) - model.global_weight * last.get(f"global_{key}", 0)
    expected += model.prior_weight * last.get("prior", 0) + last.get("adversary", 0)
    assert last["loss"] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    for name, ceiling in model.ceilings(8).items():
        assert last[name] <= ceiling + 1e-5
    value = f"{'local' if model.local_weight else 'global'}_{key}"
    assert history[value][-1] > history[value][0] + (0.1 if key == "jsd" or slow else 0.3)


def test_the_value_is_that_of_a_direct_computation(rng):
    """The logged local term equals InfoNCE of critic features computed by hand."""
    model = deep_infomax(prior_weight=0.0)
    images = batch(rng, model)["images"].astype("float32")
    _, terms = model.compute_terms(images, np.zeros((8, 0), "float32"))
    endpoints = model.encoder(images, training=True)
    features = ops.convert_to_numpy(
        model.local_critic["local"](ops.reshape(endpoints["local"], (8, 64, 6)), training=True)
    )
    vectors = ops.convert_to_numpy(model.local_critic["global"](endpoints["global"][:, None], training=True))[:, 0]
    scores = np.einsum("ilu,ju->ilj", features, vectors) / np.sqrt(12)
    shares = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    expected = np.mean([shares[i, :, i].mean() for i in range(8)]) + np.log(8)
    assert float(terms["local_mi"]) == pytest.approx(expected, abs=1e-4)


def test_donsker_varadhan_is_that_of_a_direct_loop_over_pictures_and_locations(rng):
    model = deep_infomax(bound="dv", critic="concat_conv", prior_weight=0.0)
    images = batch(rng, model)["images"].astype("float32")
    loss, terms = model.compute_terms(images, np.zeros((8, 0), "float32"))
    endpoints = {key: ops.convert_to_numpy(value) for key, value in model.encoder(images, training=True).items()}
    maps, vectors = endpoints["local"].reshape(8, 64, 6), endpoints["global"]
    scores = ops.convert_to_numpy(model.local_critic["local"](maps, vectors))
    own = [scores[i, place, i] for i in range(8) for place in range(64)]
    others = [math.exp(scores[i, place, j]) for i in range(8) for place in range(64) for j in range(8) if j != i]
    expected = sum(own) / len(own) - math.log(sum(others) / len(others))
    assert float(terms["local_mi"]) == pytest.approx(expected, abs=1e-4)
    assert float(loss) == pytest.approx(-expected, abs=1e-4)
    assert model.ceilings(8) == {}


def test_plain_pictures_and_named_batches_both_train(rng):
    model = deep_infomax(augment=augment.preset("dim"))
    model.compile("adam", run_eagerly=True)
    example = batch(rng, model)
    for x in (example["images"], data.batches(example["images"], batch_size=4, noise_size=model.noise_size)):
        history = model.fit(x, batch_size=None if hasattr(x, "batch_size") else 4, epochs=1, verbose=0).history
        assert np.isfinite(history["loss"]).all()
    with pytest.raises(UserError, match="noise_size=model.noise_size"):
        model.unpack({"images": example["images"], "noise": example["noise"][:, :2]})


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"local_weight": -1.0}, "local_weight"),
        ({"local_weight": 0.0}, "Nothing is maximised"),
        ({"bound": "mine"}, "bound='mine'"),
        ({"negatives": "none"}, "negatives='none'"),
        ({"critic_width": 0}, "critic_width"),
        ({"critic": "concat"}, "encode_dot, concat_conv"),
        ({"prior_weight": float("nan")}, "prior_weight"),
    ],
)
def test_impossible_arguments_are_named(arguments, words):
    with pytest.raises(UserError, match=words):
        deep_infomax(**arguments)


VIEWS = {"augment": augment.preset("dim")}


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (Supervised, {"classes": 3}),
        (SimCLR, VIEWS),
        (InformationMaximization, VIEWS),
        (DeepCoTraining, VIEWS),
        *[
            (DeepInfoMax, {"prior_weight": 0.0, "local_weight": float(name != "global_weight"), name: 1.0})
            for name in ("prior_weight", "global_weight", "coordinates_weight")
        ],
    ],
)
def test_pooling_that_keeps_its_axes_is_told_at_construction(kind, arguments):
    """`Supervised` trained on nonsense without a word, and others failed in `fit`."""
    x = keras.Input((8, 8, 3))
    encoder = keras.Model(x, {"local": x, "global": keras.layers.GlobalAveragePooling2D(keepdims=True)(x)})
    with pytest.raises(UserError, match=r"`global` is a vector .*\(None, 1, 1, 3\).*Pool or flatten"):
        kind(encoder, **arguments)


class WithDropout(Brightness):
    """An objective with a second generator, in one of its layers."""

    def __init__(self, encoder):
        super().__init__(encoder)
        self.dropout = keras.layers.Dropout(0.5, seed=1)
        self.track_terms()

    def draws(self) -> list[np.ndarray]:
        both = self.draw_noise((2, 5)), self.dropout(ops.ones(40), training=True)
        return [ops.convert_to_numpy(each) for each in both]


def test_saved_weights_go_on_with_the_noise_of_the_objective(tmp_path, monkeypatch):
    """A loaded objective drew the views of the first epochs again."""
    model, again, before = (WithDropout(toy_encoder()) for _ in range(3))
    first = model.draws()
    model.save_weights(tmp_path / "now.weights.h5")
    with monkeypatch.context() as patch:
        patch.setattr(Objective, "save_own_variables", keras.Model.save_own_variables)
        model.save_weights(tmp_path / "before.weights.h5")
    again.load_weights(tmp_path / "now.weights.h5")
    before.load_weights(tmp_path / "before.weights.h5")
    for one, other, of_first, of_before in zip(model.draws(), again.draws(), first, before.draws()):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(of_first, of_before)


def test_an_encoder_without_endpoints_is_refused():
    single = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()])
    with pytest.raises(UserError, match="dict of named endpoints"):
        DeepInfoMax(single)
    inputs = keras.Input((4,))
    with pytest.raises(UserError, match="no endpoint local"):
        DeepInfoMax(keras.Model(inputs, {"global": keras.layers.Dense(2)(inputs)}))
    pictures = keras.Input((None, None, 3))
    local = keras.layers.Conv2D(4, 3)(pictures)
    with pytest.raises(UserError, match="the size of local is free"):
        DeepInfoMax(keras.Model(pictures, {"local": local, "global": keras.layers.GlobalAveragePooling2D()(local)}))
    with pytest.raises(UserError, match="trains one alone"):
        deep_infomax(prior_weight=0.0).compile("adam", "adam")


def test_an_objective_that_states_nothing_says_so(rng):
    model = Objective(toy_encoder())
    with pytest.raises(UserError, match="override `compute_terms`"):
        model.forward(np.zeros((2, 32, 32, 3), "float32"), np.zeros((2, 0), "float32"))


@pytest.mark.skipif(not TENSORFLOW, reason="mixed precision is tested on TensorFlow")
@pytest.mark.parametrize("policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_mixed_precision_trains_with_float32_scores(rng, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = deep_infomax()
        model.compile(keras.optimizers.Adam(1e-2))
        history = model.fit(data.batches(batch(rng, model)["images"], batch_size=8), epochs=12, verbose=0).history
        assert model.local_critic["local"].output.dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")
    assert history["local_mi"][-1] > history["local_mi"][0] + 0.3


@pytest.mark.slow
@pytest.mark.skipif(not TENSORFLOW, reason="XLA is an option of the TensorFlow step")
def test_the_step_compiles_with_xla(rng):
    losses = []
    for jit in (False, True):
        model = deep_infomax(augment=augment.preset("dim"), prior_weight=0.0)
        model.compile(keras.optimizers.Adam(1e-3), jit_compile=jit, run_eagerly=not jit)
        batches = data.batches(
            batch(np.random.default_rng(3), model)["images"], batch_size=8, noise_size=model.noise_size
        )
        losses.append(model.fit(batches, epochs=2, verbose=0).history["loss"][-1])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
