"""benchmarks/label_budgets.py: what it draws, and that an interrupted run resumes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from mizoo.data.dataset import Dataset  # noqa: E402
from mizoo.finetune import MODES, Budget  # noqa: E402

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "label_budgets.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("label_budgets", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def encoder(tmp_path):
    x = keras.Input((8, 8, 3))
    y = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(x))
    keras.Model(x, {"fc": keras.layers.GlobalAveragePooling2D()(y)}).save(tmp_path / "encoder.keras")
    return str(tmp_path / "encoder.keras")


def test_an_interrupted_run_measures_what_is_missing_alone(script, encoder, monkeypatch, tmp_path, rng):
    images = rng.integers(0, 256, (60, 8, 8, 3), dtype="uint8")
    train = Dataset("dots", images, np.arange(60) % 3)
    test = Dataset("dots", images[:30], np.arange(30) % 3)
    asked = []

    def load(source, split, size):
        asked.append((source, split))
        return train if split == "train" else test

    monkeypatch.setattr(script.data, "load", load)
    monkeypatch.setattr(script, "BUDGET", Budget(batch_size=8, warmup=0, check_every=1, augment="none"))
    out = tmp_path / "rows.json"
    arguments = ["--encoder", encoder, "--data", "dots=folder", "--labels", "30", "--steps", "2", "--out", str(out)]
    script.main([*arguments, "--draws", "2"])
    content = json.loads(out.read_text())
    whole = content["rows"]
    assert [(row["mode"], row["draw"]) for row in whole] == [(mode, draw) for draw in (0, 1) for mode in MODES]
    assert {row["data"] for row in whole} == {"dots"} and asked == [("folder", "train"), ("folder", "test")]
    assert content["budget"]["steps"] == 2 and all(row["test_size"] == 30 for row in whole)

    out.write_text(json.dumps(content | {"rows": whole[:4]}))
    script.main([*arguments, "--draws", "2"])
    again = json.loads(out.read_text())["rows"]
    assert again[:4] == whole[:4]
    assert [row["value"] for row in again] == [row["value"] for row in whole]
    assert [row["mode"] for row in again[4:]] == ["unfrozen", "scratch"]

    with pytest.raises(SystemExit):
        script.main([*arguments, "--draws", "1", "--steps", "3"])
    assert json.loads(out.read_text())["rows"] == again


def test_a_training_sees_the_labels_of_its_draw_alone(script, monkeypatch, rng):
    labels = np.repeat(np.arange(2), 50)
    train = Dataset("dots", rng.integers(0, 256, (100, 8, 8, 3), dtype="uint8"), labels)
    seen = {}

    class Done:
        step, settings = 1, {"precision": "float32"}

        def accuracy(self, images, labels):
            return 50.0

    def finetune(encoder, images, labels, **options):
        seen[len(labels)] = {image.tobytes() for image in images}
        assert options["classes"] == 2 and np.bincount(labels).tolist() == [len(labels) // 2] * 2
        return Done()

    monkeypatch.setattr(script, "finetune", finetune)
    for count in (10, 40):
        script.measure(None, train, train, "frozen", count, 3, Budget())
    assert len(seen[10]) == 10 and len(seen[40]) == 40 and seen[10] < seen[40]
