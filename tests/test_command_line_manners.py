"""What the command line says beside its results: no noise of TensorFlow, completions, the callbacks of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from support.encoders import TOY
from typer.testing import CliRunner

from mizoo import cli, data, encoders, recipes
from mizoo.errors import UserError
from mizoo.evaluate.protocols import knn
from mizoo.pretrain import pretrain
from mizoo.runs.folder import read_log, saved_state

SCRIPT = Path(sys.executable).with_name("mizoo")

NOISE = """
import os, sys
from mizoo import cli
cli.quieten_tensorflow()
import tensorflow as tf
print(sys.stderr.isatty(), os.environ["TF_CPP_MIN_LOG_LEVEL"], tf.zeros(1).numpy())
os.write(2, b"a message of C\\n")
print("a message of Python", file=sys.stderr)
raise SystemExit("a failure")
"""


def test_the_start_of_tensorflow_is_silent_and_errors_are_not():
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", NOISE], capture_output=True, text=True, timeout=120, env=environment)
    assert done.stdout.split()[:2] == ["False", "2"]
    assert done.stderr.splitlines() == ["a message of C", "a message of Python", "a failure"]


CRASH = """
import sys, types, os
from importlib.machinery import ModuleSpec
from mizoo._tools.quiet import quieten_tensorflow
class Loader:
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        os.write(2, b"I0000 00:00:1795611870.383543   17165 port.cc:153] oneDNN custom operations are on.\\n")
        os.write(2, b"F0000 00:00:1795611870.383543   17165 cpu.cc:1] this machine has no AVX\\n")
        os.abort()
class Finder:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, Loader()) if name == "tensorflow" else None
sys.meta_path.insert(0, Finder())
quieten_tensorflow()
import tensorflow
"""


def test_an_import_that_crashes_still_says_why():
    done = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "has no AVX" in done.stderr and "oneDNN" not in done.stderr


@pytest.mark.skipif(not SCRIPT.exists() or os.name == "nt", reason="the command is not installed here")
def test_completion_of_bash_is_installed_and_completes(tmp_path):
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{SCRIPT.parent}:{os.environ['PATH']}"}
    typed = ["bash", "-c", f"'{SCRIPT}' --install-completion; exit $?"]  # the shell is found among the parents
    done = subprocess.run(typed, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and (tmp_path / ".bash_completions" / "mizoo.sh").is_file(), done.stderr
    typed = (
        "source $HOME/.bash_completions/mizoo.sh; COMP_WORDS=(mizoo pre); COMP_CWORD=1; _mizoo_completion mizoo; "
        "echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["pretrain"], done.stderr


@pytest.fixture
def recipe(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(2)
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype="uint8")).save(tmp_path / f"{i}.png")
    training = {"epochs": 4, "batch_size": 4, "precision": "float32", "checkpoint_epochs": 4}
    objective = {"critic_width": 4, "prior_weight": 0.0}
    content = {"name": "toy", "encoder": TOY, "objective": objective, "data": {"source": str(tmp_path)}}
    return recipes.validate({**content, "training": training})


class Stop(keras.callbacks.Callback):
    """Notes what it is told, and stops at an epoch."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.told = at, []

    def on_train_begin(self, logs=None):
        self.told.append("begin")

    def on_epoch_end(self, epoch, logs=None):
        self.told.append((epoch, sorted(logs)))
        self.model.stop_training = epoch + 1 == self.at

    def on_train_end(self, logs=None):
        self.told.append("end")


def test_a_run_calls_callbacks_and_saves_where_one_stops_it(recipe, tmp_path):
    stop = Stop(2)
    run = pretrain(recipe, tmp_path / "run", jit_compile=False, callbacks=[stop])
    logged = sorted(set(read_log(run)[0]) - {"epoch"})
    assert {"local_mi", "local_mi_ceiling", "loss", "spread"} <= set(logged)
    assert stop.told == ["begin", (0, logged), (1, logged), "end"]
    assert len(read_log(run)) == 2 and saved_state(run, recipe).epochs == 2  # no checkpoint was due yet


def changed(recipe, **sections):
    content = recipe.model_dump(mode="json")
    return recipes.validate(content | {name: {**content[name], **keys} for name, keys in sections.items()})


@pytest.mark.parametrize("every", [1, 4])
def test_a_run_that_a_callback_stops_has_the_statistics_of_its_end(recipe, tmp_path, eager, every):
    settled = changed(recipe, training={"batch_statistics": "pictures", "checkpoint_epochs": every})
    run = pretrain(settled, tmp_path / "run", jit_compile=False, callbacks=[Stop(1)])
    encoder = keras.saving.load_model(run / "encoder.keras", compile=False)
    saved = encoder.get_weights()
    encoders.fit_statistics(encoder, data.load(recipe.data.source, "train").images)
    assert all(np.allclose(one, other, atol=1e-5) for one, other in zip(saved, encoder.get_weights(), strict=True))
    assert len(read_log(run)) == 1 and saved_state(run, settled).epochs == 1
    assert not (run / "previous.weights.h5").exists()  # the checkpoint of the epoch was there already


def arrays_of(path):
    """All arrays of an HDF5 file by name."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, each: found.update({name: each[()]}) if isinstance(each, h5py.Dataset) else None)
    return found


def test_a_run_that_a_callback_stops_goes_on_from_what_was_trained_and_not_from_averages(recipe, tmp_path, eager):
    runs = []
    for every in (1, 4):
        averaged = changed(recipe, optimizer={"ema": 0.9}, training={"checkpoint_epochs": every})
        runs.append(pretrain(averaged, tmp_path / f"run{every}", jit_compile=False, callbacks=[Stop(1)]))
    one, other = (arrays_of(run / "checkpoint.weights.h5") for run in runs)
    assert one.keys() == other.keys() and all(np.allclose(each, other[name], atol=1e-6) for name, each in one.items())


def test_a_run_that_is_interrupted_gives_the_terminal_its_cursor_back(recipe, tmp_path, eager, monkeypatch, capfd):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    monkeypatch.setenv("FORCE_COLOR", "1")  # makes a terminal of anything, for rich
    monkeypatch.setenv("TERM", "xterm-256color")
    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, tmp_path / "run", jit_compile=False, callbacks=[Interrupt()])
    said = capfd.readouterr().err
    assert "epoch 1/4" in said and said.count("\x1b[?25l") == said.count("\x1b[?25h") == 1


def test_a_tilde_is_the_home_folder(recipe, tmp_path, eager, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert pretrain(recipe, "~/run", jit_compile=False, stop_after=1) == tmp_path / "run"
    assert not (tmp_path / "~").exists()
    recipe_file = tmp_path / "run" / "recipe.yaml"
    result = CliRunner().invoke(cli.app, ["pretrain", str(recipe_file), "--out", "~/run", "--stop-after", "1"])
    assert result.stdout.strip() == str(tmp_path / "run"), result.output


def test_the_loop_of_epochs_without_fit_calls_them_too():
    from mizoo.pretrain.placement import run_epochs

    stop = Stop(2)
    run_epochs(keras.Model(), 0, 4, 2, [stop], lambda epoch, calls: {"loss": float(epoch)})
    assert stop.told == ["begin", (0, ["loss"]), (1, ["loss"]), "end"]


def test_callbacks_of_another_kind_are_refused_before_anything_is_done(recipe, tmp_path):
    for wrong in ([print], print, ["early"], None):
        with pytest.raises(UserError, match="`callbacks` are objects of keras.callbacks.Callback"):
            pretrain(recipe, tmp_path / "run", callbacks=wrong)
    assert not (tmp_path / "run").exists()


def test_the_row_of_nearest_neighbours_says_how_many_voted(rng):
    x, y = rng.standard_normal((8, 3)), np.arange(8) % 2
    assert knn.fit_score(x, y, x, y, 2)[1]["k"] == 8
    assert knn.fit_score(x, y, x, y, 2, k=3)[1]["k"] == 3
