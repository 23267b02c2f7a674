"""The entries that ship: each is what its registry, rows and card say."""

from __future__ import annotations

import os

import numpy as np
import pytest

import mizoo
from mizoo import report, zoo
from mizoo.zoo.copies import random_copy

NAME = "dim_local_cifar10"
NAMES = [name for name in zoo.list_models() if "sampling_rate" not in zoo.info(name)["input"]]  # of pictures
FLOORS = {  # of digits and of speakers, for a ridge classifier on 187 clips; chance is 10 and 20
    "cpc_spoken_digit": (65.0, 95.0),
    "simclr_spoken_digit": (85.0, 80.0),
}
MARGINS = {  # of `linear` on heard voices over random weights, which hear them nearly as well through log-mel spectra
    "cpc_spoken_digit": {"spoken_digit/digit": 20.0, "spoken_digit/speaker": 2.0},
    "simclr_spoken_digit": {"spoken_digit/digit": 0.2},
}
SOUNDS = [name for name in zoo.list_models() if name not in NAMES]
MARGIN = 8.0  # points of the paper's probe that training is worth at least, on every endpoint


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def encoder(name):
    return zoo.load(name)


def probe(features: np.ndarray, labels: np.ndarray, share: float = 0.75) -> float:
    """Top-1 % of a ridge classifier on one part of the pictures, measured on the rest."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    part = round(len(features) * share)
    model = make_pipeline(StandardScaler(), RidgeClassifier(300.0)).fit(features[:part], labels[:part])
    return 100 * model.score(features[part:], labels[part:])


@pytest.fixture(scope="module")
def random_scores():
    """Shapes of the weights -> what random ones score: entries of one architecture share it."""
    return {}


def test_its_features_classify_real_pictures_far_better_than_random_ones(cifar10, name, encoder, random_scores):
    """The probe of a fixed subset of CIFAR-10's test pictures, by both runtimes and by a random encoder."""
    from mizoo.evaluate import random_copy

    images, labels = cifar10.images[:600], cifar10.labels[:600]
    keras_fc = np.asarray(encoder(images[:50])["fc"])
    onnx_fc = zoo.load(name, endpoint="fc", runtime="onnx").predict(images)
    assert np.abs(keras_fc - onnx_fc[:50]).max() < 1e-3
    trained = probe(onnx_fc, labels)
    shapes = tuple(tuple(weight.shape) for weight in encoder.weights)
    if shapes not in random_scores:
        features = random_copy(encoder).predict(images.astype("float32"), batch_size=250, verbose=0)["fc"]
        random_scores[shapes] = probe(features, labels)
    assert trained > 42.0, trained  # of 150 pictures; those that ship have 47 and more, random ones up to 28
    assert trained > random_scores[shapes] + 12.0, (trained, random_scores)


def test_the_encoder_is_plain_and_float32(name, encoder):
    assert type(encoder).__name__ == "Functional"
    assert {layer.dtype_policy.name for layer in encoder.layers} == {"float32"}
    assert {layer.__class__.__module__.split(".")[0] for layer in encoder.layers} == {"keras"}
    outputs = encoder(np.zeros((2, 32, 32, 3), "uint8"))
    assert {key: list(value.shape[1:]) for key, value in outputs.items()} == zoo.info(name)["endpoints"]


def test_pictures_of_any_number_type_give_the_same_features(encoder, rng):
    images = rng.integers(0, 256, (3, 32, 32, 3), dtype="uint8")
    first = np.asarray(encoder(images)["global"])
    for dtype in ("float32", "float64", "int32"):
        np.testing.assert_allclose(np.asarray(encoder(images.astype(dtype))["global"]), first, atol=1e-5)


def test_the_papers_encoder_has_the_papers_shapes():
    expected = {"local": [8, 8, 128], "conv": [4, 4, 256], "fc": [1024], "global": [64]}
    assert zoo.info(NAME)["endpoints"] == expected


def test_it_can_be_fine_tuned_inside_a_sequential(rng):
    import keras

    encoder = mizoo.load(NAME, endpoint="fc")
    classifier = keras.Sequential([encoder, keras.layers.Dense(10)])
    classifier.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = encoder.get_weights()
    images = rng.integers(0, 256, (16, 32, 32, 3), dtype="uint8").astype("float32")
    losses = classifier.fit(images, np.arange(16) % 10, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert any(not np.array_equal(a, b) for a, b in zip(before, encoder.get_weights()))


def beside(name: str) -> list:
    """The test rows of an entry, of raw pixels, and of random weights of its architecture, whichever entry has them."""
    ends = zoo.info(name)["endpoints"]
    rows = [(each, row) for each in NAMES for row in report.entry_rows(each) if row.split == "test"]
    same = {"published": {name}, "random": {n for n in NAMES if zoo.info(n)["endpoints"] == ends}, "pixels": set(NAMES)}
    return [row for each, row in rows if each in same[row.encoder]]


def test_rows_of_every_endpoint_and_protocol_stand_beside_random_and_pixels(name):
    rows = [row for row in beside(name) if row.dataset == "cifar10"]  # and not those of transfer to other data
    found = {(row.encoder, row.protocol, row.endpoint) for row in rows}
    protocols, ends = ("linear", "mlp200", "knn"), zoo.info(name)["endpoints"]
    assert {("published", p, e) for p in protocols for e in ends} <= found
    assert {("random", p, e) for p in protocols for e in ends if e != "local"} <= found
    assert {("pixels", p, "pixels") for p in protocols} <= found
    assert all(row.command.startswith("mizoo evaluate") and row.seconds >= 0 for row in rows)
    assert {row.train_size for row in rows if row.protocol in protocols} == {50000}
    assert {row.test_size for row in rows} == {10000}


def test_the_papers_probe_is_far_above_random_weights_and_pixels(name):
    values = {(row.encoder, row.endpoint): row.value for row in beside(name) if row.protocol == "mlp200"}
    for endpoint in zoo.info(name)["endpoints"]:
        if endpoint != "local":
            assert values["published", endpoint] > values["random", endpoint] + MARGIN
    assert max(values["published", e] for e in zoo.info(name)["endpoints"]) > values["pixels", "pixels"] + MARGIN


@pytest.mark.parametrize("name", SOUNDS)
def test_an_encoder_of_sounds_hears_digits_and_speakers(name):
    """Both runtimes, on the test clips; a ridge classifier on three quarters of them scores the rest."""
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not os.path.isdir(os.path.join(folder, "spoken_digit")):
        pytest.skip("TFDS_DATA_DIR names no folder with spoken_digit")
    from mizoo.data import sounds
    from mizoo.evaluate.features import clip_features

    part = sounds.load("spoken_digit", "test")
    encoder = zoo.load(name)
    features = clip_features(encoder, part.clips)["global"]
    onnx = zoo.load(name, endpoint="global", runtime="onnx")
    for i in (0, 100, 249):
        alone = np.asarray(encoder(part.clips[i][None])["global"])[0]
        np.testing.assert_allclose(features[i], alone, atol=1e-4)
        np.testing.assert_allclose(onnx(part.clips[i][None])[0], alone, atol=1e-4)
    order = np.random.default_rng(0).permutation(len(part))
    for label, floor in zip(("digit", "speaker"), FLOORS[name]):
        assert probe(features[order], part.labels[label][order]) > floor
    unheard = [
        _of_a_voice_left_out(features, clip_features(random_copy(encoder), part.clips)["global"], part, speaker)
        for speaker in range(len(part.classes["speaker"]))
    ]
    published, random = np.mean(unheard, axis=0)
    assert published > random + 15.0


def _of_a_voice_left_out(published: np.ndarray, random: np.ndarray, part, speaker: int) -> list[float]:
    """Digits of one speaker by a ridge classifier on the others', from published and from random weights."""
    last = np.argsort(part.labels["speaker"] == speaker, kind="stable")
    return [probe(features[last], part.labels["digit"][last], share=0.8) for features in (published, random)]


@pytest.mark.parametrize("name", SOUNDS)
def test_rows_of_sounds_stand_beside_random_weights(name):
    rows = [row for row in report.entry_rows(name) if (row.split, row.protocol) == ("test", "linear")]
    values = {(row.encoder, row.dataset, row.endpoint): row.value for row in rows}
    for dataset in ("spoken_digit/digit", "spoken_digit/speaker"):
        for endpoint in ("local", "global"):
            published, random = (values[kind, dataset, endpoint] for kind in ("published", "random"))
            if dataset in MARGINS[name]:
                assert published > random + MARGINS[name][dataset]
    assert {(row.train_size, row.test_size) for row in rows} == {(2250, 250)}


@pytest.mark.parametrize("name", SOUNDS + NAMES)
def test_the_card_on_disk_is_the_one_its_rows_make(name):
    assert zoo.locate(f"models/{name}/README.md").read_text(encoding="utf-8") == report.card(name)
