"""Training with labels: frozen, with batch normalisation held, and from new weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.encoders import toy_encoder

from mizoo import finetune as engine
from mizoo._tools.keras_private import all_layers
from mizoo.errors import UserError
from mizoo.evaluate.protocols import Options, Task, finetuning, label_shares
from mizoo.finetune import Budget, finetune

QUICK = Budget(steps=40, batch_size=32, rate=1e-2, warmup=5, check_every=10, patience=4)


@pytest.fixture(scope="module")
def colours():
    """Pictures of one of three colours under noise, and which."""
    rng = np.random.default_rng(3)
    means = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])
    labels = rng.integers(0, 3, 240)
    images = means[labels][:, None, None] + rng.normal(size=(240, 32, 32, 3)) * 20
    return np.clip(images, 0, 255).astype("uint8"), labels


def statistics_of_its_own():
    """The toy encoder, its batch normalisation as after some pretraining."""
    encoder = toy_encoder()
    draw = np.random.default_rng(4)
    for layer in encoder.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            weights = layer.get_weights()
            layer.set_weights([draw.uniform(0.7, 1.3, each.shape) * (1 + each) / 2 for each in weights])
    return encoder


def normalisation(model):
    return [
        np.asarray(variable)
        for layer in sorted(all_layers(model), key=lambda layer: layer.name)
        if isinstance(layer, keras.layers.BatchNormalization)
        for variable in layer.variables
    ]


@pytest.mark.parametrize("mode", engine.MODES)
def test_each_mode_learns_and_trains_what_it_says(colours, mode):
    encoder = statistics_of_its_own()
    before, done = [np.array(weight) for weight in encoder.get_weights()], []
    trained = finetune(encoder, *colours, mode=mode, endpoint="conv", budget=QUICK, advance=done.append)
    assert trained.accuracy(*colours) > (60 if mode == "frozen" else 90)  # features of a toy encoder
    assert sum(done) == QUICK.steps
    for weight, kept in zip(encoder.get_weights(), before):  # the encoder that was passed is as it was
        np.testing.assert_array_equal(weight, kept)
    theirs, ours = normalisation(encoder), normalisation(trained.model)
    held = all(np.array_equal(a, b) for a, b in zip(theirs, ours))
    assert held == (mode != "scratch")
    kernels = [model.get_layer("conv1").get_weights()[0] for model in (encoder, trained.model)]
    assert np.array_equal(*kernels) == (mode == "frozen")
    assert {layer.compute_dtype for layer in trained.model.layers} == {"float32"}
    assert trained.settings["batch_normalisation"] == ("trained" if mode == "scratch" else "held")


@pytest.mark.parametrize("mode", ["unfrozen", "scratch"])
def test_an_encoder_that_was_frozen_is_trained_all_the_same(colours, mode):
    """`encoder.trainable = False` is left from other work; what decides is the mode."""
    encoder = statistics_of_its_own()
    encoder.trainable = False
    trained = finetune(encoder, *colours, mode=mode, endpoint="conv", budget=QUICK)
    fresh = engine.build_classifier(encoder, 3, mode, "conv", 0, None)
    moved = [np.abs(a - b).max() > 1e-4 for a, b in zip(trained.model.get_weights(), fresh.get_weights())]
    kernels = [variable.path.endswith("kernel") for variable in fresh.weights]
    assert all(np.array(moved)[kernels])
    assert all(np.array_equal(a, b) for a, b in zip(normalisation(encoder), normalisation(trained.model))) == (
        mode == "unfrozen"
    )
    assert not encoder.trainable_variables


def test_layers_that_are_held_fixed_stay_so_unless_it_is_from_scratch(colours):
    encoder = statistics_of_its_own()
    encoder.get_layer("conv1").trainable = False
    kernel = encoder.get_layer("conv1").get_weights()[0]
    for mode in ("unfrozen", "scratch"):
        start = engine.build_classifier(encoder, 3, mode, "conv", 0, None).get_layer("conv1").get_weights()[0]
        end = finetune(encoder, *colours, mode=mode, endpoint="conv", budget=QUICK).model.get_layer("conv1")
        assert np.array_equal(start, kernel) == (mode == "unfrozen")
        assert np.array_equal(start, end.get_weights()[0]) == (mode == "unfrozen")


def test_batch_normalisation_within_a_nested_encoder_is_held(colours):
    inner = statistics_of_its_own()
    images = keras.Input((32, 32, 3))
    nested = keras.Model(images, {"conv": inner(images)["conv"]})
    trained = finetune(nested, *colours, mode="unfrozen", budget=QUICK)
    for one, other in zip(normalisation(inner), normalisation(trained.model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert trained.accuracy(*colours) > 90


def test_a_frozen_encoder_gives_its_features_to_a_linear_layer(colours):
    encoder = statistics_of_its_own()
    trained = finetune(encoder, *colours, mode="frozen", endpoint="conv", budget=QUICK)
    features = np.asarray(encoder(colours[0][:10].astype("float32"), training=False)["conv"]).reshape(10, -1)
    kernel, bias = trained.model.get_layer("class_logits").get_weights()
    np.testing.assert_allclose(trained.logits(colours[0][:10]), features @ kernel + bias, rtol=1e-4, atol=1e-3)


def test_the_weights_that_are_kept_are_those_of_the_best_look(colours, eager):
    """Labels that are noise: training goes on to overfit, and stops early."""
    images, _ = colours
    noise = np.random.default_rng(0).integers(0, 3, len(images))
    budget = Budget(steps=60, batch_size=32, rate=1e-2, warmup=0, check_every=5, patience=2, held_out=0.3)
    trained = finetune(toy_encoder(), images[:160], noise[:160], mode="scratch", budget=budget)
    accuracies = [accuracy for _, _, accuracy in trained.history]
    assert trained.validation_accuracy == max(accuracies)
    assert trained.history[-1][0] < 60 and trained.step < trained.history[-1][0]
    assert abs(trained.accuracy(images[160:], noise[160:]) - 100 / 3) < 20
    again = finetune(toy_encoder(), images[:160], noise[:160], mode="scratch", budget=budget)
    np.testing.assert_allclose(trained.logits(images[:5]), again.logits(images[:5]), rtol=1e-3, atol=1e-3)


def test_a_validation_part_of_ones_own_is_used(colours):
    images, labels = colours
    trained = finetune(
        toy_encoder(), images[:40], labels[:40], 3, "frozen", "fc", QUICK, validation=(images[40:60], labels[40:60])
    )
    assert trained.settings["held_out_size"] == 20
    without = finetune(toy_encoder(), images[:4], np.array([0, 1, 2, 0]), mode="frozen", budget=Budget(steps=2))
    assert without.validation_accuracy is None and without.step == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "needs them"),
        ({"labels": np.zeros(240, int)}, "all of one"),
        ({"labels": np.arange(239)}, "one whole number for each of 240"),
        ({"labels": np.arange(240) / 2}, "one whole number"),
        ({"classes": 2}, "from 0 to 1"),
        ({"mode": "thawed"}, "frozen, unfrozen, scratch"),
        ({"endpoint": "middle"}, "local, conv, fc, global"),
        ({"images": np.zeros((240, 16, 16, 3), "uint8")}, r"B, 32, 32, 3\).*\(240, 16, 16, 3\)"),
        ({"classes": 3.5}, "whole number"),
        ({"encoder": lambda images: images}, "Keras model"),
    ],
)
def test_what_cannot_be_trained_is_refused(colours, change, message):
    given = {"encoder": toy_encoder(), "images": colours[0], "labels": colours[1], **change}
    with pytest.raises(UserError, match=message):
        finetune(**given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y[:, None]), r"labels\[:, 0\]"),  # as keras.datasets gives them; 240 x 240 comparisons
        (lambda x, y: (x, np.eye(3)[y]), "argmax"),
        (lambda x, y: (x, y / 1), "one whole number"),
        (lambda x, y: (x[:10], y), "each of 10"),
        (lambda x, y: (x[:, :16], y), r"must have the shape"),
        (lambda x, y: (x[:0], y[:0]), "no picture"),
    ],
)
def test_labels_and_pictures_that_do_not_fit_are_refused_where_they_are_scored(colours, change, message):
    given = change(*colours)
    trained = engine.Finetuned(engine.build_classifier(toy_encoder(), 3, "frozen", "fc", 0, None), None, 1, (), {})
    with pytest.raises(UserError, match=message):
        trained.accuracy(*given)
    with pytest.raises(UserError, match=message):
        finetune(toy_encoder(), *colours, budget=QUICK, validation=given)


def test_a_class_that_was_not_trained_on_is_not_validated_by(colours):
    images, labels = colours
    with pytest.raises(UserError, match="from 0 to 2"):
        finetune(toy_encoder(), images, labels, budget=QUICK, validation=(images, labels + 1))


def test_pictures_divided_by_255_are_warned_of(colours):
    images, labels = colours
    with pytest.warns(UserWarning, match="0..255"):
        finetune(toy_encoder(), images / 255, labels, mode="frozen", budget=Budget(steps=1))


def test_a_budget_that_is_none_is_refused():
    for wrong in ({"steps": 0}, {"rate": 0.0}, {"held_out": 1.0}, {"batch_size": 1.5}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            Budget(**wrong)
    with pytest.raises(UserError, match="augment"):
        finetune(toy_encoder(), np.zeros((4, 32, 32, 3), "uint8"), np.arange(4), budget=Budget(augment="much"))


def test_the_protocols_train_both_sides_alike(colours, monkeypatch, eager):
    """`finetune`, `scratch` and their label curves: the same budget, and the part of the labels that is asked for."""
    images, labels = colours
    monkeypatch.setattr(engine, "Budget", lambda: QUICK)
    none = np.zeros((200, 0)), np.zeros((40, 0))
    task = Task(
        "colours", "test", "fc", none[1], labels[200:], none[0], labels[:200], 3, images[:200], images[200:],
        encoder=statistics_of_its_own(),
    )  # fmt: skip

    class Line:
        total = done = 0

        def resize(self, total):
            self.total = total

        def advance(self, parts):
            self.done += parts

    line = Line()
    tuned = finetuning.finetuned(task, Options(seeds=1), line)
    scratch = finetuning.from_scratch(task, Options(seeds=1), Line())
    assert tuned.mean > 90 and scratch.mean > 90 and line.done == line.total == QUICK.steps
    differing = {key for key in tuned.settings if tuned.settings[key] != scratch.settings[key]}
    assert differing <= {"mode", "batch_normalisation", "kept_step"}
    part = label_shares.finetuned(task, Options(variant="25"), Line())
    assert part.settings["labels"] == 50 and part.seeds == 1 and part.mean > 80


def test_class_weights_lift_a_rare_class(colours):
    """Two colours that noise mixes, one of them rare: weighted, it is told as often as the other."""
    rng = np.random.default_rng(5)
    labels = (np.arange(400) % 10 == 0).astype(int)
    level = np.where(labels == 1, 138, 118)[:, None, None, None] + rng.normal(size=(400, 1, 1, 1)) * 14
    images = np.clip(level + rng.normal(size=(400, 32, 32, 3)) * 5, 0, 255).astype("uint8")
    recall = {}
    for weights in (None, "balanced"):
        budget = Budget(steps=60, batch_size=64, rate=1e-2, warmup=5, check_every=10, patience=6, augment="none")
        trained = finetune(toy_encoder(), images, labels, mode="frozen", budget=budget, class_weights=weights)
        recall[weights] = np.mean(trained.logits(images[labels == 1]).argmax(axis=1) == 1)
    assert recall["balanced"] > recall[None] + 0.1
    assert trained.settings["class_weights"] == [round(400 / (2 * 360), 6), 5.0]


def test_class_weights_that_are_none_are_refused(colours):
    for wrong in ("uneven", [1.0, 2.0], [1.0, 0.0, 1.0]):
        with pytest.raises(UserError, match="class_weights"):
            finetune(toy_encoder(), *colours, mode="frozen", class_weights=wrong)
