"""Embedding into shards: the rows of the one file, whatever interrupts the run, and clear words for what is amiss."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from support.encoders import publish
from typer.testing import CliRunner

from mizoo.cli import app
from mizoo.data import feature_shards, pictures
from mizoo.data.feature_shards import read_shards
from mizoo.embed import embed
from mizoo.errors import UserError


@pytest.fixture(scope="session")
def published():
    return publish()


def fill(folder, count: int = 11):
    rng = np.random.default_rng(5)
    for index in range(count):
        path = folder / f"{'b' if index % 3 else 'a.d'}/{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (36, 40, 3)).astype(np.uint8)).save(path)
    (folder / "b/cut.png").write_bytes((folder / "b/001.png").read_bytes()[:50])
    (folder / "b/text.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("passed over")
    return folder


@pytest.fixture
def album(tmp_path):
    return fill(tmp_path / "album")


def rows(folder) -> tuple[list[str], dict[str, np.ndarray]]:
    """All rows of a folder of shards."""
    parts = list(read_shards(folder))
    keys = {key for _, features in parts for key in features}
    paths = [path for some, _ in parts for path in some]
    return paths, {key: np.concatenate([features[key] for _, features in parts if features]) for key in keys}


def entries(folder) -> list[dict]:
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]


def assert_rows_of(folder, npz, failed: int = 2) -> None:
    paths, features = rows(folder)
    with np.load(npz) as whole:
        assert paths == list(whole["paths"])  # none lost, none doubled, in the same order
        assert set(features) == set(whole) - {"paths"}
        for key, values in features.items():
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, whole[key], atol=1e-5)
    listed = [entry["path"] for entry in entries(folder)]
    assert len(listed) == len(set(listed)) == len(paths) + failed


@pytest.mark.parametrize(("batch_size", "shard_size"), [(1, 4), (2, 3), (256, 4096)])
def test_shards_hold_the_rows_of_the_one_file(published, album, tmp_path, batch_size, shard_size):
    embed(published.onnx_file, album, tmp_path / "f.npz")
    report = embed(
        published.onnx_file, [album, album / "gone.png"], tmp_path / "s", batch_size=batch_size, shard_size=shard_size
    )
    assert_rows_of(tmp_path / "s", tmp_path / "f.npz")
    assert report.count == 11 and {path.name for path, _ in report.failed} == {"cut.png", "text.jpg", "gone.png"}
    assert report.passed_over == {".txt": 1}
    for entry in entries(tmp_path / "s"):
        if "error" in entry:
            assert entry["path"].endswith(("cut.png", "text.jpg")) and entry["error"]
        else:
            assert entry["sha256"] == hashlib.sha256(open(entry["path"], "rb").read()).hexdigest()
    one = [features for _, features in read_shards(tmp_path / "s", "global")]
    assert all(set(each) == {"global"} for each in one if each)


def test_interrupted_at_any_step_the_same_command_goes_on(published, album, tmp_path, monkeypatch):
    embed(published.onnx_file, album, tmp_path / "f.npz")
    out, real, arguments = tmp_path / "s", os.replace, {"batch_size": 2, "shard_size": 4}
    interrupted = 0
    for step in range(1, 40):
        calls = []

        def stops(source, target, calls=calls, step=step):
            calls.append(target)
            if len(calls) == 1 + 3 * step % 9:
                raise KeyboardInterrupt
            real(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", stops)
            try:
                report = embed(published.onnx_file, album, out, **arguments)
                break
            except KeyboardInterrupt:
                interrupted += 1
        assert not list(out.glob(".writing-*")), "scraps"
    assert interrupted >= 8
    assert_rows_of(out, tmp_path / "f.npz")
    again = embed(published.onnx_file, album, out, **arguments)
    assert (again.count, again.resumed) == (11, 13) and report.count == 11
    assert_rows_of(out, tmp_path / "f.npz")


def test_an_incomplete_or_damaged_folder_says_what_it_lacks(published, album, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="holds index.json"):
        list(read_shards(album))
    out, arguments = tmp_path / "s", {"batch_size": 2, "shard_size": 4}
    with monkeypatch.context() as patched:
        patched.setattr(feature_shards.ShardWriter, "finish", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            embed(published.onnx_file, album, out, **arguments)
    with pytest.raises(UserError, match="not complete"):
        list(read_shards(out))
    embed(published.onnx_file, album, out, **arguments)
    (out / "00001.jsonl").rename(tmp_path / "kept")
    for call in (lambda: list(read_shards(out)), lambda: embed(published.onnx_file, album, out, **arguments)):
        with pytest.raises(UserError, match=r"lacks 1 of 4 shards, the first of them 00001\.jsonl"):
            call()
    (tmp_path / "kept").rename(out / "00001.jsonl")
    (out / "00001.global.npy").unlink()
    with pytest.raises(UserError, match="00001 .* lacks global"):
        list(read_shards(out, "global"))


def test_a_file_name_that_is_not_utf8_is_listed_and_read_back(published, album, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        (album / name).write_bytes((album / "b/001.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    for _ in range(2):  # and a run that is there already is compared by it
        report = embed(published.onnx_file, album, tmp_path / "out", endpoint="fc", progress=False)
        assert report.count == 12
    assert str(album / name) in rows(tmp_path / "out")[0]


def test_a_folder_of_another_run_is_refused_and_left_alone(published, album, tmp_path):
    out, arguments = tmp_path / "s", {"batch_size": 2, "shard_size": 4}
    embed(published.onnx_file, album, out, **arguments)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    with pytest.raises(UserError, match="endpoint was None"):
        embed(published.onnx_file, album, out, endpoint="fc", **arguments)
    with pytest.raises(UserError, match="shard_size was 4"):
        embed(published.onnx_file, album, out, batch_size=2, shard_size=6)
    Image.new("RGB", (40, 40)).save(album / "z.png")
    with pytest.raises(UserError, match=r"z\.png is new"):
        embed(published.onnx_file, album, out, **arguments)
    (album / "b/001.png").unlink()
    with pytest.raises(UserError, match=r"001\.png is gone|is new"):
        embed(published.onnx_file, album, out, **arguments)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(UserError, match="holds other files"):
        embed(published.onnx_file, album, album, **arguments)


@pytest.mark.parametrize("index", ['{"format": "mine"}', "[1]", "no JSON"])
def test_an_index_of_something_else_is_left_alone(published, album, tmp_path, index):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/index.json").write_text(index)
    with pytest.raises(UserError, match=r"mine holds other files \(index.json\)"):
        embed(published.onnx_file, album, tmp_path / "mine")
    with pytest.raises(UserError, match="holds index.json.*of something else"):
        list(read_shards(tmp_path / "mine"))
    assert (tmp_path / "mine/index.json").read_text() == index
    with pytest.raises(UserError):
        list(read_shards(tmp_path / "mine/index.json"))  # a file in the place of the folder


def test_arrays_of_the_user_beside_shards_are_left_alone(published, album, tmp_path):
    out = tmp_path / "s"
    before = embed(published.onnx_file, album, out, batch_size=4, shard_size=4).count
    for name in ("12.labels.npy", "2024-labels.npy", "12.jsonl"):
        (out / name).write_bytes(b"mine")
    (out / "00004.fc.npy").write_bytes(b"of a shard that was not finished")
    assert embed(published.onnx_file, album, out, batch_size=4, shard_size=4).count == before
    names = {path.name for path in out.iterdir()}
    assert names > {"12.labels.npy", "2024-labels.npy", "12.jsonl"} and "00004.fc.npy" not in names
    assert len(rows(out)[0]) == before


def test_if_no_file_can_be_read_no_folder_is_left(published, album, tmp_path):
    with pytest.raises(UserError, match=r"None of 1 files.*\n.*cut\.png"):
        embed(published.onnx_file, album / "b/cut.png", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_files_come_one_by_one_as_they_are_found_at_once(album, monkeypatch):
    monkeypatch.chdir(album.parent)
    (album / "b/back").symlink_to(album)
    (album / "a").mkdir()
    Image.new("RGB", (40, 40)).save(album / "a/1.png")
    for paths in ("album", ["album/b", "album"], ["album/b/*.png", "album", "album/b/001.png"], ["album", "album"]):
        passed_over: Counter = Counter()
        assert list(pictures.stream(paths, [], passed_over)) == pictures.find(paths)
    assert list(pictures.stream("album", [], passed_over)) == sorted(pictures.find("album"))
    with pytest.raises(UserError, match="No picture was found"):
        list(pictures.stream("album/*.gif", [], passed_over))


def test_the_command_writes_shards_and_says_how_fast(published, album, tmp_path):
    command = ["embed", str(published.onnx_file), str(album), "-o", str(tmp_path / "s"), "--shard-size", "4"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1 and f"11 files -> {tmp_path / 's'}" in done.stdout, done.output
    assert "files/s" in done.stderr and "cut.png" in done.stderr
    again = CliRunner().invoke(app, command)
    assert "13 were there; 0 files/s" in again.stderr


@pytest.mark.slow
def test_twenty_kills_lose_and_double_no_row(published, tmp_path):
    album = fill(tmp_path / "album", 400)
    embed(published.onnx_file, album, tmp_path / "f.npz")
    out, chance = tmp_path / "s", random.Random(3)
    command = [sys.executable, "-m", "mizoo.cli", "embed", str(published.onnx_file), str(album), "-o", str(out)]
    command += ["--batch-size", "4", "--shard-size", "8"]
    kills = 0
    while kills < 20:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen = len(list(out.glob("*.jsonl")))
        while process.poll() is None and len(list(out.glob("*.jsonl"))) < seen + 1:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
        assert process.poll() is None, "it ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert_rows_of(out, tmp_path / "f.npz")
