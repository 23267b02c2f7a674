"""A run that begins with trained weights of another side or other channels, and the reason where they do not fit."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
from PIL import Image

from mizoo import encoders, recipes
from mizoo.errors import UserError
from mizoo.pretrain import pretrain
from mizoo.pretrain.inputs import prepare
from mizoo.recipes.starting_weights import copy_weights, fitted
from mizoo.runs.folder import SavedState
from mizoo.zoo.loading import load

SMALL = {"width": 0.0625, "head_size": 8, "global_size": 5}


def resnet(**changes) -> keras.Model:
    return encoders.resnet18(**SMALL | changes)


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    """An encoder of 32-pixel RGB whose weights and statistics are far from their initial values."""
    model, draw = resnet(), np.random.default_rng(2)
    model.set_weights(
        [draw.uniform(0.5, 1.5, w.shape) if w.ndim == 1 else draw.normal(0, 0.2, w.shape) for w in model.get_weights()]
    )
    return model


def features(model: keras.Model, images: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    model.set_weights(weights)
    return np.asarray(model(images)["global"])


@pytest.mark.parametrize("side", [32, 64, (40, 24)])
def test_another_side_takes_the_same_weights(trained, side):
    for before, after in zip(trained.get_weights(), fitted(trained, resnet(side=side), "no"), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_a_picture_of_equal_channels_gives_what_it_gave_before(trained, channels):
    grey = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 1)).astype("float32")
    wanted = np.asarray(trained(np.repeat(grey, 3, axis=-1))["global"])
    target = resnet(channels=channels)
    made = features(target, np.repeat(grey, channels, axis=-1), fitted(trained, target, "no"))
    np.testing.assert_allclose(made, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
    assert np.abs(wanted).max() > 0.1


def test_both_at_once_and_back_again(trained):
    target = resnet(channels=1, side=48)
    target.set_weights(fitted(trained, target, "no"))
    again = fitted(target, trained, "no")
    kernel = trained.get_weights()[0]
    np.testing.assert_allclose(again[0], np.repeat(kernel.mean(axis=2, keepdims=True), 3, axis=2), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(again[-1], trained.get_weights()[-1])


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (
            lambda: resnet(width=0.125),
            r"no: `.*stem/kernel` has the shape \(3, 3, 3, 4\) there and \(3, 3, 3, 8\) here",
        ),
        (lambda: resnet(width=0.125, channels=1), r"stem/kernel` has the shape .*Give the recipe the `encoder`"),
        (lambda: encoders.conv32((4, 6, 8), 16, 5), r"no: it is another network, of \d+ arrays .* this one has \d+"),
    ],
)
def test_another_network_is_refused_with_the_layer(trained, target, says):
    with pytest.raises(UserError, match=says):
        fitted(trained, target(), "no")


def test_weights_that_belong_to_places_are_refused_with_the_reason():
    def conv(side: int) -> keras.Model:
        images = keras.Input((side, side, 3))
        return keras.Model(images, {"fc": keras.layers.Dense(4, name="fc")(keras.layers.Flatten()(images))})

    says = "takes pictures of 8x8 pixels and this one 16x16.*`fc/kernel`.*fit no other side.*resnet18 and three_stage"
    with pytest.raises(UserError, match=says):
        fitted(conv(8), conv(16), "no")


def test_an_entry_is_refused_by_its_name_where_it_does_not_fit():
    recipe = recipes.validate(
        {
            "name": "toy",
            "init_from": "dim_local_cifar10",
            "encoder": {"name": "conv32", "fc_size": 17},
            "data": {"source": "x"},
        }
    )
    with pytest.raises(
        UserError, match="`init_from`: the weights of dim_local_cifar10 do not fit.*dense/kernel.*4096, 17"
    ):
        copy_weights(recipe, recipe.encoder.build())


def test_what_the_weights_replace_is_not_fitted_to_the_pictures(tmp_path, monkeypatch):
    sizes = {"name": "three_stage", "widths": [4, 4, 6], "head_size": 6, "global_size": 5}
    before = encoders.three_stage((4, 4, 6), 6, 5, side=16)
    before.save(tmp_path / "before.keras")
    (tmp_path / "photos").mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype="uint8")
        Image.fromarray(pixels).save(tmp_path / f"photos/{i}.png")
    recipe = recipes.validate(
        {
            "name": "own",
            "init_from": str(tmp_path / "before.keras"),
            "encoder": {**sizes, "side": 16},
            "objective": {"name": "simclr"},
            "data": {"source": str(tmp_path / "photos")},
            "training": {"epochs": 1, "batch_size": 4},
        }
    )
    monkeypatch.delattr(sys.modules["mizoo.encoders.three_stage"], "fit_whitening")  # it would read 5,000 pictures
    job = prepare(recipe, tmp_path, SavedState(), 1)
    for one, other in zip(before.get_weights(), job.encoder(0).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_on_larger_grey_pictures_begins_with_an_rgb_run(trained, tmp_path):
    trained.save(tmp_path / "rgb.keras")
    (tmp_path / "photos").mkdir()
    for i in range(8):
        pixels = np.random.default_rng(i).integers(0, 256, (48, 48), dtype="uint8")
        Image.fromarray(pixels).save(tmp_path / f"photos/{i}.png")
    recipe = recipes.validate(
        {
            "name": "grey",
            "init_from": str(tmp_path / "rgb.keras"),
            "encoder": {"name": "resnet18", "side": 48, "channels": 1, **SMALL},
            "objective": {"name": "simclr"},
            "data": {"source": str(tmp_path / "photos"), "augment": "views"},
            "optimizer": {"learning_rate": 1e-12, "schedule": "constant", "warmup_epochs": 0.0, "decay_epochs": 0.0},
            "training": {"epochs": 1, "batch_size": 8, "precision": "float32"},
        }
    )
    run = pretrain(recipe, tmp_path / "run")
    encoder = load(run)
    assert encoder.input_shape == (None, 48, 48, 1)
    np.testing.assert_allclose(encoder.get_weights()[0], trained.get_weights()[0].sum(axis=2, keepdims=True), atol=1e-5)
