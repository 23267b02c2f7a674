"""A run is the same whether or not it was interrupted, and its folder says what it holds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from PIL import Image
from support.encoders import TOY

from mizoo import recipes
from mizoo.callbacks import OnlineProbe
from mizoo.errors import UserError
from mizoo.pretrain import pretrain
from mizoo.runs.folder import CHECKPOINT, HASHES, read_log, saved_state


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Three epochs of 48 small pictures with one optimiser; the rate falls in the last one."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(20261122)
    for i in range(48):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype="uint8")).save(folder / f"{i:02d}.png")
    return recipes.validate(
        {
            "name": "toy",
            "encoder": TOY,
            "objective": {"critic_width": 12, "prior_weight": 0.0},
            "data": {"source": str(folder)},
            "optimizer": {
                "learning_rate": 0.003, "schedule": "trapezoid", "warmup_epochs": 1.0, "decay_epochs": 1.0,
            },
            "training": {"epochs": 3, "batch_size": 16, "precision": "float32"},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def unbroken(recipe, tmp_path_factory) -> Path:
    """The finished run of the recipe, to read only."""
    return pretrain(recipe, tmp_path_factory.mktemp("runs") / "unbroken")


@pytest.fixture(scope="module")
def _one_epoch(recipe, tmp_path_factory) -> Path:
    longer = changed(recipe, optimizer={"decay_epochs": 2.0}, training={"epochs": 4})
    return pretrain(longer, tmp_path_factory.mktemp("runs") / "one_epoch", stop_after=1)


@pytest.fixture
def one_epoch(_one_epoch, tmp_path) -> Path:
    """A copy of a run that was stopped after an epoch, to go on from or to damage; the recipe was longer then."""
    return Path(shutil.copytree(_one_epoch, tmp_path / "one_epoch"))


def changed(recipe, **parts):
    """The recipe with some keys of some parts replaced; a part that names itself is replaced whole."""
    content = recipe.model_dump(mode="json")
    for part, value in parts.items():
        whole = not isinstance(value, dict) or (part in ("encoder", "objective") and "name" in value)
        content[part] = value if whole else {**content[part], **value}
    return recipes.validate(content)


def load(run) -> keras.Model:
    return keras.saving.load_model(run / "encoder.keras", compile=False)


def weights(run) -> list[np.ndarray]:
    return load(run).get_weights()


def assert_same_weights(first, second) -> None:
    for a, b in zip(weights(first), weights(second), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def losses(run) -> list[float]:
    return [line["loss"] for line in read_log(run)]


def test_a_resumed_run_of_two_optimisers_equals_an_unbroken_one(recipe, tmp_path, eager):
    adversarial = changed(recipe, objective={"prior_weight": 0.1}, training={"epochs": 2})
    whole = pretrain(adversarial, tmp_path / "whole")
    pretrain(adversarial, tmp_path / "parts", stop_after=1)
    parts = pretrain(adversarial, tmp_path / "parts")
    assert_same_weights(whole, parts)
    logs = [read_log(run) for run in (whole, parts)]
    assert [line["epoch"] for line in logs[1]] == [1, 2]
    assert "adversary" in logs[1][0]
    for one, other in zip(*logs, strict=True):
        for key in set(one) - {"seconds", "pictures_per_second"}:
            assert one[key] == pytest.approx(other[key], abs=1e-4), key


def test_an_open_run_takes_another_length_and_an_occlusion_that_begins_later(
    recipe, unbroken, one_epoch, tmp_path, eager
):
    late = changed(recipe, objective={"occlusion": 0.5, "occlusion_from": 2})
    with pytest.raises(UserError, match="another recipe"):  # one that would have begun already
        pretrain(changed(recipe, objective={"occlusion": 0.5}), one_epoch)
    whole = pretrain(late, tmp_path / "whole")
    assert_same_weights(whole, pretrain(late, one_epoch))  # which began without one, and was to be longer
    assert losses(whole)[:2] == pytest.approx(losses(unbroken)[:2], abs=1e-4)
    assert abs(losses(whole)[2] - losses(unbroken)[2]) > 1e-3


KILLED_WHILE_SAVING = """
import os, signal, sys
from mizoo import cli
from mizoo.pretrain import callbacks

def mark_checkpoint(path, identity, state, version, original=callbacks.mark_checkpoint):
    if state.epochs == 2:  # the log and the encoder are of the second epoch already, the checkpoint of the first
        os.kill(os.getpid(), signal.SIGKILL)
    original(path, identity, state, version)

callbacks.mark_checkpoint = mark_checkpoint
sys.argv = ["mizoo", "pretrain", *sys.argv[1:]]
cli.main()
"""


def test_a_killed_run_goes_on_from_its_checkpoint(recipe, unbroken, tmp_path):
    (tmp_path / "toy.yaml").write_text(recipe.dump())
    run = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED_WHILE_SAVING, str(tmp_path / "toy.yaml"), "--out", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "tensorflow"})
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert len(read_log(run)) == 2 and saved_state(run, recipe).epochs == 1
    pretrain(recipe, run)
    assert [line["epoch"] for line in read_log(run)] == [1, 2, 3]
    assert_same_weights(run, unbroken)


def test_what_a_run_is_asked_for_is_checked_first_and_a_path_is_a_recipe(recipe, unbroken, tmp_path, capsys):
    for wrong in (0, -1, 1.5):
        with pytest.raises(UserError, match="`stop_after` is a whole number, 1 or more"):
            pretrain(recipe, tmp_path / "run", stop_after=wrong)
    with pytest.raises(UserError, match="`recipe` is a mizoo.recipes.Recipe.*Received: {}"):
        pretrain({}, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert pretrain(unbroken / "recipe.yaml", unbroken) == unbroken
    assert "already trained" in capsys.readouterr().err


def test_the_log_shows_bounds_beside_ceilings_and_the_state_of_the_embedding(recipe, unbroken):
    lines = read_log(unbroken)
    assert len(lines) == 3
    for line in lines:
        assert line["local_mi"] <= line["local_mi_ceiling"] == pytest.approx(np.log(16), abs=1e-4)
        assert 1.0 <= line["effective_rank"] <= 5.0 and line["spread"] > 0
        assert line["pictures_per_second"] > 0
    rates = [line["learning_rate"] for line in lines]
    assert rates == pytest.approx([0.003, 0.003, 0.0], abs=1e-6)  # after the warm-up, and after the decay
    assert recipes.load(unbroken / "recipe.yaml") == recipe


def test_a_bfloat16_run_leaves_a_float32_encoder(recipe, tmp_path):
    run = pretrain(changed(recipe, training={"precision": "mixed_bfloat16"}), tmp_path / "run", stop_after=1)
    encoder = load(run)
    assert keras.config.dtype_policy().name == "float32"
    assert {layer.dtype_policy.name for layer in encoder.layers} == {"float32"}
    assert {v.dtype for v in encoder.variables} == {"float32"}


def test_a_run_begins_with_the_weights_that_init_from_names(recipe, one_epoch, tmp_path, eager):
    still = changed(recipe, optimizer={"learning_rate": 1e-12}, init_from=str(one_epoch))
    second = pretrain(still, tmp_path / "second", stop_after=1)
    statistics = [v.path.rsplit("/", 1)[-1].startswith("moving") for v in load(one_epoch).variables]
    for a, b, moving in zip(weights(one_epoch), weights(second), statistics, strict=True):
        if not moving:
            np.testing.assert_allclose(a, b, atol=1e-6)
    wider = changed(recipe, encoder={"fc_size": 17}, init_from=str(one_epoch))
    with pytest.raises(UserError, match="`init_from`.*do not fit"):
        pretrain(wider, tmp_path / "third")


def test_an_encoder_trained_on_smaller_views_is_saved_for_whole_pictures(recipe, tmp_path, eager):
    small_views = changed(
        recipe,
        encoder={"name": "resnet18", "width": 0.0625, "head_size": 8, "global_size": 5},
        objective={"name": "simclr"},
        data={"augment": "views", "view_side": 16},
        optimizer={"ema": 0.5, "schedule": "constant", "decay_epochs": 0.0},
        training={"epochs": 2},
    )
    run = pretrain(small_views, tmp_path / "run", stop_after=1)
    encoder, first = load(run), weights(run)
    assert encoder.input_shape == (None, 32, 32, 3) and encoder.output["local"].shape[1:] == (8, 8, 16)
    assert not np.allclose(first[0], small_views.encoder.build().get_weights()[0])
    pretrain(small_views, run)
    assert 0 < np.abs(weights(run)[0] - first[0]).max() < 0.01  # it went on from there, in three steps


def test_a_run_that_has_to_come_first_is_named_with_its_command(recipe, tmp_path, fake_zoo, monkeypatch):
    (fake_zoo.root / "models" / "toy").mkdir()
    (fake_zoo.root / "models" / "toy" / "start.yaml").write_text("name: toy_first\n")
    with pytest.raises(UserError, match=r"runs/toy_first, which is not here.*`mizoo pretrain .*/toy/start.yaml`"):
        pretrain(changed(recipe, init_from="runs/toy_first"), tmp_path / "run")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "runs" / "toy_first").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no encoder.keras"):  # so it was found
        pretrain(changed(recipe, init_from="~/runs/toy_first"), tmp_path / "run")
    with pytest.raises(UserError, match="There is no folder runs/another"):
        pretrain(changed(recipe, init_from="runs/another"), tmp_path / "run")


def assert_averages_and_resumes(recipe, plain_runs, tmp_path) -> None:
    """A run with averaged weights ends near the last weights of the plain one, and resumes."""
    averaged = changed(recipe, optimizer={"ema": 0.5})
    run = pretrain(averaged, tmp_path / "run")
    kernel, *plain = (np.asarray(load(each).get_layer("conv1").kernel) for each in (run, *plain_runs))
    from_first, from_last = (float(np.abs(kernel - each).mean()) for each in plain)
    assert 1e-5 < from_last < from_first, "the average is near the last weights and is not them"
    parts = pretrain(averaged, tmp_path / "parts", stop_after=1)
    assert_same_weights(run, pretrain(averaged, parts))


def test_a_run_with_averaged_weights_saves_the_average_and_resumes(recipe, unbroken, one_epoch, tmp_path, eager):
    assert_averages_and_resumes(recipe, (one_epoch, unbroken), tmp_path)


def test_a_probe_sees_the_averages_that_are_saved_and_the_training_does_not(recipe, tmp_path, eager):
    class Seen(OnlineProbe):
        """Keeps the weights that it was given."""

        def measure(self, encoder, epoch):
            """Keep them."""
            self.weights = encoder.get_weights()
            return {}

    averaged, probe = changed(recipe, optimizer={"ema": 0.5}), Seen("cifar10")
    run = pretrain(averaged, tmp_path / "run", callbacks=[probe])
    saved = load(run).get_weights()
    assert saved and all(np.array_equal(one, other) for one, other in zip(saved, probe.weights, strict=True))
    assert_same_weights(run, pretrain(averaged, tmp_path / "without"))


@pytest.mark.slow
def test_so_does_one_by_lamb(recipe, tmp_path):
    lamb = changed(recipe, optimizer={"name": "lamb"})
    plain = pretrain(lamb, tmp_path / "one", stop_after=1), pretrain(lamb, tmp_path / "whole")
    assert_averages_and_resumes(lamb, plain, tmp_path)


def test_a_checkpoint_from_before_a_key_existed_goes_on(recipe, one_epoch):
    with h5py.File(one_epoch / CHECKPOINT, "a") as file:
        state = json.loads(file.attrs["mizoo"])
        del state["recipe"]["objective"]["views"], state["recipe"]["init_from"]
        file.attrs["mizoo"] = json.dumps(state)
    (one_epoch / HASHES).unlink()  # which is newer too
    assert saved_state(one_epoch, recipe).epochs == 1


def test_the_checkpoint_of_another_recipe_is_refused_and_kept(recipe, one_epoch):
    before = (one_epoch / CHECKPOINT).read_bytes()
    with pytest.raises(UserError, match="another recipe"):
        pretrain(changed(recipe, optimizer={"learning_rate": 0.1}), one_epoch)
    assert (one_epoch / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty"])
def test_a_damaged_checkpoint_is_named(recipe, tmp_path, damage):
    run = tmp_path / "run"
    run.mkdir()
    path = run / CHECKPOINT
    if damage == "foreign":
        with h5py.File(path, "w") as file:
            file["x"] = 1
    else:
        path.write_bytes(b"" if damage == "empty" else b"\x89HDF\r\n\x1a\n" + b"\0" * 50)
    with pytest.raises(UserError, match="checkpoint"):
        pretrain(recipe, run)


def test_a_loss_that_explodes_stops_the_run_with_a_reason(recipe, tmp_path, eager):
    exploding = changed(recipe, optimizer={"learning_rate": 1e30, "warmup_epochs": 0.0})
    with pytest.raises(UserError, match="learning_rate"):
        pretrain(exploding, tmp_path / "run")
    assert not (tmp_path / "run" / CHECKPOINT).exists()


def test_a_run_keeps_the_precision_that_it_began_with(recipe, tmp_path, monkeypatch):
    """Begun on one kind of machine and resumed on another, it is the run that never left the first."""
    from mizoo.pretrain import run

    open_one = changed(recipe, training={"epochs": 2, "precision": "auto"})
    weights = []
    for there in ("mixed_bfloat16", "float32"):
        folder = tmp_path / there
        monkeypatch.setattr(run, "precision_here", lambda: "mixed_bfloat16")
        pretrain(open_one, folder, stop_after=1)
        monkeypatch.setattr(run, "precision_here", lambda there=there: there)
        pretrain(open_one, folder)
        assert json.loads((folder / "machine.json").read_text())["precision"] == "mixed_bfloat16"
        weights.append(keras.saving.load_model(folder / "encoder.keras").get_weights())
    for one, other in zip(*weights):
        np.testing.assert_array_equal(one, other)
