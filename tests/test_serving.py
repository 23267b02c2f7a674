"""What is served computes what the encoder computes: bytes, files, 8 bits, LiteRT, and the code of docs/serving.md."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")
if keras.backend.backend() != "tensorflow":
    pytest.skip("export runs on the TensorFlow backend", allow_module_level=True)
for needed in ("onnx", "tf2onnx"):
    pytest.importorskip(needed)

from support.encoders import shaken_encoder, values_of  # noqa: E402

import mizoo  # noqa: E402
from mizoo import deploy as deploying  # noqa: E402
from mizoo._tools.files import facts  # noqa: E402
from mizoo.data import pictures  # noqa: E402
from mizoo.data.dataset import Dataset  # noqa: E402
from mizoo.errors import UserError  # noqa: E402
from mizoo.export import compare, save_onnx, save_saved_model  # noqa: E402
from mizoo.export.keras_file import save_keras  # noqa: E402
from mizoo.export.quantization import quantize_onnx, take_uint8  # noqa: E402
from mizoo.export.saved_model import file_of  # noqa: E402
from mizoo.zoo.manifests import why_stale  # noqa: E402

PAGE = (Path(__file__).resolve().parents[1] / "docs/serving.md").read_text(encoding="utf-8")
FILES = 0.02
"""How far features of a file may differ, decoded in the graph and by `mizoo embed`: of the largest value."""


@pytest.fixture(scope="module")
def encoder():
    return shaken_encoder()


@pytest.fixture(scope="module")
def onnx_file(encoder, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "encoder.onnx"
    save_onnx(encoder, path)
    return path


@pytest.fixture(scope="module")
def saved(encoder, tmp_path_factory):
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("saved") / "1"
    save_saved_model(encoder, folder)
    return tf.saved_model.load(str(folder))


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (9, 32, 32, 3), dtype="uint8")


def test_the_saved_model_takes_floats_and_bytes_by_name(saved, encoder, images):
    wanted = values_of(encoder, images)
    for signature, given in (("serve", images.astype("float32")), ("serve_uint8", images)):
        got = {key: value.numpy() for key, value in saved.signatures[signature](images=given).items()}
        assert max(compare(got, wanted).values()) < 1e-5


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_saved_model_reads_files_as_embed_does(saved, encoder, photos, kind, tmp_path):
    contents = [file_of(picture, kind) for picture in photos]
    read = []
    for i, content in enumerate(contents):
        (tmp_path / str(i)).write_bytes(content)
        read.append(pictures.prepare(tmp_path / str(i), (32, 32, 3)))
    wanted = values_of(encoder, np.stack(read))
    got = {key: value.numpy() for key, value in saved.signatures["serve_encoded"](encoded=contents).items()}
    assert max(compare(got, wanted).values()) < FILES


@pytest.mark.parametrize("channels", [3, 1])
def test_the_pixels_of_files_are_those_of_embed_to_one_grey_level(channels, photos):
    import tensorflow as tf

    from mizoo.export.saved_model import _decoded

    sizes = [(200, 33), (427, 640), (32, 24), (28, 28), (100, 37)]
    whole = [pictures.fit(photo, size) for photo in photos[:3] for size in sizes]
    contents = [file_of(each, kind) for kind in ("JPEG", "PNG", "GIF", "BMP") for each in whole]  # of quality 75
    got = _decoded(tf.constant(contents), 32, 24, channels).numpy()
    for content, picture in zip(contents, got, strict=True):
        wanted = pictures.fit(pictures.decode(content, "a file", channels=channels), (32, 24))
        assert np.abs(picture - wanted).max() <= 1


def test_an_encoder_of_sounds_has_no_signature_of_files():
    from mizoo.export.saved_model import ENCODED, UINT8, further_signatures

    sequences = keras.Sequential([keras.Input((None, 1)), keras.layers.Conv1D(2, 3)])
    assert further_signatures(sequences) == ()
    for shape, expected in {(32, 24, 3): (UINT8, ENCODED), (8, 8, 4): (UINT8,), (None, None, 3): (UINT8,)}.items():
        pictures = keras.Sequential([keras.Input(shape), keras.layers.GlobalAveragePooling2D()])
        assert further_signatures(pictures) == expected


def test_onnx_takes_bytes_and_gives_the_same(onnx_file, encoder, images, tmp_path):
    import onnx

    take_uint8(onnx_file, tmp_path / "bytes.onnx")
    onnx.checker.check_model(str(tmp_path / "bytes.onnx"), full_check=True)
    runner = mizoo.load(tmp_path / "bytes.onnx", runtime="onnx")
    wanted = values_of(encoder, images)
    assert max(compare(runner(images), wanted).values()) < 1e-5
    assert max(compare(runner.predict(images.astype("float32"), batch_size=4), wanted).values()) < 1e-5
    with pytest.raises(UserError, match="something else"):
        take_uint8(tmp_path / "bytes.onnx", tmp_path / "again.onnx")


def two_kinds(count: int = 400, noise: float = 60.0) -> Dataset:
    """Pictures with light at the top or at the bottom, and which."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    light = np.where(np.arange(32)[None, :] < 16, labels[:, None], 1 - labels[:, None]) * 60 + 90
    values = light[:, :, None, None] + rng.normal(0, noise, (count, 32, 32, 3))
    return Dataset("two_kinds", np.clip(values, 0, 255).astype("uint8"), labels.astype("int64"), ("top", "bottom"))


@pytest.fixture
def labelled(monkeypatch):
    """Those, in the place of a data set by name."""
    monkeypatch.setattr("mizoo.data.load", lambda name, split, size=None, depth=None: two_kinds())


def test_eight_bits_are_written_with_the_probe_that_they_kept(encoder, labelled, tmp_path):
    import onnx

    facts = deploying.deploy(encoder, tmp_path, quantize="int8", progress=False)
    probe = facts["probe"]
    assert (probe["endpoint"], probe["dataset"], probe["train"], probe["test"]) == ("fc", "two_kinds", 200, 100)
    assert probe["float32"] > 90 and probe["float32"] - probe["int8"] <= deploying.LARGEST_LOSS
    graph = onnx.load(facts["file"]).graph
    kernels = [t for t in graph.initializer if len(t.dims) == 4]
    assert kernels and all(t.data_type == onnx.TensorProto.INT8 for t in kernels)
    assert facts["bytes"] == (tmp_path / "encoder.int8.onnx").stat().st_size
    both = deploying.deploy(encoder, tmp_path, quantize="int8", inputs="uint8", progress=False)
    images = two_kinds().images[:5]
    one, other = (mizoo.load(each["file"], runtime="onnx")(images) for each in (facts, both))
    assert max(compare(one, other).values()) == 0


def test_eight_bits_leave_the_resizing_of_pictures_of_any_size_exact(encoder, labelled, tmp_path):
    from mizoo.encoders.resizing import any_size

    probe = deploying.deploy(any_size(encoder), tmp_path, quantize="int8", progress=False)["probe"]
    assert probe["float32"] > 90 and probe["float32"] - probe["int8"] <= deploying.LARGEST_LOSS


def test_eight_bits_that_lose_the_probe_are_refused(encoder, labelled, tmp_path, monkeypatch):
    """Ranges that were measured on black pictures cut everything off."""
    monkeypatch.setattr(
        deploying.quantization,
        "quantize_onnx",
        lambda source, path, pictures: quantize_onnx(source, path, np.zeros_like(pictures)),
    )
    with pytest.raises(UserError, match=r"loses .* points of accuracy by 'fc'"):
        deploying.deploy(encoder, tmp_path, quantize="int8", progress=False)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_served_so_is_refused(encoder, tmp_path):
    for settings, says in [
        ({"form": "litert", "inputs": "uint8"}, "is for ONNX"),
        ({"form": "coreml"}, "onnx, litert"),
        ({"inputs": "int8"}, "float32, uint8"),
        ({"quantize": "int4"}, "none, int8"),
    ]:
        with pytest.raises(UserError, match=says):
            deploying.deploy(encoder, tmp_path, **settings)
    with pytest.raises(UserError, match="encoders of pictures"):
        deploying.deploy("cpc_spoken_digit", tmp_path, inputs="uint8")
    assert not list(tmp_path.iterdir())


def test_a_published_file_is_not_replaced_and_a_manifest_of_other_bytes_does_not_stay(encoder, tmp_path, fake_zoo):
    folder = fake_zoo.root / "export/small_net"
    folder.mkdir()
    (folder / "encoder.onnx").write_text("published")
    pinned = {"path": "export/small_net/encoder.onnx", **facts(folder / "encoder.onnx")}
    fake_zoo.register({"small_net": {"files": {"encoder.onnx": pinned}}})
    manifest = json.dumps({"files": {"encoder.onnx": facts(folder / "encoder.onnx")}})
    (folder / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match="is the published file of small_net.*--out"):
        deploying.deploy(encoder, folder, progress=False)
    assert (folder / "encoder.onnx").read_text() == "published" and (folder / "manifest.json").exists()

    (tmp_path / "manifest.json").write_text(manifest)
    deploying.deploy(encoder, tmp_path, inputs="uint8", progress=False)
    assert (tmp_path / "manifest.json").exists()  # it describes another file
    written = deploying.deploy(encoder, tmp_path, progress=False)
    assert not (tmp_path / "manifest.json").exists()
    same = json.dumps({"files": {"encoder.onnx": {"sha256": written["sha256"]}}})
    (tmp_path / "manifest.json").write_text(same)
    deploying.deploy(encoder, tmp_path, progress=False)
    assert (tmp_path / "manifest.json").read_text() == same
    save_keras(encoder, tmp_path / "encoder.keras")
    deploying.deploy(tmp_path, tmp_path, progress=False)
    assert why_stale(tmp_path) is None
    (tmp_path / "encoder.keras").write_text("trained again")
    assert "another encoder.keras" in why_stale(tmp_path)


def test_eight_bits_of_pictures_of_one_class_are_refused_before_anything_is_exported(encoder, tmp_path, monkeypatch):
    one = dataclasses.replace(two_kinds(), labels=np.zeros(400, "int64"))
    monkeypatch.setattr("mizoo.data.load", lambda name, split, size=None, depth=None: one)
    monkeypatch.setattr(deploying, "save_onnx", None)
    with pytest.raises(UserError, match=r"of 1 class.*--dataset"):
        deploying.deploy(encoder, tmp_path, quantize="int8", progress=False)


def test_eight_bits_of_a_classifier_are_checked_on_its_own_classes(encoder, monkeypatch, tmp_path):
    """A probe on its probabilities, fitted on the pictures of something else, says nothing of them."""
    depths = []

    def load(name, split, size=None, depth=None):
        if name != "cifar10":  # of which the samples are
            depths.append(depth)
        return two_kinds()

    monkeypatch.setattr("mizoo.data.load", load)
    import keras
    from sklearn.linear_model import LogisticRegression

    data = two_kinds()
    head = LogisticRegression(max_iter=300).fit(np.asarray(encoder(data.images)["fc"]), data.labels)
    logit = keras.layers.Dense(2, activation="softmax", name="probabilities")
    model = keras.Model(encoder.inputs, {"probabilities": logit(encoder.output["fc"])})
    logit.set_weights([np.concatenate([-head.coef_, head.coef_]).T / 2, np.array([-0.5, 0.5]) * head.intercept_])
    model.save(tmp_path / "light.keras")

    def eight_bits(classes, **settings):
        (tmp_path / "light.json").write_text(json.dumps({"classes": classes, "settings": {"depth": 12}}))
        return deploying.deploy(tmp_path / "light.keras", tmp_path / "out", quantize="int8", progress=False, **settings)

    with pytest.raises(UserError, match=r"\(top, bottom\): pass a `dataset`"):
        eight_bits(["top", "bottom"])
    with pytest.raises(UserError, match="two_kinds has others: top, bottom"):
        eight_bits(["cat", "dog"], dataset="light")
    probe = eight_bits(["top", "bottom"], dataset="light")["probe"]
    assert (probe["endpoint"], probe["train"], probe["test"]) == ("probabilities", 0, 360)
    assert probe["float32"] > 90 and probe["agreement"] > 95
    swapped = eight_bits(["bottom", "top"], dataset=tmp_path)["probe"]  # columns go by the names of the classes
    assert swapped["float32"] == pytest.approx(100 - probe["float32"])
    assert depths == [None, None, 12]  # a folder is read as it was to train the classifier


@pytest.mark.slow
def test_litert_agrees_by_signature_in_float_and_in_eight_bits(encoder, labelled, tmp_path):
    pytest.importorskip("ai_edge_litert")
    exact = deploying.deploy(encoder, tmp_path, form="litert", progress=False)
    assert set(exact["differences"]) == {"local", "conv", "fc", "global"}
    assert max(exact["differences"].values()) < 1e-4
    small = deploying.deploy(encoder, tmp_path, form="litert", quantize="int8", progress=False)
    assert 0 < max(small["differences"].values()) < 0.2
    assert small["probe"]["float32"] - small["probe"]["int8"] <= deploying.LARGEST_LOSS


@pytest.mark.slow
def test_eight_bits_of_an_entry_are_a_quarter_of_the_size_and_twice_as_fast(cifar10, tmp_path):
    """On one core, measured in turns, by processor time."""
    import onnxruntime

    name = "simclr_cifar10"
    facts = deploying.deploy(name, tmp_path, quantize="int8", progress=False)
    assert facts["probe"]["float32"] - facts["probe"]["int8"] <= deploying.LARGEST_LOSS
    numbers = sum(weight.size for weight in mizoo.load(name).get_weights())
    assert facts["bytes"] < 0.3 * 4 * numbers
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    files = (str(mizoo.zoo.path(name, "encoder.onnx")), facts["file"])
    exact, small = (onnxruntime.InferenceSession(file, options) for file in files)
    batch, times = cifar10.images[:256].astype("float32"), {exact: [], small: []}
    for _ in range(7):
        for session, spent in times.items():
            began = time.process_time()
            session.run(None, {"images": batch})
            spent.append(time.process_time() - began)
    ratio = np.median(times[exact]) / np.median(times[small])
    print(facts, f"{ratio:.2f} times the rate")
    assert ratio > 2


def block(language: str, containing: str) -> str:
    (found,) = [b for b in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if containing in b]
    return found


def test_the_fastapi_service_answers_with_the_features_of_embed(tmp_path, photos, monkeypatch):
    pytest.importorskip("fastapi")
    pytest.importorskip("multipart")
    from fastapi.testclient import TestClient

    source = block("python", "FastAPI")
    assert len([line for line in source.splitlines() if line.strip()]) <= 20
    names: dict = {"__name__": "service"}
    exec(compile(source, "service.py", "exec"), names)
    client = TestClient(names["app"])
    content = file_of(photos[0], "PNG")
    (tmp_path / "0.png").write_bytes(content)
    wanted = mizoo.load("simclr_cifar10", "fc", "onnx")(pictures.prepare(tmp_path / "0.png", (32, 32, 3))[None])[0]
    answer = client.post("/features", files=[("files", ("a.png", content)), ("files", ("b.png", content))])
    assert answer.status_code == 200
    np.testing.assert_allclose(answer.json()["features"], [wanted, wanted], atol=1e-4)
    assert client.post("/features", files=[("files", ("a.png", b"no picture"))]).status_code == 422


@pytest.mark.slow
def test_the_node_program_gives_the_features_of_python(tmp_path):
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node here")
    # Its script fetches the libraries of GPUs from elsewhere; the package holds those of the CPU.
    install = ["npm", "install", "onnxruntime-node", "--ignore-scripts"]
    installed = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"npm could not install onnxruntime-node: {installed.stderr[-300:]}")
    shutil.copy(mizoo.zoo.path("simclr_cifar10", "encoder.onnx"), tmp_path / "encoder.onnx")
    (tmp_path / "features.js").write_text(block("js", "onnxruntime-node"))
    done = subprocess.run(["node", "features.js"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    grey = np.full((1, 32, 32, 3), 128, np.uint8)
    wanted = mizoo.load("simclr_cifar10", "fc", "onnx")(grey)[0]
    np.testing.assert_allclose(json.loads(done.stdout), wanted, atol=1e-4)


@pytest.mark.parametrize("name", ["serve", "serve_uint8", "serve_encoded"])
def test_the_requests_of_the_page_name_inputs_that_are_there(saved, name):
    """TensorFlow Serving itself is not installed here: its requests are held against the signatures."""
    body = json.loads(re.search(rf"'(\{{\"signature_name\": \"{name}\".*?\}})'", PAGE)[1])
    (argument,) = saved.signatures[name].structured_input_signature[1]
    assert list(body["inputs"]) == [argument]
