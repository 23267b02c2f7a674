"""A run has the same weights streamed or in memory, resumed or not, with any number of workers."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import yaml
from PIL import Image
from support.encoders import TOY

from mizoo import data, recipes
from mizoo.errors import UserError
from mizoo.pretrain import pretrain
from mizoo.runs.folder import read_log


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 pictures of two classes, larger than the encoder takes."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(8)
    for i in range(40):
        path = root / f"class{i % 2}" / f"{i:02d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 36 + i % 3, 3), dtype="uint8")).save(path)
    return root


def recipe(source, **changes):
    """A recipe of two short epochs, with changes by section."""
    content = {
        "name": "toy",
        "encoder": TOY,
        "objective": {"critic_width": 8, "prior_weight": 0.0},
        "data": {"source": str(source)},
        "training": {"epochs": 2, "batch_size": 16, "precision": "float32"},
    }
    for key, values in changes.items():
        content[key] = {**content[key], **values} if key != "objective" else values
    return recipes.validate(content)


def streamed(workers) -> dict:
    """The keys of `data` that stream."""
    return {"stream": True, "workers": workers}


def weights(run) -> list[np.ndarray]:
    """Those of the encoder that a run has saved."""
    return [np.asarray(each) for each in keras.saving.load_model(run / "encoder.keras", compile=False).weights]


def assert_equal_runs(run, other) -> None:
    """Two runs have the same weights and log."""
    for one, two in zip(weights(run), weights(other), strict=True):
        np.testing.assert_array_equal(one, two)
    lines = [[{k: v for k, v in line.items() if "second" not in k} for line in read_log(each)] for each in (run, other)]
    assert lines[0] == lines[1]


@pytest.mark.slow
def test_a_streamed_run_has_the_weights_of_one_in_memory_also_resumed(folder, tmp_path, eager):
    memory = pretrain(recipe(folder, data={"stream": False}), tmp_path / "memory")
    data.pack(folder, tmp_path / "packed")
    assert_equal_runs(pretrain(recipe(tmp_path / "packed", data=streamed(0)), tmp_path / "streamed"), memory)
    pretrain(recipe(folder, data=streamed(1)), tmp_path / "resumed", stop_after=1)
    assert_equal_runs(
        pretrain(recipe(folder, data={"stream": False}), tmp_path / "resumed"), memory
    )  # on in memory: the same run


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_the_number_of_workers_changes_no_weight(folder, tmp_path, workers):
    settings = {"encoder": {**TOY}, "training": {"epochs": 3, "batch_size": 8, "precision": "mixed_bfloat16"}}
    memory = pretrain(recipe(folder, data={"stream": False, "augment": "views"}, **settings), tmp_path / "memory")
    views = {**streamed(workers), "augment": "views"}
    pretrain(recipe(folder, data=views, **settings), tmp_path / "streamed", stop_after=2)
    assert_equal_runs(pretrain(recipe(folder, data=views, **settings), tmp_path / "streamed"), memory)


def test_labels_and_teachers_are_those_of_pictures_in_memory(folder, tmp_path, eager, fake_zoo):
    from support.encoders import toy_encoder

    toy_encoder().save(tmp_path / "teacher.keras")
    taught = {"name": "distillation", "teachers": [[str(tmp_path / "teacher.keras"), "fc"]], "teacher_views": 2}
    for name, objective in {"taught": taught, "labelled": {"name": "supervised"}}.items():
        changes = {"objective": objective, "training": {"epochs": 1}}
        memory = pretrain(recipe(folder, data={"stream": False}, **changes), tmp_path / f"{name}_memory")
        assert_equal_runs(pretrain(recipe(folder, data=streamed(0), **changes), tmp_path / name), memory)


def test_a_picture_that_vanishes_ends_the_run_by_name_and_leaves_its_checkpoint(folder, tmp_path, eager):
    source = tmp_path / "pictures"
    source.mkdir()
    for path in folder.rglob("*.jpg"):
        (source / path.name).write_bytes(path.read_bytes())

    class Remove(keras.callbacks.Callback):
        """Takes a file away once the first epoch is saved."""

        def on_epoch_end(self, epoch, logs=None):
            """Remove it."""
            (source / "07.jpg").unlink(missing_ok=True)

    lasting = recipe(source, data=streamed(0), training={"epochs": 8})
    with pytest.raises(UserError, match=r"07\.jpg: no such file\. Reading stopped at step \d of epoch \d\."):
        pretrain(lasting, tmp_path / "run", callbacks=[Remove()])
    assert 1 <= read_log(tmp_path / "run")[-1]["epoch"] < 8
    (source / "07.jpg").write_bytes((folder / "class1" / "07.jpg").read_bytes())
    resumed = pretrain(lasting, tmp_path / "run")
    assert_equal_runs(
        resumed, pretrain(recipe(source, data={"stream": False}, training={"epochs": 8}), tmp_path / "memory")
    )


def test_streaming_decides_nothing_of_a_run(folder):
    plain, other = recipe(folder), recipe(folder, data={"stream": False, "workers": 3})
    assert plain.identity() == other.identity() and "stream" not in plain.identity()["data"]
    assert yaml.safe_load(plain.dump())["data"]["stream"] == "auto"
    for changes, message in (
        ({"stream": "yes"}, "data.stream"),
        ({"workers": -1}, "data.workers"),
        ({"stream": True, "window": 400}, "`stream` is of pictures"),
    ):
        with pytest.raises(UserError, match=message):
            recipe(folder, data=changes)


WITHOUT_TENSORFLOW = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tensorflow_datasets"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
from mizoo import recipes
from mizoo.pretrain import pretrain
pretrain(recipes.load(sys.argv[1]), sys.argv[2])
print("tensorflow", "tensorflow" in sys.modules)
"""


@pytest.mark.slow
def test_jax_trains_from_a_packed_folder_without_tensorflow(folder, tmp_path):
    pytest.importorskip("jax")
    data.pack(folder, tmp_path / "packed")
    for name, changes in {"memory": {"stream": False}, "streamed": streamed(2)}.items():
        (tmp_path / f"{name}.yaml").write_text(recipe(tmp_path / "packed", data=changes).dump())
        command = [sys.executable, "-c", WITHOUT_TENSORFLOW, str(tmp_path / f"{name}.yaml"), str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"KERAS_BACKEND": "jax"})
        assert done.stdout.split()[-2:] == ["tensorflow", "False"], done.stderr[-3000:]
    assert_equal_runs(tmp_path / "streamed", tmp_path / "memory")
