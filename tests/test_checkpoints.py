"""A damaged checkpoint is noticed, the one before it is taken, and what a recipe can tell is said first."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from support.encoders import TOY

from mizoo import data, recipes
from mizoo.errors import UserError
from mizoo.pretrain import callbacks, pretrain
from mizoo.runs import checks, listing
from mizoo.runs.folder import CHECKPOINT, DAMAGED, HASHES, PREVIOUS, read_log, saved_state


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(20261125)
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype="uint8")).save(folder / f"{i}.png")
    return folder


def recipe(source: object, **training) -> recipes.Recipe:
    return recipes.validate(
        {
            "name": "toy",
            "encoder": TOY,
            "objective": {"critic_width": 4, "prior_weight": 0.0},
            "data": {"source": str(source)},
            "optimizer": {"schedule": "trapezoid", "decay_epochs": 0.0},
            "training": {"epochs": 2, "batch_size": 4, "precision": "float32", **training},
        }
    )


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory) -> Path:
    """A run of two epochs, to read only."""
    with steps_as_called():
        return pretrain(recipe(pictures), tmp_path_factory.mktemp("runs") / "run")


def steps_as_called():
    """Steps that are not traced, which takes longer than these few."""
    from contextlib import contextmanager

    @contextmanager
    def eager():
        if keras.backend.backend() != "tensorflow":
            yield
            return
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(False)

    return eager()


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of that run, to damage or to continue."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_after_a_flipped_bit_the_checkpoint_before_is_taken_and_that_is_said(pictures, run, capsys):
    """With `decay_epochs: 0` nothing decays, so that a finished run can also be made longer."""
    longer = recipe(pictures, epochs=3)
    assert saved_state(run, longer).epochs == 2
    flip_a_bit(run / CHECKPOINT)
    state = saved_state(run, longer)
    assert (state.epochs, state.file) == (1, PREVIOUS)
    with steps_as_called():
        pretrain(longer, run)
    said = capsys.readouterr().err
    assert f"{run / CHECKPOINT} is damaged: the checkpoint before it, of epoch 1, is taken" in said
    assert [line["epoch"] for line in read_log(run)] == [1, 2, 3]
    assert (run / DAMAGED).is_file() and saved_state(run, longer).epochs == 3
    flip_a_bit(run / CHECKPOINT)
    assert saved_state(run, longer).epochs == 2  # both of the last two are good
    flip_a_bit(run / PREVIOUS)
    with pytest.raises(UserError, match=f"{CHECKPOINT} and .*{PREVIOUS} are no checkpoints.*Move both"):
        saved_state(run, longer)


def test_a_folder_that_has_changed_since_is_named_and_nothing_is_lost(tmp_path, rng):
    folder, run = tmp_path / "photos", tmp_path / "run"
    for i in range(8):
        (folder / f"{i}.png").parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype="uint8")).save(folder / f"{i}.png")
    with steps_as_called():
        pretrain(recipe(folder), run, stop_after=1)
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype="uint8")).save(folder / "new.png")
    (folder / "3.png").rename(tmp_path / "3.png")
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes() + b"more")
    with pytest.raises(UserError, match=r"1 new \(new.png\); 1 gone \(3.png\); 1 changed \(5.png\).*init_from"):
        pretrain(recipe(folder), run)
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.name != ".lock"} == {
        name: content for name, content in before.items() if name != ".lock"
    }
    (folder / "new.png").unlink()
    (tmp_path / "3.png").rename(folder / "3.png")
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes().removesuffix(b"more"))
    checks.check_first(recipe(folder), run)


@pytest.mark.parametrize("kind", ["sounds", "packed"])
def test_sounds_and_packed_pictures_that_have_changed_since_are_named_too(kind, tmp_path, rng):
    source = tmp_path / kind

    def write(*values: int) -> None:
        """A clip, or a packed picture, for each value."""
        shutil.rmtree(source, ignore_errors=True)
        if kind == "packed":
            data.pack(np.array(values, "uint8")[:, None, None, None] * np.ones((1, 32, 32, 3), "uint8"), source)
            return
        source.mkdir()
        for i, value in enumerate(values):
            soundfile.write(source / f"{i}.wav", np.full(4000, value / 100), 8000)

    toy = recipe(source)
    if kind == "sounds":
        soundfile = pytest.importorskip("soundfile")
        own = {"name": "cpc", "steps": 2}
        toy = recipes.validate(
            {"name": "toy", "encoder": {"name": "waveform"}, "objective": own, "training": {"batch_size": 2}}
            | {"data": {"source": str(source), "augment": "none", "window": 4000}}
        )
    write(1, 2, 3, 4)
    listing.write_listing(toy, tmp_path / "run")
    listing.check_listing(toy, tmp_path / "run")
    write(*((1, 2) if kind == "sounds" else (1, 2, 3, 5)))
    says = r"The sounds of .*2 gone \(2.wav, 3.wav\)" if kind == "sounds" else r"1 changed \(train-00000.array_record\)"
    with pytest.raises(UserError, match=says):
        listing.check_listing(toy, tmp_path / "run")


def test_a_run_that_was_interrupted_between_two_files_goes_on(pictures, run):
    (run / CHECKPOINT).unlink()
    state = saved_state(run, recipe(pictures))
    assert state.epochs == 1 and "is not there" in state.note


def test_a_folder_of_the_first_version_has_no_hashes_and_goes_on(pictures, run):
    for name in (HASHES, PREVIOUS):
        (run / name).unlink()
    state = saved_state(run, recipe(pictures))
    assert (state.epochs, state.note) == (2, "")


def test_weights_that_are_not_finite_are_never_written(pictures, run, monkeypatch):
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    to_float32 = callbacks.to_float32

    def broken(encoder):
        copy = to_float32(encoder)
        copy.trainable_variables[0].assign(np.full(copy.trainable_variables[0].shape, np.nan))
        return copy

    monkeypatch.setattr(callbacks, "to_float32", broken)
    with steps_as_called(), pytest.raises(UserError, match="not finite after epoch 3.*learning_rate"):
        pretrain(recipe(pictures, epochs=3), run)
    kept = {name: (run / name).read_bytes() for name in before}
    assert {name for name in before if kept[name] != before[name]} == {"recipe.yaml"}  # which names 3 epochs


def changed(epochs: int, **optimizer) -> recipes.Recipe:
    content = {"name": "toy", "data": {"source": "cifar10"}, "optimizer": optimizer, "training": {"epochs": epochs}}
    return recipes.validate(content)


@pytest.mark.parametrize(
    ("old", "new", "words", "other"),
    [
        (
            changed(10, schedule="trapezoid", decay_epochs=4.0),
            changed(20, schedule="trapezoid", decay_epochs=4.0),
            "decay of its rate had begun: it is .* 8 epochs.*falls after 6.*`training.epochs` was 10 and is 20",
            False,
        ),
        (changed(10), changed(20), "`training.epochs` was 10 and is 20, and only `optimizer.schedule: trap", False),
        (
            changed(10),
            changed(10, learning_rate=0.5),
            "another recipe: `optimizer.learning_rate` was 0.001 and is 0.5",
            True,
        ),
    ],
    ids=["decay", "length", "rate"],
)
def test_what_cannot_be_resumed_names_its_reason_and_the_keys(old, new, words, other):
    import re

    why = new.why_not_resume(old, 8)
    assert re.search(words, why) and ("another recipe" in why) == other
    assert old.why_not_resume(old, 8) is None


def test_a_batch_that_the_data_do_not_fill_is_said_before_keras_is_imported(pictures, tmp_path):
    too_large = recipe(pictures, batch_size=9)
    (tmp_path / "toy.yaml").write_text(too_large.dump())
    code = (
        "import sys; from mizoo import cli; sys.argv = ['mizoo', 'pretrain', sys.argv[1], '--out', sys.argv[2]]\n"
        "try: cli.main()\nfinally: print('keras' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "toy.yaml"), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (2, "False\n"), done.stderr
    assert "One batch takes 9 pictures" in done.stderr and "--set training.batch_size=8" in done.stderr
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="One batch takes 9"):
        pretrain(too_large, tmp_path / "run")


def counted(source: object, split: str = "train") -> int | None:
    return checks.count(recipes.validate({"name": "toy", "data": {"source": str(source), "split": split}}))


def test_the_size_of_data_is_known_from_names_and_indices(pictures, tmp_path, monkeypatch):
    assert counted(pictures) == 8 and counted(pictures, "train[:-3]") == 5
    for split, number in (("train", 5), ("test", 3)):
        (tmp_path / "both" / split).mkdir(parents=True)
        for file in sorted(pictures.iterdir())[:number]:
            shutil.copy(file, tmp_path / "both" / split)
    assert (counted(tmp_path / "both"), counted(tmp_path / "both", "test")) == (5, 3)
    (tmp_path / "packed").mkdir()
    index = {"format": "mizoo packed pictures, 1", "splits": {"train": {"count": 7}}}
    (tmp_path / "packed" / "index.json").write_text(json.dumps(index))
    assert counted(tmp_path / "packed", "train[2:]") == 5
    prepared = tmp_path / "tfds" / "birds" / "1.0.0"
    prepared.mkdir(parents=True)
    (prepared / "dataset_info.json").write_text(
        json.dumps(
            {"splits": [{"name": "train", "shardLengths": ["40", "2"]}, {"name": "test", "shardLengths": ["9"]}]}
        )
    )
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    assert (counted("birds"), counted("birds", "test")) == (42, 9)
    assert counted("fish") is None and counted("photos**") is None
    with pytest.raises(UserError, match="There is no folder '/data/photoz'"):
        counted("/data/photoz")
