"""What version 0.1.0 wrote still loads, resumes and reads.

The files in `fixtures/version_0_1_0` were written by the last commit of that version: saved objectives after an epoch
on fixed pictures, with the terms that the next epoch gave there; run folders that were stopped half way, with the log
of the rest; and a results file.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import mizoo.objectives
import mizoo.recipes.schedules  # noqa: F401
from mizoo import data, recipes
from mizoo.evaluate import read_rows
from mizoo.pretrain import pretrain
from mizoo.report import table
from mizoo.runs.folder import read_log

FIXTURES = Path(__file__).parent / "fixtures" / "version_0_1_0"
TENSORFLOW = keras.backend.backend() == "tensorflow"


def read_json(name: str) -> dict:
    return json.loads((FIXTURES / name).read_text())


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (32, 32, 32, 3), dtype="uint8")
    return {"pictures": pictures, "walks": rng.standard_normal((16, 9, 3)).cumsum(axis=1).astype("float32")}


@pytest.mark.parametrize("name", ["deep_infomax", "deep_co_training", "cpc", "simclr"])
def test_a_saved_objective_loads_with_its_optimiser_and_trains_as_it_did(inputs, name):
    model = keras.saving.load_model(FIXTURES / f"{name}.keras")
    source = inputs["walks" if name == "cpc" else "pictures"]
    batches = data.batches(source, batch_size=8, seed=2, noise_size=model.noise_size)
    terms = model.fit(batches, epochs=1, verbose=0).history
    for key, value in read_json("after.json")[name].items():
        assert terms[key][-1] == pytest.approx(value, abs=2e-3), key


@pytest.mark.skipif(not TENSORFLOW, reason="the runs were TensorFlow's")
@pytest.mark.parametrize("name", ["half_way", "half_way_taught"])
def test_a_run_stopped_half_way_resumes_to_the_same_end(inputs, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for i, picture in enumerate(inputs["pictures"]):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{i:02d}.png")
    (tmp_path / "half").mkdir()
    shutil.copy(FIXTURES / "teacher.keras", tmp_path / "half" / "encoder.keras")
    run = shutil.copytree(FIXTURES / name, tmp_path / "run")
    pretrain(recipes.load(run / "recipe.yaml"), run)
    expected = read_json("ends.json")[name]
    for line, old in zip(read_log(run), expected, strict=True):
        for key in set(old) - {"seconds", "pictures_per_second"}:
            assert line[key] == pytest.approx(old[key], abs=2e-3), key


def test_a_results_file_reads_and_makes_its_tables():
    rows = read_rows(FIXTURES / "results.json")
    assert len(rows) == 3 and {row.entry for row in rows} == {"simclr_cifar10"}
    text = table(rows)
    assert all(f"{row.value:.2f}" in text for row in rows)
