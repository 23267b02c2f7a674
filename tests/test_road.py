"""The road of one's own pictures, command by command, each killed at its worst moment and given again.

The worst moment of a command is that before its last file gets its name: everything is written, and nothing is there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from mizoo import recipes, search
from mizoo._tools import files
from mizoo.commands.changes import parse_changes
from mizoo.data import pictures
from mizoo.runs.folder import read_log, saved_state

pytestmark = pytest.mark.slow

KILLED = """
import os, signal, sys
from pathlib import Path
from mizoo import cli

name, count = sys.argv[1], int(sys.argv[2])
replace, seen = os.replace, []

def killed(source, target):
    seen.append(Path(target).name)
    if seen.count(name) == count:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = killed
sys.argv = ["mizoo", *sys.argv[3:]]
cli.main()
"""
COLOURS = {"dusk": (190, 90, 60), "forest": (50, 120, 60)}
COUNT = 55  # pictures of a class


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `photos`, two class folders of smooth pictures, and `few`, some of another draw."""
    folder = tmp_path_factory.mktemp("road")
    rng = np.random.default_rng(11)
    for name, count in (("photos", COUNT), ("few", 12)):
        for kind, colour in COLOURS.items():
            (folder / name / kind).mkdir(parents=True)
            for i in range(count):
                y, x = np.mgrid[:44, :48] / 9.0
                a, b, c = rng.uniform(-2, 2, 3)
                waves = np.sin(a * x + b * y + c)[..., None] * 50
                noise = rng.normal(size=(44, 48, 3)) * 12
                picture = np.clip(np.array(colour) + waves + noise, 0, 255).astype("uint8")
                Image.fromarray(picture).save(folder / name / kind / f"{i:02d}.png")
    return folder


def start(place, *arguments):
    """A Python process in the folder, with Keras on TensorFlow, after its end."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    return subprocess.run([sys.executable, *arguments], cwd=place, env=environment, capture_output=True, text=True)


def run(place, *command):
    """A command of mizoo, which succeeds and leaves no temporary file, of its own or of one that was killed."""
    done = start(place, "-m", "mizoo.cli", *command)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(place.rglob(".writing-*")), "half files"
    return done.stdout


def kill(place, file, count, *command):
    """The same, killed before the `count`th file of a name gets it; the names of the files that it left, whole."""
    before = set(place.rglob("*"))
    done = start(place, "-c", KILLED, file, str(count), *command)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    left = [path.relative_to(place).parts for path in set(place.rglob("*")) - before if path.is_file()]
    return {parts[-1] for parts in left if not any(part.startswith(".") for part in parts)}


def test_the_road_of_four_commands(place):
    """The recipe of `mizoo new` is run with a smaller encoder, so that the test takes minutes."""
    new = ["new", "my.yaml", "--data", "photos", "--hours", "1", "--side", "32"]
    assert kill(place, "my.yaml", 1, *new) == set()
    assert "mizoo pretrain my.yaml" in run(place, *new)
    assert recipes.load(place / "my.yaml").data.source == "photos"

    small = ["init_from=null", "encoder.width=0.125", "objective.views=2", "data.stages=[{view_side: 16}]"]
    small += ["optimizer.warmup_epochs=0.2", "training.epochs=2", "training.batch_size=32"]
    small += ["training.checkpoint_epochs=1"]
    pretrain = ["pretrain", "my.yaml", *(word for each in small for word in ("--set", each))]
    recipe = recipes.load(place / "my.yaml", parse_changes(small))
    folder = place / "runs" / "my"
    assert "previous.weights.h5" in kill(place, "checkpoint.weights.h5", 2, *pretrain)
    assert saved_state(folder, recipe).epochs == 1
    run(place, *pretrain)
    assert [line["epoch"] for line in read_log(folder)] == [1, 2] and saved_state(folder, recipe).epochs == 2

    finetune = ["finetune", "runs/my", "--data", "few", "-o", "classifier.keras", "--steps", "40", "--batch-size", "8"]
    assert kill(place, "classifier.keras", 1, *finetune) == set()
    assert "Deploy it: mizoo export classifier.keras" in run(place, *finetune)
    facts = json.loads((place / "classifier.json").read_text())
    assert facts["classes"] == ["dusk", "forest"] and facts["train_size"] == 24

    export = ["export", "classifier.keras", "--out", "exported"]
    assert kill(place, "saved_model", 1, *export) == {"encoder.onnx"}
    run(place, *export)
    manifest = json.loads((place / "exported/manifest.json").read_text())
    for name, written in manifest["files"].items():
        assert files.facts(place / "exported" / name) == written, name
    images = np.stack([pictures.prepare(each, (32, 32, 3)) for each in pictures.find(place / "photos")])
    wanted = keras.saving.load_model(place / "classifier.keras").predict(images, verbose=0)
    session = onnxruntime.InferenceSession(place / "exported/encoder.onnx")
    (given,) = session.run(None, {"images": images.astype("float32")})
    np.testing.assert_allclose(given, wanted, atol=1e-3)  # weights of half precision
    assert np.mean(given.argmax(axis=1) == np.repeat([0, 1], COUNT)) > 0.9


def test_an_index_of_pictures_that_was_killed_and_made_again(place):
    command = ["search", "index", "photos", "-o", "photos.index"]
    assert kill(place, "photos.index", 1, *command) == set()
    run(place, *command)
    index = search.read(place / "photos.index")
    assert sorted(index.paths) == sorted(pictures.find(place / "photos"))
    first = pictures.find(place / "photos")[0]
    found = json.loads(run(place, "search", "photos.index", str(first), "-k", "3", "--json"))
    assert os.path.samefile(place / found[0]["hits"][0]["path"], first)
