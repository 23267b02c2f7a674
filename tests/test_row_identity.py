"""Which rows replace which: those of the same data, sizes and precision; and whose rows change without being asked."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from support.rows import a_row

from mizoo import report
from mizoo._tools.progress import Progress
from mizoo.data import Dataset
from mizoo.errors import UserError
from mizoo.evaluate import Protocol, Score, evaluate, merge_rows, read_rows
from mizoo.evaluate.keeping import Keeper
from mizoo.evaluate.protocols import TABLE, choose
from mizoo.evaluate.rows import public_command
from mizoo.evaluate.source import data_source

OLD = Path(__file__).parent / "fixtures" / "version_0_1_0" / "results.json"
ROW = a_row(value=72.53, settings={"k": 200}, version="0.2.0", source="tfds:cifar10/3.0.2", precision="float32")
OF_FOLDER = dataclasses.replace(ROW, value=62.85, source="sha256:" + "ab" * 32)
BEFORE_SOURCES = dataclasses.replace(ROW, value=72.0, source="", precision="")


@pytest.mark.parametrize(
    "change",
    [
        {"source": "sha256:" + "ab" * 32},
        {"source": "tfds:cifar10/4.0.0"},
        {"train_size": 1000},
        {"test_size": 2000},
        {"precision": "bfloat16"},
    ],
    ids=["folder", "version", "fitted", "scored", "precision"],
)
def test_a_row_of_other_data_or_precision_replaces_none(tmp_path, change):
    other = dataclasses.replace(ROW, value=1.0, **change)
    merge_rows(tmp_path / "results.json", [ROW])
    assert len(merge_rows(tmp_path / "results.json", [other])) == 2
    text = report.table([ROW, other], compare=False)
    assert "72.53" in text and "1.00" in text  # and neither hides the other
    titles = [line for line in text.splitlines() if line.startswith("Top-1")]
    assert len(set(titles)) == 2


def test_the_same_measurement_replaces_and_tells_what_it_replaced(tmp_path):
    pairs = []
    merge_rows(tmp_path / "results.json", [ROW])
    again = dataclasses.replace(ROW, value=73.0)
    assert merge_rows(tmp_path / "results.json", [again], lambda old, new: pairs.append((old, new))) == [again]
    assert pairs == [(ROW, again)]


def test_rows_of_the_first_version_count_for_tfds_and_stay_as_they_were_written(tmp_path):
    path = tmp_path / "results.json"
    merge_rows(path, [BEFORE_SOURCES])
    assert len(merge_rows(path, [OF_FOLDER])) == 2
    assert merge_rows(path, [ROW]) == sorted([ROW, OF_FOLDER], key=lambda row: row.source)
    shutil.copy(OLD, path)
    merge_rows(path, [ROW])
    items = json.loads(path.read_text())["rows"]
    assert [item for item in items if item["entry"] != "dim"] == json.loads(OLD.read_text())["rows"]
    assert report.table([BEFORE_SOURCES, dataclasses.replace(ROW, endpoint="conv")], compare=False).count("Top-1") == 1


def test_data_of_the_same_name_come_neither_into_the_readme_nor_beside_the_papers(fake_zoo):
    info = {"files": {"encoder.keras": {"sha256": "", "bytes": 1}}, "endpoints": {}, "summary": "s"}
    fake_zoo.register({"dim": info, "unmeasured": info})
    merge_rows(fake_zoo.root / "models/dim/results.json", [ROW, OF_FOLDER])
    page = fake_zoo.root / "README.md"
    page.write_text("<!-- table: knn cifar10 -->\n<!-- /table -->\n")
    report.write_tables()  # an entry without rows is no obstacle
    assert "72.53" in page.read_text() and "62.85" not in page.read_text()
    assert "LightlySSL" in report.table([ROW]) and "LightlySSL" not in report.table([OF_FOLDER])


def folder_of(path: Path, **contents: bytes) -> Path:
    path.mkdir(parents=True)
    for name, content in contents.items():
        (path / name).write_bytes(content)
    return path


def test_the_source_of_a_folder_or_an_array_is_its_content_wherever_it_lies(tmp_path):
    quiet = Progress(False)
    one = data_source(folder_of(tmp_path / "a/cifar10", x=b"1", y=b"2"), quiet)
    assert one.startswith("sha256:") and one == data_source(str(folder_of(tmp_path / "b", x=b"1", y=b"2")), quiet)
    others = [folder_of(tmp_path / "c", x=b"1", y=b"3"), folder_of(tmp_path / "d", x=b"1", z=b"2")]
    others += [folder_of(tmp_path / "e", x=b"12", y=b"")]
    assert len({one, *(data_source(other, quiet) for other in others)}) == 4
    images = np.arange(48, dtype="uint8").reshape(1, 4, 4, 3)
    sources = [data_source(each, quiet) for each in (images, Dataset("array", images), images[:, ::-1])]
    assert sources[0] == sources[1] != sources[2]
    assert data_source(Dataset("array", images, np.array([1])), quiet) != sources[0]


class Interrupted(Exception):
    pass


def test_rows_are_kept_as_they_are_done_with_their_source(tmp_path):
    def stop(task, options, progress):
        raise Interrupted

    def mean(task, options, progress):
        return Score(float(task.test_x.mean()))

    first, second = (
        Protocol(name, "about", "unit", "higher", ("labels", "features"), run, fits=True)
        for name, run in (("mean", mean), ("stops", stop))
    )
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype="uint8")
    dataset = Dataset("cifar10", images, np.arange(20) % 2)
    arguments = {"encoder": "pixels", "split": "validation", "progress": False, "entry": "mine"}
    pixels = type("Pixels", (), {"input_shape": (None, 4, 4, 3), "name": "pixels"})()
    with pytest.raises(Interrupted):
        evaluate(pixels, dataset, (first, second), rows=tmp_path / "results.json", **arguments)
    (row,) = read_rows(tmp_path / "results.json")
    assert (row.protocol, row.precision) == ("mean", "float32")
    assert row.source == data_source(dataset, Progress(False))
    (tmp_path / "foreign.json").write_text("{}")
    with pytest.raises(UserError, match="not a results file"):  # before anything is measured
        evaluate(pixels, dataset, (second,), rows=tmp_path / "foreign.json", **arguments)


def test_a_published_entrys_rows_change_by_themselves_through_public_data_alone(tmp_path):
    published, chosen = tmp_path / "results.json", tmp_path / "mine.json"
    merge_rows(published, [ROW])
    custom = dataclasses.replace(ROW, protocol="nearest_mean")
    again = dataclasses.replace(ROW, value=73.25)
    keeper = Keeper(None, published)
    for row in (again, OF_FOLDER, custom):
        keeper(row)
    assert read_rows(published) == [again]
    told = "\n".join(keeper.summary())
    assert "knn of fc on cifar10, test: 72.53 -> 73.25" in told and f"`--rows {published}` adds these" in told
    keeper = Keeper(chosen, published)
    for row in (again, OF_FOLDER, custom):
        keeper(row)
    assert len(read_rows(chosen)) == 3 and read_rows(published) == [again]
    assert list(keeper.summary()) == [f"3 rows -> {chosen}"]
    nowhere = Keeper(None, None)
    nowhere(ROW)
    assert "not saved" in next(nowhere.summary())


def test_two_protocols_have_two_names():
    mine = dataclasses.replace(TABLE["knn"], about="mine")
    for given in ([mine], [dataclasses.replace(mine, name="a"), dataclasses.replace(mine, name="a", about="b")]):
        with pytest.raises(UserError, match="two are called"):
            choose(given)
    assert choose(["knn", TABLE["knn"]]) == (TABLE["knn"],)


@pytest.mark.parametrize(
    ("command", "public"),
    [
        (
            "mizoo evaluate /home/me/runs/dim --dataset ~/photos/birds/ --protocol knn",
            "mizoo evaluate dim --dataset birds --protocol knn",
        ),
        (  # as rows were written before words were quoted
            "mizoo evaluate /home/John Smith/secret client/run1 --dataset /data/2024 Acme/photos",
            "mizoo evaluate run1 --dataset photos",
        ),
        (
            "mizoo evaluate '/home/John Smith/secret client/run 1' --dataset '/data/2024 Acme/photos' --seeds 1",
            "mizoo evaluate 'run 1' --dataset photos --seeds 1",
        ),
        (
            "mizoo evaluate '/home/me/a.keras' --dataset \"/data/my x\" -p knn",
            "mizoo evaluate a.keras --dataset 'my x' -p knn",
        ),
        ("mizoo evaluate C:\\Users\\John Smith\\run1 --seeds 1", "mizoo evaluate run1 --seeds 1"),
        ("mizoo evaluate /home/O'Brien x/run1 --seeds 1", "mizoo evaluate run1 --seeds 1"),
        ("mizoo.evaluate.evaluate in Python, with the protocols a, b", None),
    ],
)
def test_a_card_shows_no_path_of_the_machine(command, public):
    assert public_command(dataclasses.replace(ROW, command=command)) == (public or command)


def test_a_command_is_one_that_can_be_typed(rng, monkeypatch):
    """Words with spaces are quoted, and what no option of the command line says is said to be of Python."""
    images = rng.integers(0, 256, (20, 4, 4, 3), dtype="uint8")
    data = Dataset("my birds", images, np.arange(20) % 2)
    encoder = namedtuple("Encoder", "name")("my encoder")
    arguments = {"protocols": ["knn"], "encoder": "pixels", "progress": False, "cache": False}
    (row,) = evaluate(encoder, data, split="validation", **arguments)
    words = ["mizoo", "evaluate", "my encoder", "--dataset", "my birds", "--protocol", "knn", "--encoder", "pixels"]
    assert shlex.split(row.command) == [*words, "--split", "validation"]
    monkeypatch.setattr("mizoo.data.load", lambda *_, **__: data)
    monkeypatch.setattr("mizoo.evaluate.run.data_source", lambda *_: "tfds:birds/1.0.0")
    (row,) = evaluate(encoder, "birds", train_split="train[:9]", **arguments)
    assert "in Python" in row.command and "train[:9]" in row.command
