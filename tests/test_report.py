"""Tables and cards say what the rows say."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from support.rows import a_row

from mizoo import report
from mizoo.errors import UserError
from mizoo.evaluate.rows import merge_rows
from mizoo.report import benchmark_tables, cards

WEIGHTS = "ab" * 32
ROW = a_row(
    entry="dim_small",
    protocol="mlp200",
    value=74.314,
    spread=0.127,
    seeds=3,
    settings={"schedule": "fast", "weights": WEIGHTS},
    command="mizoo evaluate dim_small --dataset cifar10",
    seconds=90.0,
)
ROWS = [
    ROW,
    dataclasses.replace(ROW, endpoint="conv", value=76.5),
    dataclasses.replace(ROW, encoder="random", settings={"schedule": "fast"}, value=55.25, command="mizoo evaluate r"),
    dataclasses.replace(ROW, encoder="pixels", endpoint="pixels", settings={"schedule": "fast"}, value=51.75),
    dataclasses.replace(
        ROW, protocol="knn", settings={"k": 200, "weights": WEIGHTS}, seeds=1, spread=0.0, value=66.125
    ),
]


def cells(text):
    """The lines of the markdown tables in `text` as lists of cells."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_a_table_holds_every_row_and_nothing_it_was_not_given():
    text = report.table(ROWS, compare=False)
    numbers = set(re.findall(r"\d+\.\d\d(?: ± \d\.\d\d)?", " ".join(map(" ".join, cells(text)))))
    assert numbers == {"74.31 ± 0.13", "76.50 ± 0.13", "55.25 ± 0.13", "51.75 ± 0.13", "66.12"}


def test_a_number_stands_in_the_column_of_its_endpoint_and_the_line_of_its_encoder():
    head, _, *body = cells(report.table([r for r in ROWS if r.protocol == "mlp200"], compare=False))
    assert head == ["encoder", "conv", "fc", "pixels"]
    assert body == [
        ["**`dim_small`**", "76.50 ± 0.13", "74.31 ± 0.13", ""],
        ["`dim_small`, random weights", "", "55.25 ± 0.13", ""],
        ["raw pixels", "", "", "51.75 ± 0.13"],
    ]


def test_a_number_by_another_rule_stands_in_a_column_of_its_own():
    rows = [dataclasses.replace(r, dataset="cifar10", split="test") for r in ROWS if r.protocol == "knn"]
    head, _, *body = cells(report.table(rows, compare=True))
    assert head == ["encoder", *{row.endpoint: None for row in rows}, "fc, best test epoch"]
    ours, *others = body
    assert ours[-1] == "" and ours[1] == "66.12"
    assert others and all(line[1:-1] == [""] * len(line[1:-1]) and float(line[-1]) > 80 for line in others)


def test_protocols_splits_and_schedules_never_share_a_table():
    more = [
        dataclasses.replace(ROW, split="validation"),
        dataclasses.replace(ROW, settings={"schedule": "paper"}),
        dataclasses.replace(ROW, dataset="cifar100"),
    ]
    text = report.table(ROWS + more, compare=False)
    titles = [line for line in text.splitlines() if line.startswith("Top-1")]
    assert len(titles) == len(set(titles)) == 5
    assert sum("`knn`" in title for title in titles) == 1


def test_papers_stand_beside_ours_only_under_the_same_protocol_split_and_data():
    mlp = report.table([ROW])
    paper = "DIM(L) InfoNCE ([Hjelm et al. 2018, Table 1](https://arxiv.org/abs/1808.06670))"
    assert [paper, "75.21", "75.57", "69.13"] in cells(mlp)
    for change in ({"protocol": "knn"}, {"split": "validation"}, {"dataset": "mnist"}):
        assert "Hjelm et al. 2018, Table 1" not in report.table([dataclasses.replace(ROW, **change)])


def test_the_papers_rows_have_a_source_a_protocol_and_plausible_numbers():
    for paper in report.papers():
        assert paper["source"] and paper["url"].startswith("https://") and paper["protocol"] and paper["split"]
        for row in paper["rows"]:
            assert row["method"]
            most = 100 if paper["protocol"] not in ("mine", "ndm") else 1000  # percent, or nats
            assert all(0 < value < most for key, value in row.items() if key != "method")
    assert not any("DV" in row["method"] for paper in report.papers() for row in paper["rows"])
    extended = [paper for paper in report.papers() if "extended" in paper["source"] and paper.get("variant") != "plain"]
    methods = {tuple(row["method"] for row in paper["rows"]) for paper in extended}
    assert len(extended) == 4 and len(methods) == 1  # one table of the paper: all of its encoders by each measure


def test_no_rows_make_no_table():
    assert report.table([]) == ""


@pytest.fixture
def entry(fake_zoo):
    """A published entry in a folder of its own: registry, recipe, manifest and rows."""
    info = {
        "summary": "A small encoder",
        "objective": "Deep InfoMax",
        "dataset": "CIFAR-10",
        "paper": "Hjelm et al. 2018, arXiv 1808.06670",
        "license": "CC-BY-4.0",
        "input": {"shape": [32, 32, 3], "range": [0, 255]},
        "endpoints": {"conv": [4, 4, 256], "fc": [1024], "global": [64]},
        "files": {
            "encoder.keras": {"path": "models/dim_small/encoder.keras", "sha256": WEIGHTS, "bytes": 9900000},
            "encoder.onnx": {"path": "export/dim_small/encoder.onnx", "sha256": "cd" * 32, "bytes": 9800000},
        },
    }
    fake_zoo.register({"dim_small": info})
    root = fake_zoo.root
    models, export = root / "models" / "dim_small", root / "export" / "dim_small"
    models.mkdir(parents=True)
    export.mkdir(parents=True)
    (models / "recipe.yaml").write_text(
        "name: dim_small\nencoder: {name: conv32, widths: [64, 128, 256]}\n"
        "objective: {prior_weight: 0.1}\ndata: {source: cifar10, split: train}\ntraining: {epochs: 33}\n"
    )
    described = {"pictures": 256, "differences": {"onnx": {"fc": 2.5e-7}, "saved_model": {"fc": 1e-7}}}
    (export / "manifest.json").write_text(json.dumps({"files": info["files"], **described}))
    merge_rows(models / "results.json", ROWS)
    return root


def test_a_card_says_all_that_a_reader_needs(entry):
    text = cards.card("dim_small")
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == list(cards.SECTIONS)
    for section, needed in {
        "What it is": ["A small encoder", "32x32x3", "0 to 255"],
        "Load it": ['mizoo.load("dim_small")', 'endpoint="fc"', 'runtime="onnx"'],
        "Endpoints": ["`conv`", "4 x 4 x 256", "4,096", "sigmoid"],
        "Training": ["cifar10", "`training.epochs` | 33", "64, 128, 256"],
        "Results": ["74.31 ± 0.13", "66.12", "random weights", "raw pixels", "3 seeds", "75.57", "CPU, 2 cores"],
        "Files": [WEIGHTS, "9.9 MB", "2.5e-07", "256 pictures"],
        "Make it again": ["mizoo pretrain dim_small", ROW.command, "mizoo evaluate r", "mizoo card dim_small"],
        "Limits": ["32x32"],
        "Licence": ["CC-BY-4.0", "Apache-2.0"],
        "Citation": ["1808.06670"],
    }.items():
        body = text.split(f"## {section}\n")[1].split("\n## ")[0]
        for words in needed:
            assert words in body, f"{section} lacks {words!r}"


def test_a_card_says_what_the_training_went_on_from(entry):
    models, export = entry / "models" / "dim_small", entry / "export" / "dim_small"
    (models / "first.yaml").write_text("name: dim_small_first\n")
    (models / "recipe.yaml").write_text(
        "name: dim_small\ninit_from: runs/dim_small_first\ndata: {source: cifar10, split: train}\n"
    )
    before = {"sha256": "ef" * 32, "epochs": 39, "seconds": 4680, "hardware": "a CPU", "backend": "jax"}
    before["teachers"] = {"large": "ab" * 32}
    trained = {"epochs": 50, "seconds": 6000, "hardware": "a GPU", "backend": "tensorflow", "before": before}
    trained["teachers"] = {"other": "cd" * 32}
    manifest = json.loads((export / "manifest.json").read_text())
    (export / "manifest.json").write_text(json.dumps({**manifest, "trained": trained}))
    text = cards.card("dim_small")
    assert f"on a GPU, tensorflow backend. The teachers were `other` (SHA-256 `{'cd' * 32}`). The run started" in text
    assert "50 epochs took 100 minutes on a GPU" in text
    assert f"The run started with the weights of the encoder with the SHA-256 `{'ef' * 32}` (39 epochs" in text
    assert f"The teachers were `large` (SHA-256 `{'ab' * 32}`). " in text
    assert "| `init_from` | runs/dim_small_first |" in text
    assert "\nmizoo pretrain models/dim_small/first.yaml\nmizoo pretrain dim_small\n" in text
    (models / "first.yaml").write_text("name: dim_small_first\ninit_from: runs/older\n")
    (models / "begin.yaml").write_text("name: older\n")
    text = cards.card("dim_small")
    assert "in this order, `models/dim_small/begin.yaml`, `models/dim_small/first.yaml`." in text
    runs = ("models/dim_small/begin.yaml", "models/dim_small/first.yaml", "dim_small")
    assert "".join(f"\nmizoo pretrain {run}" for run in runs) + "\n" in text


def test_a_card_says_how_fast_it_is_where_that_was_measured(entry):
    manifest = entry / "export/dim_small/manifest.json"
    assert "a second" not in cards.card("dim_small") and "mizoo speed" not in cards.card("dim_small")
    speed = {
        "rate": 2840.0,
        "unit": "pictures",
        "hardware": "CPU, 1 core",
        "batch_size": 256,
        "command": "mizoo speed d",
    }
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "speed": speed}))
    text = cards.card("dim_small")
    assert "ONNX Runtime encodes 2,840 pictures a second on CPU, 1 core, in batches of 256." in text
    assert "\nmizoo speed d\nmizoo card dim_small\n" in text


SIGMOID, GAUSSIAN = "before the sigmoid that the prior sees", "the Gaussian prior sees, without a sigmoid"


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ("{}", SIGMOID),
        ("{name: deep_infomax, prior: gaussian}", GAUSSIAN),
        ("{name: deep_infomax, prior: gaussian, prior_weight: 0}", None),
        ("{name: aae}", SIGMOID),
        ("{name: vae}", GAUSSIAN),
        ("{name: 'mypackage.module:Mine', views: 1, prior_weight: 1.0}", None),
    ],
)
def test_a_card_says_which_prior_sees_global(entry, objective, said):
    (entry / "models/dim_small/recipe.yaml").write_text(f"name: dim_small\nobjective: {objective}\n")
    text = cards.card("dim_small")
    assert [words for words in (SIGMOID, GAUSSIAN) if words in text] == ([said] if said else [])
    assert "Trained on CIFAR-10 without labels" in text and "labels are not used" in text


def test_a_card_says_where_labels_were_used(entry):
    recipe, manifest = entry / "models/dim_small/recipe.yaml", entry / "export/dim_small/manifest.json"
    recipe.write_text("name: dim_small\nobjective: {name: supervised}\n")
    text = cards.card("dim_small")
    assert "Trained on CIFAR-10 with labels." in text and "its labels are the targets" in text
    recipe.write_text("name: dim_small\ninit_from: runs/other\n")
    before = {"sha256": "ef" * 32, "before": {"sha256": "ab" * 32, "labels": True}}
    told = {"epochs": 1, "seconds": 60, "before": before}
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "trained": told}))
    text = cards.card("dim_small")
    assert "Trained on CIFAR-10 with labels." in text and "labels are not used. 1 epochs" in text
    assert f"That one started with the weights of the encoder with the SHA-256 `{'ab' * 32}`. It was trained" in text
    registry = json.loads((entry / "mizoo/zoo/registry.json").read_text())
    registry["dim_small"]["objective"] = "supervised"
    (entry / "mizoo/zoo/registry.json").write_text(json.dumps(registry))
    assert "supervised-learning, supervised]" in cards.card("dim_small").split("\n---\n")[0]


def test_write_card_puts_the_card_beside_the_encoder(entry):
    path = cards.write_card("dim_small")
    assert path == entry / "models" / "dim_small" / "README.md"
    assert path.read_text() == cards.card("dim_small")


def test_rows_of_other_weights_are_not_printed_as_the_entrys(entry):
    stale = dataclasses.replace(ROW, settings={"schedule": "fast", "weights": "ef" * 32})
    merge_rows(entry / "models" / "dim_small" / "results.json", [stale])
    with pytest.raises(UserError, match="mizoo evaluate dim_small"):
        cards.card("dim_small")


def test_a_manifest_of_other_files_is_not_printed_as_the_entrys(entry):
    file = entry / "export/dim_small/manifest.json"
    manifest = json.loads(file.read_text())
    manifest["files"]["encoder.keras"]["sha256"] = "ef" * 32
    file.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="another encoder.keras than the published one"):
        cards.card("dim_small")


@pytest.mark.parametrize("missing", ["models/dim_small/recipe.yaml", "export/dim_small/manifest.json"])
def test_a_card_without_its_sources_is_refused(entry, missing):
    (entry / missing).unlink()
    with pytest.raises(UserError, match=re.escape(missing.split("/")[-1])):
        cards.write_card("dim_small")
    assert not (entry / "models" / "dim_small" / "README.md").exists()


def page(root, text):
    (root / "README.md").write_text(text)
    return root / "README.md"


def test_report_writes_the_blocks_and_leaves_the_rest(entry):
    path = page(entry, "before\n\n<!-- table: mlp200 cifar10 -->\nold\n<!-- /table -->\n\nafter\n")
    assert report.write_tables(entry) == [path]
    text = path.read_text()
    assert text.startswith("before\n\n<!-- table: mlp200 cifar10 -->\nTop-1")
    assert text.endswith("|\n<!-- /table -->\n\nafter\n")
    assert "74.31 ± 0.13" in text and "old" not in text and "66.12" not in text
    report.write_tables(entry)
    assert path.read_text() == text


def test_what_was_trained_at_length_and_not_published_has_a_table_of_its_rows(entry):
    path = page(entry, "<!-- table: trials at length -->\n<!-- /table -->\n")
    (entry / "benchmarks").mkdir()
    rows = [dataclasses.replace(ROW, split="validation", entry="muon"), dataclasses.replace(ROW, split="validation")]
    merge_rows(entry / "benchmarks" / "trials_at_length.json", rows)
    report.write_tables(entry)
    assert "validation split" in path.read_text() and "Hjelm et al. 2018, Table" not in path.read_text()
    assert [line[0] for line in cells(path.read_text())[2:]] == [f"**`{ROW.entry}`**", "**`muon`**"]


def test_trials_stand_beside_the_recipe_with_their_differences(tmp_path):
    path = tmp_path / "trials.json"
    common = {"entry": "dim_small", "seeds": 3, "hardware": "CPU, 2 cores", "spread": 0.25, "endpoint": "fc"}
    rows = [
        {
            **common,
            "trial": "rate",
            "changes": {"optimizer.learning_rate": 0.002},
            "value": 59.5,
            "hardware": "CPU, 1 core",
        },
        {**common, "trial": "recipe", "changes": {}, "value": 61.75},
        {
            **common,
            "trial": "recipe",
            "base_changes": {"data.augment": "dim"},
            "changes": {},
            "value": 1.0,
            "entry": "other",
        },
    ]
    path.write_text(json.dumps({"epochs": 4, "rows": rows}))
    text = benchmark_tables.trials_table(path, "dim_small")
    assert "after 4 epochs" in text and text.splitlines()[0].endswith(". CPU, 1 core; CPU, 2 cores.")
    assert cells(text)[0] == ["change", "fc"]
    assert cells(text)[2:] == [
        ["the recipe", "61.75 ± 0.25"],
        ["`optimizer.learning_rate: 0.002`", "59.50 ± 0.25 (-2.2)"],
    ]
    other = cells(benchmark_tables.trials_table(path, "other"))
    assert other[2:] == [['the recipe with `data.augment: "dim"`', "1.00 ± 0.25"]]
    with pytest.raises(UserError, match="no row of its own recipe"):
        benchmark_tables.trials_table(path, "dim_large")


def test_the_cost_of_an_augmentation_stands_beside_its_step(tmp_path):
    row = {
        "entry": "dim_small",
        "augment": "views",
        "views": 2,
        "batch_size": 64,
        "step_ms": 200.4,
        "augment_ms": 5.06,
    }
    path = tmp_path / "cost.json"
    rows = [row | {"share": 0.0252}, row | {"share": 0.0252, "keras_ms": 311.6}]
    path.write_text(json.dumps({"hardware": "CPU, 2 cores", "backend": "jax", "rows": rows}))
    text = benchmark_tables.augment_table(path)
    assert "CPU, 2 cores, jax backend" in text
    assert cells(text)[2:] == [
        ["`dim_small`", "`views`, 2 of 64 pictures", keras, "200", "5.1", "2.5 %"] for keras in ("", "312")
    ]


def test_the_rates_of_frameworks_stand_side_by_side(tmp_path):
    rates = [("one", 16, 800), ("one", 24, 380), ("two", 16, 640)]
    rows = [{"case": case, "side": side, "views_per_cpu_second": rate, "turns": 3} for case, side, rate in rates]
    (tmp_path / "step.json").write_text(json.dumps({"hardware": "CPU, 2 cores", "views": 512, "rows": rows}))
    text = benchmark_tables.step_table(tmp_path / "step.json")
    assert "512 views a step" in text and "CPU, 2 cores" in text
    assert cells(text)[0] == ["network", "16 px", "24 px"]
    assert cells(text)[2:] == [["one", "800", "380"], ["two", "640", ""]]


def test_encoders_of_photographs_stand_beside_what_they_began_with(tmp_path):
    trained = {"epochs": 18, "hardware": "CPU, 1 core"}
    rows = [
        {"encoder": "raw pixels", "begins_with": "", "side": 64, "linear": 30.0, "knn": 25.5},
        {"encoder": "mine", "begins_with": "dim_small", "side": 64, "linear": 70.123, "knn": 65.0} | trained,
        {"encoder": "dim_small", "begins_with": "", "side": 32, "linear": 50.0, "knn": 45.0},
    ]
    content = {"pictures": 9000, "endpoint": "fc", "rows": [row | {"test": 2500} for row in rows]}
    (tmp_path / "own_pictures.json").write_text(json.dumps(content))
    text = benchmark_tables.own_pictures_table(tmp_path / "own_pictures.json")
    assert "2,500 photographs" in text and "9,000" in text and "at most 1.0" in text and "CPU, 1 core" in text
    assert cells(text)[2:] == [
        ["raw pixels", "", "none here", "64", "30.00", "25.50"],
        ["`mine`", "`dim_small`", "18 epochs", "64", "70.12", "65.00"],
        ["`dim_small`", "", "none here", "32", "50.00", "45.00"],
    ]


def test_an_ablation_compares_with_the_recipe_and_takes_each_optimiser_at_its_best_rate(tmp_path):
    values = {
        "recipe": (60, 62),
        "half a ResNet-18": (58,),
        "muon-0.1": (60.5,),
        "adamw-0.001": (50,),
        "adamw-0.002": (52,),
    }
    rows = [
        {"trial": trial, "minutes": 10.0, "seed": seed, "epochs": 4, "linear": value, "knn": value - 10}
        for trial, both in values.items()
        for seed, value in enumerate(both)
    ]
    rows = [row | {"precision": "float32", "cpu_minutes": 9.0 + row["seed"]} for row in rows]
    path = tmp_path / "ablation.json"
    path.write_text(json.dumps({"pictures": 15000, "hardware": "CPU, 1 core", "rows": rows}))
    title, parts, optimizers = benchmark_tables.ablation_table(path).split("\n\n")
    assert "in float32. CPU, 1 core." in title
    assert cells(parts)[2:] == [
        ["recipe", "10", "9.5", "2", "4", "61.00 ± 1.41", "51.00 ± 1.41", ""],
        ["half a ResNet-18", "10", "9.0", "1", "4", "58.00", "48.00", "-3.00"],
    ]
    assert [row[:3] for row in cells(optimizers)[2:]] == [
        ["muon", "0.05, 0.1", "0.05"],
        ["adamw", "0.001, 0.002", "0.002"],
    ]
    assert cells(optimizers)[3][3:] == ["10", "9.0", "1", "4", "52.00", "42.00"]


def test_label_budgets_are_means_over_draws_and_gains_of_pairs(tmp_path):
    values = {"frozen": (40, 44), "unfrozen": (50, 53), "scratch": (30, 37)}
    rows = [
        {"data": "cifar10", "labels": 1000, "mode": mode, "draw": draw, "value": value, "test_size": 10000}
        for mode, both in values.items()
        for draw, value in enumerate(both)
    ]
    one = [row | {"labels": 5000} for row in rows if row["draw"] == 0]
    budget = {"steps": 200, "batch_size": 64, "rate": 0.001, "augment": "dim"}
    path = tmp_path / "budgets.json"
    path.write_text(
        json.dumps({"encoder": "dim_small", "budget": budget, "hardware": "CPU, 1 core", "rows": rows + one})
    )
    text = benchmark_tables.label_budgets_table(path)
    assert "10,000 of cifar10" in text and "200 steps of 64" in text and "CPU, 1 core" in text
    assert cells(text)[2:] == [
        ["cifar10", "1,000", "2", "42.00 ± 2.83", "51.50 ± 2.12", "33.50 ± 4.95", "+18.00"],
        ["cifar10", "5,000", "1", "40.00", "50.00", "30.00", "+20.00"],
    ]
    for left, expected in ((rows[:-1], ["40.00", "50.00", "30.00", "+20.00"]), (rows[:-2], None)):
        path.write_text(json.dumps({"encoder": "x", "budget": budget, "hardware": "", "rows": left}))
        if expected is None:
            with pytest.raises(UserError, match="No draw in .* is whole"):
                benchmark_tables.label_budgets_table(path)
        else:
            assert cells(benchmark_tables.label_budgets_table(path))[2:] == [["cifar10", "1,000", "1", *expected]]


def test_report_lists_entries_and_the_agreement_of_schedules(entry):
    path = page(
        entry,
        "<!-- table: entries -->\n<!-- /table -->\n<!-- table: probe schedule -->\n<!-- /table -->\n",
    )
    (entry / "benchmarks").mkdir()
    row = {"encoder": "trained", "endpoint": "fc", "spread": 0.1}
    content = {
        "seeds": 4,
        "hardware": "CPU, 2 cores",
        "rows": [
            row | {"schedule": "paper", "mean": 66.0, "cpu_seconds": 500.2},
            row | {"schedule": "fast", "mean": 65.9, "cpu_seconds": 40.0},
            row | {"schedule": "paper", "endpoint": "conv", "mean": 70.0, "cpu_seconds": 900.0},
        ],
    }
    (entry / "benchmarks" / "probe_schedule.json").write_text(json.dumps(content))
    report.write_tables(entry)
    found = cells(path.read_text())
    assert ["trained", "fc", "66.00 ± 0.10", "65.90 ± 0.10", "-0.10", "500", "40"] in found
    assert not any("conv" in line for line in found[-1:])
    assert any(line[0] == "[`dim_small`](models/dim_small/README.md)" and "9.9 MB" in line for line in found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table: nonsense -->\n<!-- /table -->\n", "nonsense"),
        ("<!-- table: mlp200 cifar10 -->\n", "no end"),
        ("<!-- table: linear cifar10 -->\n<!-- /table -->\n", "mizoo evaluate"),
    ],
)
def test_a_block_that_cannot_be_written_is_refused_and_nothing_changes(entry, text, message):
    good = "<!-- table: mlp200 cifar10 -->\nold\n<!-- /table -->\n"
    path = page(entry, good + text)
    with pytest.raises(UserError, match=message):
        report.write_tables(entry)
    assert path.read_text() == good + text
