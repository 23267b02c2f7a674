"""`mizoo list` and `mizoo speed`: what one chooses an entry by, and how fast it is."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from support.encoders import publish
from support.rows import a_row

from mizoo import cli, zoo
from mizoo.errors import UserError
from mizoo.evaluate import overview, speed
from mizoo.evaluate.rows import write_rows
from mizoo.zoo import OnnxEncoder

row = functools.partial(a_row, protocol="linear")
SPEED = {"rate": 2840.0, "median": 2770.0, "unit": "pictures", "batch_size": 256, "hardware": "CPU, 1 core"}
SHAPES = {"input": {"shape": [32, 32, 3]}, "endpoints": {"local": [8, 8, 6], "fc": [16]}}


def test_the_best_is_that_of_published_weights_on_the_test_split_of_its_own_data():
    higher = [
        row(value=99.0, encoder="random"),
        row(value=98.0, split="validation"),
        row(value=97.0, dataset="mnist"),
        row(value=96.0, protocol="knn"),
        row(value=95.0, precision="mixed_bfloat16"),
        row(value=94.0, dataset="cifar100"),
    ]
    found = overview.best([row(), *higher, row(value=72.5, endpoint="conv", precision="float32")], "linear", "cifar10")
    sizes = {"train_size": 50000, "test_size": 10000}
    assert found == {"value": 72.5, "endpoint": "conv", "dataset": "cifar10", **sizes}
    assert overview.best(higher, "linear", "cifar10") is None


def test_of_several_labels_the_hardest_counts_by_its_best_endpoint():
    digits = [row(dataset="spoken_digit/digit", endpoint=end, value=value) for end, value in (("a", 90), ("b", 80))]
    speakers = [row(dataset="spoken_digit/speaker", endpoint=end, value=value) for end, value in (("a", 70), ("b", 99))]
    found = overview.best(digits + speakers, "linear", "spoken_digit")
    assert (found["value"], found["endpoint"], found["dataset"]) == (90, "a", "spoken_digit/digit")


@pytest.fixture
def entries(fake_zoo):
    """Four entries: `a` and `b` measured, `c` with nothing but its files, and `d` with rows that are damaged."""
    registry = {}
    for name, size in (("a", 5_000_000), ("b", 3_000_000), ("c", 9_900_000), ("d", 1_000_000)):
        file = {"path": f"models/{name}/encoder.keras", "sha256": "ab" * 32, "bytes": size}
        registry[name] = {"objective": "simclr", "dataset": "cifar10", **SHAPES, "files": {"encoder.keras": file}}
        (fake_zoo.root / "models" / name).mkdir()
        (fake_zoo.root / "export" / name).mkdir()
    registry["b"]["input"] = {"shape": [None], "sampling_rate": 8000}
    registry["b"]["endpoints"] = {"local": [None, 256]}
    fake_zoo.register(registry)
    for name, value, rate in (("a", 70.0, 500.0), ("b", 75.0, 2840.0)):
        rows = [row(entry=name, value=value), row(entry=name, value=60.0, protocol="knn", endpoint="global")]
        write_rows(fake_zoo.root / f"models/{name}/results.json", rows[: 1 if name == "b" else 2])
        (fake_zoo.root / f"export/{name}/manifest.json").write_text(json.dumps({"speed": {**SPEED, "rate": rate}}))
    (fake_zoo.root / "models/d/results.json").write_text("{")
    return fake_zoo


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("name", "abcd"),
        ("size", "dbac"),
        ("linear", "bacd"),
        ("knn", "abcd"),
        ("speed", "bacd"),
        ("objective", "abcd"),
    ],
)
def test_the_best_comes_first_and_what_is_not_known_last(entries, sort, order):
    assert "".join(each["name"] for each in overview.overview(sort=sort)) == order


def test_what_is_not_known_is_none_and_damage_is_said(entries):
    warnings = []
    a, _, c, d = overview.overview(warn=warnings.append)
    assert a["linear"]["value"] == 70.0 and a["knn"]["endpoint"] == "global" and a["speed"]["rate"] == 500.0
    for nothing in (c, d):
        assert nothing["linear"] is nothing["knn"] is nothing["speed"] is None
    assert len(warnings) == 1 and warnings[0].startswith("d: ") and "not readable" in warnings[0]
    assert overview.overview("x*") == []
    (entries.root / "export/c/manifest.json").write_text("[]")
    overview.overview("c", warn=warnings.append)
    assert "c: " in warnings[1] and "manifest.json is damaged" in warnings[1]


def run(monkeypatch, capsys, *arguments: str) -> tuple[str, str]:
    """What a command prints on standard output and error."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["mizoo", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    printed = capsys.readouterr()
    assert not stopped.value.code, printed.err
    return printed.out, printed.err


def test_the_list_is_a_line_for_each_entry_under_titles(entries, monkeypatch, capsys):
    out, err = run(monkeypatch, capsys, "list", "--sort", "speed")
    head, *lines = out.splitlines()
    assert head.split() == list(overview.HEAD)
    assert lines[0].split() == "b sound, 8000 Hz local any x 256 3.0 MB simclr 75.00 fc 2,840".split()
    assert lines[1].split() == "a 32x32x3 local 8x8x6, fc 16 5.0 MB simclr 70.00 fc 60.00 global 500".split()
    assert lines[2].split() == "c 32x32x3 local 8x8x6, fc 16 9.9 MB simclr".split() and len(lines) == 4
    assert "ONNX Runtime on CPU, 1 core" in err and "`mizoo speed c d`" in err and "warning: d: " in err


def test_the_list_names_the_recipes_that_have_no_weights(entries, monkeypatch, capsys):
    for recipe in ("mine/recipe.yaml", "paper/vae.yaml", "a/recipe.yaml", "a/first.yaml"):
        file = entries.root / "models" / recipe
        file.parent.mkdir(exist_ok=True)
        file.touch()
    line = "recipes without weights, for `mizoo pretrain`: "
    assert f"{line}mine, paper/vae\n" in run(monkeypatch, capsys, "list")[1]
    assert run(monkeypatch, capsys, "list", "paper*") == ("", f"{line}paper/vae\n")
    assert line not in run(monkeypatch, capsys, "list", "a*")[1]


def test_the_list_in_json_is_the_overview(entries, monkeypatch, capsys):
    out, err = run(monkeypatch, capsys, "list", "[ab]", "--sort", "linear", "--json")
    assert json.loads(out) == overview.overview("[ab]", "linear") and not err
    with pytest.raises(UserError, match="`sort` is one of name, size, objective, linear, knn, speed"):
        overview.overview(sort="beauty")


def test_a_list_takes_the_core_installation_alone():
    code = (
        "import sys; from mizoo.commands import listing; listing.list_entries('*', 'linear', True);"
        "print([m for m in ('keras', 'tensorflow', 'jax', 'pydantic', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def small_net(fake_zoo):
    """The zoo with the published toy encoder in it."""
    published = publish()
    fake_zoo.copy_from(published.root)
    fake_zoo.register(published.registry)
    pinned = published.registry["small_net"]["files"]
    manifest = {"pictures": 7, "files": {name: {"sha256": facts["sha256"]} for name, facts in pinned.items()}}
    (fake_zoo.root / "export/small_net/manifest.json").write_text(json.dumps(manifest))
    return fake_zoo


def test_the_speed_is_inputs_by_the_time_of_the_thread_in_the_fastest_round(small_net, monkeypatch):
    spent, calls = [0.0], []

    def call(self, images):
        """Takes 100 ms of the clock that is asked, and 90 ms in the last round."""
        calls.append(images)
        spent[0] += 0.09 if len(calls) > 1 + 4 * (speed.ROUNDS - 1) else 0.1
        assert self.threads == 1
        return {}

    monkeypatch.setattr(OnnxEncoder, "__call__", call)
    monkeypatch.setattr(speed, "_ROUND", 0.39)
    monkeypatch.setattr(time, "thread_time", lambda: spent[0])
    found = speed.measure("small_net", 40)
    assert (found.rate, found.median) == (444.0, 400.0)  # 40 in 0.09 s or 0.1 s; the first call is not timed
    assert {(each.shape, each.dtype.name) for each in calls} == {((40, 32, 32, 3), "uint8")}
    assert found.command == "mizoo speed small_net --batch-size 40" and found.unit == "pictures"
    assert str(found) == f"444 pictures/s, batches of 40, {found.hardware}" and "1 core" in found.hardware


def test_a_speed_is_kept_in_the_manifest_until_other_weights_are_published(small_net, monkeypatch, capsys):
    monkeypatch.setattr(speed, "_ROUND", 0.0005)
    out, _ = run(monkeypatch, capsys, "speed", "small_net", "--batch-size", "3")
    path = small_net.root / "export/small_net/manifest.json"
    assert out.startswith("small_net  ") and "batches of 3" in out
    assert "speed" not in json.loads(path.read_text())  # of another batch than those of the others
    monkeypatch.setattr(speed, "_BATCHES", {"pictures": 3})
    out, _ = run(monkeypatch, capsys, "speed")
    kept = json.loads(path.read_text())
    assert kept["pictures"] == 7 and kept["speed"]["rate"] > 0 and kept["speed"]["batch_size"] == 3
    assert out == f"small_net  {speed.Speed(**kept['speed'])}\n"
    assert overview.overview()[0]["speed"] == kept["speed"]
    for wrong in ({"files": {"encoder.onnx": {"sha256": "cd" * 32}}}, None):
        path.write_text(json.dumps(wrong)) if wrong else path.unlink()
        with pytest.raises(UserError, match="manifest.json is missing or describes another file"):
            speed.keep("small_net", speed.Speed(**kept["speed"]))
    with pytest.raises(UserError, match="`batch_size`"):
        speed.measure("small_net", 0)


def test_an_encoder_of_one_thread_computes_the_same(small_net, rng):
    images = rng.integers(0, 256, (5, 32, 32, 3), dtype="uint8")
    path = zoo.path("small_net", "encoder.onnx")
    one, several = (OnnxEncoder(path, "fc", threads=threads)(images) for threads in (1, None))
    np.testing.assert_allclose(one, several, atol=1e-5)


@pytest.mark.parametrize("name", zoo.list_models())
def test_every_entry_that_ships_has_all_that_one_chooses_by(name):
    (each,) = overview.overview(name)
    assert each["linear"]["value"] > 50 and each["size"] > 1e6 and each["input"] and each["endpoints"]
    assert each["speed"]["command"] == f"mizoo speed {name}" and each["speed"]["rate"] >= each["speed"]["median"] > 0
