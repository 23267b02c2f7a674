"""Fixtures that several files of tests share."""

from __future__ import annotations

import os
import warnings

# Before anything imports TensorFlow: quiet logs, no accelerator needed.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Features are cached in a folder of the tests', and not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def fake_zoo(tmp_path, monkeypatch):
    """An empty zoo of the test's own (`support.zoo.FakeZoo`), in the place of the published one."""
    from support.zoo import FakeZoo

    from mizoo.zoo import entries

    zoo = FakeZoo(tmp_path / "clone")
    monkeypatch.setattr(entries, "_root", zoo.root)
    return zoo


@pytest.fixture
def quick_saved_model(monkeypatch):
    """An empty file in the place of each SavedModel, which takes most of an export; ONNX is written and compared."""
    from mizoo.export import bundle

    models = {}

    def save(model, path) -> None:
        path.mkdir()
        (path / "saved_model.pb").touch()
        models[path] = model

    monkeypatch.setattr(bundle, "save_saved_model", save)
    monkeypatch.setattr(
        bundle, "run_saved_model", lambda path, name, batch, ends: [bundle.run_keras(models[path], batch)]
    )
    monkeypatch.setattr(bundle, "compare_encoded", lambda *_: {})


@pytest.fixture
def quick_forms(quick_saved_model, monkeypatch):
    """ONNX files of the weights alone as well, without the nodes, which take their time to convert."""
    import onnx

    from mizoo.export import bundle
    from mizoo.export.keras_file import as_half

    models = {}

    def save(model, path) -> None:
        halves = [(as_half(np.asarray(variable)), variable.path) for variable in model.variables]
        weights = [onnx.numpy_helper.from_array(*half) for half in halves]
        onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "weights", [], [], weights)), path)
        models[path] = model

    monkeypatch.setattr(bundle, "save_onnx", save)
    monkeypatch.setattr(bundle, "run_onnx", lambda path, batch, endpoints: bundle.run_keras(models[path], batch))


@pytest.fixture
def eager():
    """TensorFlow's steps run as they are called: tracing one takes longer than running a dozen."""
    import keras

    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261122)


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Synthetic photographs of different sizes: smooth colour fields with an edge in each."""
    rng = np.random.default_rng(7)
    pictures = []
    for height, width in [(48, 64), (100, 70), (33, 32), (256, 300)]:
        y, x = np.mgrid[:height, :width] / 32.0
        phases = rng.uniform(0, 6.28, 3)
        field = np.stack([np.sin(x * (c + 1) + p) + np.cos(y + p) for c, p in enumerate(phases)], axis=-1)
        field[: height // 2] *= 0.5
        pictures.append(np.clip(127.5 + 60 * field, 0, 255).astype("uint8"))
    return pictures


@pytest.fixture(scope="session")
def cifar10():
    """The 10,000 test pictures of CIFAR-10, or a skip where they are not at hand."""
    from mizoo import data

    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not os.path.isdir(os.path.join(folder, "cifar10")):
        pytest.skip("TFDS_DATA_DIR names no folder with cifar10")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return data.load("cifar10", "test")
