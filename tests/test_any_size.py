"""Encoders that take pictures of any size and resize inside agree with `mizoo embed`: Keras, ONNX, SavedModel."""

from __future__ import annotations

import copy
import json

import keras
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import mizoo
from mizoo.cli import app
from mizoo.data import pictures
from mizoo.data.resizing import fitted
from mizoo.embed import embed
from mizoo.encoders.resizing import Fit, any_size
from mizoo.errors import UserError
from mizoo.export import export, resized, save_saved_model, saved_model
from mizoo.export.samples import sample_pictures

SIZES = ((48, 64), (97, 71), (25, 29), (310, 225))  # wide, tall, smaller than the encoder, reduced by blocks first
PLACES = ["keras", "onnx"]


@pytest.fixture(scope="module")
def photographs() -> dict[tuple[int, int], np.ndarray]:
    """Three pictures of each size, uint8 (3, H, W, 3)."""
    return {size: sample_pictures(3, (*size, 3)) for size in SIZES}


@pytest.mark.parametrize("out", [(32, 32), (24, 40)])
def test_resizing_by_matrices_is_that_of_pillow_but_for_rare_halves(out, rng):
    sizes = [*SIZES, (32, 32), (33, 200), (640, 64), (192, 193)]
    for height, width in sizes:
        noise = rng.integers(0, 256, (2, height, width, 3), dtype="uint8")  # the hardest there is to agree on
        by_pillow = np.stack([pictures.fit(picture, out) for picture in noise]).astype("float32")
        by_matrices = fitted(noise.astype("float32"), height, width, out)
        off = np.abs(by_matrices - by_pillow)
        assert off.max() <= 1 and (off > 0).mean() < 0.02, (height, width)


def test_the_order_of_the_axes_is_the_same_on_every_release_of_pillow(rng):
    tall = rng.integers(0, 256, (90, 40), dtype="uint8")
    rows = np.array(Image.fromarray(tall).resize((32, 90), Image.Resampling.BICUBIC))
    both = Image.fromarray(rows).resize((32, 32), Image.Resampling.BICUBIC, (0, 25, 32, 65))
    np.testing.assert_array_equal(pictures.fit(tall, 32), np.array(both))


@pytest.mark.parametrize("runtime", PLACES)
def test_a_loaded_encoder_that_resizes_gives_the_features_of_embed_at_four_sizes(runtime, photographs, tmp_path):
    encoder = mizoo.load("dim_local_cifar10", runtime=runtime, resize=True)
    assert tuple(encoder.input_shape) == (None, None, None, 3)
    for size, images in photographs.items():
        folder = tmp_path / "x".join(map(str, size))
        folder.mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(folder / f"{i}.png")
        embed("dim_local_cifar10", folder, folder / "features.npz", progress=False)
        inside = encoder(images)
        with np.load(folder / "features.npz") as file:
            for endpoint, value in inside.items():
                difference = np.abs(np.asarray(value) - file[endpoint]).max() / np.abs(file[endpoint]).max()
                assert difference < resized.TOLERANCE, (size, endpoint)


def test_pictures_of_the_encoders_size_are_not_changed_and_one_endpoint_can_be_chosen(photographs, rng):
    images = rng.integers(0, 256, (2, 32, 32, 3), dtype="uint8")
    plain = mizoo.load("dim_local_cifar10", endpoint="fc")
    inside = mizoo.load("dim_local_cifar10", endpoint="fc", resize=True, name="mine")
    assert inside.name == "mine"
    np.testing.assert_allclose(inside(images), plain(images), atol=1e-5)
    features = keras.Sequential([inside, keras.layers.Dense(2)]).predict(photographs[48, 64], verbose=0)
    assert features.shape == (3, 2)


def test_an_encoder_that_resizes_is_saved_and_copied_with_what_it_does(photographs, tmp_path):
    encoder = any_size(tiny(channels=3))
    encoder.save(tmp_path / "encoder.keras")
    again = mizoo.load(tmp_path)
    images = photographs[97, 71]
    np.testing.assert_allclose(again(images)["mean"], encoder(images)["mean"], atol=1e-5)
    runner = mizoo.load("dim_local_cifar10", endpoint="fc", runtime="onnx", resize=True)
    np.testing.assert_array_equal(copy.deepcopy(runner)(images), runner(images))
    np.testing.assert_array_equal(runner.predict(images, batch_size=2)[:2], runner(images[:2]))


def test_an_encoder_of_another_kind_is_refused():
    free = keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()], name="free")
    with pytest.raises(UserError, match="pictures of one size.*free takes"):
        any_size(free)
    with pytest.raises(UserError, match="`height`"):
        Fit(0, 4)
    result = CliRunner().invoke(app, ["export", "dim_local_cifar10", "--resize", "--input", "uint8"])
    assert "leave out --format" in str(result.exception) + result.output


def tiny(channels: int, height: int = 12, width: int = 16) -> keras.Model:
    """A convolution whose mean and map are its endpoints."""
    keras.utils.set_random_seed(3)
    images = keras.Input((height, width, channels), name="images")
    x = keras.layers.Conv2D(5, 3, strides=2, activation="relu", name="conv")(keras.layers.Rescaling(1 / 255)(images))
    return keras.Model(images, {"map": x, "mean": keras.layers.GlobalAveragePooling2D()(x)}, name="tiny")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras exports through TensorFlow")
def test_an_encoder_of_large_pictures_is_compared_on_few_that_are_no_larger_than_two_megapixels(tmp_path, monkeypatch):
    images = keras.Input((300, 240, 3), name="images")
    encoder = keras.Model(images, {"mean": keras.layers.GlobalAveragePooling2D()(images)}, name="large")
    save_saved_model(encoder, tmp_path / "saved_model")
    batches: list[int] = []
    run = saved_model._run
    monkeypatch.setattr(saved_model, "_run", lambda *given: batches.append(len(given[-1])) or run(*given))
    proof = resized.compare_encoded(encoder, tmp_path, "large")
    assert proof["pictures"] == 3 and batches == [4, 4, 4]
    assert max(height * width for height, width in proof["sizes"]) < 1.01 * resized.PIXELS
    assert proof["sizes"][0] == [450, 480] and proof["sizes"][3] == [1793, 1116]
    assert proof["differences"]["mean"] < 0.01


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras exports through TensorFlow")
def test_exported_forms_of_thirteen_channels_and_unequal_sides_resize_inside(tmp_path):
    import tensorflow as tf

    encoder = tiny(13)
    manifest = export(encoder, tmp_path / "out", resize=True)
    assert manifest["input"]["shape"] == [None, None, 13]
    assert manifest["signatures"] == ["serve", "map", "mean", "serve_uint8"]
    proof = manifest["resized"]
    assert len(proof["sizes"]) == 4 and set(proof["differences"]) == {"keras", "onnx", "saved_model"}
    assert max(value for form in proof["differences"].values() for value in form.values()) < proof["tolerance"]
    assert json.loads((tmp_path / "out/manifest.json").read_text()) == manifest

    images = sample_pictures(4, (29, 50, 13))
    wanted = encoder(np.stack([pictures.fit(image, (12, 16)) for image in images]).astype("float32"))
    by_onnx = mizoo.load(tmp_path / "out", runtime="onnx")(images)
    saved = tf.saved_model.load(str(tmp_path / "out/saved_model"))
    by_bytes = saved.signatures["serve_uint8"](images=tf.constant(images))
    for endpoint, value in wanted.items():
        scale = 2 * resized.TOLERANCE * np.abs(value).max()  # of weights that were rounded, too
        np.testing.assert_allclose(by_onnx[endpoint], value, atol=scale)
        np.testing.assert_allclose(by_bytes[endpoint], value, atol=scale)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's")
def test_a_resized_form_that_differs_is_refused_by_name(tmp_path, monkeypatch):
    encoder = tiny(3)

    def exact(path, batch, endpoints):
        """What a form gives that is right."""
        images = np.stack([pictures.fit(image.astype("uint8"), (12, 16)) for image in batch]).astype("float32")
        return {name: np.asarray(value) for name, value in encoder(images).items()}

    monkeypatch.setattr(resized, "run_onnx", exact)
    monkeypatch.setattr(
        resized, "run_saved_model", lambda path, name, batch, endpoints: [exact(path, batch, endpoints)]
    )
    proof = resized.compare_resized(encoder, any_size(encoder), tmp_path, "mine")
    assert set(proof["differences"]["onnx"].values()) == {0.0}

    def wrong(path, batch, endpoints):
        """What a form gives that is three percent off."""
        return {name: 1.03 * value for name, value in exact(path, batch, endpoints).items()}

    monkeypatch.setattr(resized, "run_onnx", wrong)
    with pytest.raises(UserError, match="onnx form of mine that resizes inside differs.* by 0.03"):
        resized.compare_resized(encoder, any_size(encoder), tmp_path, "mine")
