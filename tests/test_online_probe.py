"""A probe is watched while a run trains, changes nothing of it, and is logged everywhere, also for TensorBoard."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from support.encoders import TOY, toy_encoder

from mizoo import recipes
from mizoo.callbacks import OnlineProbe, TensorBoard
from mizoo.data.dataset import Dataset
from mizoo.errors import UserError
from mizoo.evaluate.protocols.knn import fit_score
from mizoo.objectives import SimCLR
from mizoo.pretrain import pretrain
from mizoo.publish import public_recipe
from mizoo.recipes.training import Watch
from mizoo.runs.curves import plot
from mizoo.runs.folder import read_log


def coloured(count: int = 60, classes: int = 3) -> Dataset:
    """Pictures whose class is the brightest colour, under noise."""
    rng = np.random.default_rng(5)
    labels = np.sort(rng.integers(0, classes, count))
    images = rng.integers(0, 120, (count, 32, 32, 3), dtype="uint8")
    images[np.arange(count), :, :, labels] += 100
    return Dataset("coloured", images, labels.astype("int64"), ("red", "green", "blue")[:classes])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The same pictures in a folder of class folders."""
    root, data = tmp_path_factory.mktemp("coloured"), coloured()
    for i, (image, label) in enumerate(zip(data.images, data.labels)):
        file = root / data.classes[label] / f"{i:02d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(file)
    return root


@pytest.fixture(scope="module")
def recipe(folder):
    return recipes.validate(
        {
            "name": "toy",
            "encoder": TOY,
            "objective": {"name": "simclr"},
            "data": {"source": str(folder), "augment": "views"},
            "training": {"epochs": 3, "batch_size": 16, "precision": "float32"},
            "watch": {"source": str(folder), "every": 2, "endpoint": "fc"},
        }
    )


@pytest.fixture(scope="module")
def watched(recipe, tmp_path_factory) -> Path:
    """A run with the probe and TensorBoard that was interrupted once, to read only."""
    run = tmp_path_factory.mktemp("runs") / "watched"
    pretrain(recipe, run, stop_after=2, tensorboard=True, jit_compile=False)
    return pretrain(recipe, run, tensorboard=True, jit_compile=False)


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard reads: tag -> step -> value, each step once."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: dict[str, dict[int, float]] = {}
    for file in folder.glob("events.out.tfevents.*"):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                steps = found.setdefault(value.tag, {})
                assert event.step not in steps
                steps[event.step] = float(value.tensor.float_val[0])
    return found


def test_the_accuracy_is_that_of_the_protocol_on_pictures_of_which_none_is_in_bank_and_queries():
    data, encoder = coloured(), toy_encoder()
    probe = OnlineProbe(data, endpoint="fc", bank=40, queries=9)
    value = probe.measure(encoder, 1)["probe_knn"]
    bank, queries = probe._drawn
    assert (len(bank), len(queries)) == (40, 9)
    both = np.concatenate([bank.images, queries.images])
    assert len(np.unique(both.reshape(len(both), -1), axis=0)) == 49
    for labels in (bank.labels, queries.labels):  # sorted data, and yet each class has its share
        np.testing.assert_allclose(np.bincount(labels) / len(labels), np.bincount(data.labels) / 60, atol=0.12)
    features = [encoder.predict(each.images, verbose=0)["fc"] for each in (bank, queries)]
    expected = fit_score(features[0], bank.labels, features[1], queries.labels, 3)[0]
    assert value == pytest.approx(float(expected[0]))
    assert OnlineProbe(data, every=3).measure(encoder, 2) == {}


def test_labels_that_the_pictures_do_not_show_score_at_chance():
    data = coloured(900)
    shuffled = Dataset("noise", data.images, np.random.default_rng(1).permutation(data.labels), data.classes)
    means = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D()])  # one output
    assert OnlineProbe(data).measure(means, 1)["probe_knn"] > 99
    assert 22 < OnlineProbe(shuffled).measure(means, 1)["probe_knn"] < 45


def test_a_run_logs_the_probe_every_second_epoch_and_is_otherwise_the_run_without(watched, recipe, tmp_path):
    lines = read_log(watched)
    assert ["probe_knn" in line for line in lines] == [False, True, False]
    encoder = keras.saving.load_model(watched / "encoder.keras", compile=False)
    plain = pretrain(recipe.model_copy(update={"watch": None}), tmp_path / "plain", jit_compile=False)
    other = keras.saving.load_model(plain / "encoder.keras", compile=False)
    for one, two in zip(encoder.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    watch = Watch(source=recipe.watch.source, every=1)
    assert pretrain(recipe.model_copy(update={"watch": watch}), watched) == watched  # the same run to its checkpoint


def test_tensorboard_shows_every_column_of_the_log_once_an_epoch(watched):
    lines, shown = read_log(watched), scalars(watched / "tensorboard")
    by_column = {tag.partition("/")[2]: steps for tag, steps in shown.items()}
    assert set(by_column) == {key for line in lines for key in line} - {"epoch"}
    assert {"nats/global_mi", "nats/global_mi_ceiling", "embedding/spread", "probe/probe_knn"} <= set(shown)
    for line in lines:
        for key in set(line) - {"epoch"}:
            assert by_column[key][int(line["epoch"])] == pytest.approx(line[key], rel=1e-4)


def test_the_curves_have_a_panel_for_the_probe_with_a_point_where_it_was_measured_once(watched, tmp_path):
    text = plot(watched, tmp_path / "curves.svg").read_text()
    assert "<!-- accuracy of the probe, % -->" in text and "<!-- knn -->" in text


def test_the_line_of_the_epoch_has_it(recipe, tmp_path, capfd):
    short = recipes.validate(recipe.model_dump(mode="json") | {"training": {"epochs": 1, "batch_size": 16}})
    short = short.model_copy(update={"watch": Watch(source=recipe.watch.source)})
    run = pretrain(short, tmp_path / "run", jit_compile=False)
    said = next(line for line in capfd.readouterr().err.splitlines() if line.startswith("epoch 1/1"))
    assert f"knn {read_log(run)[0]['probe_knn']:.1f} %" in said


def test_any_fit_can_stop_by_it(eager):
    data = coloured()
    model = SimCLR(toy_encoder(), augment=keras.layers.RandomFlip("horizontal"))
    model.compile("sgd")
    stop = keras.callbacks.EarlyStopping("probe_knn", mode="max", patience=1, min_delta=101)  # never that much better
    history = model.fit(data.images, batch_size=20, epochs=5, verbose=0, callbacks=[OnlineProbe(data), stop])
    assert len(history.epoch) == 2 and len(history.history["probe_knn"]) == 2


ON_JAX = """
import sys
from mizoo import recipes
from mizoo.pretrain import pretrain
pretrain(recipes.load(sys.argv[1]), sys.argv[2], scan=sys.argv[3] == "scan", tensorboard=True)
"""


@pytest.mark.parametrize("way", ["fit", pytest.param("scan", marks=pytest.mark.slow)])
def test_jax_logs_the_same_things(recipe, watched, tmp_path, way):
    (tmp_path / "toy.yaml").write_text(recipe.dump())
    environment = {**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    command = [sys.executable, "-c", ON_JAX, str(tmp_path / "toy.yaml"), str(tmp_path / "run"), way]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = read_log(tmp_path / "run")
    assert {key for line in lines for key in line} == {key for line in read_log(watched) for key in line}
    assert 0 <= lines[1]["probe_knn"] <= 100
    shown = scalars(tmp_path / "run/tensorboard")
    assert shown["probe/probe_knn"] == {2: pytest.approx(lines[1]["probe_knn"], rel=1e-4)}


def one_class() -> Dataset:
    data = coloured(20)
    return Dataset("one", data.images, np.zeros(20, "int64"), ("a",))


def one_of_a_class() -> Dataset:
    data = coloured(20, 2)
    return Dataset("rare", data.images, np.r_[data.labels[:19], 2], ("a", "b", "c"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (Dataset("bare", coloured().images, None, ()), "bare has none"),
        (one_class(), "all of one"),
        (one_of_a_class(), "one of c"),
        (Dataset("few", coloured(5, 2).images, np.array([0, 0, 1, 1, 2, 2])[:6][[0, 1, 2, 3, 3]], ("a", "b")), None),
    ],
)
def test_data_that_no_probe_can_be_drawn_from_are_named(data, words):
    if words is None:
        assert set(OnlineProbe(data).measure(toy_encoder(), 1)) == {"probe_knn"}
        return
    with pytest.raises(UserError, match=words):
        OnlineProbe(data).load()


def test_a_variant_is_watched_as_evaluate_measures_it():
    (measured,) = OnlineProbe(coloured(), protocol="retrieval:p1").measure(toy_encoder(), 1).values()
    assert 0 <= measured <= 100
    assert OnlineProbe(coloured(), protocol="labels:50").measure(toy_encoder(), 1).keys() == {"probe_labels"}


def test_settings_that_are_no_probe_are_refused_by_name(recipe, tmp_path):
    with pytest.raises(UserError, match="takes none"):
        OnlineProbe(coloured(), protocol="uniformity")
    with pytest.raises(UserError, match="trains the encoder"):
        OnlineProbe(coloured(), protocol="finetune")
    with pytest.raises(UserError, match="retrieval:p1, retrieval:p10"):
        OnlineProbe(coloured(), protocol="retrieval")
    with pytest.raises(UserError, match="every=0"):
        OnlineProbe(coloured(), every=0)
    with pytest.raises(UserError, match="no endpoint 'fd'"):
        OnlineProbe(coloured(), endpoint="fd").measure(toy_encoder(), 1)
    content = recipe.model_dump(mode="json")
    for changes, words in (
        ({"every": 0}, "`watch.every`"),
        ({"protocol": "mine"}, "`mine` takes none"),
        ({"protocol": "labels"}, "One variant of `labels`"),
        ({"endpoint": "context"}, "no endpoint context"),
        ({"evry": 2}, "did you mean `every`"),
    ):
        with pytest.raises(UserError, match=words):
            recipes.validate(content | {"watch": {"source": "x", **changes}})
    with pytest.raises(UserError, match="takes sounds"):
        recipes.validate(
            {
                "name": "s",
                "encoder": {"name": "waveform"},
                "objective": {"name": "cpc"},
                "data": {"source": "spoken_digit", "augment": "none", "window": 4000},
                "watch": {"source": "x"},
            }
        )


def test_a_published_recipe_watches_no_folder_of_this_machine(recipe):
    assert public_recipe(recipe, "shapes").watch is None
    named = recipe.model_copy(update={"watch": Watch(source="cifar10")})
    assert public_recipe(named, "shapes").watch == Watch(source="cifar10")


def test_tensorboard_that_is_not_installed_is_said_before_anything_is_trained(recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(UserError, match="tensorboard"):
        TensorBoard(tmp_path)
    with pytest.raises(UserError, match=r"\[tensorboard\]"):
        pretrain(recipe, tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run" / "log.csv").exists()
