"""The page of `mizoo report` holds what was measured, carries all that it needs, and is made again from its cache."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from support import shapes
from support.reported import EPOCHS, reported

from mizoo import data, recipes, zoo
from mizoo._tools.progress import Progress
from mizoo.errors import UserError
from mizoo.evaluate import measures
from mizoo.evaluate.published import entry_rows
from mizoo.report.page import build, figures, report
from mizoo.report.page.kept import kept
from mizoo.report.page.results import label_curves, results_table
from mizoo.report.page.sections import evidence_of, section
from mizoo.report.page.study import study
from mizoo.report.page.subject import Subject, find
from mizoo.report.page.verdict import START, judge


@pytest.fixture(scope="module")
def made():
    return reported()


@pytest.fixture(scope="module")
def arrays(made):
    """What the page is made of."""
    with Progress(False) as progress:
        subject = find(made.run, None, progress)
        return study(subject, "global", made.folder / "cache", progress)


def fetched(page: str) -> list[str]:
    """Every address that a browser would fetch by itself."""
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            for name, value in attributes:
                if name in ("src", "srcset", "poster", "data", "action") or (name == "href" and tag != "a"):
                    found.append(value)

    Reader().feed(page)
    return found + re.findall(r"url\(([^)]*)\)", page)


def test_the_page_needs_nothing_but_itself_and_names_no_path(made):
    assert all(address.startswith(("data:", "#")) for address in fetched(made.page))
    assert str(made.data.parent) not in made.page and "my shapes" in made.page
    assert made.file.stat().st_size < 5e6
    ids = re.findall(r'\sid="([^"]*)"', made.page)
    assert len(ids) == len(set(ids))


def test_it_has_the_verdict_the_curves_with_the_ceiling_and_the_watched_probe(made):
    assert made.page.count('class="verdict') == 1
    assert f"{EPOCHS} epochs" not in made.page  # enough of them
    drawings = re.findall(r"<figure><svg.*?</svg></figure>", made.page, re.DOTALL)
    texts = [re.findall(r"<text[^>]*>([^<]*)</text>", each) for each in drawings]
    assert any("ceiling" in each and "nats" in each for each in texts)
    assert any("accuracy of the probe, %" in each for each in texts)


def test_what_is_shown_is_what_loops_compute(made, arrays):
    encoder = zoo.load(made.run)
    shown, bank = data.load(made.data, "test"), data.load(made.data, "train")
    features = [encoder.predict(each.images, verbose=0)["global"].astype("float16") for each in (shown, bank)]
    scored, fitted = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in features)
    order = {image.tobytes(): i for i, image in enumerate(shown.images)}
    rows = [order[image.tobytes()] for image in arrays["thumbnails"]]
    for query, others in zip(arrays["queries"], arrays["neighbours"]):
        similar = scored @ scored[rows[query]]
        similar[rows[query]] = -1
        np.testing.assert_allclose(similar[[rows[i] for i in others]], np.sort(similar)[::-1][: len(others)], atol=1e-3)
    hits = 0
    for i, row in enumerate(rows):
        votes = np.zeros(4)
        for similarity, label in zip(fitted @ scored[row], bank.labels):
            votes[label] += np.exp(similarity / 0.1)
        hits += votes.argmax() == arrays["taken_for"][i]
    assert hits >= len(rows) - 1  # but for a tie in half precision
    np.testing.assert_array_equal(arrays["labels"], shown.labels[rows])
    assert arrays["histogram"].sum() == features[0].size
    right = np.mean(arrays["taken_for"] == arrays["labels"])
    assert evidence_of(_subject(made), arrays).accuracy[0] == pytest.approx(100 * right)
    assert f"is right on {100 * right:.1f} %" in made.page


@pytest.mark.parametrize(
    ("objective", "prior"),
    [
        ({"name": "deep_infomax"}, "uniform"),
        ({"name": "deep_infomax", "prior": "gaussian"}, "gaussian"),
        ({"name": "deep_infomax", "prior_weight": 0, "prior": "gaussian"}, None),
        ({"name": "aae", "prior": "gaussian"}, "gaussian"),
        ({"name": "vae"}, "gaussian"),
        ({"name": "simclr"}, None),
    ],
)
def test_the_prior_of_every_objective_is_the_flat_line_of_the_histogram(made, rng, objective, prior):
    content = {"name": "toy", "encoder": {"name": "conv32"}, "objective": objective, "data": {"source": "cifar10"}}
    subject = dataclasses.replace(_subject(made), recipe=recipes.validate(content))
    assert subject.prior == prior
    uniform = rng.uniform(size=(2000, 8))
    drawn = rng.normal(size=(2000, 8)) if prior == "gaussian" else np.log(uniform / (1 - uniform))
    counts = np.histogram(measures.uniform_where_matched(drawn, prior), 20, (0, 1))[0]
    assert counts.sum() == 16_000 and np.abs(counts / 800 - 1).max() < 0.15
    drawing = figures.histogram(counts, prior, "toy")
    assert (f"{prior.capitalize()} prior" if prior else "sigmoid of the coordinates") in drawing
    assert ("normal distribution function" in drawing) == (prior == "gaussian")


def _subject(made) -> Subject:
    with Progress(False) as progress:
        return find(made.run, None, progress)


def test_a_dot_stands_near_those_of_similar_pictures(arrays):
    place = arrays["place"]
    assert place.min() == 0 and place.max() == 1
    far = np.linalg.norm(place[:, None] - place[None], axis=-1)
    near = [far[query, others[:3]].mean() for query, others in zip(arrays["queries"], arrays["neighbours"])]
    assert np.mean(near) < 0.5 * far.mean()


FROM_CACHE = """
import sys
from mizoo.report.page import figures, report
report([sys.argv[1]], sys.argv[2], progress=False)
heavy = {"keras", "tensorflow", "jax"} & set(sys.modules)
sys.exit(", ".join(heavy) or 0)
"""


def test_the_same_page_comes_from_the_cache_without_an_encoder(made, tmp_path):
    shutil.copytree(made.folder / "cache", tmp_path / "report/cache")
    command = [sys.executable, "-c", FROM_CACHE, str(made.run), str(tmp_path / "report")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "report/index.html").read_text(encoding="utf-8") == made.page


def test_a_damaged_cache_is_computed_anew_and_other_content_is_not_mistaken_for_it(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"a": np.arange(5.0)}

    for _ in range(2):
        np.testing.assert_array_equal(kept(tmp_path, {"x": 1}, compute)["a"], np.arange(5.0))
    assert len(calls) == 1
    kept(tmp_path, {"x": 2}, compute)
    assert len(calls) == 2
    for damage in (lambda whole: b"", lambda whole: whole[:100], lambda whole: whole[:-300] + whole[-300:][::-1]):
        for file in tmp_path.glob("*.npz"):
            file.write_bytes(damage(file.read_bytes()))
        before = len(calls)
        np.testing.assert_array_equal(kept(tmp_path, {"x": 1}, compute)["a"], np.arange(5.0))
        assert len(calls) == before + 1


def test_what_is_incomplete_is_not_kept(tmp_path):
    made = [{"a": np.array(value)} for value in (-1, 3, 4)]
    found = [int(kept(tmp_path, {}, lambda: made.pop(0), lambda arrays: arrays["a"] >= 0)["a"]) for _ in range(3)]
    assert found == [-1, 3, 3] and len(made) == 1


def test_a_folder_that_changed_is_read_again(made, tmp_path):
    """Within one process, as in a notebook."""
    copy = tmp_path / "shapes"
    shutil.copytree(made.data, copy)
    with Progress(False) as progress:
        before = study(find(made.run, copy, progress), "global", tmp_path / "cache", progress)["thumbnails"]
        for file in (copy / "test").rglob("*.png"):
            Image.new("RGB", (32, 32)).save(file)
        after = study(find(made.run, copy, progress), "global", tmp_path / "cache", progress)["thumbnails"]
    assert before.any() and not after.any()


def test_pictures_that_are_among_the_training_pictures_too_are_told(made, arrays, tmp_path):
    copy = tmp_path / "shapes"
    shutil.copytree(made.data, copy)
    for file in sorted((copy / "train").rglob("*.png"))[:3]:
        shutil.copy(file, copy / "test" / file.parent.name / f"copy of {file.name}")
    with Progress(False) as progress:
        subject = find(made.run, copy, progress)
        page = section(subject, study(subject, "global", tmp_path / "cache", progress), "s0")
    assert "3 of the 123 pictures are among the training pictures too" in page
    assert "training pictures too" not in section(subject, arrays, "s0")


def test_training_pictures_that_are_away_leave_it_open_until_they_are_back(made, tmp_path):
    with Progress(False) as progress:
        subject = find(made.run, made.data, progress)
        moved = recipes.validate(subject.recipe.model_dump() | {"watch": None}).model_copy(
            update={
                "data": subject.recipe.data.model_copy(
                    update={"source": str(tmp_path / "away"), "without_files": ("train/broken.png",)}
                )
            }
        )
        there = dataclasses.replace(subject, recipe=moved)
        away = study(there, "global", tmp_path / "cache", progress)
        assert away["picks"][2] == -1 and evidence_of(there, away).picks is None
        shutil.copytree(made.data, tmp_path / "away")
        (tmp_path / "away/train/broken.png").write_bytes(b"x")  # which the run leaves out
        assert study(there, "global", tmp_path / "cache", progress)["picks"][2] > 0


def test_a_class_that_pictures_are_taken_for_has_a_name_though_none_is_shown(made, arrays, tmp_path):
    labels = np.minimum(arrays["labels"], 1)
    taken = np.full(len(labels), 2)
    shown = dict(arrays, labels=labels, taken_for=taken, classes=np.array(["round", "square", "pointed"]))
    with Progress(False) as progress:
        page = section(find(made.run, None, progress), shown, "s")
    assert '"classes":["round","square","pointed"]' in page


def test_other_pictures_of_the_same_name_are_other_data(made, tmp_path):
    copy = tmp_path / made.data.name
    shutil.copytree(made.data, copy)
    with Progress(False) as progress:
        same = find(made.run, copy, progress).source
        assert same == find(made.run, made.data, progress).source
        file = next(copy.rglob("*.png"))
        Image.new("RGB", (32, 32)).save(file)
        assert find(made.run, copy, progress).source != same


def test_a_run_is_shown_as_it_read_its_folder_however_the_path_is_written(made, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(made.run, run)
    file = next(path for path in made.data.rglob("*.png") if "train" in path.parts).relative_to(made.data).as_posix()
    recipe = recipes.load(made.run / "recipe.yaml", {"data.without_files": [file]})
    (run / "recipe.yaml").write_text(recipe.dump(), encoding="utf-8")
    monkeypatch.chdir(made.data.parent)
    with Progress(False) as progress:
        for written in (made.data, f"{made.data}/", f"./{made.data.name}"):
            assert find(run, written, progress).without == (file,), written


def test_other_pictures_of_one_folder_have_a_sheet_of_their_own(rng):
    """Two runs of one folder, one of them without some of its files."""
    shown = {"thumbnails": rng.integers(0, 256, (9, 8, 8, 3), dtype="uint8")}
    sheets, styles = build._sheets([shown, {"thumbnails": shown["thumbnails"][1:]}, {}, {**shown, "more": shown}])
    assert sheets[0] == sheets[3] != sheets[1] and sheets[2] == ""
    assert [styles.count(f".{sheet}{{") for sheet in sheets[:2]] == [1, 1]


def test_pictures_without_labels_have_a_map_and_no_mistakes_and_names_are_escaped(made, tmp_path):
    folder = tmp_path / "<img src=x>"
    folder.mkdir()
    for i, image in enumerate(shapes.draw(60, 9)[0]):
        Image.fromarray(image).save(folder / f"{i}.png")
    page = report([made.run], tmp_path / "report", folder, progress=False).read_text(encoding="utf-8")
    assert "<canvas" in page and "<h3>Mistakes" not in page and "confusion" not in page.split("<body>")[1]
    assert "the pictures have no labels" in page
    assert "<img src=x>" not in page and "&lt;img src=x&gt;" in page


def test_pictures_that_were_trained_on_are_not_the_others_of_the_memory_test(made, tmp_path):
    with Progress(False) as progress:
        seen = study(find(made.run, made.data / "train", progress), "global", tmp_path, progress)
    assert not seen["picks"].any()  # the fifth that is shown was trained on, all of it
    few = {**seen, "labels": seen["labels"][:10]}
    subject = dataclasses.replace(_subject(made), lines=())
    assert evidence_of(subject, few).rank is None and evidence_of(subject, seen).rank > 1


def test_a_run_that_began_with_weights_is_held_against_them(made, arrays, tmp_path):
    """A run that lost what the weights of `init_from` knew, and one whose start is gone."""
    run = tmp_path / "lost"
    run.mkdir()
    recipe = recipes.load(made.run / "recipe.yaml", {"init_from": str(made.run)})
    (run / "recipe.yaml").write_text(recipe.dump(), encoding="utf-8")
    encoder = recipe.encoder.build()
    encoder.set_weights([0 * weight for weight in encoder.get_weights()])
    encoder.save(run / "encoder.keras")
    with Progress(False) as progress:
        subject = find(run, None, progress)
        seen = study(subject, "global", tmp_path / "cache", progress)
        (run / "recipe.yaml").write_text(recipe.dump().replace(str(made.run), str(tmp_path / "gone")), encoding="utf-8")
        assert find(run, None, progress).start is None
    np.testing.assert_array_equal(seen["hits"][3], arrays["hits"][0])
    (finding,) = (each for each in judge(evidence_of(subject, seen)).findings if each.question == START)
    assert finding.word in ("no better", "worse") and "init_from" in finding.advice
    assert all(each.question != START for each in judge(evidence_of(_subject(made), arrays)).findings)


def test_an_encoder_of_sounds_has_a_verdict_without_a_map(tmp_path):
    page = report(["cpc_spoken_digit"], tmp_path, progress=False).read_text(encoding="utf-8")
    assert "Cannot tell" in page or "cannot tell" in page
    assert "<canvas" not in page.split("<body>")[1]


def test_only_the_epochs_since_the_views_changed_count():
    recipe = recipes.validate(
        {
            "name": "staged",
            "encoder": {"name": "three_stage"},
            "objective": {"name": "simclr"},
            "data": {
                "source": "cifar10",
                "augment": "views",
                "stages": [{"epochs": 3, "view_side": 16}, {"view_side": 24}],
            },
            "training": {"epochs": 8},
        }
    )
    lines = [{"epoch": float(epoch)} for epoch in range(1, 7)]
    subject = Subject("x", "x", "0", False, recipe, lines, "cifar10", "")
    assert [line["epoch"] for line in subject.steady_lines] == [4, 5, 6]
    early = Subject("x", "x", "0", False, recipe, lines[:3], "cifar10", "")
    assert [line["epoch"] for line in early.steady_lines] == [1, 2, 3]


def test_every_row_is_a_line_and_a_published_number_stands_beside_its_own_protocol_alone():
    rows = entry_rows("dim_local_cifar10")
    table = results_table(rows)
    lines = re.findall(r"<tr data-data=.*?</tr>", table)
    assert len(lines) == len(rows)
    for row, line in zip(rows, lines):
        assert f">{row.value:.2f}</td>" in line and f'data-endpoint="{row.endpoint}"' in line
        if row.protocol == "mlp200" and row.endpoint == "conv":
            assert "75.21 DIM(L) InfoNCE" in line.replace("<li>", " ")
        if row.protocol == "linear":
            of_the_paper = (row.dataset, row.endpoint) == ("cifar10", "fc")
            assert "DIM(L)" not in line and ("94.00" in line) == of_the_paper


def test_label_curves_have_a_line_for_each_encoder_in_the_order_of_the_shares():
    first = entry_rows("dim_local_cifar10")[0]
    rows = [
        dataclasses.replace(
            first, encoder=encoder, protocol="labels", value=value, spread=0.5, settings={"variant": str(share)}
        )
        for encoder, values in (("published", {100: 70.0, 1: 40.0, 10: 60.0}), ("random", {1: 20.0, 100: 50.0}))
        for share, value in values.items()
    ]
    drawn = label_curves(rows)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    assert {"1", "10", "100", "labels, %", "dim_local_cifar10", "dim_local_cifar10, random weights"} <= set(texts)
    assert drawn.count("<svg") == 1 and label_curves([first]) == ""
    drawn = label_curves([*rows, *(dataclasses.replace(row, endpoint="fc") for row in rows[:3])])
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    assert {f"dim_local_cifar10, {first.endpoint}", "dim_local_cifar10, fc"} <= set(texts)


def test_what_is_not_there_is_said_on_one_line(tmp_path):
    command = [sys.executable, "-m", "mizoo.cli", "report", "dim_locale_cifar10", "--out", str(tmp_path / "page")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    assert done.returncode == 2 and "dim_local_cifar10" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "page/index.html").exists()
    with Progress(False) as progress, pytest.raises(UserError, match="no folder"):
        find("dim_local_cifar10", "./nowhere", progress)
