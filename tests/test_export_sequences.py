"""Encoders of sounds, series and patches as ONNX and SavedModel: the same numbers at every length."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest

keras = pytest.importorskip("keras")
if keras.backend.backend() != "tensorflow":
    pytest.skip("export runs on the TensorFlow backend", allow_module_level=True)
onnx = pytest.importorskip("onnx")
pytest.importorskip("tf2onnx")

from mizoo import encoders, export, zoo  # noqa: E402
from mizoo.errors import UserError  # noqa: E402
from mizoo.publish import publish  # noqa: E402


def spread(encoder):
    """The encoder with weights far from their initial values, but for those of layers that are fixed."""
    draw = np.random.default_rng(1)
    for variable in [each for layer in encoder.layers if layer.trainable for each in layer.variables]:
        shape = variable.shape
        variable.assign(draw.uniform(0.5, 1.5, shape) if len(shape) == 1 else draw.normal(size=shape) * 0.2)
    return encoder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A function of a kind: its folder, encoder and manifest, exported once."""

    @functools.cache
    def export_once(name: str):
        encoder = {
            "waveform": lambda: encoders.waveform(8000, widths=(4, 6, 8, 8), context_size=5),
            "log_mel": lambda: encoders.log_mel(8000, mels=8, widths=(3, 4), frame_size=6, context_size=5),
            "patch_grid": lambda: encoders.patch_grid(side=16, width=4, size=6, blocks=1),
            "series": lambda: encoders.series(3, width=7, context_size=5),
        }[name]()
        images = None
        if name == "patch_grid":
            images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype="uint8")
        folder = tmp_path_factory.mktemp(name)
        return folder, spread(encoder), export.export(encoder, folder, images, half=False)

    export_once("waveform")  # which most tests take, before any fixture of a test can change how it is exported
    return export_once


@pytest.mark.parametrize("name", ["waveform", "log_mel", "patch_grid", pytest.param("series", marks=pytest.mark.slow)])
def test_every_form_computes_the_same(exported, name):
    _, _, manifest = exported(name)
    worst = max(max(by_endpoint.values()) for by_endpoint in manifest["differences"].values())
    assert worst < 1e-5
    kind = {"waveform": "samples", "log_mel": "samples", "patch_grid": "images", "series": "series"}[name]
    shape = {"waveform": [None], "log_mel": [None], "patch_grid": [16, 16, 3], "series": [None, 3]}[name]
    assert manifest["input"]["name"] == kind and manifest["input"]["shape"] == shape


def test_onnx_takes_sounds_of_any_length_and_names_what_it_cannot_take(exported, rng):
    folder, encoder, _ = exported("waveform")
    fast = zoo.load(folder, runtime="onnx")
    assert fast.input_shape == (None, None) and fast.output_shapes["context"] == (None, None, 5)
    for length in (225, 1003, 4000):
        samples = rng.uniform(-0.5, 0.5, (2, length)).astype("float32")
        wanted, found = encoder(samples), fast(samples)
        for key, value in found.items():
            np.testing.assert_allclose(value, np.asarray(wanted[key]), atol=1e-5)
    assert fast.shortest() == 225
    with pytest.raises(UserError, match="225 samples and more"):
        fast(np.zeros((1, 224), "float32"))
    with pytest.raises(UserError, match="-1..1"):
        fast(np.full((1, 400), 300.0, "float32"))
    assert fast.predict(np.zeros((5, 400), "float32"), batch_size=2)["global"].shape == (5, 5)


def test_an_exported_run_says_its_sampling_rate(exported, tmp_path, quick_forms):
    _, encoder, _ = exported("waveform")
    encoder.save(tmp_path / "encoder.keras")
    (tmp_path / "recipe.yaml").write_text("encoder:\n  sampling_rate: 8000\n")
    manifest = export.export(tmp_path, tmp_path / "out")
    assert manifest["input"]["sampling_rate"] == 8000 == zoo.sampling_rate(tmp_path / "out" / "encoder.onnx")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["input"]["range"] == [-1, 1]
    assert max(manifest["differences"]["onnx"].values()) < 1e-4


@pytest.mark.parametrize("shape", [(800,), (16, 3)])
def test_an_encoder_of_sounds_or_series_of_one_length_is_exported(tmp_path, quick_saved_model, shape, rng):
    inputs = keras.Input(shape)
    steps = keras.layers.Reshape((*shape, 1))(inputs) if len(shape) == 1 else inputs
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Conv1D(4, 3)(steps))
    encoder = keras.Model(inputs, {"fc": pooled}, name="fixed")
    assert max(export.export(encoder, tmp_path, half=False)["differences"]["onnx"].values()) < 1e-4
    fast, batch = zoo.load(tmp_path, runtime="onnx"), rng.uniform(-1, 1, (2, *shape)).astype("float32")
    assert fast.input_shape == (None, *shape)
    np.testing.assert_allclose(fast(batch)["fc"], np.asarray(encoder(batch)["fc"]), atol=1e-5)
    with pytest.raises(UserError, match=f"B, {shape[0]}"):
        fast(batch[:, 1:])


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("manifest.json", "{", "damaged"),
        ("recipe.yaml", "a: [", "not YAML"),
        ("recipe.yaml", "encoder:\n", "No sampling"),
    ],
)
def test_a_damaged_record_of_the_sampling_rate_is_named(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=says):
        zoo.sampling_rate(tmp_path)


def test_an_encoder_of_sounds_alone_is_exported_without_a_rate(exported, tmp_path, quick_forms):
    _, encoder, _ = exported("waveform")
    encoder.save(tmp_path / "mine.keras")
    assert "sampling_rate" not in export.export(tmp_path / "mine.keras", tmp_path / "out")["input"]
    with pytest.raises(UserError, match="--sampling-rate"):
        zoo.sampling_rate(tmp_path / "out")


def test_a_published_encoder_of_sounds_has_named_half_weights_and_the_same_bytes_again(
    exported, tmp_path, fake_zoo, quick_saved_model
):
    _, encoder, _ = exported("waveform")
    root, run = fake_zoo.root, tmp_path / "run"
    run.mkdir()
    encoder.save(run / "encoder.keras")
    (run / "recipe.yaml").write_text(
        "name: toy\nsummary: toy sounds\n"
        "encoder: {name: waveform, sampling_rate: 8000, widths: [4, 6, 8, 8], context_size: 5}\n"
        "objective: {name: cpc, steps: 2}\n"
        "data: {source: spoken_digit, augment: none, window: 640}\n"
        "training: {epochs: 1, batch_size: 4}\n"
    )
    entry = publish(run, "toy", root=root, licence="CC-BY-4.0")
    assert entry["input"] == {"shape": [None], "range": [-1, 1], "sampling_rate": 8000}
    stored = onnx.load(root / "export/toy/encoder.onnx")
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in stored.graph.initializer}
    assert {weights[variable.path].dtype.name for variable in encoder.weights} == {"float16"}
    loops = [node for node in stored.graph.node if node.op_type == "Loop"]
    assert loops and all(node.name.startswith("Loop_") for node in loops)
    again = publish(run, "toy", root=root, replace=True)  # the converter's own names have grown since
    assert again["files"] == entry["files"]
