"""Measuring on files of 16 bits that hold 12: the pictures are those of the training, and their rows are apart."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from support.encoders import TOY, toy_encoder
from typer.testing import CliRunner

from mizoo import data, recipes
from mizoo._tools.progress import Progress
from mizoo.cli import app
from mizoo.errors import UserError
from mizoo.evaluate import evaluate
from mizoo.evaluate.comparison import compare
from mizoo.evaluate.label_free import load_pictures
from mizoo.evaluate.source import data_source
from mizoo.report.page import study
from mizoo.report.page.subject import find
from mizoo.tuning.probe import ValidationProbe

pytestmark = pytest.mark.filterwarnings("ignore:.*almost black")


@pytest.fixture
def scans(tmp_path):
    """Pictures that are lighter on the left, or on the right, by 250 of 4,095: at 16 bits all of it is grey level 8."""
    for split, count in (("train", 30), ("test", 10)):
        for name, lighter in (("left", slice(16)), ("right", slice(16, 32))):
            values = np.full((32, 32), 1930, np.uint16)
            values[:, lighter] = 2180
            folder = tmp_path / "scans" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(values).save(folder / f"{i}.png")
    return tmp_path / "scans"


def test_the_depth_decides_what_is_seen_and_tells_rows_apart(scans, tmp_path):
    choice = {"protocols": ("knn",), "encoder": "pixels", "progress": False, "cache": tmp_path / "cache"}
    (told,) = evaluate(toy_encoder(), scans, depth=12, **choice)
    (untold,) = evaluate(toy_encoder(), scans, **choice)
    assert (told.value, untold.value) == (100, 50)
    assert told.command.endswith("--depth 12") and "--depth" not in untold.command
    assert told.source != untold.source and not told.measures_the_same(untold)
    (again,) = evaluate(toy_encoder(), scans, depth=12, **choice)
    assert again.measures_the_same(told)


def test_measures_without_labels_and_comparisons_take_it_too(scans):
    encoder = toy_encoder()
    assert set(np.unique(load_pictures(scans, "test", "train", 32, True, 12).whole)) == {120, 136}
    choice = {"protocols": ("effective_rank",), "endpoints": ("fc",), "progress": False, "cache": False}
    (told,) = evaluate(encoder, scans, depth=12, **choice)
    assert told.source == data_source(scans, Progress(False), 12) != data_source(scans, Progress(False))
    (found,) = compare(encoder, encoder, scans, ("knn",), ["fc"], cache=False, progress=False, depth=12)
    assert found.accuracies == (100, 100)


def test_the_command_passes_it_on_and_other_data_refuse_it(scans, tmp_path):
    toy_encoder().save(tmp_path / "toy.keras")
    command = ["evaluate", str(tmp_path / "toy.keras"), "--protocol", "knn", "--endpoint", "fc", "--no-cache"]
    done = CliRunner().invoke(app, [*command, "--dataset", str(scans), "--depth", "12"])
    assert done.exit_code == 0 and "100" in done.stdout, done.output
    with pytest.raises(UserError, match="`depth` is of deep picture files in a folder"):
        evaluate(toy_encoder(), data.load(scans, depth=12), progress=False, depth=12)
    with pytest.raises(UserError, match="`depth` is of pictures, and cpc_spoken_digit takes sounds"):
        evaluate("cpc_spoken_digit", progress=False, depth=12)


def test_a_report_and_a_search_read_the_pictures_as_the_run_does(scans, tmp_path):
    (scans / "train/left/cut.png").write_bytes((scans / "train/left/0.png").read_bytes()[:60])
    content = {
        "name": "scans",
        "encoder": TOY,
        "objective": {"name": "simclr"},
        "data": {"source": str(scans), "augment": "views", "depth": 12, "without_files": ["train/left/cut.png"]},
    }
    run = tmp_path / "run"
    run.mkdir()
    toy_encoder().save(run / "encoder.keras")
    (run / "recipe.yaml").write_text(recipes.validate(content).dump(), encoding="utf-8")
    with Progress(False) as progress:
        subject, other = find(run, None, progress), find(run, scans / "test", progress)
        told = find(run, scans / "test", progress, depth=12)
    bank, shown, _ = study._pictures(subject.dataset, subject.source, 32, subject.depth, subject.without)
    assert (len(bank), len(shown)) == (60, 20) and set(np.unique(shown.images)) == {120, 136}
    assert (other.depth, other.without) == (None, ()) and told.depth == 12
    assert told.source != other.source  # what was computed with another depth is not taken from the cache
    search = {"objective": "knn", "keys": {"optimizer.learning_rate": [0.1, 0.2]}}
    with_search = recipes.validate({**content, "search": search})
    assert set(np.unique(ValidationProbe(with_search)._load(with_search).images)) == {120, 136}
