"""Exported and published encoders: both forms compute what Keras computes and hold the same weights."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

keras = pytest.importorskip("keras")
if keras.backend.backend() != "tensorflow":
    pytest.skip("export runs on the TensorFlow backend", allow_module_level=True)
h5py = pytest.importorskip("h5py")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")

from support.encoders import shaken_encoder, values_of  # noqa: E402

from mizoo import export  # noqa: E402
from mizoo._tools import files  # noqa: E402
from mizoo.data import photographs  # noqa: E402
from mizoo.errors import UserError  # noqa: E402
from mizoo.export import bundle  # noqa: E402
from mizoo.export.keras_file import check_stock  # noqa: E402
from mizoo.export.samples import sample_pictures  # noqa: E402

ENDPOINTS = ("local", "conv", "fc", "global")


@pytest.fixture(scope="module")
def encoder():
    return shaken_encoder()


@pytest.fixture(scope="module")
def half(encoder):
    return export.half_precision(encoder)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).integers(0, 256, (7, 32, 32, 3)).astype("float32")


def _run(path, images):
    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def _subprocess(code, tmp_path, **environment):
    """Run code in a fresh interpreter, outside the repository."""
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    clean["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # for JAX: what runs once is not worth optimising
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={**clean, **environment}
    )
    assert done.returncode == 0, done.stderr


def test_mixed_precision_and_synchronised_statistics_stay_behind(images):
    mixed = shaken_encoder("mixed_bfloat16")
    for layer in mixed.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
    plain = export.to_float32(mixed)
    config = json.dumps(plain.get_config())
    assert "bfloat16" not in config
    assert '"synchronized": true' not in config
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    expected = values_of(shaken_encoder("float32"), images)
    for name, value in values_of(plain, images).items():
        np.testing.assert_array_equal(value, expected[name])
    assert mixed.get_layer("conv2").compute_dtype == "bfloat16", "the given model was changed"


def test_half_precision_rounds_and_leaves_the_original_alone(encoder):
    before = encoder.get_weights()
    rounded = export.half_precision(encoder).get_weights()
    for old, kept, new in zip(before, encoder.get_weights(), rounded, strict=True):
        np.testing.assert_array_equal(old, kept)
        np.testing.assert_array_equal(new, old.astype(np.float16).astype(np.float32))
    assert any((old != new).any() for old, new in zip(before, rounded, strict=True))


@pytest.mark.parametrize("value", [np.nan, 1e6])
def test_weights_that_float16_cannot_hold_are_refused(value):
    model = shaken_encoder()
    model.get_layer("conv2_norm").moving_variance.assign(np.full(6, value))
    with pytest.raises(UserError, match="conv2_norm/moving_variance"):
        export.half_precision(model)


def test_a_subclassed_model_is_no_encoder():
    class Foreign(keras.Model):
        pass

    with pytest.raises(UserError, match="Functional or Sequential"):
        export.to_float32(Foreign())


def test_keras_file_holds_halves_and_loads_with_stock_keras(tmp_path, half, images):
    path = tmp_path / "encoder.keras"
    export.save_keras(half, path)
    with zipfile.ZipFile(path) as archive:
        weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    dtypes = []
    weights.visititems(lambda _, item: dtypes.append(item.dtype) if isinstance(item, h5py.Dataset) else None)
    assert len(dtypes) == len(half.variables)
    assert set(dtypes) == {np.dtype("float16")}
    loaded = keras.saving.load_model(path)
    assert {variable.dtype for variable in loaded.variables} == {"float32"}
    for name, value in values_of(loaded, images).items():
        np.testing.assert_array_equal(value, values_of(half, images)[name])


def test_keras_file_never_rounds_by_itself(tmp_path, encoder):
    export.save_keras(encoder, tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    for a, b in zip(loaded.get_weights(), encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


_ABSENT = """
import sys
class Absent:
    names = ["mizoo"]
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
"""
_LOAD = """
import keras, numpy as np
model = keras.saving.load_model("a.keras")
assert all(v.dtype == "float32" for v in model.variables)
np.savez("out.npz", **{k: np.asarray(v) for k, v in model(np.load("images.npy")).items()})
"""


def test_keras_file_loads_on_jax_without_this_package_or_tensorflow(tmp_path, half, images):
    pytest.importorskip("jax")
    export.save_keras(half, tmp_path / "a.keras")
    np.save(tmp_path / "images.npy", images)
    _subprocess(_ABSENT + "Absent.names.append('tensorflow')" + _LOAD, tmp_path, KERAS_BACKEND="jax")
    differences = export.compare(dict(np.load(tmp_path / "out.npz")), values_of(half, images))
    assert set(differences) == set(ENDPOINTS)
    assert max(differences.values()) < 1e-5


def test_keras_file_loads_without_this_package_and_saving_again_gives_the_same_bytes(tmp_path, half, images):
    export.save_keras(half, tmp_path / "a.keras")
    export.save_onnx(half, tmp_path / "a.onnx")
    np.save(tmp_path / "images.npy", images)
    again = """
Absent.names.clear()
keras.layers.Dense(1)  # the numbers in the names that Keras hands out are no longer the first ones
from mizoo import export
export.save_keras(model, "b.keras")
export.save_onnx(model, "b.onnx")
"""
    root = os.path.dirname(os.path.dirname(os.path.abspath(export.__file__)))
    _subprocess(_ABSENT + _LOAD + again, tmp_path, PYTHONPATH=root, PYTHONHASHSEED="5")
    assert max(export.compare(dict(np.load(tmp_path / "out.npz")), values_of(half, images)).values()) < 1e-5
    assert files.sha256(tmp_path / "a.keras") == files.sha256(tmp_path / "b.keras")
    assert files.sha256(tmp_path / "a.onnx") == files.sha256(tmp_path / "b.onnx")


def test_onnx_file_has_named_endpoints_any_batch_and_half_weights(tmp_path, half, images):
    path = tmp_path / "encoder.onnx"
    export.save_onnx(half, path)
    graph = onnx.load(path).graph
    assert [value.name for value in graph.input] == ["images"]
    assert tuple(value.name for value in graph.output) == ENDPOINTS
    for batch in (1, 2, 7):
        differences = export.compare(_run(path, images[:batch]), values_of(half, images[:batch]))
        assert max(differences.values()) < 1e-5
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    casts = {node.input[0] for node in graph.node if node.op_type == "Cast"}
    for variable in half.variables:
        assert stored[variable.path].dtype == np.float16
        assert variable.path in casts
        np.testing.assert_array_equal(stored[variable.path].astype("float32"), np.asarray(variable))


def test_onnx_file_keeps_float32_weights_that_halves_cannot_hold(tmp_path, encoder, images):
    export.save_onnx(encoder, tmp_path / "encoder.onnx")
    assert max(export.compare(_run(tmp_path / "encoder.onnx", images), values_of(encoder, images)).values()) < 1e-5


def test_export_proves_both_forms_and_writes_a_manifest(tmp_path, encoder, half, images):
    import tensorflow as tf

    export.save_keras(encoder, tmp_path / "my_run/encoder.keras")
    manifest = export.export(tmp_path / "my_run", tmp_path / "out", images=images)
    assert json.loads((tmp_path / "out/manifest.json").read_text()) == manifest
    assert sorted(os.listdir(tmp_path / "out")) == ["encoder.onnx", "manifest.json", "saved_model"]
    assert manifest["entry"] == "my_run"
    assert manifest["source"]["sha256"] == files.sha256(tmp_path / "my_run/encoder.keras")
    assert manifest["pictures"] == 7
    assert list(manifest["endpoints"]) == list(ENDPOINTS)
    for file, facts in manifest["files"].items():
        assert files.sha256(tmp_path / "out" / file) == facts["sha256"]
    for form in ("onnx", "saved_model"):
        assert set(manifest["differences"][form]) == set(ENDPOINTS)
        assert max(manifest["differences"][form].values()) < 1e-5
    assert set(manifest["encoded"]["differences"]) == set(ENDPOINTS) and len(manifest["encoded"]["sizes"]) == 4
    assert max(manifest["encoded"]["differences"].values()) < 0.02
    assert 1e-6 < max(manifest["rounding"].values()) < 1e-2
    assert set(manifest["versions"]) == {"keras", "tensorflow", "onnx", "onnxruntime", "tf2onnx"}

    signatures = tf.saved_model.load(tmp_path / "out/saved_model").signatures
    expected = values_of(half, images)
    assert set(signatures["serve"](images=tf.constant(images))) == set(ENDPOINTS)
    for name in ENDPOINTS:
        (value,) = signatures[name](images=tf.constant(images)).values()
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)


def test_export_again_replaces_what_was_there(tmp_path, images, quick_saved_model):
    first = export.export(shaken_encoder(seed=1), tmp_path, images=images)
    second = export.export(shaken_encoder(seed=2), tmp_path, images=images)
    assert first["files"]["encoder.onnx"]["sha256"] != second["files"]["encoder.onnx"]["sha256"]
    assert files.sha256(tmp_path / "encoder.onnx") == second["files"]["encoder.onnx"]["sha256"]
    assert sorted(os.listdir(tmp_path)) == ["encoder.onnx", "manifest.json", "saved_model"]


def test_a_layer_that_converts_wrongly_is_caught_and_nothing_is_replaced(tmp_path, encoder, images, quick_saved_model):
    export.export(encoder, tmp_path / "out", images=images)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    inputs = keras.Input((32, 32, 3), name="images")
    resized = keras.layers.Resizing(8, 8, antialias=True)(inputs)
    wrong = keras.Model(inputs, {"fc": keras.layers.Flatten()(resized)})
    with pytest.raises(UserError):
        export.export(wrong, tmp_path / "out", images=images)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    with pytest.raises(UserError):
        export.export(wrong, tmp_path / "new", images=images)
    assert not (tmp_path / "new").exists()


def test_a_form_that_computes_something_else_fails_above_the_tolerance(
    tmp_path, encoder, images, quick_saved_model, monkeypatch
):
    honest = export.save_onnx

    def tampered(model, path, **options):
        changed = export.to_float32(model)
        kernel = changed.get_layer("output").kernel
        kernel.assign(np.asarray(kernel) * 1.01)
        honest(changed, path, **options)

    monkeypatch.setattr(bundle, "save_onnx", tampered)
    with pytest.raises(UserError, match="onnx form.*'global'"):
        export.export(encoder, tmp_path / "out", images=images)
    assert not (tmp_path / "out").exists()


def test_differences_are_relative_to_the_largest_value_and_see_nan():
    reference = {"a": np.array([2.0, -4.0]), "b": np.zeros(2), "c": np.ones(2), "d": np.ones(2), "e": np.ones(2)}
    other = {"a": np.array([2.0, -3.0]), "b": np.zeros(2), "c": np.array([1, np.nan]), "d": np.ones(3)}
    infinity = float("inf")
    assert export.compare(other, reference) == {"a": 0.25, "b": 0.0, "c": infinity, "d": infinity, "e": infinity}


def test_encoders_without_named_endpoints_are_refused(tmp_path):
    inputs = keras.Input((32, 32, 3))
    flat = keras.layers.Flatten()(inputs)
    with pytest.raises(UserError, match="dict of named endpoints"):
        export.save_onnx(keras.Model(inputs, [flat, flat]), tmp_path / "x.onnx")


def test_the_comparison_finds_real_pictures_without_cifar10(tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    from mizoo.export.samples import sample_pictures

    monkeypatch.setenv("TFDS_DATA_DIR", os.fspath(tmp_path))
    pictures = sample_pictures(256, (32, 32, 3))
    assert pictures.shape == (256, 32, 32, 3)
    assert len({picture.tobytes() for picture in pictures}) > 250
    assert sample_pictures(8, (28, 28, 1)).shape == (8, 28, 28, 1)
    with pytest.raises(UserError, match="pass `images`"):
        sample_pictures(8, (8000, 1))


def test_layers_that_need_this_package_or_hold_code_are_refused():
    @keras.saving.register_keras_serializable(package="mizoo_test")
    class Own(keras.layers.Layer):
        def call(self, x):
            return x

    inputs = keras.Input((32, 32, 3))
    with pytest.raises(UserError, match="Own"):
        check_stock(keras.Model(inputs, {"fc": Own()(inputs)}))
    with pytest.raises(UserError, match="Lambda"):
        check_stock(keras.Model(inputs, {"fc": keras.layers.Lambda(lambda x: x)(inputs)}))
    check_stock(shaken_encoder())


def test_two_photographs_are_enough_to_compare_on_and_none_names_the_extra(tmp_path, monkeypatch):
    """As after `pip install ".[export,train]"`, before CIFAR-10 was fetched."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    of_sklearn = photographs.installed("sklearn/datasets/images")
    monkeypatch.setattr(photographs, "folders", lambda: [of_sklearn])
    images = sample_pictures(256, (32, 32, 3))
    assert images.shape == (256, 32, 32, 3) and images.dtype == np.uint8
    assert len({image.tobytes() for image in images}) == 256
    np.testing.assert_array_equal(sample_pictures(256, (32, 32, 3)), images)
    monkeypatch.setattr(photographs, "folders", lambda: [])
    with pytest.raises(UserError, match=r"\[demo\]"):
        sample_pictures(256, (32, 32, 3))
