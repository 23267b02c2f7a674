"""A run is the same whether or not it was interrupted, and its folder says what it holds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

from mizoo import recipes
from mizoo.errors import UserError
from mizoo.pretrain import pretrain
from mizoo.runs.folder import CHECKPOINT, read_log


@pytest.fixture
def pictures(tmp_path, rng):
    """A folder with 48 small pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(48):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype="uint8")).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture
def recipe(pictures):
    return recipes.validate(
        {
            "name": "toy",
            "encoder": {"widths": [4, 6, 8], "fc_size": 16, "global_size": 5},
            "objective": {"critic_width": 12},
            "data": {"source": str(pictures)},
            "optimizer": {"learning_rate": 0.003, "warmup_epochs": 1.0},
            "training": {"epochs": 4, "batch_size": 16, "precision": "float32"},
        }
    )


def load(run) -> keras.Model:
    return keras.saving.load_model(run / "encoder.keras", compile=False)


def weights(run) -> list[np.ndarray]:
    return load(run).get_weights()


def same(first, second) -> None:
    for a, b in zip(weights(first), weights(second), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_resumed_run_equals_an_unbroken_one(recipe, tmp_path):
    whole = pretrain(recipe, tmp_path / "whole")
    pretrain(recipe, tmp_path / "parts", stop_after=1)
    pretrain(recipe, tmp_path / "parts", stop_after=3)
    parts = pretrain(recipe, tmp_path / "parts")
    same(whole, parts)
    logs = [read_log(run) for run in (whole, parts)]
    assert [line["epoch"] for line in logs[1]] == [1, 2, 3, 4]
    for one, other in zip(*logs):
        for key in set(one) - {"seconds", "pictures_per_second"}:
            assert one[key] == pytest.approx(other[key], abs=1e-4), key


def test_occlusion_begins_after_the_epoch_that_the_recipe_names(recipe, tmp_path):
    late = changed(recipe, objective={"occlusion": 0.5, "occlusion_from": 2}, training={"epochs": 3})
    whole = pretrain(late, tmp_path / "whole")
    pretrain(late, tmp_path / "parts", stop_after=1)
    parts = pretrain(late, tmp_path / "parts")
    same(whole, parts)
    never, always = (
        read_log(
            pretrain(changed(recipe, objective={"occlusion": share}, training={"epochs": 3}), tmp_path / str(share))
        )
        for share in (0.0, 0.5)
    )
    losses = [[line["loss"] for line in log] for log in (read_log(whole), never, always)]
    assert losses[0][:2] == pytest.approx(losses[1][:2], abs=1e-4)
    assert abs(losses[0][0] - losses[2][0]) > 1e-3, "occluded from the start"
    assert abs(losses[0][2] - losses[1][2]) > 1e-3, "occluded in the last epoch"


def test_an_open_run_takes_an_occlusion_that_comes_later(recipe, tmp_path):
    trapezoid = {"schedule": "trapezoid", "warmup_epochs": 0.0, "decay_epochs": 1.0}
    plain = changed(recipe, optimizer=trapezoid, training={"epochs": 4})
    late = changed(plain, objective={"occlusion": 0.5, "occlusion_from": 2}, training={"epochs": 3})
    early = changed(late, objective={"occlusion_from": 1})
    parts = pretrain(plain, tmp_path / "parts", stop_after=2)
    with pytest.raises(UserError, match="another recipe"):
        pretrain(early, parts)
    same(pretrain(late, parts), pretrain(late, tmp_path / "whole"))


def test_a_killed_run_goes_on_from_its_checkpoint(recipe, tmp_path):
    recipe = recipes.validate(
        recipe.model_dump(mode="json") | {"training": recipe.training.model_dump() | {"epochs": 25}}
    )
    path = tmp_path / "toy.yaml"
    path.write_text(recipe.dump())
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "mizoo.cli", "pretrain", str(path), "--out", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (run / CHECKPOINT).exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = read_log(run)
    assert before and len(before) < 25, "the run was to be killed under way"

    pretrain(recipe, run)
    assert [line["epoch"] for line in read_log(run)] == list(range(1, 26))
    same(pretrain(recipe, tmp_path / "whole"), run)


def test_the_log_shows_bounds_beside_ceilings_and_the_state_of_the_embedding(recipe, tmp_path):
    run = pretrain(recipe, tmp_path / "run", stop_after=2)
    lines = read_log(run)
    assert len(lines) == 2
    for line in lines:
        assert line["local_mi"] <= line["local_mi_ceiling"] == pytest.approx(np.log(16), abs=1e-4)
        assert 1.0 <= line["effective_rank"] <= 5.0 and line["spread"] > 0
        assert line["pictures_per_second"] > 0
    assert lines[0]["learning_rate"] == pytest.approx(0.003, rel=1e-3)  # the end of the warm-up
    assert recipes.load(run / "recipe.yaml") == recipe


def test_a_bfloat16_run_leaves_a_float32_encoder(recipe, tmp_path):
    content = recipe.model_dump(mode="json")
    content["training"] |= {"precision": "mixed_bfloat16", "epochs": 2}
    run = pretrain(recipes.validate(content), tmp_path / "run")
    encoder = keras.saving.load_model(run / "encoder.keras", compile=False)
    assert keras.config.dtype_policy().name == "float32"
    assert {layer.dtype_policy.name for layer in encoder.layers} == {"float32"}
    assert {v.dtype for v in encoder.variables} == {"float32"}


def changed(recipe, **parts):
    """The recipe with some keys of some parts replaced."""
    content = recipe.model_dump(mode="json")
    for part, value in parts.items():
        content[part] = {**content[part], **value} if isinstance(value, dict) else value
    return recipes.validate(content)


def test_a_run_begins_with_the_weights_that_init_from_names(recipe, tmp_path):
    first = pretrain(recipe, tmp_path / "first", stop_after=1)
    still = changed(recipe, optimizer={"learning_rate": 1e-12}, training={"epochs": 2}, init_from=str(first))
    second = pretrain(still, tmp_path / "second")
    norms = [v.path.rsplit("/", 1)[-1].startswith("moving") for v in load(first).variables]
    for a, b, moving in zip(weights(first), weights(second), norms, strict=True):
        if not moving:
            np.testing.assert_allclose(a, b, atol=1e-6)
    wider = changed(recipe, encoder={"fc_size": 17}, init_from=str(first))
    with pytest.raises(UserError, match="`init_from`.*do not fit"):
        pretrain(wider, tmp_path / "third")


def test_an_encoder_trained_on_smaller_views_is_saved_for_whole_pictures(recipe, tmp_path):
    content = recipe.model_dump(mode="json") | {
        "encoder": {"name": "resnet18", "width": 0.0625, "head_size": 8, "global_size": 5}
    }
    small = changed(
        recipes.validate(content),
        objective={"prior_weight": 0.0, "views": 2},
        data={"augment": "views", "view_side": 16},
        optimizer={"ema": 0.5},
        training={"epochs": 2},
    )
    run = pretrain(small, tmp_path / "run", stop_after=1)
    encoder, first = load(run), weights(run)
    assert encoder.input_shape == (None, 32, 32, 3) and encoder.output["local"].shape[1:] == (8, 8, 16)
    assert not np.allclose(first[0], small.encoder.build().get_weights()[0])
    pretrain(small, run)
    assert 0 < np.abs(weights(run)[0] - first[0]).max() < 0.01  # it went on from there, in three steps


def test_a_run_that_has_to_come_first_is_named_with_its_command(recipe, tmp_path, fake_zoo):
    (fake_zoo.root / "models" / "toy").mkdir()
    (fake_zoo.root / "models" / "toy" / "start.yaml").write_text("name: toy_first\n")
    with pytest.raises(UserError, match=r"runs/toy_first, which is not here.*`mizoo pretrain .*/toy/start.yaml`"):
        pretrain(changed(recipe, init_from="runs/toy_first"), tmp_path / "run")
    with pytest.raises(UserError, match="There is no folder runs/another"):
        pretrain(changed(recipe, init_from="runs/another"), tmp_path / "run")


@pytest.mark.parametrize("kind", ["adamw", pytest.param("lamb", marks=pytest.mark.slow)])
def test_a_run_with_averaged_weights_saves_the_average_and_resumes(recipe, tmp_path, kind):
    recipe = changed(recipe, objective={"prior_weight": 0.0}, optimizer={"name": kind, "ema": 0.5})
    plain = changed(recipe, optimizer={"ema": 0.0})
    averaged = pretrain(recipe, tmp_path / "averaged", stop_after=2)
    last = load(pretrain(plain, tmp_path / "plain", stop_after=2)).get_layer("conv1").kernel
    first = load(pretrain(plain, tmp_path / "shorter", stop_after=1)).get_layer("conv1").kernel
    found = np.asarray(load(averaged).get_layer("conv1").kernel)
    distances = [float(np.abs(found - np.asarray(kernel)).mean()) for kernel in (first, last)]
    assert 1e-5 < distances[1] < distances[0], "the average is near the last weights and is not them"
    pretrain(recipe, averaged)
    same(averaged, pretrain(recipe, tmp_path / "whole"))


def test_a_checkpoint_from_before_a_key_existed_goes_on(recipe, tmp_path):
    run = pretrain(recipe, tmp_path / "run", stop_after=1)
    with h5py.File(run / CHECKPOINT, "a") as file:
        state = json.loads(file.attrs["mizoo"])
        del state["recipe"]["objective"]["views"], state["recipe"]["init_from"]
        file.attrs["mizoo"] = json.dumps(state)
    assert read_log(pretrain(recipe, run, stop_after=2))[-1]["epoch"] == 2


def test_the_checkpoint_of_another_recipe_is_refused_and_kept(recipe, tmp_path):
    run = pretrain(recipe, tmp_path / "run", stop_after=1)
    before = (run / CHECKPOINT).read_bytes()
    content = recipe.model_dump(mode="json")
    content["optimizer"]["learning_rate"] = 0.1
    with pytest.raises(UserError, match="another recipe"):
        pretrain(recipes.validate(content), run)
    assert (run / CHECKPOINT).read_bytes() == before


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


def test_a_loss_that_explodes_stops_the_run_with_a_reason(recipe, tmp_path):
    content = recipe.model_dump(mode="json")
    content["optimizer"] |= {"learning_rate": 1e30, "warmup_epochs": 0.0}
    with pytest.raises(UserError, match="learning_rate"):
        pretrain(recipes.validate(content), tmp_path / "run")
    assert not (tmp_path / "run" / CHECKPOINT).exists()
