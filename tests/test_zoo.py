"""The zoo: what is listed loads, what is not the published file is never opened, and mistakes are explained."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from support.encoders import ENDPOINTS, publish

from mizoo import report, zoo
from mizoo.errors import UserError
from mizoo.report import cards
from mizoo.zoo import entries
from mizoo.zoo.loading import RUNTIMES
from mizoo.zoo.onnx_encoder import OnnxEncoder


@pytest.fixture(scope="session")
def published():
    return publish()


@pytest.fixture
def shelf(published, fake_zoo):
    """A copy of the published folder that the zoo looks into, free to be damaged."""
    fake_zoo.copy_from(published.root)
    fake_zoo.register(published.registry)
    return fake_zoo.root


@pytest.fixture
def images(rng_seed=3):
    return np.random.default_rng(rng_seed).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)


def test_the_shipped_registry_names_files_with_full_hashes_and_valid_metadata():
    for name, entry in zoo.registry().items():
        assert set(entry) >= {"summary", "objective", "dataset", "paper", "license", "input", "endpoints", "files"}, (
            name
        )
        for file in entry["files"].values():
            assert len(file["sha256"]) == 64, name
            assert zoo.locate(file["path"]).stat().st_size == file["bytes"], name


def test_list_models_matches_patterns(fake_zoo):
    fake_zoo.register(dict.fromkeys(["dim_b", "dim_a", "cpc_a"], {}))
    assert zoo.list_models() == ["cpc_a", "dim_a", "dim_b"]
    assert zoo.list_models("dim_*") == ["dim_a", "dim_b"]
    assert zoo.list_models("x*") == []


def test_info_says_what_the_registry_says(shelf):
    found = zoo.info("small_net")
    assert found["name"] == "small_net"
    assert found["endpoints"] == ENDPOINTS
    with pytest.raises(UserError, match="small_net"):
        zoo.info("smal_net")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_endpoint_loads_and_equals_the_encoder_that_was_saved(shelf, published, images, runtime):
    encoder = zoo.load("small_net", runtime=runtime)
    wanted, got = published.model(images), encoder(images)
    assert set(got) == set(ENDPOINTS)
    for key, shape in ENDPOINTS.items():
        assert tuple(got[key].shape) == (5, *shape)
        np.testing.assert_allclose(got[key], wanted[key], atol=1e-5)
        alone = zoo.load("small_net", endpoint=key, runtime=runtime)(images)
        np.testing.assert_allclose(alone, wanted[key], atol=1e-5)


def test_bytes_and_floats_and_any_batch_size_give_the_same_features(shelf, images):
    encoder = zoo.load("small_net", endpoint="fc")
    whole = np.asarray(encoder(images))
    np.testing.assert_allclose(encoder(images.astype(np.float32)), whole, atol=1e-5)
    np.testing.assert_allclose(encoder(images[:1]), whole[:1], atol=1e-5)
    np.testing.assert_allclose(encoder.predict(images, verbose=0), whole, atol=1e-5)


def test_one_endpoint_goes_into_a_sequential_and_trains(shelf, images):
    import keras

    encoder = zoo.load("small_net", endpoint="fc")
    encoder.trainable = False
    before = [np.array(weight) for weight in encoder.weights]
    model = keras.Sequential([encoder, keras.layers.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, np.arange(5), epochs=2, verbose=0)
    assert model.output_shape == (None, 10)
    for old, new in zip(before, encoder.weights, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_file_with_another_hash_is_never_opened(shelf, monkeypatch, runtime):
    import keras
    import onnxruntime

    def opened(*_, **__):
        raise AssertionError("the altered file was opened")

    monkeypatch.setattr(keras.saving, "load_model", opened)
    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    file = zoo.path("small_net", f"encoder.{runtime}")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1  # one bit, same size
    file.write_bytes(data)
    with pytest.raises(UserError) as error:
        zoo.load("small_net", runtime=runtime)
    pinned = zoo.registry()["small_net"]["files"][f"encoder.{runtime}"]
    for part in (str(file), pinned["sha256"], "not opened", f"git checkout -- {pinned['path']}"):
        assert part in str(error.value)


def test_a_missing_file_says_how_to_restore_it(shelf):
    (shelf / "models/small_net/encoder.keras").unlink()
    with pytest.raises(UserError, match=r"missing.*git checkout -- models/small_net/encoder\.keras"):
        zoo.load("small_net")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("small_nte",), "Did you mean small_net"),
        (("SMALL_NET",), "Did you mean small_net"),
        (("resnet50",), "Published: small_net"),
        (("small_net", "fcc"), "no endpoint 'fcc'.*local, conv, fc, global"),
        (("small_net", None, "tflite"), "'keras', 'onnx'"),
        (("nowhere/encoder.keras",), "No such file"),
    ],
)
def test_a_slip_is_answered_with_what_exists(shelf, arguments, says):
    with pytest.raises(UserError, match=says):
        zoo.load(*arguments)


def test_an_unknown_file_of_an_entry_is_refused(shelf):
    with pytest.raises(UserError, match=r"encoder\.keras, encoder\.onnx"):
        zoo.path("small_net", "../secret")


@pytest.mark.parametrize(("name", "run"), [("plain", "runs/plain"), ("paper/vae", "runs/paper_vae")])
def test_a_recipe_without_weights_is_told_from_an_unknown_name(shelf, name, run):
    file = shelf / "models" / (f"{name}.yaml" if "/" in name else f"{name}/recipe.yaml")
    file.parent.mkdir()
    file.write_text(f"name: {run.removeprefix('runs/')}\n")
    says = rf"{name} is a recipe without published weights: `mizoo pretrain {name}` .* {run}\. Published: small_net"
    for ask in (zoo.info, zoo.load, lambda each: zoo.load(each, runtime="onnx")):
        with pytest.raises(UserError, match=says):
            ask(name)


def test_an_empty_zoo_is_named_as_one(fake_zoo):
    with pytest.raises(UserError, match="publishes none"):
        zoo.load("dim_local_cifar10")


# --- paths instead of names


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
@pytest.mark.parametrize("endpoint", [None, "fc"])
def test_a_file_of_another_precision_loads_in_float32(tmp_path, policy, endpoint):
    keras = pytest.importorskip("keras")
    inputs = keras.Input((8, 8, 3))
    layers = keras.layers.Rescaling(1 / 255, dtype=policy), keras.layers.Flatten(), keras.layers.Dense(2, dtype=policy)
    values = inputs
    for layer in layers:
        values = layer(values)
    keras.Model(inputs, {"fc": values}).save(tmp_path / "mine.keras")
    pictures = np.full((1, 8, 8, 3), 128, np.uint8)
    encoder = zoo.load(tmp_path / "mine.keras", endpoint)
    found = encoder(pictures) if endpoint else encoder(pictures)["fc"]
    assert "float32" in str(found.dtype) and all("float32" in str(weight.dtype) for weight in encoder.weights)
    kernel, bias = (np.asarray(weight, np.float32) for weight in layers[-1].weights)
    np.testing.assert_allclose(np.asarray(found)[0], np.full(192, 128 / 255, np.float32) @ kernel + bias, atol=1e-4)


def test_files_and_folders_load_without_a_registry(published, images, fake_zoo):
    wanted = np.asarray(published.model(images)["fc"])
    for name in (published.keras_file, str(published.keras_file.parent)):
        np.testing.assert_allclose(zoo.load(name, endpoint="fc")(images), wanted, atol=1e-5)
    for name in (published.onnx_file, str(published.onnx_file.parent)):
        encoder = zoo.load(name, endpoint="fc", runtime="onnx")
        assert isinstance(encoder, OnnxEncoder)
        np.testing.assert_allclose(encoder(images), wanted, atol=1e-5)


def test_the_wrong_runtime_for_a_file_names_the_right_one(published, tmp_path):
    with pytest.raises(UserError, match="mizoo export"):
        zoo.load(published.keras_file, runtime="onnx")
    with pytest.raises(UserError, match="mizoo export"):
        zoo.load(published.keras_file.parent, runtime="onnx")
    with pytest.raises(UserError, match='runtime="onnx"'):
        zoo.load(published.onnx_file)
    with pytest.raises(UserError, match=r"holds no encoder\.keras"):
        zoo.load(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="no encoder"):
        zoo.load(tmp_path / "notes.txt")


@pytest.mark.parametrize("suffix", RUNTIMES)
@pytest.mark.parametrize("damage", ["empty", "truncated", "text"])
def test_a_damaged_file_is_named(published, tmp_path, suffix, damage):
    whole = (published.keras_file if suffix == "keras" else published.onnx_file).read_bytes()
    file = tmp_path / f"encoder.{suffix}"
    file.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"no encoder"}[damage])
    with pytest.raises(UserError, match=f"encoder.{suffix} cannot be"):
        zoo.load(file, runtime=suffix)


def test_code_inside_a_keras_file_is_not_run(tmp_path):
    import keras

    marker = str(tmp_path / "ran")
    inputs = keras.Input((32, 32, 3))
    layer = keras.layers.Lambda(lambda x: (open(marker, "w").close(), x)[1], output_shape=(32, 32, 3))
    keras.Model(inputs, {"fc": layer(inputs)}).save(tmp_path / "x.keras")
    if os.path.exists(marker):  # building the model may have run the function
        os.unlink(marker)
    assert zipfile.is_zipfile(tmp_path / "x.keras")
    with pytest.raises(UserError, match="cannot be loaded"):
        zoo.load(tmp_path / "x.keras")
    assert not os.path.exists(marker)


WITHOUT_TENSORFLOW = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
sys.meta_path.insert(0, Hide())
from mizoo import UserError, zoo
for attempt in range(2):
    try:
        zoo.load(sys.argv[1])
    except UserError as error:
        print(error)
"""


def test_without_a_backend_the_error_names_the_extra(published):
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, str(published.keras_file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.count('pip install ".[tensorflow]"') == 2  # the second attempt is told the same
    assert 'runtime="onnx"' in done.stdout


def test_what_changes_a_clone_names_the_way_to_one(monkeypatch):
    assert (zoo.clone() / "models").is_dir()
    monkeypatch.setattr(entries, "clone", lambda: None)
    for call in (report.write_tables, lambda: cards.write_card("dim_local_cifar10")):
        with pytest.raises(UserError, match="pip install -e"):
            call()
