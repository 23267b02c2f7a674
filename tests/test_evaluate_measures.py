"""Measures without labels, on features whose answer is known in closed form."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mizoo import report
from mizoo.data import Dataset, load, packed
from mizoo.errors import UserError
from mizoo.evaluate import MEASURES, evaluate, measures, merge_rows, read_rows
from mizoo.evaluate.protocols import TABLE, choose
from mizoo.evaluate.rows import Row

ROWS_OF_ALL = [
    ("mine", None),
    ("ndm", "sigmoid"),
    ("ndm", "plain"),
    ("prior_fit", "mean"),
    ("prior_fit", "worst"),
    ("prior_fit", "gaussian_mean"),
    ("prior_fit", "gaussian_worst"),
    ("effective_rank", None),
    ("alignment", None),
    ("uniformity", None),
]


def test_the_prior_fit_is_the_kolmogorov_smirnov_distance(rng):
    from scipy import stats

    features = rng.normal(size=(300, 3)) * [0.3, 1.7, 8.0]
    sigmoids = 1 / (1 + np.exp(-features))
    expected = [stats.ks_1samp(sigmoids[:, i], stats.uniform.cdf).statistic for i in range(3)]
    np.testing.assert_allclose(measures.prior_fit(features), expected, atol=1e-12)


def test_uniform_coordinates_fit_the_prior_and_others_do_not(rng):
    uniform = rng.random((20000, 2))
    logits = np.log(uniform / (1 - uniform))
    assert measures.prior_fit(logits).max() < 2 / np.sqrt(20000)  # beyond it once in a thousand times
    # A constant coordinate at 1/2 is half of the interval away, a saturated one all of it.
    np.testing.assert_allclose(measures.prior_fit(np.array([[0.0, 900.0]] * 50)), [0.5, 1.0])
    assert measures.prior_fit(rng.normal(size=(20000, 1)))[0] > 0.1


def test_the_fit_to_the_gaussian_prior_is_that_of_the_coordinates_themselves(rng):
    from scipy import stats

    features = rng.normal(size=(300, 3)) * [1.0, 0.2, 4.0] + [0.0, 0.3, -1.0]
    expected = [stats.ks_1samp(features[:, i], stats.norm.cdf).statistic for i in range(3)]
    np.testing.assert_allclose(measures.prior_fit(features, "gaussian"), expected, atol=1e-12)
    normal = rng.normal(size=(20000, 2))
    assert measures.prior_fit(normal, "gaussian").max() < 2 / np.sqrt(20000) < measures.prior_fit(normal).min()
    np.testing.assert_allclose(measures.prior_fit(np.array([[0.0, 900.0]] * 50), "gaussian"), [0.5, 1.0])
    with pytest.raises(UserError, match="prior.*uniform, gaussian"):
        measures.prior_fit(normal, "logistic")


def test_views_alike_are_aligned_and_opposite_ones_are_not(rng):
    features = rng.normal(size=(40, 6))
    assert measures.alignment(features, 3 * features) == pytest.approx(0, abs=1e-12)
    assert measures.alignment(features, -features) == pytest.approx(4)
    right = np.array([[1.0, 0.0]])
    assert measures.alignment(right, np.array([[0.0, 5.0]])) == pytest.approx(2)
    assert measures.alignment(np.zeros((1, 2)), right) == pytest.approx(1)  # no direction at all: no NaN


def test_uniformity_of_points_with_known_distances(rng):
    assert measures.uniformity(np.array([[2.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)  # exp(-2 * 2^2)
    assert measures.uniformity(np.ones((30, 4))) == pytest.approx(0, abs=1e-9)
    square = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    expected = np.log((2 * np.exp(-4) + np.exp(-8)) / 3)
    assert measures.uniformity(square) == pytest.approx(expected)
    points = rng.normal(size=(70, 5))
    assert measures.uniformity(points, block=9) == pytest.approx(measures.uniformity(points))
    # Rows of zeros have no direction, and are one point all the same: nothing is spread where all rows are alike.
    assert measures.uniformity(np.zeros((30, 4))) == pytest.approx(0.0)
    mixed = np.concatenate([np.zeros((2, 3)), [[1.0, 0, 0]]])
    assert measures.uniformity(mixed) == pytest.approx(np.log((1 + 2 * np.exp(-2)) / 3))


def short(module, **changes):
    return dataclasses.replace(module.SCHEDULE, **changes)


def test_ndm_of_independent_coordinates_is_nothing(rng, monkeypatch):
    from mizoo.evaluate.protocols import ndm
    from mizoo.mi import models

    monkeypatch.setattr(models, "CHUNK", 1 << 12)  # each row has shuffled rows of its own

    features = rng.normal(size=(4000, 4)) * [1, 5, 0.1, 2] + 3
    value, settings = ndm.neural_total_correlation(features[:3000], features[3000:], schedule=short(ndm, max_steps=100))
    assert abs(value) < 0.05
    assert settings["variant"] == "plain"


@pytest.mark.parametrize("sigmoid", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_ndm_of_a_gaussian_is_near_its_total_correlation(rng, monkeypatch, sigmoid):
    """A sigmoid of each coordinate changes no total correlation."""
    from mizoo.evaluate.protocols import ndm

    monkeypatch.setattr(ndm, "HIDDEN", (200, 50))
    correlation = 0.8 + 0.2 * np.eye(3)
    truth = -0.5 * np.log(np.linalg.det(correlation))  # 1.134 nats
    features = (rng.normal(size=(9000, 3)) @ np.linalg.cholesky(correlation).T).astype("float16")
    schedule = short(ndm, max_steps=400, learning_rate=2e-3, check_every=50)
    value, settings = ndm.neural_total_correlation(features[:6000], features[6000:], sigmoid, schedule=schedule)
    assert value == pytest.approx(truth, abs=max(0.12, 4 * settings["standard_error"]))
    if not sigmoid:
        assert settings["gaussian_nats"] == pytest.approx(truth, abs=0.06)
    assert ndm.gaussian_total_correlation(np.ones((9, 2))) is None


@pytest.mark.parametrize("truth", [0.0, 5.0])
def test_the_correlations_of_a_small_sample_are_not_taken_for_those_of_the_features(rng, truth):
    """64 coordinates in pairs, 160 rows: uncorrected it would be 15 nats more."""
    from mizoo.evaluate.protocols import ndm

    mixing = np.eye(64)
    rho = np.sqrt(1 - np.exp(-2 * truth / 32))
    for i in range(0, 64, 2):
        mixing[i + 1, i : i + 2] = rho, np.sqrt(1 - rho**2)
    found = [ndm.gaussian_total_correlation(rng.normal(size=(160, 64)) @ mixing.T) for _ in range(40)]
    assert np.mean(found) == pytest.approx(truth, abs=0.6)
    assert ndm.gaussian_total_correlation(rng.normal(size=(100, 64))) is None


def test_ndm_refuses_what_has_no_total_correlation(rng):
    from mizoo.evaluate.protocols import ndm

    with pytest.raises(UserError, match="two coordinates"):
        ndm.neural_total_correlation(rng.normal(size=(90, 1)), rng.normal(size=(20, 1)))
    with pytest.raises(UserError, match="50 pictures"):
        ndm.neural_total_correlation(rng.normal(size=(9, 2)), rng.normal(size=(20, 2)))


def coloured(rng, count, kept):
    """Pictures of four colours, a feature that names the colour for a share `kept` of them, and their information."""
    colour = rng.integers(0, 4, count)
    images = (np.array([30, 90, 150, 210])[colour][:, None, None, None] * np.ones((1, 6, 6, 3))).astype("uint8")
    named = np.where(rng.random(count) < kept, colour, (colour + rng.integers(1, 4, count)) % 4)
    lost = sum(-share * np.log(share / ways) for share, ways in ((kept, 1), (1 - kept, 3)) if share)
    return images, np.eye(4, dtype="float32")[named], np.log(4) - lost


@pytest.mark.parametrize("kept", [0.8, pytest.param(1.0, marks=pytest.mark.slow)])
def test_mine_finds_what_a_feature_tells_of_the_picture(rng, kept):
    from mizoo.evaluate.protocols import mine

    images, features, truth = coloured(rng, 4000, kept)
    data = (images[:3000], features[:3000], images[3000:], features[3000:])
    schedule = short(mine, max_steps=200, learning_rate=1e-3)
    value, settings = mine.neural_information(*data, schedule=schedule)
    assert value == pytest.approx(truth, abs=max(0.08, 4 * settings["standard_error"]))
    assert "infinite" in settings["truth"] and settings["max_steps"] == 200
    if kept == 1:
        again, _ = mine.neural_information(*data, schedule=schedule)
        assert again == value


def test_mine_finds_nothing_where_features_belong_to_other_pictures(rng):
    from mizoo.evaluate.protocols import mine

    images, features, _ = coloured(rng, 2000, 1.0)
    features = rng.permutation(features)
    value, _ = mine.neural_information(
        images[:1500], features[:1500], images[1500:], features[1500:], schedule=short(mine, max_steps=100)
    )
    assert abs(value) < 0.05


def encoder(channels=3):
    """Two endpoints: the mean colour, as `global`, and all pixels."""
    import keras
    from keras import layers

    images = keras.Input((8, 8, channels), name="images")
    scaled = layers.Rescaling(1 / 64, -2)(images)
    return keras.Model(images, {"wide": layers.Flatten()(scaled), "global": layers.GlobalAveragePooling2D()(scaled)})


@pytest.fixture
def bare(rng, monkeypatch):
    """Pictures without labels, and short fits."""
    from mizoo.evaluate.protocols import mine, ndm

    monkeypatch.setattr(mine, "SCHEDULE", short(mine, max_steps=100))
    monkeypatch.setattr(ndm, "SCHEDULE", short(ndm, max_steps=100))
    monkeypatch.setattr(ndm, "HIDDEN", (100, 50))
    colours = rng.integers(30, 220, (300, 1, 1, 3))
    return np.clip(colours + rng.integers(-20, 20, (300, 8, 8, 3)), 0, 255).astype("uint8")


def test_every_measure_is_a_row_and_takes_no_labels(bare, tmp_path):
    rows = evaluate(encoder(), Dataset("bare", bare), ["measures"], entry="small", progress=False)
    assert [(row.protocol, row.settings.get("variant")) for row in rows] == ROWS_OF_ALL
    assert {row.endpoint for row in rows} == {"global"}  # the wide one only on request
    assert {row.split for row in rows} == {"whole"}
    for row in rows:
        assert (row.train_size, row.test_size) == ((240, 60) if TABLE[row.protocol].fits else (0, 300))
        assert np.isfinite(row.value) and "cpu_seconds" in row.settings
    values = {(row.protocol, row.settings.get("variant")): row.value for row in rows}
    for prior in ("", "gaussian_"):
        assert values["prior_fit", f"{prior}worst"] >= values["prior_fit", f"{prior}mean"] > 0
    assert values["prior_fit", "gaussian_mean"] != values["prior_fit", "mean"]
    assert 1 < values["effective_rank", None] <= 3
    assert rows[0].command.endswith("--protocol measures")
    merge_rows(tmp_path / "results.json", rows)
    assert sorted(row.key for row in read_rows(tmp_path / "results.json")) == sorted(row.key for row in rows)


def test_a_folder_of_pictures_is_measured_whole(bare, tmp_path):
    from PIL import Image

    for i, picture in enumerate(bare[:12]):
        Image.fromarray(picture).save(tmp_path / f"{i:02}.png")
    (row,) = evaluate(encoder(), tmp_path, ["uniformity"], progress=False)
    colours = bare[:12].mean(axis=(1, 2)) / 64 - 2
    assert row.value == pytest.approx(measures.uniformity(colours), abs=2e-3)
    assert (row.dataset, row.split, row.test_size) == (tmp_path.name, "whole", 12)
    with pytest.raises(UserError, match="50 pictures"):
        evaluate(encoder(), tmp_path, ["ndm"], progress=False)
    packed.write({"train": load(tmp_path)}, tmp_path / "packed")
    (again,) = evaluate(encoder(), tmp_path / "packed", ["uniformity"], progress=False)
    assert (again.value, again.split) == (row.value, "whole")


def test_other_endpoints_and_raw_pixels_on_request(bare):
    rows = evaluate(encoder(), bare, ["effective_rank", "alignment"], ["wide"], progress=False)
    assert [(row.protocol, row.endpoint) for row in rows] == [("effective_rank", "wide"), ("alignment", "wide")]
    assert rows[1].settings["augment"] == "views"
    (row,) = evaluate(encoder(), bare, ["uniformity"], encoder="pixels", progress=False)
    assert row.endpoint == "pixels"
    assert row.command == f"mizoo evaluate {row.entry} --dataset array --protocol uniformity --encoder pixels"


def test_alignment_of_grey_pictures_is_refused_before_anything_is_fitted(bare, monkeypatch):
    from mizoo.evaluate.protocols import ndm

    monkeypatch.setattr(ndm, "neural_total_correlation", lambda *data, **more: pytest.fail("fitted first"))
    with pytest.raises(UserError, match="1 channel, not 3"):
        evaluate(encoder(1), bare[..., :1], ["ndm", "alignment"], progress=False)
    (row,) = evaluate(encoder(1), bare[..., :1], ["uniformity"], ["wide"], progress=False)
    assert np.isfinite(row.value)


def test_a_split_of_a_named_data_set_is_fitted_on_and_another_scored(bare, monkeypatch):
    from mizoo import data

    asked = []

    def load(source, split, size=None, **_):
        asked.append(split)
        return Dataset("named", bare[:250] if split == "train" else bare[200:])

    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr(data, "splits", lambda source: ("train", "test"))
    (row,) = evaluate(encoder(), "named", ["effective_rank"], progress=False)
    assert asked == ["test"] and (row.split, row.train_size, row.test_size) == ("test", 0, 100)
    rows = evaluate(encoder(), "named", ["ndm"], split="validation", progress=False)
    assert asked[1:] == ["train"]
    assert {(row.split, row.train_size, row.test_size) for row in rows} == {("validation", 200, 50)}


def test_probes_still_ask_for_labels_and_name_the_measures(bare, monkeypatch):
    from mizoo import data

    monkeypatch.setattr(data, "load", lambda source, split, size=None, **_: Dataset("bare", bare))
    with pytest.raises(UserError, match="--protocol measures"):
        evaluate(encoder(), "bare", progress=False)


def test_protocols_by_name():
    assert [protocol.name for protocol in choose(["knn", "measures", "mine"])] == ["knn", *MEASURES]
    for wrong, hint in ((["forest"], "'forest'"), ([], "nothing"), ("mine", "sequence")):
        with pytest.raises(UserError, match=hint):
            choose(wrong)
    assert all(protocol.unit and protocol.better in ("higher", "lower") for protocol in TABLE.values())


def test_sounds_are_refused(rng):
    with pytest.raises(UserError, match="pictures"):
        evaluate(encoder(), rng.normal(size=(20, 30)).astype("float32"), ["uniformity"], progress=False)


def test_the_table_of_measures_has_one_line_an_encoder_and_the_paper_apart():
    rows = []
    for i, (protocol, variant) in enumerate(ROWS_OF_ALL):
        settings = {"variant": variant} if variant else {}
        if TABLE[protocol].fits:
            settings["standard_error"] = 0.05
        common = {"entry": "dim", "encoder": "published", "dataset": "cifar10", "endpoint": "global", "spread": 0.0}
        rows.append(
            Row(
                **common,
                protocol=protocol,
                value=i + 0.25,
                seeds=1,
                split="test",
                train_size=50000 if TABLE[protocol].fits else 0,
                test_size=10000,
                settings=settings,
                command="mizoo evaluate dim",
                version="0",
                hardware="CPU",
                seconds=1.0,
            )
        )
    text = report.table(rows)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    numbers = ["0.25 ± 0.05", "1.25 ± 0.05", "2.25 ± 0.05", "3.250", "4.250", "5.250", "6.250", "7.25", "8.25", "9.25"]
    assert lines[2] == ["**`dim`**", *numbers]
    assert len(lines[0]) == 11 and all("↑" in head or "↓" in head for head in lines[0][1:])
    assert lines[3] == ["encoder", "MINE, nats ↑", "NDM, nats ↓", "NDM without sigmoid, nats ↓"]
    source = "([Hjelm et al. 2018, extended comparison](https://arxiv.org/abs/1808.06670))"
    assert [f"DIM(L) {source}", "45.09", "0.18", "9.18"] in lines
    assert "Hjelm" not in report.table(rows, compare=False)
    assert "Hjelm" not in report.table([row for row in rows if not TABLE[row.protocol].fits])
