"""Several processes at once: nobody's rows are lost, and nobody trains in the run folder of another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mizoo import cli
from mizoo._tools import locks
from mizoo.errors import UserError
from mizoo.evaluate.rows import keep_rows, merge_rows, read_rows
from mizoo.report import write_card, write_tables

WRITER = """
import sys
from mizoo.evaluate.rows import Row, merge_rows

path, writer = sys.argv[1], int(sys.argv[2])
names = [f"endpoint{writer}_{i}" for i in range(100)]
rest = ("knn", 1.0, 0.0, 1, "test", 9, 9, {}, "", "", "", 0.0)
rows = [Row("dim", "published", "cifar10", name, *rest) for name in names]
for i in range(0, 100, 4):
    merge_rows(path, rows[i : i + 4])
"""

HOLDER = """
import sys
from mizoo._tools import locks

with getattr(locks, sys.argv[1])(*sys.argv[2:]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def hold():
    """Start a process that holds the lock of a file or a folder until the test ends."""
    started = []

    def start(kind: str, *arguments: object) -> None:
        command = [sys.executable, "-c", HOLDER, kind, *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"

    yield start
    for process in started:
        process.communicate("\n", timeout=60)


def test_four_writers_lose_no_row(tmp_path):
    path = tmp_path / "results.json"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(i)]) for i in range(4)]
    assert [writer.wait(timeout=200) for writer in writers] == [0, 0, 0, 0]
    assert len(read_rows(path)) == 400


def test_a_second_training_in_a_run_folder_is_refused_by_name_and_at_once(tmp_path, hold, monkeypatch, capsys):
    run = tmp_path / "run"
    (tmp_path / "mine.yaml").write_text("name: mine\ndata: {source: ./nowhere}\n")
    hold("lock_folder", run, "busy")
    monkeypatch.setattr(sys, "argv", ["mizoo", "pretrain", str(tmp_path / "mine.yaml"), "--out", str(run)])
    monkeypatch.setitem(sys.modules, "mizoo.pretrain", None)  # no import of Keras comes before the answer
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert f"Another process trains in {run}" in capsys.readouterr().err


def test_the_folder_of_a_training_that_could_not_begin_does_not_stay(tmp_path):
    with pytest.raises(UserError, match="no data"), locks.lock_folder(tmp_path / "run", "busy"):
        raise UserError("no data")
    assert not (tmp_path / "run").exists()
    with locks.lock_folder(tmp_path / "run", "busy"):
        (tmp_path / "run" / "log.csv").touch()
    with locks.lock_folder(tmp_path / "run", "busy"):  # which the first one has let go
        assert (tmp_path / "run" / "log.csv").exists()


@pytest.mark.parametrize(
    ("file", "write"),
    [
        ("models/small/results.json", lambda path: merge_rows(path, [])),
        ("models/small/results.json", lambda path: keep_rows(path, lambda row: True)),
        ("README.md", lambda path: write_tables(path.parent)),
        ("README.md", lambda path: write_card("small")),
    ],
    ids=["merge_rows", "keep_rows", "tables", "card"],
)
def test_writers_wait_for_each_other_and_name_the_file_in_the_end(fake_zoo, hold, monkeypatch, file, write):
    path: Path = fake_zoo.root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".md":
        path.write_text("a page\n")
    hold("lock_file", path)
    monkeypatch.setattr(locks, "_PATIENCE", 0.05)
    with pytest.raises(UserError, match=f"{path.name} is being written by another process"):
        write(path)
