"""`mizoo finetune`: from a folder of class folders to a classifier that stock Keras, `mizoo.load` and `export` take."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from PIL import Image
from support.encoders import toy_encoder

import mizoo
from mizoo.classifier import train
from mizoo.data import duplicates
from mizoo.errors import UserError
from mizoo.finetune import Budget
from mizoo.zoo.labels import class_names

QUICK = Budget(steps=30, batch_size=16, rate=1e-2, warmup=3, check_every=10, augment="none")
COLOURS = {"blue": (60, 60, 200), "green": (60, 200, 60), "red": (200, 60, 60)}


def paint(folder, rng, count):
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            values = np.array(colour) + rng.normal(size=(34, 40, 3)) * 20
            Image.fromarray(np.clip(values, 0, 255).astype("uint8")).save(folder / name / f"{i}.png")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder") / "toy.keras"
    toy_encoder().save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """28 training and 15 test pictures; two of the former are test pictures, one is in two classes, one is twice."""
    root = tmp_path_factory.mktemp("few")
    rng = np.random.default_rng(1)
    paint(root / "train", rng, 8)
    paint(root / "test", rng, 5)
    (root / "train/red/copy.png").write_bytes((root / "test/red/0.png").read_bytes())
    (root / "train/blue/copy.png").write_bytes((root / "test/blue/3.png").read_bytes())
    (root / "train/red/both.png").write_bytes((root / "train/green/0.png").read_bytes())
    (root / "train/green/again.png").write_bytes((root / "train/green/1.png").read_bytes())
    return root


@pytest.fixture(scope="module")
def trained(encoder, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "classifier.keras"
    return train(encoder, folder, out, endpoint="conv", budget=QUICK, progress=False)


def test_copies_are_told_from_each_other(folder):
    found = duplicates.copies(folder)
    assert set(found.leaked) == {("train/red/copy.png", "test/red/0.png"), ("train/blue/copy.png", "test/blue/3.png")}
    assert found.contradictory == (("train/green/0.png", "train/red/both.png"),)
    assert found.repeated == 1
    assert set(found.without) == {
        "train/red/copy.png", "train/blue/copy.png", "train/green/0.png", "train/red/both.png", "train/green/again.png",
    }  # fmt: skip


def test_a_link_that_leads_nowhere_is_no_copy_and_is_named_when_it_is_loaded(tmp_path, rng):
    paint(tmp_path, rng, 2)
    (tmp_path / "red/gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "red/loop.png").symlink_to("loop.png")
    (tmp_path / "red/again.png").write_bytes((tmp_path / "red/0.png").read_bytes())
    assert duplicates.copies(tmp_path).without == ("red/again.png",)
    with pytest.raises(UserError, match=r"(?s)2 of 9 files.*red/gone.png: no such file.*red/loop.png"):
        mizoo.data.load(tmp_path, size=32)


def test_to_name_one_picture_of_both_splits_no_other_sizes_are_read(tmp_path, monkeypatch):
    contents = {"train/a": b"only here", "train/b": b"also here", "train/c": b"in both!", "train/d": b"in both!"}
    contents |= {"test/a": b"in both!", "test/b": b"of another size", "test/c": b"of another kind"}
    for name, content in contents.items():
        file = tmp_path / f"{name}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    read: list[str] = []
    digest = duplicates.sha256
    monkeypatch.setattr(duplicates, "sha256", lambda file: read.append(file.name) or digest(file))
    assert duplicates.in_both(tmp_path) == ("test/a.png", "train/c.png")
    assert read == ["a.png", "c.png"]
    (tmp_path / "test/a.png").unlink()
    assert duplicates.in_both(tmp_path) is None


def test_the_classifier_learns_and_says_what_it_left_out(trained):
    assert trained.classes == ("blue", "green", "red") and trained.train_size == 23
    assert trained.test_accuracy > 80 and set(trained.recalls) == set(trained.classes)
    assert trained.settings["held_out_size"] == 2 and trained.validation_accuracy is not None
    notes = "\n".join(trained.notes)
    assert "2 training pictures are test pictures too" in notes and "train/red/copy.png is test/red/0.png" in notes
    assert "train/green/0.png and train/red/both.png" in notes and "1 copies" in notes
    assert f"test {trained.test_accuracy:.1f} %" in str(trained)


def test_it_loads_with_stock_keras_and_with_mizoo(trained, folder):
    test = mizoo.data.load(folder, "test", size=32)
    model = keras.saving.load_model(trained.written)
    probabilities = model.predict(test.images, verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    right = 100 * np.mean(probabilities.argmax(axis=1) == test.labels)
    assert right == pytest.approx(trained.test_accuracy, abs=0.01)
    loaded = mizoo.load(trained.written, endpoint="probabilities")
    np.testing.assert_allclose(loaded(test.images.astype("float32")), probabilities, atol=1e-5)
    facts = json.loads(trained.written.with_suffix(".json").read_text())
    assert facts["classes"] == ["blue", "green", "red"] == class_names(trained.written)
    assert facts["test_accuracy"] == trained.test_accuracy and facts["settings"]["encoder"] == "toy"


def test_its_export_names_the_classes(trained, quick_forms, tmp_path):
    manifest = mizoo.export.export(trained.written, tmp_path / "exported")
    assert manifest["classes"] == ["blue", "green", "red"] and manifest["endpoints"] == {"probabilities": [3]}
    assert "classes" not in mizoo.export.export(mizoo.load(trained.written), tmp_path / "another")


def test_pictures_of_a_plain_folder_have_no_test_accuracy(encoder, folder, tmp_path):
    budget = Budget(steps=2, batch_size=8, check_every=1)
    done = train(encoder, folder / "train", tmp_path / "c.keras", "frozen", budget=budget, progress=False)
    assert done.test_accuracy is None and done.recalls == {} and done.train_size == 25
    assert "several classes" in done.notes[0]


@pytest.mark.parametrize(("side", "channels"), [((24, 40), 3), (24, 1)])
def test_pictures_are_read_as_the_encoder_takes_them(side, channels, tmp_path, rng):
    paint(tmp_path / "data", rng, 2)
    mizoo.encoders.three_stage(widths=(4, 4, 4), side=side, channels=channels).save(tmp_path / "encoder.keras")
    budget = Budget(steps=1, batch_size=4, warmup=0, check_every=1)
    done = train(tmp_path / "encoder.keras", tmp_path / "data", tmp_path / "c.keras", budget=budget, progress=False)
    assert done.train_size == 6


def test_uneven_classes_are_named(encoder, tmp_path, rng):
    paint(tmp_path / "data", rng, 2)
    for i in range(2, 9):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype="uint8")).save(tmp_path / f"data/red/{i}.png")
    budget = Budget(steps=2, batch_size=8, check_every=1)
    done = train(encoder, tmp_path / "data", tmp_path / "c.keras", "frozen", budget=budget, progress=False)
    assert "2 to 9 pictures" in done.notes[0] and "--class-weights balanced" in done.notes[0]


def test_what_makes_no_classifier_is_refused(encoder, tmp_path, rng):
    paint(tmp_path / "data", rng, 2)
    with pytest.raises(UserError, match="keras file"):
        train(encoder, tmp_path / "data", tmp_path / "classifier.onnx")
    with pytest.raises(UserError, match="has none: make a subfolder"):
        train(encoder, tmp_path / "data/red", tmp_path / "c.keras")
    one = tmp_path / "one"
    (tmp_path / "data/red").rename((one / "red").parent.mkdir() or one / "red")
    with pytest.raises(UserError, match="all of one"):
        train(encoder, one, tmp_path / "c.keras", progress=False)
    (tmp_path / "data/blue/0.png").unlink()
    with pytest.raises(UserError, match=r"blue \(1\)"):
        train(encoder, tmp_path / "data", tmp_path / "c.keras", progress=False)
    (tmp_path / "data/green/0.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"1 of 3 files.*cannot be read(.|\n)*green/0.png"):
        train(encoder, tmp_path / "data", tmp_path / "c.keras", progress=False)
    assert not (tmp_path / "c.keras").exists()
