"""One door for files: read once, hashed, measured before a library opens them, and never larger than the limits."""

from __future__ import annotations

import io
import json
import os
import resource
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import onnx
import pytest
from support.encoders import publish, toy_encoder

from mizoo import UserError, recipes, teachers, zoo
from mizoo.publish import publish as publish_run
from mizoo.zoo import reading
from mizoo.zoo.loading import load_hashed, read_keras

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def published():
    return publish()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The members of a small `.keras` file, by name."""
    file = tmp_path_factory.mktemp("small") / "small.keras"
    inputs = keras.Input((32, 32, 3))
    keras.Model(inputs, {"fc": keras.layers.Dense(4, name="fc")(keras.layers.Flatten()(inputs))}).save(file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(file, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


@pytest.fixture
def few_bytes():
    """What a test needs may grow by 500 MB at most: the files below ask for gigabytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 500e3


def test_ten_million_units_are_refused_before_they_are_allocated(tmp_path, small, few_bytes):
    config = small["config.json"].replace(b'"units": 4', b'"units": 10000000')
    assert config != small["config.json"]
    with pytest.raises(UserError, match=r"30,730,000,000 numbers, more than.*MIZOO_MAX_UNPACKED"):
        zoo.load(packed(tmp_path / "x.keras", {**small, "config.json": config}))


def test_a_configuration_that_asks_for_more_than_the_weights_are_is_refused(tmp_path, small, few_bytes):
    config = small["config.json"].replace(b'"units": 4', b'"units": 150000')  # 1.8 GB, below the limit
    with pytest.raises(UserError, match=r"asks for 460,950,000 numbers and its weights are 12,292"):
        zoo.load(packed(tmp_path / "x.keras", {**small, "config.json": config}))


def test_a_gigabyte_zipped_into_the_configuration_is_refused(tmp_path, small, few_bytes):
    config = small["config.json"] + b" " * (reading.MAX_CONFIG + 1)
    with pytest.raises(UserError, match=r"config\.json has 33,.*MIZOO_MAX_CONFIG"):
        zoo.load(packed(tmp_path / "x.keras", {**small, "config.json": config}, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("name", ["config.json", "assets/huge"])
def test_what_a_file_unpacks_to_is_limited_by_a_number_that_can_be_set(tmp_path, small, name, monkeypatch):
    file = packed(tmp_path / "x.keras", {**small, name: small["config.json"].ljust(3 << 20)}, zipfile.ZIP_DEFLATED)
    assert zoo.load(file).output["fc"].shape == (None, 4)
    monkeypatch.setenv("MIZOO_MAX_UNPACKED", str(2 << 20))
    with pytest.raises(UserError, match=r"unpacks to 3,.*2,097,152 bytes that are allowed.*MIZOO_MAX_UNPACKED"):
        zoo.load(file)
    monkeypatch.setenv("MIZOO_MAX_UNPACKED", "2 GB")
    with pytest.raises(UserError, match="MIZOO_MAX_UNPACKED is a number of bytes"):
        zoo.load(file)
    monkeypatch.delenv("MIZOO_MAX_UNPACKED")
    monkeypatch.setattr(reading, "MAX_UNPACKED", 1000)  # by the module as well, and of any file
    with pytest.raises(UserError, match="larger than the 1,000 bytes"):
        zoo.load(file)


@pytest.mark.parametrize("how", ["shape", "chunk"])
def test_a_dataset_that_claims_gigabytes_is_refused(tmp_path, small, how, few_bytes):
    weights = io.BytesIO(small["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        if how == "shape":
            file.create_dataset("huge", shape=(900_000_000,), dtype="float32", chunks=(1000,), compression="gzip")
        else:
            file.create_dataset("huge", (3,), "float64", chunks=(300_000_000,), maxshape=(None,), compression="gzip")
    with pytest.raises(UserError, match=r"huge in its weights claims [23],\d+,\d+,\d+ bytes, and [\d,]+ are stored"):
        zoo.load(packed(tmp_path / "x.keras", {**small, "model.weights.h5": weights.getvalue()}))


@pytest.mark.parametrize(
    ("member", "says"),
    [("../outside", "lead out"), ("/outside", "lead out"), ("a\\..\\..\\b", "lead out"), ("metadata.json", "twice")],
)
def test_members_that_leave_the_file_or_hide_another_are_refused(tmp_path, small, member, says):
    file = packed(tmp_path / "x.keras", small)
    with zipfile.ZipFile(file, "a") as archive, pytest.warns() if says == "twice" else open(os.devnull):
        archive.writestr(member, b"x")
    with pytest.raises(UserError, match=says):
        zoo.load(file)


def test_what_keras_never_writes_is_refused(tmp_path, small):
    with pytest.raises(UserError, match="deflation"):
        zoo.load(packed(tmp_path / "x.keras", small, zipfile.ZIP_LZMA))
    with pytest.raises(UserError, match=r"holds no model\.weights\.h5"):
        zoo.load(packed(tmp_path / "y.keras", {key: value for key, value in small.items() if "h5" not in key}))
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    with pytest.raises(UserError, match="cannot be loaded"):
        zoo.load(packed(tmp_path / "z.keras", {**small, "config.json": deep}))
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(UserError, match="is no file"):
        zoo.load(tmp_path / "pipe.onnx", runtime="onnx")


def test_measuring_leaves_nothing_behind_that_a_later_model_would_allocate(tmp_path, small):
    with keras.StatelessScope():  # whose end gives every variable that waits its values
        reading.check_keras(reading.read_checked(packed(tmp_path / "x.keras", small)))
        late = keras.Variable(lambda shape, dtype: keras.ops.ones(shape, dtype), shape=(2,))
    assert np.asarray(late).tolist() == [1, 1]


# --- ONNX


def test_tensors_in_other_files_are_refused_wherever_they_stand(published, tmp_path):
    model = onnx.load(os.fspath(published.onnx_file))
    onnx.save_model(model, tmp_path / "x.onnx", save_as_external_data=True, location="x.data", size_threshold=0)
    with pytest.raises(UserError, match="in another file.*save_as_external_data=False"):
        zoo.load(tmp_path / "x.onnx", runtime="onnx")
    tensor = onnx.helper.make_tensor("t", onnx.TensorProto.FLOAT, [1], [1.0])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    branch = onnx.helper.make_graph([onnx.helper.make_node("Constant", [], ["c"], value=tensor)], "g", [], [])
    outer = onnx.helper.make_graph([onnx.helper.make_node("If", ["i"], ["o"], then_branch=branch)], "h", [], [])
    (tmp_path / "y.onnx").write_bytes(onnx.helper.make_model(outer).SerializeToString())
    with pytest.raises(UserError, match="in another file"):
        reading.check_onnx(reading.read_checked(tmp_path / "y.onnx"))
    reading.check_onnx(reading.read_checked(published.onnx_file))


# --- what is hashed is what is loaded


@pytest.fixture
def exchanged(published, tmp_path, monkeypatch):
    """An encoder whose file is replaced as soon as it has been read; what was read; how often it was opened."""
    file = tmp_path / "run" / "encoder.keras"
    file.parent.mkdir()
    good = published.keras_file.read_bytes()
    file.write_bytes(good)
    opened = []
    read = reading.read_checked

    def read_and_exchange(path, *arguments):
        found = read(path, *arguments)
        opened.append(path)
        if os.path.samefile(path, file):
            file.write_bytes(b"another file")
        return found

    monkeypatch.setattr(reading, "read_checked", read_and_exchange)
    return file, reading.hashlib.sha256(good).hexdigest(), opened


def test_the_hash_is_that_of_what_was_loaded(exchanged, published):
    file, digest, opened = exchanged
    model, found = load_hashed(file)
    assert found == digest and len(opened) == 1
    images = np.zeros((2, 32, 32, 3), "uint8")
    np.testing.assert_allclose(model(images)["fc"], published.model(images)["fc"], atol=1e-5)


def test_exporting_and_publishing_read_once_and_keep_the_name_in_the_file(exchanged):
    file, digest, opened = exchanged
    model, found = read_keras(file)
    assert found == digest and len(opened) == 1
    assert model.name == publish().model.name


def test_rows_hold_the_hash_of_what_was_measured(exchanged):
    from mizoo.evaluate.run import _load_model

    file, digest, _ = exchanged
    assert _load_model(file, "published")[1] == {"weights": digest}


def test_a_teacher_whose_file_was_exchanged_is_refused(published):
    images = np.zeros((4, 32, 32, 3), "uint8")
    name = str(published.keras_file)
    with pytest.raises(UserError, match="exchanged while it was used"):
        teachers.targets([(name, "fc")], images, views=1, hashes={name: "0" * 64})


def test_publishing_measures_the_file_of_the_run(tmp_path, small, fake_zoo):
    run = tmp_path / "run"
    run.mkdir()
    config = small["config.json"].replace(b'"units": 4', b'"units": 10000000')
    packed(run / "encoder.keras", {**small, "config.json": config})
    (run / "recipe.yaml").write_text(recipes.load(ROOT / "models/dim_local_cifar10/recipe.yaml").dump())
    with pytest.raises(UserError, match="MIZOO_MAX_UNPACKED"):
        publish_run(run, "mine", root=fake_zoo.root, licence="CC0-1.0")


def test_init_from_measures_the_file(tmp_path, small):
    from mizoo.recipes.starting_weights import copy_weights

    config = small["config.json"].replace(b'"units": 4', b'"units": 10000000')
    file = packed(tmp_path / "x.keras", {**small, "config.json": config})
    recipe = recipes.load("dim_local_cifar10").model_copy(update={"init_from": str(file)})
    with pytest.raises(UserError, match="MIZOO_MAX_UNPACKED"):
        copy_weights(recipe, toy_encoder())


# --- the registry


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 3}', '{"x": {}}', '{"x": {"files": {"encoder.keras": {}}}}'])
def test_a_damaged_registry_is_named(fake_zoo, text):
    fake_zoo.registry_file.write_text(text)
    with pytest.raises(UserError, match=r"registry.*damaged.*git checkout -- mizoo/zoo/registry\.json"):
        zoo.load("x")


@pytest.mark.parametrize(
    "path", ["../x.keras", "models/../../x.keras", "/etc/x.keras", "models/a\\..\\..\\x", "other/x.keras", "models//x"]
)
def test_paths_in_the_registry_stay_inside_the_installation(fake_zoo, path):
    file = {"path": path, "sha256": "0" * 64, "bytes": 1}
    fake_zoo.register({"x": {"endpoints": {}, "files": {"encoder.keras": file}}})
    with pytest.raises(UserError, match="lie below models or export"):
        zoo.load("x")
    with pytest.raises(UserError, match="lie below"):
        zoo.path("x", "encoder.keras")


def test_the_shipped_registry_is_read():
    assert json.dumps(zoo.registry())
