"""The worked examples of docs/contributing.md run as printed, from outside the package."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mizoo import recipes
from mizoo.evaluate import Protocol, evaluate
from mizoo.pretrain import pretrain

PAGE = Path(__file__).resolve().parents[1] / "docs" / "contributing.md"


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """The folder into which the files of the page are written, on the path."""
    blocks = re.findall(r"```python\n# mizoo/\S*?/(\w+\.py)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    folder = tmp_path / "examples"
    folder.mkdir()
    for name, code in blocks:
        (folder / name).write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name, _ in blocks:
        sys.modules.pop(Path(name).stem, None)


def test_the_objective_trains_and_the_protocol_scores(examples, tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in range(2):
            folder = tmp_path / "pictures" / split / str(label)
            folder.mkdir(parents=True)
            for i in range(8):
                picture = np.clip(rng.normal(70 + 110 * label, 20, (32, 32, 3)), 0, 255).astype("uint8")
                Image.fromarray(picture).save(folder / f"{i}.png")
    recipe = recipes.validate(
        {
            "name": "example",
            "encoder": {"widths": [4, 6, 8], "fc_size": 16, "global_size": 5},
            "objective": {"name": "view_infonce:ViewInfoNCE", "views": 2, "scale": 0.5},
            "data": {"source": str(tmp_path / "pictures"), "augment": "views"},
            "training": {"epochs": 1, "batch_size": 8, "precision": "float32"},
        }
    )
    run = pretrain(recipe, tmp_path / "run")
    protocol = Protocol(
        "nearest_mean",
        "`nearest_mean`: the nearest class mean",
        "top-1 %",
        "higher",
        takes=("labels", "features"),
        run="nearest_mean:run",
        fits=True,
    )
    rows = evaluate(run, tmp_path / "pictures", [protocol], ["local"], progress=False)
    assert [(row.protocol, row.value, row.train_size, row.test_size) for row in rows] == [("nearest_mean", 100, 16, 16)]
