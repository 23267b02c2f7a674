"""What people have as `augment`: Keras layers, lists of operations, functions."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from support.encoders import toy_encoder

from mizoo import augment
from mizoo.encoders import patch_grid
from mizoo.errors import UserError
from mizoo.objectives import CPC, DeepInfoMax, SimCLR

LAYERS = {
    "flip": lambda: layers.RandomFlip("horizontal"),
    "several": lambda: keras.Sequential([layers.RandomFlip(), layers.RandomTranslation(0.2, 0.2)]),
    "pipeline": lambda: layers.Pipeline([layers.RandomBrightness(0.3), layers.RandomCrop(32, 32)]),
}


@pytest.fixture
def images(rng) -> np.ndarray:
    return rng.integers(0, 256, (6, 32, 32, 3), dtype="uint8")


def trained(model, images, **settings):
    model.compile(keras.optimizers.SGD(0.05), run_eagerly=True)
    return model.fit(images, batch_size=3, verbose=0, **settings).history


@pytest.mark.parametrize("kind", LAYERS)
def test_a_keras_layer_is_an_augmentation(kind, images, tmp_path):
    model = SimCLR(toy_encoder(), augment=LAYERS[kind]())
    assert isinstance(model.augment, augment.FromLayer) and model.noise_size == 0
    logs = trained(model, images)
    assert np.isfinite(logs["loss"]).all()
    if kind == "several":
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert isinstance(again.augment, augment.FromLayer)
        assert len(again.augment.layer.layers) == 2 and np.isfinite(trained(again, images)["loss"]).all()


def test_each_call_of_a_layer_draws_anew_and_pictures_stay_in_0_to_255(images):
    views = augment.FromLayer(layers.RandomTranslation(0.4, 0.4, seed=1))
    first, second = (keras.ops.convert_to_numpy(views(images)) for _ in range(2))
    assert not np.array_equal(first, second)
    assert first.dtype == np.float32 and first.min() >= 0 and first.max() > 128


def test_the_state_of_its_generator_belongs_to_the_model():
    model = DeepInfoMax(toy_encoder(), critic_width=4, augment=layers.RandomFlip())
    assert {id(v) for v in model.augment.layer.variables} <= {id(v) for v in model.non_trainable_variables}


def test_operations_alone_and_in_a_list_become_one_augmentation(images):
    for given in (augment.Flip(), [augment.Flip()], (augment.Flip(), augment.Grey())):
        model = DeepInfoMax(toy_encoder(), critic_width=4, augment=given)
        assert isinstance(model.augment, augment.Compose)
    patches = CPC(patch_grid(16, 8, 4, 4, 1), steps=1, patch_augment=augment.Flip())
    assert isinstance(patches.patch_augment, augment.Compose)


def without_noise_size(images, noise):
    return images


def test_what_is_no_augmentation_is_refused_in_the_constructor_with_what_to_do():
    class Odd:
        noise_size = -1

        def __call__(self, images, noise):
            return images

    for given, words in [
        ("views", r"mizoo.augment.preset\('views'\)"),
        (5, "Keras layer, or None"),
        (augment.Compose, "Received"),
        ([], "Received"),
        ([layers.RandomFlip()], "keras.Sequential"),
        (without_noise_size, "Give it the attribute"),
        (Odd(), "whole number"),
    ]:
        with pytest.raises(UserError, match=words):
            DeepInfoMax(toy_encoder(), critic_width=4, augment=given)
        with pytest.raises(UserError, match=words):
            CPC(patch_grid(16, 8, 4, 4, 1), steps=1, patch_augment=given)
    with pytest.raises(UserError, match="nothing to train"):
        augment.FromLayer(layers.Conv2D(3, 1))(np.zeros((1, 4, 4, 3), "uint8"))
    with pytest.raises(UserError, match="is a Keras layer"):
        augment.FromLayer(without_noise_size)


def test_settings_of_operations_are_refused_by_name():
    for kind, name in [
        (augment.Translate, "shift"),
        (augment.RandomResizedCrop, "area"),
        (augment.RandomResizedCrop, "aspect"),
        (augment.Flip, "probability"),
        (augment.Blur, "sigma"),
        (augment.ColourJitter, "hue"),
        (augment.Grey, "probability"),
        (augment.DropColour, "probability"),
        (augment.Solarise, "threshold"),
        (augment.Occlude, "side"),
    ]:
        for value in (None, "a", {}, [1], float("nan"), True):
            with pytest.raises(UserError, match=f"`{name}`"):
                kind(**{name: value})
    for kind, settings in [
        (augment.Translate, {"shift": -1}),
        (augment.Flip, {"probability": 2}),
        (augment.RandomResizedCrop, {"area": (0.5, 0.1)}),
        (augment.RandomResizedCrop, {"side": 0}),
        (augment.Compose, {"operations": None}),
        (augment.preset, {"name": None}),
        (augment.preset, {"name": ["views"]}),
        (augment.preset, {"name": "views", "area": 5}),
    ]:
        with pytest.raises(UserError, match="Received"):
            kind(**settings)
    assert augment.RandomResizedCrop([0.3, 1]) == augment.RandomResizedCrop((0.3, 1))
