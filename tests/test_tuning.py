"""A search: its trials, budget and interruptions, what it writes, and that its runs see no labels and no test split."""

from __future__ import annotations

import csv
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from PIL import Image
from support import pages
from support.encoders import TOY

from mizoo import cli, recipes, tuning
from mizoo.commands.changes import parse_changes
from mizoo.data import packed
from mizoo.data.dataset import Dataset
from mizoo.errors import Diverged, UserError, not_installed
from mizoo.evaluate import Protocol, Score
from mizoo.runs.folder import write_log
from mizoo.tuning.probe import ValidationProbe
from mizoo.tuning.space import Space
from mizoo.zoo.loading import read_keras

kt = pytest.importorskip("keras_tuner")
from mizoo.tuning import tuner as at_work  # noqa: E402

RATES = {"optimizer.learning_rate": {"low": 1e-4, "high": 1e-1, "scale": "log"}}
RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 3, 60)
IMAGES = RNG.integers(0, 120, (60, 32, 32, 3), dtype="uint8")
IMAGES[np.arange(60), :, :, LABELS] += 100  # the class is the brightest colour


def pack(folder: Path, images: np.ndarray = IMAGES, labels: np.ndarray = LABELS) -> Path:
    """Pictures as packed data, which keep their order."""
    packed.write({"train": Dataset("coloured", images, labels, ("red", "green", "blue"))}, folder, 1)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return pack(tmp_path_factory.mktemp("data") / "coloured")


def recipe_of(source: Path, keys=None, epochs: int = 9, summary: str = "", budget=None, **search) -> recipes.Recipe:
    """A recipe with a search; `budget` is `search.epochs`."""
    return recipes.validate(
        {
            "name": "toy",
            "summary": summary,
            "encoder": TOY,
            "objective": {"name": "simclr"},
            "data": {"source": str(source), "augment": "views"},
            "training": {"epochs": epochs, "batch_size": 16, "precision": "float32"},
            "search": {"keys": RATES if keys is None else keys, "endpoint": "fc", "epochs": budget, **search},
        }
    )


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "trials.csv", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def quick(monkeypatch):
    """Runs that train nothing: the score is best at a rate of 0.01, and grows with the epochs.

    `calls` has the run folder's name, the rate and the last epoch of each; `interrupt` the call that Ctrl-C ends, and
    `fail` what is raised instead of training.
    """
    known = SimpleNamespace(calls=[], interrupt=None, fail=None, epochs={})

    def pretrain(recipe, run, stop_after):
        """In the place of `mizoo.pretrain.pretrain`."""
        if len(known.calls) == known.interrupt:
            known.interrupt = None
            raise KeyboardInterrupt
        known.calls.append((run.name, recipe.optimizer.learning_rate, stop_after))
        run.mkdir(parents=True, exist_ok=True)
        if known.fail is not None:
            raise known.fail
        known.epochs[run] = stop_after
        write_log(run, [{"epoch": i + 1, "seconds": 2.0 * (i + 1)} for i in range(stop_after)])
        return run

    def score(self, encoder, recipe):
        """In the place of the probe."""
        return 80 - 20 * abs(math.log10(recipe.optimizer.learning_rate) + 2) + known.epochs[encoder]

    monkeypatch.setattr(at_work, "pretrain", pretrain)
    monkeypatch.setattr(at_work.keras.utils, "clear_session", lambda: None)  # which collects garbage
    monkeypatch.setattr(ValidationProbe, "score", score)
    return known


def test_hyperband_stops_most_runs_early_and_goes_on_with_the_best(quick, pictures, tmp_path):
    folder = tuning.tune(recipe_of(pictures), tmp_path / "s")
    trials = rows(folder)
    assert quick.calls[0][2] == 1  # epochs of the recipe, under its schedule: a ninth
    continued = [each for each in trials if each["continues"]]
    assert continued and all(int(each["from_epoch"]) > 0 for each in continued)
    by_number = {each["trial"]: each for each in trials}
    for each in continued:
        earlier = by_number[each["continues"]]
        assert each["from_epoch"] == earlier["to_epoch"]
        assert each["optimizer.learning_rate"] == earlier["optimizer.learning_rate"]
    first_rung = [each for each in trials if each["to_epoch"] == "1" and each["trial"] < continued[0]["trial"]]
    best = max(first_rung, key=lambda each: float(each["probe_knn"]))
    assert continued[0]["continues"] == best["trial"]
    assert set(os.listdir(folder / "trials")) == {each["trial"] for each in trials if not each["continues"]}
    assert sum(int(each["to_epoch"]) - int(each["from_epoch"]) for each in trials) <= 90  # ten whole runs


def test_whole_runs_fill_the_budget(quick, pictures, tmp_path):
    folder = tuning.tune(recipe_of(pictures, algorithm="random", epochs=5, budget=64), tmp_path / "s")
    assert [last for _, _, last in quick.calls] == [5] * 12  # a thirteenth would be the 65th epoch
    rates = [rate for _, rate, _ in quick.calls]
    assert len(set(rates)) == 12 and all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert [float(each["seconds"]) for each in rows(folder)] == [10.0] * 12


def test_bayesian_optimisation_comes_closer_than_its_first_draws(quick, pictures, tmp_path):
    tuning.tune(recipe_of(pictures, algorithm="bayesian", epochs=1, budget=8), tmp_path / "s")
    far = [abs(math.log10(rate) + 2) for _, rate, _ in quick.calls]
    assert len(far) == 8 and min(far[3:]) < min(far[:3]) and min(far) < 0.15


def test_an_interrupted_search_is_the_search_that_was_not_interrupted(quick, pictures, tmp_path):
    whole = tuning.tune(recipe_of(pictures, epochs=6, budget=14), tmp_path / "whole")
    for stopped in (0, 3):  # before the first trial has ended, and later
        quick.calls.clear()
        quick.interrupt = stopped
        folder = tmp_path / f"stopped_{stopped}"
        with pytest.raises(KeyboardInterrupt):
            tuning.tune(recipe_of(pictures, epochs=6, budget=14), folder)
        assert len(rows(folder)) == stopped if stopped else not (folder / "trials.csv").exists()
        assert tuning.tune(recipe_of(pictures, epochs=6, budget=14), folder) == folder
        assert (folder / "trials.csv").read_text() == (whole / "trials.csv").read_text()
        assert (folder / "best.yaml").read_text() == (whole / "best.yaml").read_text()


def test_more_epochs_go_on_where_the_search_ended(quick, pictures, tmp_path, capsys):
    folder = tuning.tune(recipe_of(pictures, algorithm="random", epochs=3), tmp_path / "s")
    before = rows(folder)
    tuning.tune(recipe_of(pictures, algorithm="random", epochs=3, summary="said anew"), folder)
    assert len(quick.calls) == 10 and "Nothing more was tried" in capsys.readouterr().err
    tuning.tune(recipe_of(pictures, algorithm="random", epochs=3, budget=45), folder)
    assert rows(folder)[:10] == before and len(rows(folder)) == 15
    with pytest.raises(UserError, match=r"another search: `search.algorithm` was 'random' and is 'bayesian'"):
        tuning.tune(recipe_of(pictures, algorithm="bayesian", epochs=3), folder)
    with pytest.raises(UserError, match=r"`training.epochs` was 3 and is 4"):
        tuning.tune(recipe_of(pictures, algorithm="random", epochs=4), folder)


def test_a_search_ends_where_every_choice_was_tried(quick, pictures, tmp_path):
    folder = tuning.tune(recipe_of(pictures, {"optimizer.learning_rate": [0.1, 0.01]}, algorithm="random"), tmp_path)
    assert sorted(rate for _, rate, _ in quick.calls) == [0.01, 0.1]
    best = recipes.load(folder / "best.yaml")
    searched = recipe_of(pictures).model_copy(update={"search": None})
    optimizer = searched.optimizer.model_copy(update={"learning_rate": 0.01})
    assert best == searched.model_copy(update={"optimizer": optimizer})
    assert "knn of fc 89.00" in (folder / "best.yaml").read_text().splitlines()[0]
    text = (folder / "trials.md").read_text()
    assert text.index("| 0.01 | 89.00 | 9 |") < text.index("| 0.1 | 69.00 | 9 |")
    assert "12 pictures: the best score has a standard error of 9.03" in text  # sqrt(0.89 * 0.11 / 12)
    with Image.open(folder / "trials.png") as picture:
        assert picture.width > 500


def test_a_budget_without_room_for_one_trial_is_named(quick, pictures, tmp_path):
    recipe = recipe_of(pictures, algorithm="random", budget=8)
    with pytest.raises(UserError, match="`search.epochs` is 8.*9 epochs"):
        tuning.tune(recipe, tmp_path / "s")
    assert not quick.calls


def test_a_run_that_diverges_is_a_row_and_ten_in_a_row_end_the_search(quick, pictures, tmp_path):
    quick.fail = Diverged("The loss of epoch 1 is nan")
    with pytest.raises(UserError, match=r"10 trials in a row failed.*\n.*loss of epoch 1 is nan"):
        tuning.tune(recipe_of(pictures, algorithm="random", epochs=2), tmp_path / "s")
    assert len(quick.calls) == 10
    assert [each["note"] for each in rows(tmp_path / "s")] == ["The loss of epoch 1 is nan"] * 9
    assert not (tmp_path / "s/best.yaml").exists()
    assert "The loss of epoch 1 is nan" in (tmp_path / "s/trials.md").read_text()


def test_combinations_that_are_refused_are_rows_and_cost_no_epochs(quick, pictures, tmp_path):
    keys = {"data.augment": ["none", "views"], "objective": [{"name": "simclr"}, {"name": "vae"}]}
    folder = tuning.tune(recipe_of(pictures, keys, algorithm="random"), tmp_path / "s")
    trials = {(each["data.augment"], each["objective"]): each for each in rows(folder)}
    assert len(trials) == 4 and len(quick.calls) == 3
    refused = trials["none", '{"name": "simclr"}']
    assert "they would be equal" in refused["note"] and refused["to_epoch"] == "0" and not refused["probe_knn"]


def test_another_mistake_ends_the_search_at_once_as_itself(quick, pictures, tmp_path):
    quick.fail = UserError("There is no such teacher.")
    with pytest.raises(UserError, match="^There is no such teacher"):
        tuning.tune(recipe_of(pictures), tmp_path / "s")
    quick.fail = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        tuning.tune(recipe_of(pictures), tmp_path / "t")
    assert len(quick.calls) == 2


def distance(task, options, progress) -> Score:
    """A protocol of one's own, of which less is better."""
    return Score(0.0)


DISTANCE = Protocol("distance", "a distance", "nats", "lower", ("labels", "features"), distance)


def test_of_a_protocol_of_ones_own_the_lowest_value_is_the_best_if_it_says_so(quick, pictures, tmp_path):
    search = {"objective": f"{__name__}:DISTANCE", "algorithm": "random"}
    folder = tuning.tune(recipe_of(pictures, {"optimizer.learning_rate": [0.1, 0.01]}, **search), tmp_path)
    assert yaml.safe_load((folder / "best.yaml").read_text())["optimizer"]["learning_rate"] == 0.1
    assert "standard error" not in (folder / "trials.md").read_text()


def test_a_damaged_state_and_a_file_in_the_place_of_the_folder_are_named(quick, pictures, tmp_path):
    folder = tuning.tune(recipe_of(pictures, epochs=1), tmp_path / "s")
    (folder / "tuner/oracle.json").write_text('{"ongoing')
    with pytest.raises(UserError, match="is damaged"):
        tuning.tune(recipe_of(pictures, epochs=1), folder)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file|cannot be written"):
        tuning.tune(recipe_of(pictures), tmp_path / "file")


def test_a_tilde_is_the_home_folder(quick, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tuning.tune(recipe_of(pictures, epochs=1), "~/s") == tmp_path / "s"
    assert (tmp_path / "s" / "best.yaml").is_file()


@pytest.fixture(scope="module")
def searched(pictures, tmp_path_factory) -> Iterator[Path]:
    """A real search of two whole runs of two epochs, to read only."""
    recipe = recipe_of(pictures, {"optimizer.learning_rate": [0.03, 0.0001]}, algorithm="random", epochs=2)
    tf.config.run_functions_eagerly(True)
    yield tuning.tune(recipe, tmp_path_factory.mktemp("runs") / "searched")
    tf.config.run_functions_eagerly(False)


def encoder(folder: Path, number: str) -> keras.Model:
    return read_keras(folder / "trials" / number / "encoder.keras")[0]


def test_the_score_is_that_of_evaluate_on_the_validation_part(searched):
    from mizoo.evaluate import evaluate

    whole = Dataset("coloured", IMAGES, LABELS, ("red", "green", "blue"))
    for each in rows(searched):
        model = encoder(searched, each["trial"])
        (row,) = evaluate(model, whole, ("knn",), ("fc",), split="validation", progress=False, cache=False)
        assert float(each["probe_knn"]) == pytest.approx(row.value, abs=1e-3)
        run = recipes.load(searched / "trials" / each["trial"] / "recipe.yaml")
        assert run.data.split == "train[:48]"
        assert run.optimizer.learning_rate == float(each["optimizer.learning_rate"])


def test_trials_see_neither_labels_nor_the_pictures_that_are_scored(searched, tmp_path, eager):
    images = IMAGES.copy()
    images[48:] = RNG.integers(0, 256, images[48:].shape)
    other = pack(tmp_path / "coloured", images, RNG.permutation(LABELS))
    keys = {"optimizer.learning_rate": [0.03, 0.0001]}
    folder = tuning.tune(recipe_of(other, keys, algorithm="random", epochs=2), tmp_path / "s")
    for one, two in zip(rows(searched), rows(folder), strict=True):
        pairs = zip(encoder(searched, one["trial"]).get_weights(), encoder(folder, two["trial"]).get_weights())
        assert all(np.array_equal(a, b) for a, b in pairs)
    assert [each["probe_knn"] for each in rows(folder)] != [each["probe_knn"] for each in rows(searched)]


def test_pictures_sorted_by_class_are_refused_as_their_last_part_is_no_sample(tmp_path):
    order = np.argsort(LABELS, kind="stable")
    ordered = pack(tmp_path / "ordered", IMAGES[order], LABELS[order])
    with pytest.raises(UserError, match="sorted by class"):
        ValidationProbe(recipe_of(ordered))


def test_trials_of_an_encoder_of_wide_pictures_are_scored_on_wide_pictures(tmp_path):
    for i in range(20):
        file = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[i]).save(file)
    encoder = {"name": "three_stage", "side": [16, 32], "widths": [4, 8, 8]}
    wide = recipes.validate(recipe_of(tmp_path / "photos").model_dump(exclude_unset=True) | {"encoder": encoder})
    assert ValidationProbe(wide)._pictures.images.shape == (20, 16, 32, 3)


def test_the_test_split_is_not_read(tmp_path, eager):
    for split in ("train", "test"):
        for i in range(20):
            file = tmp_path / "photos" / split / "ab"[i % 2] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(IMAGES[i]).save(file)
    opened = []
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
    recipe = recipe_of(tmp_path / "photos", algorithm="random", epochs=1, budget=1)
    tuning.tune(recipe, tmp_path / "s")
    photos = [path for path in opened if str(tmp_path / "photos") in path]
    assert len(rows(tmp_path / "s")) == 1 and photos
    assert not [path for path in photos if "/test/" in path]


def test_a_hypermodel_in_a_tuner_of_keras_tuner_trains_as_a_trial_does(searched, pictures, tmp_path, eager):
    recipe = recipe_of(pictures, {"optimizer.learning_rate": [0.03, 0.0001]}, epochs=2)
    space = tuning.hypermodel(recipe)
    tuner = kt.RandomSearch(space, space.objective, max_trials=1, directory=tmp_path, project_name="own", seed=1)
    tuner.search(verbose=0)
    (trial,) = tuner.oracle.get_best_trials()
    found = space.recipe_of(trial.hyperparameters)
    (same,) = [
        each for each in rows(searched) if float(each["optimizer.learning_rate"]) == found.optimizer.learning_rate
    ]
    assert trial.score == pytest.approx(float(same["probe_knn"]), abs=1e-3)
    model = tuner.get_best_models()[0]
    for one, two in zip(model.encoder.get_weights(), encoder(searched, same["trial"]).get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_a_hypermodel_takes_one_objective_and_refused_values_are_failed_trials(pictures):
    content = recipe_of(pictures).model_dump(mode="json", exclude_unset=True)
    content["objective"] = {"name": "deep_infomax", "occlusion": 0.5, "occlusion_from": 3}
    space = tuning.hypermodel(recipes.validate(content))
    with pytest.raises(UserError, match="occlusion_from"):
        space.build(kt.HyperParameters())
    keys = {"data.augment": ["none", "views"], "objective": [{"name": "simclr"}, {"name": "vae"}]}
    with pytest.raises(kt.errors.FailedTrialError, match="they would be equal"):
        tuning.hypermodel(recipe_of(pictures, keys)).build(kt.HyperParameters())
    with pytest.raises(UserError, match="`epochs` is a whole number, 1 or more"):
        space.fit(kt.HyperParameters(), None, epochs=0)


def test_the_command_prints_the_table_and_the_best_recipe(quick, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("toy.yaml").write_text(recipe_of(pictures, {"optimizer.learning_rate": [0.1, 0.01]}).dump())
    monkeypatch.setattr(sys, "argv", ["mizoo", "tune", "toy.yaml", "--set", "search.algorithm=random"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert ended.value.code in (0, None), printed.err
    assert "| 0.01 | 89.00 | 9 |" in printed.out and printed.out.splitlines()[-1] == "runs/toy_tuning/best.yaml"
    assert "trial 0001  optimizer.learning_rate: 0." in printed.err and "9 of 90 epochs spent, best" in printed.err


def test_what_is_not_installed_is_named_with_its_extra(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_tuner", None)
    monkeypatch.delitem(sys.modules, "mizoo.tuning.tuner")
    with pytest.raises(ModuleNotFoundError) as missing:
        tuning.tune(recipe_of(pictures), tmp_path / "s")
    assert "[tune]" in str(not_installed(missing.value))
    assert not (tmp_path / "s").exists()


def test_the_page_runs_as_printed(pictures, tmp_path, monkeypatch, eager):
    text = (Path(__file__).resolve().parents[1] / "docs/tuning.md").read_text(encoding="utf-8")
    (printed,) = re.findall(r"```yaml\n(name: mine\n.*?)```", text, re.DOTALL)
    (code,) = pages.blocks("docs/tuning.md")
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(printed)
    recipe = recipes.load("mine.yaml")
    assert {len(Space(recipe)._examples(key)) for key in recipe.search.keys} == {2, 3}
    name, search = re.search(r"mizoo tune (\w+) --set '(.*?)'", text).groups()
    assert Space(recipes.load(name, parse_changes([search]))).keys == {"optimizer.learning_rate": (0.001, 0.003)}
    settings = {"batch_size": 16, "epochs": 1, "precision": "float32"}
    keys = {"objective.temperature": [0.2, 0.5]}
    small = {"encoder": TOY, "training": settings, "search.keys": keys, "data.source": str(pictures)}
    Path("mine.yaml").write_text(recipes.load("mine.yaml", small).dump())
    names = pages.run(code, "docs/tuning.md", {}, ("max_trials=20", "max_trials=2"))
    assert Path("runs/best/encoder.keras").is_file()
    scores = {
        each.hyperparameters["objective.temperature"]: each.score for each in names["tuner"].oracle.trials.values()
    }
    assert set(scores) == {0.2, 0.5} and scores[names["best"].objective.temperature] == max(scores.values())


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_to_the_same_scores(pictures, tmp_path):
    (tmp_path / "toy.yaml").write_text(recipe_of(pictures, epochs=6).dump())
    command = [sys.executable, "-m", "mizoo.cli", "tune", str(tmp_path / "toy.yaml"), "--set", "search.epochs=14"]

    def kill_at(trial: str, log: int) -> None:
        """Start the search, and kill it once a trial has logged an epoch that it does not end with."""
        process = subprocess.Popen([*command, "--out", str(tmp_path / "killed")], stderr=subprocess.DEVNULL)
        logged = tmp_path / "killed/trials" / trial / "log.csv"
        for _ in range(3000):
            if process.poll() is not None or logged.exists() and len(logged.read_text().splitlines()) > log:
                break
            time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()

    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    whole = rows(tmp_path / "whole")
    longest = max(whole, key=lambda each: int(each["to_epoch"]) - int(each["from_epoch"]))
    kill_at(longest["continues"] or longest["trial"], int(longest["from_epoch"]) + 1)
    subprocess.run([*command, "--out", str(tmp_path / "killed")], check=True, capture_output=True)
    for one, two in zip(whole, rows(tmp_path / "killed"), strict=True):
        assert {**one, "seconds": ""} == {**two, "seconds": ""}


WITHOUT_TENSORFLOW = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
from mizoo.cli import main
main()
"""


@pytest.mark.slow
def test_a_search_runs_on_jax_without_tensorflow(pictures, tmp_path):
    rates = {"optimizer.learning_rate": [3e-4, 1e-3, 3e-3]}
    (tmp_path / "toy.yaml").write_text(recipe_of(pictures, rates, epochs=1, budget=3, algorithm="random").dump())
    options = ["tune", str(tmp_path / "toy.yaml"), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, *options]
    done = subprocess.run(command, env=os.environ | {"KERAS_BACKEND": "jax"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    trials = rows(tmp_path / "out")
    assert sorted(float(each["optimizer.learning_rate"]) for each in trials) == rates["optimizer.learning_rate"]
    best = max(trials, key=lambda each: float(each["probe_knn"]))
    chosen = recipes.load(tmp_path / "out/best.yaml").optimizer.learning_rate
    assert chosen == float(best["optimizer.learning_rate"]) and float(best["probe_knn"]) > 50  # chance is 33


def test_values_drawn_by_keras_tuner_go_into_recipes(pictures):
    keys = {**RATES, "encoder.fc_size": {"low": 8, "high": 16}, "objective": [{"name": "simclr"}, {"name": "vae"}]}
    recipe = recipe_of(pictures, keys)
    space = Space(recipe)
    oracle = at_work.make_oracle(recipe, space, ValidationProbe(recipe))
    for i in range(5):
        drawn = space.recipe(space.decode(oracle.populate_space(str(i))["values"]))
        assert 8 <= drawn.encoder.fc_size <= 16 and drawn.objective.name in ("simclr", "vae")
