"""Every block of Python in README.md and docs/*.md runs, here on small data or in a test that is named, or is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import pytest
from support import shapes
from support.encoders import toy_encoder
from support.pages import PAGES, ROOT, blocks, run

import mizoo
from mizoo.data import Dataset
from mizoo.embed import embed
from mizoo.recipes import objectives

FINE_TUNING = "test_fine_tuning.py::test_the_page_runs_as_printed_and_learns"
CONTRIBUTING = "test_contributing.py::test_the_objective_trains_and_the_protocol_scores"
ELSEWHERE = {
    ("docs/co-training.md", 0): "test_co_training.py::test_the_page_on_co_training_runs_as_printed_on_other_pictures",
    ("docs/contributing.md", 0): CONTRIBUTING,
    ("docs/contributing.md", 2): CONTRIBUTING,
    **{("docs/fine-tuning.md", number): FINE_TUNING for number in range(7)},
    ("docs/fine-tuning.md", 7): "test_fine_tuning.py::test_the_loop_of_pytorch_runs_as_printed",
    ("docs/sequences.md", 0): "test_sounds.py::test_the_page_on_own_sequences_does_what_it_says",
    ("docs/serving.md", 0): "test_serving.py::test_the_fastapi_service_answers_with_the_features_of_embed",
    ("docs/tuning.md", 0): "test_tuning.py::test_the_page_runs_as_printed",
}
NOT_RUN = {
    ("docs/scale.md", 2): "Beam has an environment of its own, in which `make slow-beam` runs these transforms",
}
SHORT = ("estimate(x, y)", "estimate(x, y, folds=1, max_steps=60, hidden=(16,), progress=False)")
ONE_EPOCH = ("epochs=10", "epochs=1")
HERE: dict[tuple[str, int], Callable[[], int]] = {}
SLOW = {("docs/recipes.md", 1)}


def images(count: int = 16) -> np.ndarray:
    return shapes.draw(count, 0)[0]


def saved(path: str, model: keras.Model) -> keras.Model:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def page(path: str, number: int = 0) -> Callable:
    """What runs a block and looks at its outcome: called with a function that runs it, in an empty folder."""

    def register(check: Callable[..., None]) -> Callable[..., None]:
        def times_run() -> int:
            """Checks the block, and tells how often it was run for that."""
            ran: list[dict[str, Any]] = []

            def run_it(names: dict[str, Any] | None = None, *changes: tuple[str, str]) -> dict[str, Any]:
                ran.append(run(blocks(path)[number], path, {} if names is None else names, *changes))
                return ran[-1]

            check(run_it)
            return len(ran)

        HERE[path, number] = times_run
        return check

    return register


@page("README.md")
def _(run_it):
    found = run_it()
    assert found["same"] and found["features"]["fc"].shape == (8, 1024)
    assert found["classifier"](found["images"]).shape == (8, 10)


@page("README.md", 1)
def _(run_it):
    assert run_it(None, SHORT)["result"].nats == pytest.approx(0.511, abs=0.15)


@page("docs/mutual-information.md")
def _(run_it):
    x, noise = np.random.default_rng(0).standard_normal((2, 1000))
    assert run_it({"x": x, "y": 0.8 * x + 0.6 * noise}, SHORT)["result"].found


@page("docs/co-training.md", 1)
def _(run_it):
    data = ('"cifar10", "train", batch_size=256', "images, batch_size=8")
    names = {"keras": keras, "mizoo": mizoo, "images": images(), "toy": toy_encoder()}
    found = run_it(names, data, ONE_EPOCH, ("mizoo.encoders.conv32()", "toy"))
    assert np.isfinite(found["history"].history["loss"]).all()


@page("docs/contributing.md", 1)
def _(run_it):
    names = {"Literal": Literal, "ClassVar": ClassVar, "PositiveFloat": objectives.PositiveFloat}
    found = run_it({**names, "ObjectiveSettings": objectives.ObjectiveSettings, "__name__": __name__})
    assert found["ViewInfoNCESettings"](scale=2).model_dump() == {"name": "view_infonce", "scale": 2}


@page("docs/entries.md")
def _(run_it):
    saved("runs/mine/encoder.keras", toy_encoder())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mizoo.zoo.hub.fetch", lambda address, *files: Path("runs/mine"))
        run_it()


@page("docs/own-pictures.md")
def _(run_it):
    pixels = keras.Input((32, 32, 3))
    saved("classifier.keras", keras.Model(pixels, keras.layers.Dense(3)(keras.layers.Flatten()(pixels))))
    found = run_it()
    np.testing.assert_allclose(*(found[name].predict(images(), verbose=0) for name in ("classifier", "same")))


@page("docs/recipes.md")
def _(run_it):
    found = run_it()
    model = found["Agreement"](found["small_encoder"](8), augment=mizoo.augment.preset("views"))
    model.compile("adam")
    assert set(model.fit(images(), batch_size=8, verbose=0).history) == {"loss", "view_mi"}


@page("docs/recipes.md", 1)
def _(run_it):
    smaller = [('"cifar10", "train", batch_size=128', "images, batch_size=8"), ("batch_size=256", "batch_size=8")]
    found = run_it({"images": images()}, *smaller, ('mizoo.data.load("cifar10", "train").images', "images"), ONE_EPOCH)
    assert found["targets"].shape == (16, 256)
    assert all(np.isfinite(found[name].history.history["loss"]).all() for name in ("model", "small"))


@page("docs/report.md")
def _(run_it):
    shapes.write(Path("photos"), 32, 1)
    model = mizoo.SimCLR(toy_encoder(), augment=mizoo.augment.preset("views"))
    model.compile("adam")
    run_it({"model": model, "batches": mizoo.data.batches(images(), batch_size=8)})
    assert len(model.history.history["probe_knn"]) == 1


@page("docs/results.md")
def _(run_it):
    data = Dataset("shapes", *shapes.draw(80, 0))
    (row,) = mizoo.evaluate.evaluate(
        toy_encoder(), data, (run_it()["my_protocol"],), ["fc"], split="validation", progress=False
    )
    assert row.protocol == "nearest_mean" and 0 <= row.value <= 100


@page("docs/scale.md")
def _(run_it):
    shapes.write(Path("photos"), 16, 1)
    smaller = ("mizoo.encoders.conv32()", "toy"), ("batch_size=256, workers=4", "batch_size=8, workers=0"), ONE_EPOCH
    assert run_it({"toy": toy_encoder()}, *smaller)["some"].shape == (16, 32, 32, 3)


@page("docs/scale.md", 1)
def _(run_it):
    shapes.write(Path("photos"), 4, 1)
    embed("dim_local_cifar10", "photos", "features", endpoint="fc", progress=False)
    assert run_it()["features"]["fc"].shape == (4, 1024)


@page("docs/sizes-and-channels.md")
def _(run_it):
    assert run_it()["features"].shape == (64, 32)


@page("docs/sizes-and-channels.md", 1)
def _(run_it):
    assert run_it()["features"].shape == (4, 1024)


MARKED = [
    pytest.param(*each, marks=pytest.mark.slow if each in SLOW else (), id="-".join(map(str, each))) for each in HERE
]


@pytest.mark.parametrize(("path", "number"), MARKED)
def test_the_code_of_a_page_runs_as_printed_on_small_data(path, number, tmp_path, monkeypatch, eager):
    monkeypatch.chdir(tmp_path)
    assert HERE[path, number]() >= 1  # what comes of it is looked at above


def test_every_block_of_every_page_is_run_here_or_is_listed_with_its_test_or_a_reason():
    there = {(path, number) for path in PAGES for number in range(len(blocks(path)))}
    assert there == set(HERE) | set(ELSEWHERE) | set(NOT_RUN)
    assert len(there) == len(HERE) + len(ELSEWHERE) + len(NOT_RUN)
    for (path, _), test in ELSEWHERE.items():
        file, _, name = test.partition("::")
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", text, re.MULTILINE) and Path(path).name in text, test
