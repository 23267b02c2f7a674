"""Names: of loaded models, of files, of arguments; copies of ONNX encoders; and `import mizoo` beside a clone."""

from __future__ import annotations

import configparser
import copy
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from support.encoders import publish, toy_encoder

from mizoo import UserError, augment, export, zoo
from mizoo._tools.files import user_path
from mizoo.objectives import SimCLR
from mizoo.zoo import interface
from mizoo.zoo.onnx_encoder import OnnxEncoder

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def published():
    return publish()


@pytest.fixture
def shelf(published, fake_zoo):
    """Two entries of the same architecture, whose models were saved under the same name."""
    fake_zoo.copy_from(published.root)
    registry = dict(published.registry)
    registry["other_net"] = registry["small_net"]
    fake_zoo.register(registry)
    return fake_zoo.root


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype="uint8")


def test_a_model_is_called_as_its_entry_and_endpoint(shelf, published, tmp_path):
    assert zoo.load("small_net").name == "small_net"
    assert zoo.load("small_net", endpoint="fc").name == "small_net_fc"
    assert zoo.load("small_net", endpoint="fc", name="left").name == "left"
    assert zoo.load("small_net", "fc", "onnx").name == "small_net"
    assert zoo.load("small_net", runtime="onnx", name="left").name == "left"
    assert zoo.load(name="small_net").name == "small_net"  # the first argument's name in version 0.1.0
    shutil.copy(published.keras_file, tmp_path / "my encoder (2).keras")
    assert zoo.load(tmp_path / "my encoder (2).keras").name == "my_encoder__2_"


def test_two_entries_go_into_one_model_that_saves_loads_and_exports(published, shelf, images, tmp_path):
    two = {
        "a": zoo.load("small_net", endpoint="fc"),
        "b": zoo.load("small_net", endpoint="global"),
        "c": zoo.load("small_net", endpoint="fc", name="again"),
    }
    for variable in two["c"].variables:  # other weights under the same paths
        variable.assign(variable * 1.5)
    inputs = keras.Input((32, 32, 3))
    joined = keras.layers.Concatenate(name="joined")([encoder(inputs) for encoder in two.values()])
    model = keras.Model(inputs, {"joined": joined}, name="together")
    expected = np.concatenate([encoder(images) for encoder in two.values()], axis=1)
    np.testing.assert_allclose(model(images)["joined"], expected, atol=1e-5)
    model.save(tmp_path / "together.keras")
    np.testing.assert_allclose(zoo.load(tmp_path / "together.keras")(images)["joined"], expected, atol=1e-5)
    export.save_onnx(model, tmp_path / "together.onnx")
    np.testing.assert_allclose(
        zoo.load(tmp_path / "together.onnx", runtime="onnx")(images)["joined"], expected, atol=1e-4
    )


def test_what_is_written_does_not_depend_on_the_name_of_the_entry(published, tmp_path):
    shutil.copytree(published.keras_file.parent, tmp_path / "elsewhere")
    for name, out in ((published.keras_file, "a.keras"), (tmp_path / "elsewhere", "b.keras")):
        export.save_keras(zoo.loading.read_keras(name)[0], tmp_path / out)
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))])
def test_an_onnx_encoder_is_copied_by_its_path_and_hash(published, images, tmp_path, copied, monkeypatch):
    file = tmp_path / "encoder.onnx"
    shutil.copy(published.onnx_file, file)
    monkeypatch.chdir(tmp_path)
    encoder = OnnxEncoder("encoder.onnx", "fc", "mine", threads=1)
    monkeypatch.chdir("/")
    other = copied(encoder)
    assert other.threads == 1
    assert (other.name, other.endpoint, other.path, other.sha256) == ("mine", "fc", file, encoder.sha256)
    np.testing.assert_array_equal(other(images), encoder(images))
    file.write_bytes(file.read_bytes() + b"\x00")
    with pytest.raises(UserError, match=f"not the file that was expected(.|\n)*{encoder.sha256}"):
        copied(encoder)
    file.unlink()
    with pytest.raises(UserError, match="No such file"):
        copied(encoder)


def test_arguments_of_the_wrong_kind_are_named(published, tmp_path):
    file, onnx_file = published.keras_file, published.onnx_file
    for encoder in (None, 3, [], b"x", "", published.model):
        for call in (zoo.load, zoo.encoder_file, zoo.sampling_rate, export.export):
            if call is not export.export or encoder is not published.model:
                with pytest.raises(UserError, match="`encoder` is the name of an entry, or the path"):
                    call(encoder)
    for endpoint in (["fc"], 3, True):
        for load in (zoo.load, lambda *given: OnnxEncoder(onnx_file, given[1])):
            with pytest.raises(UserError, match="`endpoint` is the name of one endpoint"):
                load(file, endpoint)
    for runtime in (None, 3, ["onnx"]):
        with pytest.raises(UserError, match="`runtime` must be one of"):
            zoo.load(file, runtime=runtime)
    for name in (3, "a/b", ""):
        with pytest.raises(UserError, match="`name` is"):
            zoo.load(file, name=name)
        with pytest.raises(UserError, match="`name` is"):
            SimCLR(published.model, augment=augment.preset("views"), name=name)
    for opset in (20, 3, "15", None, 15.5):
        with pytest.raises(UserError, match="`opset` is a whole number from 9 to 18"):
            export.save_onnx(published.model, tmp_path / "x.onnx", opset=opset)
    for providers in ("CPUExecutionProvider", [3], None):
        with pytest.raises(UserError, match="`providers` is a list of names"):
            OnnxEncoder(onnx_file, providers=providers)
    for size in (0, "3", 2.5):
        with pytest.raises(UserError, match="`batch_size`"):
            OnnxEncoder(onnx_file).predict(np.zeros((1, 32, 32, 3)), size)
    with pytest.raises(UserError, match="called by its name"):
        zoo.info(["small_net"])
    with pytest.raises(UserError, match="`pattern`"):
        zoo.list_models(3)
    with pytest.raises(UserError, match="given as text or as a path"):
        export.save_keras(published.model, None)


def test_an_existing_name_is_taken_as_it_is(published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copy(published.keras_file, "~backup.keras")
    shutil.copytree(published.keras_file.parent, "~models")
    shutil.copytree(published.keras_file.parent, "home")
    assert user_path("~backup.keras") == Path("~backup.keras")
    assert user_path("~/encoder.keras") == tmp_path / "home" / "encoder.keras"
    assert user_path("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")
    assert zoo.load("~backup.keras").name == "backup"
    assert zoo.load("~models").name == "models"
    assert interface.encoder_name("~backup.keras") == "~backup"
    assert zoo.encoder_file("~/encoder.keras") == tmp_path / "home" / "encoder.keras"
    export.save_keras(toy_encoder(), "~/out.keras")
    assert (tmp_path / "home" / "out.keras").is_file()


@pytest.mark.parametrize("name", ["x" * 300, "photo\0graphs"])
def test_what_can_be_no_name_of_a_file_is_refused(name):
    with pytest.raises(UserError, match="name of a file or folder"):
        zoo.load(name)


IMPORT_FROM_ABOVE = """
import site, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
site.addsitedir(sys.argv[1])
import mizoo
print(mizoo.__file__, mizoo.load)
"""


def test_an_editable_installation_is_found_from_the_folder_above_a_clone_called_mizoo(tmp_path):
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.split(".")[0]) < 64:
        pytest.skip("before version 64 setuptools builds no editable wheels")
    clone, wheels, installed = tmp_path / "mizoo", tmp_path / "wheels", tmp_path / "installed"
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    folders = {"mizoo.models": "models", "mizoo.exported": "export"}
    for package in parser["options"]["packages"].split():
        folder = clone / folders.get(package, package.replace(".", "/"))
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
    (clone / "mizoo" / "__init__.py").write_text("load = 'found'\n")
    for name in ("mizoo/_version.py", "setup.cfg", "README.md", "LICENSE", "LICENSE-WEIGHTS"):
        shutil.copy(ROOT / name, clone / name)
    build = f"from setuptools import build_meta; build_meta.build_editable({str(wheels)!r})"
    wheels.mkdir()
    done = subprocess.run([sys.executable, "-c", build], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    command = [sys.executable, "-S", "-c", IMPORT_FROM_ABOVE, str(installed)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == [str(clone / "mizoo" / "__init__.py"), "found"], done.stderr[-2000:]
