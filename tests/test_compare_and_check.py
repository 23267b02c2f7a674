"""Two encoders told apart, rows measured again, and what pretraining is worth in labels."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from mizoo import zoo
from mizoo.data import Dataset
from mizoo.errors import UserError
from mizoo.evaluate import evaluate, merge_rows, read_rows
from mizoo.evaluate.checking import Check, check, label, select
from mizoo.evaluate.comparison import Comparison, compare, mcnemar
from mizoo.evaluate.rows import Row
from mizoo.evaluate.utility import utility
from mizoo.report import table
from mizoo.report.variant_table import utility_table


def a_row(protocol="linear", value=70.0, spread=0.0, **more) -> Row:
    facts = dict(
        entry="net", encoder="published", dataset="cifar10", endpoint="fc", protocol=protocol, value=value,
        spread=spread, seeds=3 if spread else 1, split="test", train_size=50000, test_size=10000, settings={},
        command="mizoo evaluate net", version="0.2.0", hardware="CPU", seconds=1.0, source="tfds:cifar10/3.0.2",
        precision="float32",
    )  # fmt: skip
    return Row(**(facts | more))


# McNemar.


def test_mcnemar_counts_the_pictures_that_one_alone_gets_right(rng):
    labels = rng.integers(0, 3, 500)
    first, second = rng.integers(0, 3, 500), rng.integers(0, 3, 500)
    expected = [0, 0, 0, 0]
    for a, b, truth in zip(first, second, labels):
        expected[2 * (a != truth) + (b != truth)] += 1
    assert list(mcnemar(first, second, labels)) == expected


@pytest.mark.parametrize(("alone", "p"), [((1, 9), 2 * 11 / 1024), ((5, 5), 1.0), ((0, 0), 1.0), ((0, 6), 2 / 64)])
def test_the_p_value_is_that_of_a_fair_coin(alone, p):
    """Exact by hand: twice the chance of so few heads, 1 at most."""
    result = Comparison(("a", "b"), "linear", "d", "fc", 80, *alone, 10)
    assert result.p_value == pytest.approx(p)
    assert result.difference == pytest.approx(result.accuracies[0] - result.accuracies[1])


def test_the_error_bar_covers_the_truth_as_often_as_it_says(rng):
    """Paired throws of known chances: 95 % of the intervals hold the true difference of 5 points."""
    covered = 0
    for _ in range(400):
        draws = rng.choice(4, size=2000, p=[0.6, 0.15, 0.10, 0.15])
        result = Comparison(("a", "b"), "linear", "d", "fc", *np.bincount(draws, minlength=4).tolist())
        covered += abs(result.difference - 5) <= result.margin
    assert 0.92 <= covered / 400 <= 0.98


@pytest.fixture
def halves(rng, monkeypatch):
    """Pictures of two kinds of brightness, with labels."""
    from mizoo import data

    def part(count):
        labels = rng.integers(0, 2, count)
        images = rng.integers(0, 215, (count, 4, 4, 3)) + 40 * labels[:, None, None, None]
        return Dataset("halves", images.astype("uint8"), labels)

    parts = {"train": part(600), "test": part(400)}
    monkeypatch.setattr(data, "load", lambda source, split, size=None, **_: parts[split])


def brightness(sees: float, name: str):
    """An encoder that sees the mean brightness, under noise of the picture's own unless `sees` is 1."""
    import keras

    images = keras.Input((4, 4, 3), name="images")
    pixels = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    kernel = np.full((48, 2), sees / 48)
    kernel[:4, 1] += 4 * (1 - sees)  # four pixels that stand for no class
    kernel[:4, 0] -= 4 * (1 - sees)
    layer = keras.layers.Dense(2, use_bias=False)
    model = keras.Model(images, {"fc": layer(pixels)}, name=name)
    layer.set_weights([kernel])
    return model


def test_a_better_encoder_is_named_and_the_same_one_is_not(halves, tmp_path):
    good, bad = brightness(1.0, "good"), brightness(0.05, "bad")
    for protocol in ("linear", "svm", "knn"):
        (result,) = compare(good, bad, "halves", (protocol,), progress=False)
        if protocol != "knn":  # which sees directions alone, and brightness is a length
            assert result.difference > 2 * result.margin and result.p_value < 1e-3, protocol
            assert "good is better" in result.summary()
        by_itself = evaluate(good, "halves", [protocol], ["fc"], progress=False)[0].value
        assert result.accuracies[0] == pytest.approx(by_itself, abs=1e-3)
    good.save(tmp_path / "good.keras")
    (same,) = compare(tmp_path / "good.keras", good, "halves", progress=False)
    assert same.difference == 0 and same.p_value == 1 and "no difference is shown" in same.summary()


def test_two_encoders_of_one_name_are_told_apart(halves, tmp_path):
    good, bad = brightness(1.0, "best"), brightness(0.05, "best")
    (result,) = compare(good, bad, "halves", progress=False, cache=False)
    assert "best (1) is better" in result.summary()
    files = [tmp_path / name / "best.keras" for name in ("good", "bad")]
    for file, model in zip(files, (good, bad)):
        file.parent.mkdir()
        model.save(file)
    (result,) = compare(*files, "halves", progress=False, cache=False)
    assert f"{files[0]} is better" in result.summary()


def test_pictures_that_were_fitted_on_are_counted_without_progress(rng):
    images = rng.integers(0, 256, (40, 4, 4, 3), dtype="uint8")
    good = brightness(1.0, "good")
    for copied in (False, True):
        pictures = np.concatenate([images, images]) if copied else images
        source = Dataset("noise", pictures, np.arange(len(pictures)) % 2)
        (found,) = compare(good, good, source, ("knn",), split="validation", progress=False, cache=False)
        said = f"\n{found.test_in_train} of these pictures are also among those that were fitted on"
        assert (found.test_in_train > 0) == (said in found.summary()) == copied


def test_a_file_of_onnx_is_compared(rng):
    images = rng.integers(0, 256, (40, 32, 32, 3), dtype="uint8")
    file = zoo.path("cpc_cifar10", "encoder.onnx")
    data = Dataset("noise", images, np.arange(40) % 2)
    (same,) = compare(file, "cpc_cifar10", data, ("knn",), split="validation", progress=False, cache=False)
    assert same.endpoint == "fc" and same.count == 8 and same.first_alone == same.second_alone


def test_what_cannot_be_compared_is_refused(halves):
    import keras

    good = brightness(1.0, "good")
    with pytest.raises(UserError, match="linear, knn, svm.*mlp200"):
        compare(good, good, "halves", ("mlp200",), progress=False)
    other = keras.Model(good.inputs[0], {"deep": good.output["fc"]})
    with pytest.raises(UserError, match="endpoint that both have.*fc and deep"):
        compare(good, other, "halves", progress=False)


# Rows measured again.


@pytest.mark.parametrize(
    ("row", "change", "moved"),
    [
        (a_row(), 0.5, False),
        (a_row(), -0.51, True),
        (a_row("mlp200", spread=0.4), 0.8, False),
        (a_row("mlp200", spread=0.4), 0.81, True),
        (a_row("mine", 6.0, settings={"standard_error": 0.1}), 0.19, False),
        (a_row("mine", 6.0, settings={"standard_error": 0.1}), 0.21, True),
        (a_row("reconstruct", 0.5), 0.011, True),
        (a_row("effective_rank", 50.0), 0.9, False),
    ],
)
def test_a_row_moved_by_more_than_half_a_point_or_twice_its_spread(row, change, moved):
    result = Check(row, dataclasses.replace(row, value=row.value + change))
    assert result.moved == moved
    assert result.line().startswith("MOVED" if moved else "same")
    other = dataclasses.replace(row, source="tfds:cifar10/4.0.0")
    assert "the data are others" in Check(row, other).line()


def test_rows_are_chosen_by_their_words():
    rows = [a_row(), a_row("knn"), a_row("knn", endpoint="conv"), a_row("labels", settings={"variant": "10"})]
    assert select(rows, []) == rows
    assert select(rows, ["knn"]) == rows[1:3]
    assert select(rows, ["fc/knn", "knn/fc", "labels/10"]) == [rows[1], rows[3]]
    assert label(rows[3]) == "labels/10/fc/published/cifar10/test"
    clips = [a_row(dataset="spoken_digit/digit"), a_row(dataset="spoken_digit/speaker")]
    assert select(clips, ["digit"]) == select(clips, [label(clips[0])]) == clips[:1]
    with pytest.raises(UserError, match="svm.*There are:\n  linear/fc"):
        select(rows, ["svm"])


def test_rows_of_what_cannot_be_found_again_are_refused():
    for row in (a_row("mine_own"), a_row(source="sha256:abc")):
        with pytest.raises(UserError, match="on data sets of TFDS"):
            check("net", [row], progress=False)


def test_rows_are_measured_as_they_were_and_one_that_differs_is_found(halves, tmp_path):
    encoder = brightness(1.0, "good")
    rows = evaluate(encoder, "halves", ["knn", "labels:50", "retrieval:p1"], progress=False)
    again = check(encoder, rows, progress=False)
    assert [each.new.value for each in again] == [row.value for row in rows] and not any(each.moved for each in again)
    wrong = [rows[0], dataclasses.replace(rows[1], value=rows[1].value - 1)]
    assert [each.moved for each in check(encoder, wrong, progress=False)] == [False, True]


def test_the_endpoints_of_all_rows_are_extracted_in_one_pass(halves, monkeypatch):
    import keras

    from mizoo.evaluate import cache

    good = brightness(1.0, "good")
    encoder = keras.Model(good.inputs[0], {"fc": good.output["fc"], "global": good.output["fc"] * 2}, name="two")
    rows = evaluate(encoder, "halves", ["knn", "retrieval:p1"], ["fc", "global"], progress=False)
    pictures, extract = [], cache.extract

    def counting(encoder, images, *rest):
        pictures.append(len(images))
        return extract(encoder, images, *rest)

    monkeypatch.setattr(cache, "extract", counting)
    assert len(check(encoder, rows, progress=False)) == 4
    assert sorted(pictures) == [400, 600]


def test_the_command_ends_with_status_1_where_a_row_moved(tmp_path, monkeypatch, capsys):
    from typer.testing import CliRunner

    from mizoo import cli
    from mizoo.evaluate import checking

    path = tmp_path / "rows.json"
    merge_rows(path, [a_row(), a_row("knn")])
    for change, status in ((0.0, 0), (2.0, 1)):
        measured = [a_row("knn", value=70 + change)]
        monkeypatch.setattr(checking, "evaluate", lambda *_, found=measured, **__: found)
        result = CliRunner().invoke(cli.app, ["evaluate", "net", "--check", "--rows", str(path), "--row", "knn"])
        assert result.exit_code == status, result.output
        assert f"1 rows measured again, {status} moved" in result.output
    for words in (["net", "other"], ["net", "--row", "knn"], ["net", "--compare"]):
        result = CliRunner().invoke(cli.app, ["evaluate", *words])
        assert isinstance(result.exception, UserError), words


@pytest.mark.parametrize(
    "words, says",
    [
        (
            ["--check", "--protocol", "knn", "--endpoint", "fc"],
            "`--check` does not take --protocol, --endpoint. .*knn/fc",
        ),
        (["--check", "--seeds", "3"], "does not take --seeds"),  # its default, and asked for
        (
            ["other", "--compare", "--encoder", "random", "--rows", "x.json"],
            "`--compare` does not take --encoder, --rows",
        ),
        (["other", "--compare", "--check"], "`--compare` does not take --check. It takes --dataset, --protocol, "),
    ],
)
def test_options_that_would_change_nothing_are_refused(words, says, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from mizoo import cli

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["evaluate", "net", *words])
    assert isinstance(result.exception, UserError) and re.search(says, str(result.exception)), result.exception


def test_a_results_file_in_the_home_folder_is_found(tmp_path, monkeypatch):
    """A shell leaves the tilde of `--rows=~/rows.json` as it is."""
    from mizoo.evaluate.keeping import Keeper

    monkeypatch.setenv("HOME", str(tmp_path))
    Keeper("~/rows.json", None)(a_row())
    merge_rows(tmp_path / "rows.json", [a_row("knn")])
    assert len(read_rows(tmp_path / "rows.json")) == 2


# Utility.


def test_utility_is_read_off_the_curve_from_scratch():
    """A curve that rises by 10 points for each tenfold of the labels; the answers follow by hand."""
    scratch = {100: 30.0, 1000: 40.0, 10000: 50.0}
    found = utility({10: 25.0, 100: 35.0, 1000: 40.0, 5000: 55.0}, scratch)
    assert [each.labels for each in found] == [10, 100, 1000, 5000]
    assert [each.bound for each in found] == ["<", "", "", ">"]
    assert found[1].needed == pytest.approx(10**2.5) and found[1].value == pytest.approx(10**0.5 - 1)
    assert found[2].value == pytest.approx(0) and found[2].saved == pytest.approx(0, abs=1e-9)
    assert found[3].needed == 10000 and found[3].value == 1
    dented = utility({100: 40.0}, {100: 30.0, 1000: 42.0, 2000: 41.0, 10000: 50.0})
    assert 100 < dented[0].needed < 1000
    with pytest.raises(UserError, match="two numbers at least"):
        utility({10: 25.0}, {100: 30.0})


def curve(protocol, values, encoder="published", entry="net"):
    return [
        a_row(protocol, value, 0.5 if share < 25 else 0.0, encoder=encoder, entry=entry, train_size=500 * share,
              settings={"variant": str(share)})
        for share, value in values.items()
    ]  # fmt: skip


def test_label_curves_are_one_table_a_protocol_with_shares_as_columns():
    rows = curve("labels", {1: 50.0, 10: 60.0, 100: 70.0}) + curve("labels", {1: 20.0, 100: 40.0}, "pixels")
    rows += curve("labels_scratch", {1: 40.0, 10: 60.0, 100: 80.0}, "random") + [a_row("knn")]
    text = table(rows)
    assert text.count("| encoder | endpoint | 1 % | 10 % | 100 % |") == 2
    assert "| **`net`** | `fc` | 50.00 ± 0.50 | 60.00 ± 0.50 | 70.00 |" in text
    assert "| raw pixels | `fc` | 20.00 ± 0.50 |  | 40.00 |" in text.replace("`pixels`", "`fc`")
    assert text.count("Protocol `") == 3  # knn, labels and labels_scratch, each in a table of its own
    written = utility_table(rows)
    assert "`labels` of `fc`" in written and "raw pixels" not in written
    assert "| 1,581 (2.2) | 5,000 (0.0) | 15,811 (-0.7) |" in written
    assert utility_table(curve("labels", {1: 50.0})) == ""
    others = [dataclasses.replace(row, endpoint="conv", value=1.0) for row in rows if row.protocol == "labels_scratch"]
    assert utility_table([*rows, *others]) == utility_table([*others, *rows]) == written


def test_a_table_of_other_data_than_the_encoders_were_trained_on_says_so():
    trained = {"settings": {"trained_on": "cifar10"}}
    other = table([a_row("knn", dataset="mnist", source="tfds:mnist/3.0.1", **trained)])
    assert "Transfer: the encoders were trained on cifar10. Protocol `knn`" in other
    assert "Transfer" not in table([a_row("knn", **trained), a_row("svm")])
    sounds = {"dataset": "spoken_digit/speaker", "source": "tfds:spoken_digit/1.0.9"}
    assert "Transfer" not in table([a_row("linear", **sounds, settings={"trained_on": "spoken_digit"})])


def test_reconstructions_of_the_paper_stand_in_a_column_of_their_own():
    text = table([a_row("reconstruct", 0.41, endpoint="global"), a_row("svm", 60.0)])
    (ours,) = [line for line in text.splitlines() if "| **`net`** | 0.4" in line]
    assert ours.endswith("| 0.41 |  |") and "MS-SSIM" in text
    paper = [line for line in text.splitlines() if "DIM(L)" in line and "0.37" in line]
    assert len(paper) == 1 and "|  | 0.37 |" in paper[0]
