"""Recipes are checked before anything starts."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest
import yaml

from mizoo import recipes, zoo
from mizoo._tools import yaml_text
from mizoo.commands.changes import parse_changes
from mizoo.errors import UserError

GOOD = {"name": "toy", "data": {"source": "cifar10"}}


def with_change(key: str, value) -> dict:
    content = yaml.safe_load(yaml.safe_dump(GOOD))
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return content


@pytest.mark.parametrize(
    "key, value",
    [
        ("training.epoch", 3),
        ("training.epochs", 0),
        ("training.epochs", "ten"),
        ("training.batch_size", 1),
        ("training.seed", -1),
        ("training.seed", 2**32),
        ("training.precision", "float8"),
        ("objective.bound", "mine"),
        ("objective.prior_weight", -0.1),
        ("objective.local_weight", "1"),
        ("optimizer.learning_rate", 0),
        ("optimizer.beta_1", 1.0),
        ("encoder.widths", [64, 128]),
        ("data.augment", "dmi"),
        ("data.source", 5),
        ("name", "Bad Name"),
        ("extra", {}),
    ],
)
def test_a_bad_key_is_named(key, value):
    with pytest.raises(UserError) as caught:
        recipes.validate(with_change(key, value))
    assert f"`{key}" in str(caught.value)


def test_numbers_may_be_written_with_an_exponent_alone(tmp_path):
    path = tmp_path / "mine.yaml"
    text = "name: mine\ndata: {source: cifar10}\noptimizer: {learning_rate: 3e-4}\ntraining: {epochs: 5}\n"
    path.write_text(text)
    assert recipes.load(path).optimizer.learning_rate == 3e-4
    assert yaml_text.parse("1E3") == 1000.0 and yaml_text.parse("-2.e+1") == -20.0
    assert yaml_text.parse("e3") == "e3" and yaml_text.parse("3e") == "3e" and yaml_text.parse("7") == 7
    path.write_text(text.replace("3e-4", "3e-4s"))
    with pytest.raises(UserError, match="optimizer.learning_rate"):
        recipes.load(path)


@pytest.mark.parametrize(
    "stages, words",
    [
        ("[{epoch: 5}, {}]", "`data.stages.0.epoch` is unknown; did you mean `epochs`?"),
        ("[{epochs: five}, {}]", "`data.stages.0.epochs`: Input should be a valid integer"),
        ("[{epochs: 5}, {area: [0.1, x]}]", "`data.stages.1.area.1`: Input should be a valid number"),
        ("[{epochs: 5}, 7]", "`data.stages.1`: "),
    ],
)
def test_what_is_wrong_in_a_stage_is_named_with_its_file(stages, words, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\ndata: {{source: photos, augment: simclr, stages: {stages}}}\n")
    with pytest.raises(UserError, match=f"mine.yaml is refused:\n  {re.escape(words)}"):
        recipes.load(path)


@pytest.mark.parametrize(
    "value", ["a: b: c", "[abc", "*.png", "@me", "2024-13-45", "!!bool maybe", "!!int", "it's: a: 'b'"]
)
def test_a_value_that_is_no_yaml_is_refused_with_the_way_to_quote_it(value, tmp_path):
    with pytest.raises(UserError, match=f"--set summary.*{re.escape(repr(value))}") as caught:
        parse_changes([f"summary={value}"])
    assert parse_changes(shlex.split(str(caught.value).partition("shell: --set ")[2])) == {"summary": value}
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\ndata: {{source: cifar10}}\nsummary: {value}\n")
    with pytest.raises(UserError, match="mine.yaml is not YAML: line [34], column "):
        recipes.load(path)


def test_a_key_that_stands_twice_is_refused_with_its_place(tmp_path):
    path = tmp_path / "mine.yaml"
    for text, place in (
        ("training: {epochs: 5}\noptimizer: {ema: 0.5}\ntraining: {seed: 1}\n", "line 5, column 1: the key 'training'"),
        ("training:\n  epochs: 5\n  'epochs': 6\n", "line 5, column 3: the key 'epochs'"),
    ):
        path.write_text(f"name: mine\ndata: {{source: cifar10}}\n{text}")
        with pytest.raises(UserError, match=f"mine.yaml.*{place} stands here for the second time"):
            recipes.load(path)
    merged = yaml_text.parse("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")  # which says twice what `x` is, on purpose
    assert merged["b"] == {"x": 3, "y": 2}


def test_a_key_of_a_section_that_is_null_may_be_set(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(recipes.validate(GOOD).dump())  # as a run has it
    assert "watch: null" in path.read_text()
    assert recipes.load(path, {"watch.source": "photos", "watch.every": 2}).watch.every == 2
    with pytest.raises(UserError, match="`name` holds a value, not keys"):
        recipes.load(path, {"name.x": 1})


def test_every_problem_is_listed_and_the_nearest_key_suggested():
    content = with_change("training.epoch", 3) | {"objective": {"bound": "x"}}
    with pytest.raises(UserError) as caught:
        recipes.validate(content)
    assert "did you mean `epochs`?" in str(caught.value) and "`objective.bound`" in str(caught.value)


def test_a_key_without_its_part_and_times_that_do_not_fit_are_named_at_once():
    with pytest.raises(UserError, match="did you mean `training.epochs`"):
        recipes.validate(with_change("epochs", 3))
    optimizer = {"schedule": "trapezoid", "warmup_epochs": 1, "decay_epochs": 4}
    with pytest.raises(UserError, match=r"never decays.*decay_epochs` \(4\) together are longer.*\(1\): lower"):
        recipes.validate(GOOD | {"optimizer": optimizer, "training": {"epochs": 1}})


@pytest.mark.parametrize(
    "data, encoder, words",
    [
        ({"augment": "dim", "view_side": 16}, {"name": "resnet18"}, "resize crops"),
        ({"augment": "views", "view_side": 16}, {"name": "conv32"}, "every size"),
        ({"augment": "views", "view_side": 32}, {"name": "resnet18"}, "below `encoder.side`"),
        ({"augment": "views", "view_side": 20}, {"name": "resnet18"}, "multiple of 8"),
    ],
)
def test_smaller_views_are_refused_where_they_do_not_fit(data, encoder, words):
    with pytest.raises(UserError, match=words):
        recipes.validate({**GOOD, "data": {**GOOD["data"], **data}, "encoder": encoder})


def test_nothing_to_maximise_and_an_endless_warm_up_are_refused():
    with pytest.raises(UserError, match="nothing is maximised"):
        recipes.validate(with_change("objective.local_weight", 0.0))
    content = with_change("optimizer.warmup_epochs", 5.0) | {"training": {"epochs": 5}}
    with pytest.raises(UserError, match="warmup_epochs"):
        recipes.validate(content)


def test_an_occlusion_that_never_begins_is_refused():
    for objective in ({"occlusion_from": 2}, {"occlusion": 0.5, "occlusion_from": 5}):
        with pytest.raises(UserError, match="occlusion_from"):
            recipes.validate(GOOD | {"objective": objective, "training": {"epochs": 5}})


def test_an_averaged_model_has_one_optimiser():
    for objective, words in (({}, "prior_weight: 0"), ({"name": "deep_co_training"}, "form: cpc")):
        content = GOOD | {"objective": objective, "optimizer": {"ema": 0.99}}
        with pytest.raises(UserError, match=words):
            recipes.validate(content)
    assert recipes.validate(content | {"objective": {"name": "deep_co_training", "form": "cpc"}})
    with pytest.raises(UserError, match="beta"):
        recipes.validate(GOOD | {"objective": {"name": "deep_co_training", "form": "cpc", "beta": 0.5}})


def test_dump_and_load_give_the_same_recipe(tmp_path):
    recipe = recipes.validate(with_change("training.epochs", 7) | {"name": "1e3", "summary": "-2.e-4"})
    path = tmp_path / "toy.yaml"
    path.write_text(recipe.dump())
    assert recipes.load(path) == recipe
    assert recipes.load(path, {"training.epochs": 8}).training.epochs == 8


def test_a_run_is_told_apart_by_what_decides_its_weights_only():
    recipe = recipes.validate(GOOD)
    assert recipes.validate(with_change("summary", "words")).identity() == recipe.identity()
    assert recipes.validate(with_change("training.seed", 1)).identity() != recipe.identity()
    assert recipes.validate(with_change("objective.bound", "jsd")).identity() != recipe.identity()


def test_files_that_are_no_recipes(tmp_path):
    with pytest.raises(UserError, match="no recipe file"):
        recipes.load(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="dim_local_cifar10"):
        recipes.load("dim_local_cifar")
    for text in ("- a\n", "a: [", ""):
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        with pytest.raises(UserError, match="bad.yaml"):
            recipes.load(path)


def test_a_tilde_is_the_home_folder_and_numbers_of_numpy_are_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("name: mine\ndata: {source: cifar10}\n")
    changes = {
        "training.epochs": np.int64(7),
        "optimizer.learning_rate": np.float32(0.5),
        "encoder.fc_size": np.uint8(9),
    }
    recipe = recipes.load("~/mine.yaml", changes)
    assert (recipe.training.epochs, recipe.optimizer.learning_rate, recipe.encoder.fc_size) == (7, 0.5, 9)
    assert recipes.validate(yaml.safe_load(recipe.dump())) == recipe


def test_a_recipe_beside_others_in_its_folder_goes_by_both_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = recipes.names()
    assert {"dim_local_cifar10", "dim_views_cifar10/first", "paper_cifar10/vae"} <= set(names)
    assert [recipes.load(name).name for name in names] and recipes.load("paper_cifar10/vae").objective.name == "vae"
    for wrong in ("vae", "paper_cifar10/vea"):
        with pytest.raises(UserError, match=f"no recipe '{wrong}'. Did you mean paper_cifar10/vae"):
            recipes.load(wrong)
    with pytest.raises(UserError, match="no recipe file"):
        recipes.load("models/paper_cifar10/vae.yaml")  # a path, and not of the folder that this runs in
    (tmp_path / "paper_cifar10").mkdir()
    (tmp_path / "paper_cifar10" / "vae").write_text("name: mine\ndata: {source: cifar10}\n")
    assert recipes.load("paper_cifar10/vae").name == "mine"


def test_the_recipes_of_the_paper_differ_in_the_objective_alone():
    """Encoder, data, optimiser, length, batch and seed are shared; the dear critic has its own length and batch."""
    stems = [name.partition("/")[2] for name in recipes.names() if name.startswith("paper_cifar10/")]
    family = {stem: recipes.load(f"paper_cifar10/{stem}") for stem in stems}
    first, dear = family["dim_local_infonce"], family.pop("dim_local_concat")
    assert len(family) == 12 and first.training.epochs == 15 and first.training.batch_size == 128
    for stem, recipe in [*family.items(), ("dim_local_concat", dear)]:
        assert recipe.name == f"paper_{stem}_cifar10" and recipe.summary and recipe.init_from is None
        for section in ("encoder", "data", "optimizer"):
            assert getattr(recipe, section) == getattr(first, section), (stem, section)
    assert all(recipe.training == first.training for recipe in family.values())
    own = {"epochs": dear.training.epochs, "batch_size": dear.training.batch_size}
    assert first.training.model_copy(update=own) == dear.training
    assert f"{dear.training.epochs} epochs" in dear.summary and f"of {dear.training.batch_size}" in dear.summary
    objectives = [recipe.objective.model_dump_json() for recipe in (*family.values(), dear)]
    assert len(set(objectives)) == len(objectives)


def test_schedules_reach_what_they_say():
    keras = pytest.importorskip("keras")
    content = with_change("optimizer.learning_rate", 0.01)
    content["optimizer"] |= {"warmup_epochs": 1.0, "schedule": "cosine"}
    rate = recipes.validate(content).optimizer.build(steps_per_epoch=10, epochs=5)._learning_rate
    values = [float(keras.ops.convert_to_numpy(rate(step))) for step in (0, 5, 10, 30, 50)]
    assert values == pytest.approx([0.0, 0.005, 0.01, 0.005, 0.0], abs=1e-6)


def test_every_recipe_that_ships_reads_and_what_it_goes_on_from_ships_too():
    found = sorted(zoo.locate("models/x").parent.glob("*/*.yaml"))
    assert len(found) > 5
    for path in found:
        recipe = recipes.load(path)
        if recipe.init_from and recipe.init_from not in zoo.list_models():
            earlier = recipes.ancestors(recipe.init_from)[-1]
            assert recipe.init_from == f"runs/{recipes.load(earlier).name}"
