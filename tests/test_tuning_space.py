"""What a recipe may search over and by, as it is refused by name; and which pictures a search trains on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from support.encoders import TOY

from mizoo import recipes
from mizoo.data import packed
from mizoo.data.dataset import Dataset
from mizoo.errors import UserError
from mizoo.publish import public_recipe
from mizoo.tuning.probe import ValidationProbe
from mizoo.tuning.space import Space

RATES = {"optimizer.learning_rate": {"low": 1e-3, "high": 1e-1, "scale": "log"}}
SOUNDS = {
    "encoder": {"name": "waveform", "sampling_rate": 8000},
    "objective": {"name": "cpc"},
    "data": {"source": "spoken_digit", "augment": "none", "window": 4000},
}


def searched(keys=None, **changes) -> recipes.Recipe:
    """A recipe with a search over `keys`; further sections by name."""
    search = {"keys": RATES if keys is None else keys, **changes.pop("search", {})}
    content = {
        "name": "toy",
        "encoder": TOY,
        "objective": {"name": "simclr"},
        "data": {"source": "photos/", "augment": "views"},
        "training": {"epochs": 9, "batch_size": 16},
    }
    return recipes.validate({**content, **changes, "search": search})


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"objective": "global_mi"}, r"`search.objective`.*common scale.*'global_mi'"),
        ({"objective": "loss"}, "common scale"),
        ({"objective": "mine"}, "knn, svm.*common scale"),  # nats, and no labels
        ({"objective": "finetune"}, "probe of frozen features"),
        ({"objective": "retrieval"}, "labels:10"),  # several values
        ({"algorithm": "grid"}, "'hyperband', 'bayesian' or 'random'"),
        ({"epochs": 0}, "`search.epochs`"),
        ({"endpoint": "context"}, "no endpoint context"),
        ({"epoch": 3}, "did you mean `epochs`"),
        ({"keys": {}}, "`search.keys`"),
        ({"keys": [1]}, "a mapping"),
        ({"keys": {"training.epochs": [3, 9]}}, "`training.epochs` is not searched over"),
        ({"keys": {"data.split": ["train", "test"]}}, "`data.split` is not searched over"),
        ({"keys": {"watch.every": [1, 2]}}, "`watch.every` is not searched over"),
        ({"keys": {"objective": [1], "objective.name": [2]}}, "`objective` and `objective.name` set the same"),
        ({"keys": {"optimizer.ema": 0.9}}, "list of choices, or a range"),
        ({"keys": {"optimizer.ema": [0.9, 0.9]}}, "choices that differ"),
        ({"keys": {"optimizer.ema": {"low": 0.9}}}, "`optimizer.ema.high`"),
        ({"keys": {"optimizer.ema": {"low": 0.9, "high": 0.1}}}, "a number below `high`"),
        ({"keys": {"optimizer.ema": {"low": 0, "high": 0.9, "scale": "log"}}}, "above 0"),
        ({"keys": {"optimizer.ema": {"low": 0, "high": 0.9, "step": 2}}}, "`step` is for"),
        ({"keys": {"optimizer.ema": {"low": 0, "high": 0.9, "sclae": "log"}}}, "low, high, scale, step"),
    ],
)
def test_what_is_no_search_is_refused_by_name(search, words):
    with pytest.raises(UserError, match=f"(?s){words}"):
        searched(search=search)


def test_the_supervised_baseline_which_has_seen_the_labels_is_not_searched():
    with pytest.raises(UserError, match="trains with labels"):
        searched(objective={"name": "supervised"})


@pytest.mark.parametrize("objective", ["knn", "linear", "svm", "labels:10", "retrieval:map"])
def test_probes_with_one_value_are_objectives(objective):
    protocol = searched(search={"objective": objective}).search.protocol
    assert (protocol.name, *filter(None, protocol.variants)) == tuple(objective.split(":"))


def test_a_search_survives_writing_and_decides_nothing_of_the_run():
    recipe = searched({**RATES, "objective.temperature": [0.1, 0.5]})
    assert recipes.validate(yaml.safe_load(recipe.dump())) == recipe
    assert recipe.identity() == recipe.model_copy(update={"search": None}).identity()


def test_a_published_recipe_searches_no_folder_of_this_machine():
    there = searched(search={"source": "cifar10"})
    assert public_recipe(there, "shapes").search == there.search
    assert public_recipe(searched(search={"source": "photos/"}), "shapes").search is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"optimizer.lerning_rate": [0.1]}, "`optimizer.lerning_rate` is unknown; did you mean `learning_rate`"),
        ({"lerning_rate": [0.1]}, "`lerning_rate` is unknown"),
        ({"objective.bound": ["jsd"]}, "`objective.bound` is unknown"),  # of another objective
        ({"data.augment.flip": ["x"]}, "no key of a recipe"),
        ({"objective.temperature": [0.1, -1]}, r"objective.temperature: -1(.|\n)*greater than 0"),
        ({"optimizer.beta_1": {"low": 0.5, "high": 1.5}}, r"optimizer.beta_1: 1.5(.|\n)*less than 1"),
    ],
)
def test_keys_and_values_that_no_recipe_takes_are_named(keys, words):
    with pytest.raises(UserError, match=words):
        Space(searched(keys))


def test_a_recipe_without_a_search_is_told_what_one_looks_like():
    with pytest.raises(UserError, match="no section `search`.*low"):
        Space(searched().model_copy(update={"search": None}))


def test_values_that_only_others_make_possible_are_allowed_and_their_combinations_refused_one_by_one():
    space = Space(searched({"data.augment": ["none", "views"], "objective": [{"name": "simclr"}, {"name": "vae"}]}))
    assert space.recipe({"data.augment": "none", "objective": {"name": "vae"}}).objective.name == "vae"
    with pytest.raises(UserError, match=r"data.augment: none(.|\n)*they would be equal"):
        space.recipe({"data.augment": "none", "objective": {"name": "simclr"}})


def test_ranges_are_whole_where_the_key_takes_no_others():
    kt = pytest.importorskip("keras_tuner")
    keys = {
        "encoder.fc_size": {"low": 8, "high": 64},
        "optimizer.weight_decay": {"low": 0, "high": 1},
        "optimizer.warmup_epochs": {"low": 0, "high": 4, "step": 2},
        "optimizer.learning_rate": {"low": 0.0012344, "high": 0.1, "scale": "log"},
    }
    space, parameters = Space(searched(keys)), kt.HyperParameters()
    space.declare(parameters)
    space.declare(parameters)  # what is there stays
    kinds = [type(each).__name__ for each in parameters.space]
    assert kinds == ["Int", "Float", "Int", "Float"]
    drawn = dict(zip(keys, (17, 0.123456, 2, 0.0012344)))
    decoded = space.decode(drawn)
    assert decoded == {**drawn, "optimizer.weight_decay": 0.1235}  # four digits, inside the range
    assert space.recipe(decoded).encoder.fc_size == 17


def test_choices_of_any_kind_come_back_as_they_were():
    kt = pytest.importorskip("keras_tuner")
    keys = {
        "encoder": [TOY, {"name": "resnet18", "width": 0.25}],
        "data.view_side": [None, 16],
        "optimizer.ema": [0, 0.9],
        "objective.temperature": [0.1, 0.5],
        "objective.views": [2, 4],
    }
    space, parameters = Space(searched(keys)), kt.HyperParameters()
    space.declare(parameters)
    for each in parameters.space:
        decoded = [space.decode({**parameters.values, each.name: value})[each.name] for value in each.values]
        assert decoded == list(searched(keys).search.keys[each.name])
    assert [each.ordered for each in parameters.space] == [False, False, False, True, True]
    trial = space.recipe({"encoder": keys["encoder"][1], "data.view_side": 16})
    assert trial.encoder.width == 0.25 and trial.data.view_side == 16 and trial.search is None
    assert space.content({"optimizer.ema": 0.9})["encoder"] == {
        "name": "conv32",
        **yaml.safe_load(yaml.dump(TOY_LISTS)),
    }


TOY_LISTS = {**TOY, "widths": list(TOY["widths"])}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """100 pictures of two classes in a packed folder."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (100, 32, 32, 3), dtype="uint8"), np.arange(100) % 2
    out = tmp_path_factory.mktemp("data") / "packed"
    packed.write({"train": Dataset("both", images, labels, ("a", "b"))}, out, 1)
    return out


@pytest.mark.parametrize(
    ("split", "trained"),
    [
        ("train", "train[:80]"),
        ("train[:-10]", "train[:80]"),  # ten of them are scored
        ("train[20:60]", "train[20:60]"),
        ("train[20:]", "train[20:80]"),
    ],
)
def test_no_trial_trains_on_what_is_scored(pictures, split, trained):
    recipe = searched(data={"source": str(pictures), "augment": "views", "split": split})
    probe = ValidationProbe(recipe)
    assert (probe.scored, probe.split) == (20, trained)
    trial = probe.trial(recipe, "toy_0001")
    assert (trial.data.split, trial.name, trial.search, trial.watch) == (trained, "toy_0001", None, None)


def test_splits_that_leave_nothing_or_are_the_test_split_are_refused(pictures):
    for split, words in (("train[-20:]", "leaves nothing else"), ("test", "does not read the test split")):
        with pytest.raises(UserError, match=words):
            ValidationProbe(searched(data={"source": str(pictures), "augment": "views", "split": split}))


def test_the_same_folder_by_another_name_is_the_same_and_another_source_is_not(pictures, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(pictures)
    same = searched(data={"source": str(link), "augment": "views"}, search={"source": str(pictures)})
    assert ValidationProbe(same).split == "train[:80]"
    other = searched(data={"source": "elsewhere/", "augment": "views"}, search={"source": str(pictures)})
    assert ValidationProbe(other).split == "train"


def test_pictures_without_labels_need_a_source_of_labelled_ones(tmp_path):
    images = np.zeros((10, 32, 32, 3), "uint8")
    packed.write({"train": Dataset("bare", images)}, tmp_path / "bare", 1)
    with pytest.raises(UserError, match="`search.source` names labelled pictures"):
        ValidationProbe(searched(data={"source": str(tmp_path / "bare"), "augment": "views"}))


def test_of_the_spoken_digits_takes_10_to_49_are_trained_on():
    def of(split: str) -> recipes.Recipe:
        return searched(**{**SOUNDS, "data": {**SOUNDS["data"], "split": split}})

    assert ValidationProbe(of("train")).split == "fit"
    assert ValidationProbe(of("fit")).split == "fit"
    with pytest.raises(UserError, match="leaves nothing else"):
        ValidationProbe(of("validation"))
    with pytest.raises(UserError, match="test split"):
        ValidationProbe(of("test"))
