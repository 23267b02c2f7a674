"""The main job as a user does it: pack, pretrain, evaluate, export, embed, all by command."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mizoo.data import Dataset, packed
from mizoo.embed import embed

RECIPE = """
name: toy
encoder: {widths: [4, 8, 8], fc_size: 32, global_size: 8}
objective: {critic_width: 16, negatives: locations}
data: {source: DATA}
optimizer: {learning_rate: 0.01}
training: {epochs: 6, batch_size: 32, precision: float32}
"""


def gratings(rng, count: int) -> Dataset:
    """Pictures of two classes that differ in the direction of a grating, of random phase, colour and noise."""
    labels = rng.integers(0, 2, count)
    y, x = np.mgrid[:32, :32]
    waves = np.where(labels[:, None, None] == 0, x[None], y[None]) * 0.8 + rng.uniform(0, 6.28, (count, 1, 1))
    images = 127 + 60 * np.sin(waves)[..., None] * rng.uniform(0.6, 1, (count, 1, 1, 3))
    images = images + rng.normal(0, 10, images.shape)
    return Dataset("gratings", np.clip(images, 0, 255).astype("uint8"), labels.astype("int64"), ("upright", "flat"))


@pytest.fixture
def command(tmp_path):
    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "mizoo.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=280,
            cwd=tmp_path,
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


def test_from_pictures_to_features(command, tmp_path, rng):
    packed.write({"train": gratings(rng, 400), "test": gratings(rng, 100)}, tmp_path / "gratings")
    (tmp_path / "toy.yaml").write_text(RECIPE.replace("DATA", str(tmp_path / "gratings")))

    assert command("pretrain", "toy.yaml").strip() == "runs/toy"
    table = command(
        "evaluate", "runs/toy", "--dataset", "gratings", "--protocol", "linear", "--protocol", "knn",
        "--endpoint", "conv", "--rows", "rows.json",
    )  # fmt: skip
    rows = {row["protocol"]: row for row in json.loads((tmp_path / "rows.json").read_text())["rows"]}
    assert set(rows) == {"linear", "knn"}
    assert rows["knn"]["value"] > 80 and f"{rows['knn']['value']:.2f}" in table
    assert rows["knn"]["train_size"] == 400 and rows["knn"]["test_size"] == 100

    manifest = json.loads(command("export", "runs/toy", "--out", "exported"))
    assert max(max(ends.values()) for ends in manifest["differences"].values()) < 1e-4

    folder = tmp_path / "photos"
    folder.mkdir()
    for i, size in enumerate([(40, 50), (32, 32), (90, 33)]):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype="uint8")).save(folder / f"{i}.png")
    command("embed", "exported/encoder.onnx", "photos", "-o", "features.npz")
    embed(tmp_path / "runs/toy", folder, tmp_path / "keras.npz", endpoint="fc", runtime="keras")
    with np.load(tmp_path / "features.npz") as onnx, np.load(tmp_path / "keras.npz") as keras:
        assert onnx["local"].shape == (3, 8, 8, 8) and onnx["paths"].shape == (3,)
        # The export holds the weights in half precision, the run in single.
        np.testing.assert_allclose(onnx["fc"], keras["fc"], atol=0.02)
