"""What goes into `fit` and `predict` of an objective is looked at on the way in, and what trains nothing is refused."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.encoders import toy_encoder

import mizoo
from mizoo import augment, bounds, critics, densities, encoders
from mizoo.errors import UserError
from mizoo.objectives import CPC, DeepCoTraining, DeepInfoMax, Distillation, InformationMaximization, SimCLR

VIEWS = augment.preset("views")


@pytest.fixture(scope="module")
def model() -> DeepInfoMax:
    """A compiled objective of 32-pixel pictures; nothing here trains it."""
    made = DeepInfoMax(toy_encoder(), critic_width=4)
    made.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    return made


@pytest.fixture(scope="module")
def sounds() -> CPC:
    made = CPC(encoders.waveform(8000, widths=(4, 4, 4, 4), context_size=4), steps=2)
    made.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    return made


def pictures(count: int = 4, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype="uint8")


def with_nan() -> np.ndarray:
    values = pictures().astype("float32")
    values[2, 0, 0, 0] = np.nan
    return values


WRONG = {
    "outside": (pictures().astype("float32") * 2, "0..255"),
    "standardised": (pictures().astype("float32") / 127.5 - 1, "0..255"),
    "nan": (with_nan(), "NaN"),
    "grey": (pictures()[..., 0], "Grey pictures"),
    "channels first": (np.moveaxis(pictures(), -1, 1), "channels come first"),
    "another side": (pictures(side=24), r"\(B, 32, 32, 3\).*24, 24"),
    "one picture": (pictures()[0], r"images\[None\]"),
    "masked": (np.ma.masked_equal(pictures(), 7), "masked"),
    "uneven": ([pictures()[0], pictures(side=16)[0]], "differ in size"),
    "complex": (pictures().astype("complex64"), "real numbers"),
    "none": ([None, None], "real numbers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_arrays_that_the_encoder_does_not_take_are_refused_on_every_way_in(model, case):
    values, words = WRONG[case]
    for call in (
        lambda: model.fit(values, verbose=0),
        lambda: model.fit({"images": values}, verbose=0),
        lambda: model.predict(values, verbose=0),
        lambda: model(values),
        lambda: model.train_on_batch(values),
        lambda: model.predict_on_batch(values),
    ):
        with pytest.raises(UserError, match=words) as caught:
            call()
        assert "`x" in str(caught.value)


@pytest.mark.parametrize("way", ["fit", "predict"])
def test_pictures_divided_by_255_are_warned_of(model, way):
    with pytest.warns(UserWarning, match="within 0..1"):
        getattr(model, way)(pictures().astype("float32") / 255, verbose=0)


def test_whole_pictures_in_any_real_type_pass_without_a_word(model):
    rows = [model.predict(pictures().astype(kind), verbose=0)["global"] for kind in ("uint8", "int64", "float32")]
    rows.append(model(pictures().tolist())["global"])
    rows.append(model.predict({"images": pictures()}, verbose=0)["global"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        rows.append(model(pictures())["global"])
    for row in rows[1:]:
        np.testing.assert_allclose(row, rows[0], rtol=1e-5)


def test_sounds_are_floats_of_the_unit_range(sounds):
    loud = np.random.default_rng(0).integers(-(2**15), 2**15, (4, 800), dtype="int16")
    for call in (sounds.fit, sounds.predict):
        with pytest.raises(UserError, match="32768"):
            call(loud, verbose=0)
        with pytest.raises(UserError, match="-1..1"):
            call(loud.astype("float32"), verbose=0)
    with pytest.raises(UserError, match="32768"):
        sounds.fit(tf.data.Dataset.from_tensor_slices(loud).batch(2), verbose=0)


def test_what_comes_with_pictures_is_looked_at_too(model):
    noise = np.zeros((4, model.noise_size), "float32")
    for x, words in [
        ({"pictures": pictures()}, "'images'"),
        ({"images": pictures(), "noise": noise[:3]}, "one row of 'noise' for each of 4"),
        ({"images": pictures(), "noise": noise * np.nan}, "finite"),
        ({"images": pictures(), "targets": np.array(["a"] * 4)}, "finite real numbers"),
        ({}, "'images'"),
        (None, "Received: None"),
    ]:
        with pytest.raises(UserError, match=words):
            model.fit(x, verbose=0)


def generator(*batches):
    yield from batches


def test_batches_of_one_are_refused_wherever_they_come_from(model):
    images = pictures()
    ones = [images[i : i + 1] for i in range(4)]
    data = tf.data.Dataset.from_tensor_slices(images)

    class Silent(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return ones[index]

    class Ones(Silent):
        batch_size = 1

    for call in (
        lambda: model.fit(images, batch_size=1, verbose=0),
        lambda: model.fit(images[:1], verbose=0),
        lambda: model.fit({"images": images}, batch_size=1, verbose=0),
        lambda: model.fit(generator(*ones), verbose=0),
        lambda: model.fit(generator(*({"images": each} for each in ones)), verbose=0),
        lambda: model.fit(data.batch(1, drop_remainder=True), verbose=0),
        lambda: model.fit(data.batch(1), verbose=0),
        lambda: model.fit(data.batch(1).map(lambda batch: {"images": batch}), verbose=0),
        lambda: model.fit(data.batch(1).map(lambda batch: (batch, 0)), verbose=0),
        lambda: model.fit(Ones(), verbose=0),
        lambda: model.fit(Silent(), verbose=0),
        lambda: model.train_on_batch(images[:1]),
    ):
        with pytest.raises(UserError, match="a batch of one trains on nothing"):
            call()
    with pytest.raises(UserError, match="`batch_size` is a whole number"):
        model.fit(images, batch_size=0, verbose=0)
    with pytest.raises(UserError, match="gives no batch"):
        model.fit(generator(), verbose=0)


def test_a_generator_is_looked_at_and_loses_no_batch(model):
    with pytest.raises(UserError, match="NaN"):
        model.fit(generator(with_nan(), pictures()), verbose=0)
    seen = []

    def watched():
        for i in range(3):
            seen.append(i)
            yield pictures(4)

    before = int(model.optimizer.iterations)
    model.fit(watched(), verbose=0)
    assert seen == [0, 1, 2] and int(model.optimizer.iterations) == before + 3


def test_a_last_batch_of_one_is_taken_and_leaves_the_weights_finite():
    for made in (SimCLR(toy_encoder(), augment=VIEWS), DeepInfoMax(toy_encoder(), critic_width=4, negatives="both")):
        made.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        made.fit(pictures(3), batch_size=2, verbose=0)
        made.fit(tf.data.Dataset.from_tensor_slices(pictures(3)).batch(2), verbose=0)
        assert all(np.isfinite(np.asarray(v, "float64")).all() for v in made.variables if "seed" not in v.path)


def test_negatives_of_the_own_sequence_need_no_second_one(rng):
    made = CPC(encoders.series(2, width=4, context_size=4), steps=2, negatives="sequence")
    made.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    logs = made.fit(rng.standard_normal((3, 6, 2)).astype("float32"), batch_size=1, verbose=0).history
    assert logs["mi_1"] != [0.0]


def test_shapes_of_batches_and_of_views_are_told_while_the_step_is_traced(model):
    small = tf.data.Dataset.from_tensor_slices(pictures(4, 24)).batch(2)
    with pytest.raises(UserError, match=r"\(B, 32, 32, 3\).*24, 24, 3"):
        model.fit(small, verbose=0)
    crops = DeepInfoMax(toy_encoder(), critic_width=4, augment=augment.preset("views", side=24))
    crops.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    with pytest.raises(UserError, match=r"\(B, 32, 32, 3\).*24, 24, 3"):
        crops.fit(pictures(), verbose=0)
    enlarging = DeepInfoMax(toy_encoder(), critic_width=4, augment=augment.preset("views", side=32))
    enlarging.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    assert np.isfinite(enlarging.fit(pictures(4, 40), verbose=0).history["loss"]).all()


def test_weights_of_inputs_and_a_loss_of_the_callers_are_refused_and_labels_pass(model):
    images, ones = pictures(), np.ones(4, "float32")
    weighted = tf.data.Dataset.from_tensor_slices((images, ones, ones)).batch(2)
    for words, call in [
        ("sample_weight", lambda: model.fit(images, sample_weight=ones, verbose=0)),
        ("class_weight", lambda: model.fit(images, ones, class_weight={1: 2.0}, verbose=0)),
        ("sample_weight", lambda: model.train_on_batch(images, None, ones)),
        ("sample_weight", lambda: model.fit(weighted, verbose=0)),
        *((name, lambda name=name: model.compile("sgd", **{name: ["mse"]})) for name in ("loss", "metrics")),
        ("weighted_metrics", lambda: model.compile("sgd", weighted_metrics=["accuracy"])),
    ]:
        with pytest.raises(UserError, match=words):
            call()
    assert np.isfinite(model.fit(images, ones, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("known", [(None, None, None, 3), None], ids=["any size", "any rank"])
def test_pictures_of_unknown_size_are_refused_with_the_way_to_fix_it(known):
    made = SimCLR(toy_encoder(), augment=VIEWS)
    made.compile(keras.optimizers.SGD(0.1))
    unknown = tf.data.Dataset.from_generator(lambda: iter([pictures()]), output_signature=tf.TensorSpec(known, "uint8"))
    with pytest.raises(UserError, match=r"tf.ensure_shape\(x, \(None, 32, 32, 3\)\)"):
        made.fit(unknown, verbose=0)
    fixed = unknown.map(lambda x: tf.ensure_shape(x, (None, 32, 32, 3)))
    made.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    assert np.isfinite(made.fit(fixed, verbose=0).history["loss"]).all()


def test_predict_takes_no_endless_batches(model):
    with pytest.raises(UserError, match="have no end"):
        model.predict(mizoo.data.batches(pictures(), batch_size=2))


def test_a_frozen_encoder_is_told_at_compile():
    for kind in (SimCLR, InformationMaximization):
        encoder = toy_encoder()
        encoder.trainable = False
        frozen = kind(encoder, augment=VIEWS)
        with pytest.raises(UserError, match="all frozen.*before `compile`"):
            frozen.compile(keras.optimizers.SGD(0.1))
        encoder.layers[-2].trainable = True
        encoder.trainable = True
        frozen.compile(keras.optimizers.SGD(0.1))
        encoder.trainable = False
        with pytest.raises(UserError, match="all frozen"):
            frozen.fit(pictures(), verbose=0)
    for kind, settings in (
        (DeepInfoMax, {}),
        (DeepCoTraining, {"augment": VIEWS}),
        (Distillation, {"teacher_size": 3}),
    ):
        encoder = toy_encoder()
        encoder.trainable = False
        around = kind(encoder, **settings)
        with pytest.warns(UserWarning, match="is frozen"):
            around.compile(keras.optimizers.SGD(0.1))


NUMBERS = (None, "a", -1, [1], 1.5, 1 << 70, float("nan"), True, {}, np.zeros(2))


def test_settings_of_a_wrong_type_are_refused_by_name():
    whole = {"seed": (SimCLR, {"augment": VIEWS}), "views": (DeepInfoMax, {"augment": VIEWS})}
    whole |= {"critic_width": (DeepInfoMax, {}), "inner_steps": (DeepCoTraining, {"augment": VIEWS})}
    whole |= {"teacher_size": (Distillation, {})}
    encoder = toy_encoder()
    for name, (kind, settings) in whole.items():
        for value in NUMBERS:
            with pytest.raises(UserError, match=f"`{name}`"):
                kind(encoder, **settings, **{name: value})
    with pytest.raises(UserError, match="`views`"):
        SimCLR(encoder, views=0, augment=VIEWS)
    real = {"temperature": (SimCLR, {"augment": VIEWS}), "local_weight": (DeepInfoMax, {}), "clip": (DeepInfoMax, {})}
    real |= {"resolution": (InformationMaximization, {"augment": VIEWS}), "beta": (DeepCoTraining, {"augment": VIEWS})}
    for name, (kind, settings) in real.items():
        for value in NUMBERS:
            if isinstance(value, (int, float)) and value in (1.5, 1 << 70) or (name == "clip" and value is None):
                continue
            with pytest.raises(UserError, match=f"`{name}`"):
                kind(encoder, **settings, **{name: value})
    for kind, settings in (
        (DeepInfoMax, {"bound": ["infonce"]}),
        (DeepInfoMax, {"pairs": ["local"]}),
        (DeepInfoMax, {"pairs": None}),
        (DeepCoTraining, {"augment": VIEWS, "hidden": None}),
        (DeepCoTraining, {"augment": VIEWS, "hidden": "abc"}),
        (Distillation, {"teacher_size": 3, "endpoints": [["fc"]]}),
        (Distillation, {"teacher_size": 3, "endpoints": None}),
    ):
        with pytest.raises(UserError, match="Received"):
            kind(encoder, **settings)


def test_critics_densities_and_bounds_refuse_settings_of_a_wrong_type_by_name():
    whole = [
        (lambda **given: critics.vector_critic(**{"kind": "concat", "rows": 2, "columns": 2, **given}), "rows"),
        (lambda **given: critics.vector_critic(**{"kind": "bilinear", "rows": 2, "columns": 2, **given}), "columns"),
        (lambda **given: critics.vector_critic(**{"kind": "separable", "rows": 2, "columns": 2, **given}), "seed"),
        (lambda **given: critics.projection(**{"features": 2, "width": 2, "name": "p", **given}), "width"),
        (lambda **given: critics.ConcatConvolve(**{"features": 2, "size": 2, **given}), "features"),
        (lambda **given: densities.Conditional(**{"condition": 2, "size": 2, **given}), "condition"),
        (densities.Marginal, "size"),
        (densities.PairMoments, "size"),
        (bounds.infonce_ceiling, "columns"),
    ]
    x = np.random.default_rng(0).standard_normal((60, 1))
    whole += [(lambda **given: mizoo.mi.estimate(x, x, progress=False, **given), name) for name in ("seed", "folds")]
    for make, name in whole:
        for value in NUMBERS:
            with pytest.raises(UserError, match=f"`{name}`"):
                make(**{name: value})
    for make, words in [
        (lambda: critics.vector_critic(["concat"], 2, 2), "`critic`"),
        (lambda: critics.vector_critic("concat", 2, 2, hidden=None), "`hidden`"),
        (lambda: densities.Marginal(2, None), "`family`"),
        (lambda: bounds.smile(np.zeros((2, 1, 2)), np.arange(2), tau=None), "`tau`"),
        (lambda: bounds.mine(np.zeros((2, 1, 2)), np.arange(2), 0.0, decay="a"), "`decay`"),
        (lambda: mizoo.mi.estimate(x, x, ["infonce"]), "`bound`"),
        (lambda: mizoo.mi.estimate(x, x, critic=["concat"]), "`critic`"),
        (lambda: mizoo.mi.estimate(x, x, bound="doe", family=None), "`family`"),
    ]:
        with pytest.raises(UserError, match=words):
            make()
