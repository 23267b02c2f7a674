"""benchmarks/paper_models.py and batch_and_bounds.py: what they train and measure, how they resume, their tables."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
from support.rows import a_row

keras = pytest.importorskip("keras")

from mizoo import recipes  # noqa: E402
from mizoo.data.dataset import Dataset  # noqa: E402
from mizoo.report.benchmark_tables import batch_and_bounds_table  # noqa: E402
from mizoo.report.labels import papers  # noqa: E402
from mizoo.report.paper_models_table import paper_models_tables  # noqa: E402
from mizoo.runs.folder import write_log  # noqa: E402

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
VALUES = {"conv": 60.5, "fc": 55.25, "global": 50.125}


def load(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Fake:
    """Stands for training and measuring: run folders and rows of known content, and a list of what was asked for."""

    def __init__(self):
        self.trained, self.measured, self.fail_at = [], [], None

    def pretrain(self, recipe, folder, callbacks):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "encoder.keras").exists():
            self.trained.append((recipe.name, recipe.training.epochs, recipe.training.batch_size, recipe.data.split))
            (folder / "encoder.keras").write_text(recipe.name)
            (folder / "machine.json").write_text('{"hardware": "CPU, 1 core"}')
            epochs = range(1, recipe.training.epochs + 1)
            write_log(folder, [{"epoch": i, "local_mi": 2.0, "seconds": 90.0 * i} for i in epochs])
            for epoch in epochs:
                callbacks[0].on_epoch_end(epoch - 1)

    def evaluate(self, folder, dataset, protocols, endpoints, rows=lambda row: None, split="test", entry="", **others):
        done = []
        for protocol in protocols:
            for endpoint in endpoints:
                self.measured.append((Path(folder).name, protocol, endpoint))
                if len(self.measured) == self.fail_at:
                    raise KeyboardInterrupt
                seeds = 3 if protocol == "mlp200" else 1
                schedule = {"schedule": "fast"} if protocol == "mlp200" else {}
                row = a_row(entry=entry, protocol=protocol, endpoint=endpoint, value=VALUES[endpoint], split=split)
                settings = {"weights": "ab" * 32} | schedule
                row = dataclasses.replace(row, seeds=seeds, spread=0.25 * (seeds > 1), settings=settings)
                row = dataclasses.replace(row, dataset="cifar10", source="tfds:cifar10/3.0.2")
                rows(row)
                done.append(row)
        return done


@pytest.fixture
def fake():
    return Fake()


@pytest.fixture
def script(fake, monkeypatch, rng):
    module = load("paper_models")
    costs = {"paper_cifar10/supervised": 0.1, "paper_cifar10/vae": 0.3, "paper_cifar10/dim_local_concat": 0.01}
    monkeypatch.setattr(module, "step_seconds", costs.__getitem__)
    monkeypatch.setattr(module, "pretrain", fake.pretrain)
    monkeypatch.setattr(module, "evaluate", fake.evaluate)
    pictures = rng.integers(0, 256, (1280, 1, 1, 3), dtype="uint8")
    monkeypatch.setattr(module.data, "load", lambda source, split: Dataset(source, pictures, None))
    return module


def arguments(tmp_path, *more):
    common = ["--protocol", "mlp200", "--protocol", "knn", "--out", str(tmp_path / "rows.json")]
    return ["vae", "supervised", "dim_local_concat", *common, "--runs", str(tmp_path / "runs"), *more]


def test_the_family_is_every_recipe_of_its_folder():
    module = load("paper_models")
    assert {f"{module.FOLDER}{name}" for name in module.FAMILY} == {
        name for name in recipes.names() if name.startswith(module.FOLDER)
    }
    published = {row["method"] for paper in papers() if paper["protocol"] == "mlp200" for row in paper["rows"]}
    assert {paper for _, paper in module.FAMILY.values() if paper} <= published
    random_weights = recipes.load("dim_local_cifar10").encoder  # whose rows stand in the same tables
    assert all(recipes.load(f"{module.FOLDER}{name}").encoder == random_weights for name in module.FAMILY)


def test_the_cheapest_is_first_and_an_interrupted_run_makes_what_is_missing_alone(script, fake, tmp_path):
    fake.fail_at = 9
    with pytest.raises(KeyboardInterrupt):
        script.main(arguments(tmp_path))
    assert [name for name, *_ in fake.trained] == ["paper_dim_local_concat_cifar10", "paper_supervised_cifar10"]
    assert fake.trained[0][1:] == (8, 32, "train") and fake.trained[1][1:] == (15, 128, "train")
    content = json.loads((tmp_path / "rows.json").read_text())
    assert len(content["rows"]) == 8 and content["recipes"]["paper_cifar10/supervised"]["cpu_minutes"] >= 0
    before, fake.fail_at = len(fake.measured), None
    script.main(arguments(tmp_path))
    whole = json.loads((tmp_path / "rows.json").read_text())
    missing = [("mlp200", "global"), ("knn", "conv"), ("knn", "fc"), ("knn", "global")]
    assert fake.measured[before : before + 4] == [("supervised", *each) for each in missing]
    assert whole["rows"][:8] == content["rows"] and len(whole["rows"]) == 18 and len(fake.trained) == 3
    assert len({facts["weights"] for facts in whole["recipes"].values()}) == 3
    script.main(arguments(tmp_path))
    assert json.loads((tmp_path / "rows.json").read_text()) == whole and len(fake.trained) == 3
    (tmp_path / "runs" / "vae" / "encoder.keras").write_text("another run")
    with pytest.raises(SystemExit, match="another run"):  # seen once there is something left to measure
        script.main(arguments(tmp_path, "--protocol", "linear"))


def test_shorter_runs_have_a_length_and_a_file_of_their_own(script, fake, tmp_path):
    script.main(arguments(tmp_path, "--plan"))
    assert not fake.trained and set(json.loads((tmp_path / "rows.json").read_text())["recipes"]) == {
        f"paper_cifar10/{name}" for name in ("vae", "supervised", "dim_local_concat")
    }
    with pytest.raises(SystemExit, match="--out"):
        script.main(arguments(tmp_path, "--epochs", "2"))
    out = ["--out", str(tmp_path / "short.json")]
    script.main(arguments(tmp_path, "--minutes", "0.1", "--split", "train[:1280]", *out))
    # 10 steps of 128 pictures of 0.1 and 0.3 s, and 40 of 32 of 0.01 s, within 6 s
    lengths = {name: epochs for name, epochs, *_ in fake.trained}
    assert lengths == {
        f"paper_{name}_cifar10": n for name, n in (("vae", 2), ("supervised", 6), ("dim_local_concat", 8))
    }
    assert {each[3] for each in fake.trained} == {"train[:1280]"}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        f"{name}_minutes_0.1" for name in ("vae", "supervised", "dim_local_concat")
    }


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_the_tables_put_the_papers_numbers_into_columns_of_their_own(script, fake, tmp_path):
    fake.fail_at = 13  # the last recipe is planned and not measured
    with pytest.raises(KeyboardInterrupt):
        script.main(arguments(tmp_path))
    text = paper_models_tables(tmp_path / "rows.json")
    lines = cells(text)
    heads = [line for line in lines if line[0] == "recipe"]
    assert heads[1] == ["recipe", "conv", "fc", "global", "the paper's conv", "the paper's fc", "the paper's global"]
    assert heads[2] == ["recipe", "conv", "fc", "global"] and len(heads) == 3
    costs, probes, knn = ({line[0]: line[1:] for line in lines[start : start + 5]} for start in (0, 5, 10))
    labels = {name: f"{label}, `paper_cifar10/{name}`" for name, (label, _) in script.FAMILY.items()}
    assert costs[labels["supervised"]][:3] == ["15", "128", "100"] and costs[labels["supervised"]][-1] == "22.5"
    ours = ["60.50 ± 0.25", "55.25 ± 0.25", "50.12 ± 0.25"]
    assert probes[labels["supervised"]] == [*ours, "75.39", "", ""]
    assert probes[labels["dim_local_concat"]] == [*ours, "", "", ""]
    assert probes[labels["vae"]] == ["", "", "", "60.71", "60.54", "54.61"]
    assert knn[labels["supervised"]] == ["60.50", "55.25", "50.12"]
    content = json.loads((tmp_path / "rows.json").read_text())
    content["recipes"]["paper_cifar10/vae"]["hardware"] = "CPU, 8 cores"  # begun on one machine, finished on another
    (tmp_path / "two.json").write_text(json.dumps(content))
    costs = cells(paper_models_tables(tmp_path / "two.json"))[:5]
    assert costs[0][-1] == "machine" and {line[-1] for line in costs[2:]} == {"CPU, 1 core", "CPU, 8 cores"}
    assert "`fast`" in text and "1,000 epochs" in text and text.count("Protocol") == 2


def test_random_weights_and_pixels_stand_below_what_was_measured_alike(script, fake, tmp_path):
    script.main(arguments(tmp_path))
    row = dataclasses.replace(a_row(entry="same", dataset="cifar10", source="tfds:cifar10/3.0.2"), value=41.25)
    rows = [
        dataclasses.replace(row, encoder="random"),
        dataclasses.replace(row, encoder="pixels", endpoint="pixels"),
        dataclasses.replace(row, encoder="random", endpoint="conv", train_size=500),  # other numbers of pictures
        dataclasses.replace(row, encoder="random", endpoint="local"),  # that no recipe was measured on
        dataclasses.replace(row, encoder="random", protocol="mlp200", settings={"schedule": "paper"}),
    ]
    text = paper_models_tables(tmp_path / "rows.json", rows)
    assert cells(text)[-7][1:] == ["conv", "fc", "global", "pixels"] and text.count("41.25") == 2
    assert cells(text)[-2:] == [["`same`, random weights", "", "41.25", "", ""], ["raw pixels", "", "", "", "41.25"]]


def test_the_papers_extended_comparison_stands_below_in_a_column_of_its_own(script, fake, tmp_path):
    chosen = ["--protocol", "reconstruct", "--endpoint", "global", "--out", str(tmp_path / "rows.json")]
    script.main(["vae", *chosen, "--runs", str(tmp_path / "runs")])
    head, _, ours, *theirs = cells(paper_models_tables(tmp_path / "rows.json").partition("Protocol")[2])
    assert head[:2] == ["recipe", "global"] and len(head) == 3 and "the paper's" in head[2]
    assert ours == ["VAE, `paper_cifar10/vae`", "50.12", ""]
    assert [line[1:] for line in theirs if line[0].startswith("DIM(L+G)")] == [["", "0.53"]]


def test_batches_and_bounds_resume_and_stand_in_a_table_with_their_picture(fake, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    script = load("batch_and_bounds")
    monkeypatch.setattr(script, "pretrain", fake.pretrain)
    monkeypatch.setattr(script, "evaluate", fake.evaluate)
    out = tmp_path / "rows.json"
    given = ["--pictures", "512", "--epochs", "1", "--out", str(out), "--runs", str(tmp_path / "runs")]
    fake.fail_at = 4
    with pytest.raises(KeyboardInterrupt):
        script.main(given)
    first, fake.fail_at = json.loads(out.read_text())["rows"], None
    assert [(row["bound"], row["batch_size"], row["steps"]) for row in first] == [("infonce", 256, 2)]
    script.main(given)
    rows = json.loads(out.read_text())["rows"]
    assert rows[0] == first[0] and len(fake.trained) == 9
    assert {(row["bound"], row["batch_size"]) for row in rows} == {
        (bound, size) for bound in ("infonce", "jsd", "dv") for size in (16, 64, 256)
    }
    assert {each[3] for each in fake.trained} == {"train[:512]"} and {each[1] for each in fake.trained} == {1}
    with pytest.raises(SystemExit):
        script.main([*given, "--epochs", "2"])
    text = batch_and_bounds_table(out)
    assert cells(text)[2][:3] == ["InfoNCE", "16", "32"] and cells(text)[2][-3:] == ["55.25", "55.25", "2.00"]
    assert [line[0] for line in cells(text)[2:]] == ["InfoNCE"] * 3 + ["JSD"] * 3 + ["Donsker-Varadhan"] * 3
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG" and "../benchmarks/rows.png" in text
