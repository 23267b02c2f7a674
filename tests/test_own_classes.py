"""An objective, an encoder and a protocol of the user's own, in a module outside the package, from recipe to table."""

from __future__ import annotations

import importlib
import sys

import keras
import numpy as np
import pytest

from mizoo import recipes, report
from mizoo.data import Dataset
from mizoo.errors import UserError
from mizoo.evaluate import evaluate
from mizoo.pretrain import pretrain
from mizoo.runs.folder import read_log

MODULE = """
import keras
from keras import layers, ops

from mizoo import bounds
from mizoo.evaluate import Protocol
from mizoo.evaluate.protocols import Score
from mizoo.objectives import Objective


@keras.saving.register_keras_serializable("test_own_classes")
class Siamese(Objective):
    term_names = ("pair_mi",)
    settings = ("sharpness",)

    def __init__(self, encoder, sharpness=1.0, augment=None, seed=0, name=None):
        super().__init__(encoder, augment=augment, views=2, seed=seed, name=name)
        self.sharpness = sharpness
        self.track_terms()

    def ceilings(self, batch_size):
        return {"pair_mi": bounds.infonce_ceiling(batch_size)}

    def compute_terms(self, images, noise):
        one, other = ops.split(self.encoder(images, training=True)["global"], 2)
        scores = self.sharpness * ops.matmul(one, ops.transpose(self.gather(other)))
        value = bounds.infonce(scores[:, None], self.positives(ops.shape(one)[0]))
        return -value, {"pair_mi": value}


@keras.saving.register_keras_serializable("test_own_classes")
class Moved(Siamese):
    def __init__(self, encoder, **settings):
        super().__init__(encoder, **{**settings, "augment": layers.RandomTranslation(0.3, 0.3)})


def flat_encoder(size=5, dropout=0.0, endpoint="global"):
    images = keras.Input((16, 16, 3), name="images")
    x = layers.Dropout(dropout)(layers.Flatten()(layers.Rescaling(1 / 255)(images)))
    return keras.Model(images, {endpoint: layers.Dense(size, dtype="float32")(x)}, name="flat_encoder")


def no_encoder():
    return "a string"


def run(task, options, progress):
    return Score(float(task.test_x.std()), {"rows": len(task.test_x)})


my_protocol = Protocol("width", "`width`: standard deviation", "feature units", "higher", ("features",), run)
no_protocol = "a string"
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    """The name of a module on the path that mizoo has never heard of."""
    name = "somebodys_own_module"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def pictures(tmp_path, rng) -> np.ndarray:
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    images = rng.integers(0, 256, (24, 16, 16, 3), dtype="uint8")
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "pictures" / f"{i:02d}.png")
    return images


def test_they_train_resume_are_measured_and_printed_under_their_own_unit(module, pictures, tmp_path):
    recipe = recipes.validate(
        {
            "name": "own",
            "encoder": {"name": f"{module}:flat_encoder", "size": 4},
            "objective": {"name": f"{module}:Siamese", "views": 2, "sharpness": 0.5},
            "data": {"source": str(tmp_path / "pictures"), "augment": "views"},
            "training": {"epochs": 2, "batch_size": 8, "precision": "float32"},
        }
    )
    (tmp_path / "own.yaml").write_text(recipe.dump())
    run = pretrain(recipes.load(tmp_path / "own.yaml"), tmp_path / "run", stop_after=1)
    first = keras.saving.load_model(run / "encoder.keras").get_weights()
    pretrain(recipe, run)
    log = read_log(run)
    assert [line["epoch"] for line in log] == [1, 2]
    assert all(line["pair_mi"] <= line["pair_mi_ceiling"] == pytest.approx(np.log(8), abs=1e-4) for line in log)
    encoder = keras.saving.load_model(run / "encoder.keras")
    assert encoder.output["global"].shape == (None, 4)
    assert 0 < np.abs(encoder.get_weights()[0] - first[0]).max() < 0.01  # three steps of 0.001 from there

    (row,) = evaluate(run, Dataset("own", pictures), protocols=(f"{module}:my_protocol",), progress=False)
    features = encoder.predict(pictures.astype("float32"), verbose=0)["global"]
    assert row.value == pytest.approx(features.std(), abs=2e-3)
    assert (row.protocol, row.endpoint, row.settings["rows"]) == ("width", "global", 24)
    assert (row.settings["unit"], row.settings["better"]) == ("feature units", "higher")
    text = report.table([row])
    assert text.startswith("Feature units on own") and "`width`: standard deviation" in text and "Top-1" not in text
    assert f"{row.value:.2f}" in text


def recipe_of(tmp_path, module, objective="Siamese", **encoder):
    return recipes.validate(
        {
            "name": "own",
            "encoder": {"name": f"{module}:flat_encoder", **encoder},
            "objective": {"name": f"{module}:{objective}", "views": 2},
            "data": {"source": str(tmp_path / "pictures"), "augment": "views"},
            "training": {"epochs": 2, "batch_size": 8, "precision": "float32"},
        }
    )


@pytest.mark.parametrize("draws", [{"dropout": 0.5}, {"objective": "Moved"}], ids=["dropout", "layer as augment"])
def test_a_run_whose_layers_draw_by_themselves_resumes_as_if_unbroken(module, pictures, tmp_path, eager, draws):
    recipe = recipe_of(tmp_path, module, **draws)
    pretrain(recipe, tmp_path / "parts", stop_after=1)
    runs = [pretrain(recipe, tmp_path / name) for name in ("parts", "whole")]
    one, two = (keras.saving.load_model(run / "encoder.keras").get_weights() for run in runs)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    logs = [read_log(run) for run in runs]
    assert [line["loss"] for line in logs[0]] == pytest.approx([line["loss"] for line in logs[1]], abs=1e-5)


def test_an_encoder_that_a_run_cannot_measure_is_refused_before_it_trains(module, pictures, tmp_path):
    with pytest.raises(UserError, match=f"{module}:flat_encoder returns.*'global'.*Received: the endpoints fc"):
        pretrain(recipe_of(tmp_path, module, endpoint="fc"), tmp_path / "run")
    with pytest.raises(UserError, match="no_encoder returns.*Received: 'a string'"):
        recipes.validate(
            {"name": "own", "encoder": {"name": f"{module}:no_encoder"}, "data": {"source": "x"}}
        ).encoder.build()


@pytest.mark.parametrize(
    "path, words",
    [
        ("nowhere_at_all:Thing", "no module 'nowhere_at_all'"),
        ("{module}:Nothing", "has no 'Nothing'"),
        ("{module}:", "package.module:object"),
    ],
)
def test_a_wrong_import_path_is_named_wherever_it_stands(module, pictures, tmp_path, path, words):
    path = path.format(module=module)
    content = {"name": "own", "data": {"source": str(tmp_path / "pictures"), "augment": "views"}}
    content["training"] = {"epochs": 1, "batch_size": 8}
    for part in ("encoder", "objective"):
        with pytest.raises(UserError, match=words) as caught:
            pretrain(recipes.validate({**content, part: {"name": path}}), tmp_path / "run")
        assert path in str(caught.value)
    with pytest.raises(UserError, match=words) as caught:
        evaluate(lambda images: {}, pictures, protocols=(path,), progress=False)
    assert path in str(caught.value)


def test_what_is_no_protocol_is_named(module, pictures):
    with pytest.raises(UserError, match=f"{module}:no_protocol.*no mizoo.evaluate.Protocol"):
        evaluate(lambda images: {}, pictures, protocols=(f"{module}:no_protocol",), progress=False)
