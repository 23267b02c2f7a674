"""Entries of the zoo made of runs: pinned files, what is kept and what is refused."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import sys
from types import ModuleType

import numpy as np
import pytest
import yaml

keras = pytest.importorskip("keras")
if keras.backend.backend() != "tensorflow":
    pytest.skip("export runs on the TensorFlow backend", allow_module_level=True)
for needed in ("onnx", "onnxruntime", "tf2onnx"):
    pytest.importorskip(needed)

from support.encoders import shaken_encoder, values_of  # noqa: E402
from support.rows import a_row  # noqa: E402

from mizoo import encoders, export, recipes, zoo  # noqa: E402
from mizoo._tools import files  # noqa: E402
from mizoo.errors import UserError  # noqa: E402
from mizoo.evaluate.rows import merge_rows, read_rows  # noqa: E402
from mizoo.export import publish as publish_as  # noqa: E402
from mizoo.publish import _check_teachers, _valid_baselines, check_run, is_path  # noqa: E402
from mizoo.report import cards  # noqa: E402
from mizoo.zoo.entries import REGISTRY  # noqa: E402

publish = functools.partial(publish_as, licence="CC-BY-4.0")
RECIPE = "name: small_net\nsummary: a small net\ndata:\n  source: cifar10\n"


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).integers(0, 256, (7, 32, 32, 3)).astype("float32")


@pytest.fixture
def clone(tmp_path, fake_zoo):
    """An empty clone, which is the zoo, and a finished run."""
    root = fake_zoo.root
    run = tmp_path / "run"
    shaken_encoder("mixed_bfloat16").save(tmp_path / "encoder.keras")
    run.mkdir()
    shutil.move(tmp_path / "encoder.keras", run / "encoder.keras")
    (run / "recipe.yaml").write_text(RECIPE)
    return root, run


def test_publishing_pins_both_forms_and_the_zoo_loads_them(clone, images):
    root, run = clone
    entry = publish(run, "small_net", root=root, images=images)
    registry = json.loads((root / REGISTRY).read_text())
    assert registry == {"small_net": entry}
    assert (entry["summary"], entry["objective"], entry["dataset"]) == ("a small net", "deep_infomax", "cifar10")
    assert "Hjelm" in entry["paper"]
    assert entry["license"] == "CC-BY-4.0"
    assert entry["endpoints"] == {"local": [8, 8, 6], "conv": [4, 4, 8], "fc": [16], "global": [5]}
    assert entry["input"] == {"shape": [32, 32, 3], "range": [0, 255]}
    assert (root / "models/small_net/recipe.yaml").read_text() == RECIPE
    assert sorted(os.listdir(root / "models/small_net")) == ["encoder.keras", "encoder.keras.patch", "recipe.yaml"]
    assert sorted(os.listdir(root / "export/small_net")) == ["encoder.onnx", "manifest.json"]

    model, fast = zoo.load("small_net"), zoo.load("small_net", runtime="onnx")
    assert max(export.compare(fast(images), values_of(model, images)).values()) < 1e-5
    assert max(export.compare(values_of(model, images), values_of(shaken_encoder(), images)).values()) < 1e-2
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_an_entry_that_is_exported_again_keeps_its_published_files(clone, images, quick_forms):
    """Nothing is left to round, the manifest that tells of the training stays, and other bytes are refused."""
    root, run = clone
    entry = publish(run, "small_net", root=root, images=images)
    published = (root / "export/small_net/manifest.json").read_bytes()
    manifest = export.export("small_net", root / "export/small_net", images=images)
    assert max(manifest["rounding"].values()) == 0
    assert (root / "export/small_net/manifest.json").read_bytes() == published
    assert (root / "export/small_net/saved_model/saved_model.pb").is_file()
    assert manifest["files"]["encoder.onnx"]["sha256"] == entry["files"]["encoder.onnx"]["sha256"]
    (root / "export/small_net/encoder.onnx").unlink()
    export.export("small_net", root / "export/small_net", images=images)  # what was lost comes back
    with pytest.raises(UserError, match="published file of small_net"):
        export.export(shaken_encoder(seed=9), root / "export/small_net", images=images)
    assert zoo.path("small_net", "encoder.onnx").is_file()


def test_an_entry_is_replaced_only_on_request(clone, images, quick_forms):
    root, run = clone
    first = publish(run, "small_net", root=root, images=images)
    export.save_keras(shaken_encoder(seed=4), run / "encoder.keras")
    with pytest.raises(UserError, match="published already"):
        publish(run, "small_net", root=root, images=images)
    assert files.sha256(root / "models/small_net/encoder.keras") == first["files"]["encoder.keras"]["sha256"]
    second = publish(run, "small_net", root=root, images=images, replace=True)
    assert files.sha256(root / "models/small_net/encoder.keras") == second["files"]["encoder.keras"]["sha256"]
    assert first["files"] != second["files"]


def test_a_new_version_leaves_the_old_one_loadable_with_the_same_numbers(clone, images, quick_forms):
    root, run = clone
    with pytest.raises(UserError, match="not published yet"):
        publish(run, "small_net", root=root, images=images, new_version=True)
    first = publish(run, "small_net", root=root, images=images)
    before = values_of(zoo.load("small_net"), images)
    merge_rows(root / "models/small_net/results.json", [_row("published")])
    for seed in (4, 5):
        export.save_keras(shaken_encoder(seed=seed), run / "encoder.keras")
        newest = publish(run, "small_net", root=root, images=images, new_version=True)
    assert newest["version"] == 3 and set(newest["earlier"]) == {"1", "2"}
    assert zoo.info("small_net@1")["files"]["encoder.keras"]["sha256"] == first["files"]["encoder.keras"]["sha256"]
    again = zoo.load("small_net@1")
    assert again.name == "small_net_1"  # a name that a layer may have
    assert max(export.compare(values_of(again, images), before).values()) == 0
    assert max(export.compare(values_of(zoo.load("small_net"), images), before).values()) > 1e-2
    assert [row.encoder for row in read_rows(root / "models/small_net/v1/results.json")] == ["published"]

    replaced = publish(run, "small_net", root=root, images=images, replace=True)
    assert (replaced["version"], replaced["earlier"]) == (3, newest["earlier"])
    with pytest.raises(UserError, match="give one"):
        publish(run, "small_net", root=root, images=images, replace=True, new_version=True)


def test_replaced_weights_take_their_rows_with_them(clone, images, quick_forms):
    """Rows of random weights stay as long as the network is the same, those of pixels as long as its input is."""
    root, run = clone
    publish(run, "small_net", root=root, images=images)
    results = root / "models/small_net/results.json"
    merge_rows(results, [_row(encoder) for encoder in ("published", "random", "pixels")])
    export.save_keras(shaken_encoder(seed=4), run / "encoder.keras")
    publish(run, "small_net", root=root, images=images, replace=True)
    assert {row.encoder for row in read_rows(results)} == {"random", "pixels"}

    export.save_keras(encoders.conv32((4, 6, 8), fc_size=12, global_size=5), run / "encoder.keras")
    publish(run, "small_net", root=root, images=images, replace=True)
    assert {row.encoder for row in read_rows(results)} == {"pixels"}

    (root / "models/small_net/encoder.keras").write_bytes(b"damaged")
    publish(run, "small_net", root=root, images=images, replace=True)
    assert not results.exists()


def test_networks_of_the_same_weights_can_differ(tmp_path):
    def network(strides: int, seed: int) -> keras.Model:
        x = keras.Input((8, 8, 3))
        start = keras.initializers.HeNormal(seed)
        y = keras.layers.Conv2D(4, 3, strides=strides, padding="same", kernel_initializer=start)(x)
        return keras.Model(x, {"local": y})

    network(2, 0).save(tmp_path / "one.keras")
    assert _valid_baselines(tmp_path / "one.keras", network(2, 1)) == ("pixels", "random")
    assert _valid_baselines(tmp_path / "one.keras", network(1, 0)) == ("pixels",)


def test_what_cannot_be_read_stops_a_replacement_before_it_begins(clone, images, quick_forms):
    root, run = clone
    first = publish(run, "small_net", root=root, images=images)
    export.save_keras(shaken_encoder(seed=4), run / "encoder.keras")
    for file in ("recipe.yaml", "results.json"):
        damaged = root / "models/small_net" / file
        before = damaged.read_bytes() if damaged.exists() else None
        damaged.write_text("name: small_net\nwidth: 3\n")
        with pytest.raises(UserError):
            publish(run, "small_net", root=root, images=images, replace=True)
        assert files.sha256(root / "models/small_net/encoder.keras") == first["files"]["encoder.keras"]["sha256"]
        if before:
            damaged.write_bytes(before)


def _row(encoder):
    return a_row(entry="small_net", encoder=encoder, command="mizoo evaluate small_net")


def test_the_manifest_says_what_a_run_went_on_from(clone, images, quick_forms):
    root, run = clone
    (run / "log.csv").write_text("epoch,seconds\n1,10.0\n2,20.4\n")
    first = publish(run, "small_net", root=root, images=images)
    manifest = root / "export/small_net/manifest.json"
    took = {"epochs": 2, "seconds": 20}
    assert json.loads(manifest.read_text())["trained"] == took

    # The first weights, as published, from where they are about to be replaced or from a copy.
    copy = run.parent / "copy"
    copy.mkdir()
    shutil.copy(root / "models/small_net/encoder.keras", copy)
    export.save_keras(shaken_encoder(seed=4), run / "encoder.keras")
    (run / "log.csv").write_text("epoch,seconds\n5,50.0\n")
    (run / "recipe.yaml").write_text(RECIPE + f"init_from: {copy}\n")
    publish(run, "small_net", root=root, images=images, replace=True)
    before = {"sha256": first["files"]["encoder.keras"]["sha256"], **took}
    assert json.loads(manifest.read_text())["trained"] == {"epochs": 5, "seconds": 50, "before": before}

    # A third run, from the folder of that second one, which says where it came from itself.
    second = shutil.copytree(run, run.parent / "second")
    export.save_keras(shaken_encoder(seed=5), run / "encoder.keras")
    export.save_keras(shaken_encoder(seed=6), second / "encoder.keras")  # in full precision, as runs keep it
    (run / "recipe.yaml").write_text(RECIPE + f"init_from: {second}\n")
    publish(run, "small_net", root=root, images=images, replace=True)
    told = json.loads(manifest.read_text())["trained"]["before"]
    assert (told["epochs"], told["before"]["sha256"]) == (5, before["sha256"])
    shutil.rmtree(copy)
    publish(run, "small_net", root=root, images=images, replace=True)
    assert "before" not in json.loads(manifest.read_text())["trained"]["before"]
    (second / "recipe.yaml").write_text(RECIPE + "objective: {name: supervised}\n")
    publish(run, "small_net", root=root, images=images, replace=True)
    assert json.loads(manifest.read_text())["trained"]["before"]["labels"] is True

    shutil.rmtree(second)
    with pytest.raises(UserError, match="`init_from`.*second.*put it back"):
        publish(run, "small_net", root=root, images=images, replace=True)


def test_a_recipe_that_says_the_same_stays_as_it_was_written(clone, images, quick_forms):
    root, run = clone
    publish(run, "small_net", root=root, images=images)
    kept = root / "models/small_net/recipe.yaml"
    kept.write_text(f"# why these settings\n{RECIPE}")
    publish(run, "small_net", root=root, images=images, replace=True)
    assert kept.read_text().startswith("# why")
    (run / "recipe.yaml").write_text(RECIPE + "training:\n  epochs: 3\n")
    publish(run, "small_net", root=root, images=images, replace=True)
    assert kept.read_text().endswith("epochs: 3\n")


def test_every_objective_of_a_recipe_has_its_paper(clone, images, quick_forms):
    root, run = clone
    (run / "recipe.yaml").write_text(RECIPE + "objective:\n  name: deep_co_training\n")
    assert "McAllester" in publish(run, "small_net", root=root, images=images)["paper"]


def test_the_teachers_of_an_entry_are_other_entries(clone, images):
    root, run = clone
    taught = RECIPE + "objective: {name: distillation, teachers: [[%s, fc]]}\n"
    for name, teacher in (("small_net", "runs/own"), ("dim_local_cifar10", "dim_local_cifar10")):
        (run / "recipe.yaml").write_text(taught % teacher)
        with pytest.raises(UserError, match=f"teachers of an entry are other entries.*{teacher}"):
            publish(run, name, root=root, images=images)
    assert os.listdir(root / "models") == []
    entries = {"other": {"version": 2, "earlier": {"1": {}}}}
    (root / REGISTRY).write_text(json.dumps(entries))
    for teacher, refusal in (("other@1", None), ("other", None), ("other@7", "no version '7'")):
        recipe = recipes.Recipe.model_validate(yaml.safe_load(taught % teacher))
        with contextlib.nullcontext() if refusal is None else pytest.raises(UserError, match=refusal):
            _check_teachers("small_net", recipe)


def test_publishing_names_what_is_missing_and_leaves_the_clone_alone(clone, images):
    root, run = clone
    with pytest.raises(UserError, match="Empty: license"):
        publish(run, "small_net", root=root, images=images, licence=" ")
    with pytest.raises(UserError, match="lower-case words"):
        publish(run, "../escape", root=root, images=images)
    with pytest.raises(UserError, match="Received: authors"):
        publish(run, "small_net", root=root, images=images, authors="me")
    (run / "recipe.yaml").unlink()
    with pytest.raises(UserError, match="has no recipe.yaml"):
        publish(run, "small_net", root=root, images=images)
    with pytest.raises(UserError, match="clone"):
        publish(run, "small_net", root=run, images=images)
    assert not list((root / "models").iterdir())
    assert (root / REGISTRY).read_text() == "{}"


def test_a_licence_is_chosen_once_and_stays_with_its_entry(clone, images, quick_forms):
    root, run = clone
    with pytest.raises(UserError, match="--licence"):
        publish_as(run, "small_net", root=root, images=images)
    with pytest.raises(UserError, match="the same field"):
        publish_as(run, "small_net", root=root, images=images, licence="CC0-1.0", license="MIT")
    assert not list((root / "models").iterdir())
    assert publish_as(run, "small_net", root=root, images=images, licence="CC0-1.0")["license"] == "CC0-1.0"
    export.save_keras(shaken_encoder(seed=4), run / "encoder.keras")
    assert publish_as(run, "small_net", root=root, images=images, replace=True)["license"] == "CC0-1.0"
    text = cards._licence(zoo.info("small_net"))
    assert "CC0-1.0" in text and "LICENSE-WEIGHTS" not in text  # which holds the text of another


def test_no_path_of_this_machine_is_published(clone, images, quick_forms, tmp_path):
    root, run = clone
    photos, first = tmp_path / "photos", tmp_path / "first"
    photos.mkdir()
    first.mkdir()
    shutil.copy(run / "encoder.keras", first)
    (first / "log.csv").write_text("epoch,seconds\n2,20.4\n")
    (first / "machine.json").write_text(json.dumps({"teachers": {str(tmp_path / "teacher"): "ab" * 32}}))
    (run / "log.csv").write_text("epoch,seconds\n2,20.4\n")
    (run / "recipe.yaml").write_text(RECIPE.replace("cifar10", str(photos)) + f"init_from: {first}\n")
    with pytest.raises(UserError, match="--dataset-name"):
        publish(run, "small_net", root=root, images=images)
    with pytest.raises(UserError, match="is no path"):
        publish(run, "small_net", root=root, images=images, dataset=str(photos))
    assert not list((root / "models").iterdir())
    entry = publish(run, "small_net", root=root, images=images, dataset="my photographs")
    assert entry["dataset"] == "my photographs"
    trained = json.loads((root / "export/small_net/manifest.json").read_text())["trained"]
    assert list(trained["before"]["teachers"]) == ["teacher"]
    merge_rows(root / "models/small_net/results.json", [_row("published")])
    cards.write_card("small_net")
    for file in root.rglob("*"):
        if file.suffix in (".json", ".yaml", ".md"):
            assert str(tmp_path) not in file.read_text(), file
    assert "runs/first" in (root / "models/small_net/recipe.yaml").read_text()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        *(("cifar10", False), ("emnist/balanced", False), ("photos/", True), ("./photos", True), ("~/photos", True)),
        *(("C:\\photos", True), ("clientpics", True)),  # a folder where it was trained, and not here
    ],
)
def test_a_path_is_told_from_the_name_of_a_data_set(source, expected):
    assert is_path(source) == expected


@pytest.mark.parametrize("module", [None, ModuleType("tensorflow_datasets")])  # away, or imported by half
def test_without_tensorflow_a_name_with_no_slash_is_that_of_a_data_set(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    assert not is_path("cifar10") and is_path("my/photos")


def test_a_run_in_the_home_folder_is_found_by_its_tilde(clone, monkeypatch):
    _, run = clone
    monkeypatch.setenv("HOME", str(run.parent))
    monkeypatch.setenv("USERPROFILE", str(run.parent))
    assert check_run("~/run") == run


def test_weights_that_are_not_finite_are_not_published(clone, images):
    root, run = clone
    encoder = shaken_encoder()
    encoder.variables[0].assign(np.full(encoder.variables[0].shape, np.inf))
    encoder.save(run / "encoder.keras")
    with pytest.raises(UserError, match="not finite"):
        publish(run, "small_net", root=root, images=images)
    assert not (root / "models/small_net").exists()


def test_of_two_that_publish_an_entry_at_once_the_second_is_refused(clone, images, quick_forms, monkeypatch):
    """The first one finishes while the second is writing its forms."""
    import mizoo.publish

    root, run = clone
    write_files = mizoo.publish._write_files

    def slow(*arguments):
        written = write_files(*arguments)
        (root / REGISTRY).write_text('{"small_net": {"license": "CC0-1.0"}}')
        return written

    monkeypatch.setattr(mizoo.publish, "_write_files", slow)
    with pytest.raises(UserError, match="published already"):
        publish(run, "small_net", root=root, images=images)
    assert not (root / "models/small_net/encoder.keras").exists()
