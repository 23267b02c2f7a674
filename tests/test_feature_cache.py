"""Features are extracted once and found again by content; an evaluation that was interrupted goes on."""

from __future__ import annotations

import multiprocessing
import os

import numpy as np
import pytest
from support.encoders import toy_encoder
from support.rows import a_row

from mizoo.data import Dataset
from mizoo.errors import UserError
from mizoo.evaluate import Protocol, Score, cache, evaluate, features, random_copy, read_rows
from mizoo.evaluate.cache import FeatureCache, open_cache
from mizoo.evaluate.unfinished import Unfinished
from mizoo.report import table


@pytest.fixture(scope="module")
def encoder():
    return toy_encoder()


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (30, 32, 32, 3), dtype="uint8")


@pytest.fixture
def counted(encoder, monkeypatch):
    """Pictures that the encoder has been asked about."""
    seen = []
    original = type(encoder).predict_on_batch

    def predict_on_batch(self, batch):
        seen.append(len(batch))
        return original(self, batch)

    monkeypatch.setattr(type(encoder), "predict_on_batch", predict_on_batch)
    return seen


def files_of(store):
    return sorted(store.folder.glob("*.features"))


def test_the_second_time_nothing_is_computed_and_the_values_are_the_same(tmp_path, encoder, images, counted):
    store = FeatureCache(tmp_path / "cache", 10**9)
    first = store.features(encoder, images, None)
    done = []
    again = FeatureCache(tmp_path / "cache", 10**9).features(encoder, images, None, done.append)
    assert sum(counted) == 30 and sum(done) == 30
    assert list(first) == list(again) == ["local", "conv", "fc", "global"]
    for name, value in features(encoder, images).items():
        np.testing.assert_array_equal(value, again[name])
        assert value.dtype == again[name].dtype


def test_only_the_endpoint_that_is_missing_is_added(tmp_path, encoder, images, counted):
    store = FeatureCache(tmp_path, 10**9)
    store.features(encoder, images, ["fc"])
    both = store.features(encoder, images, ["global", "fc"])
    assert sum(counted) == 60 and list(both) == ["global", "fc"]
    assert (store.hits, store.misses, len(files_of(store))) == (1, 2, 2)


def test_endpoints_that_will_be_asked_for_are_made_in_one_pass(tmp_path, encoder, images, counted):
    store = FeatureCache(tmp_path, 10**9, together=("fc", "conv", "global"))
    made = [store.features(encoder, images, [name])[name] for name in ("global", "fc", "conv")]
    assert sum(counted) == 30
    store.features(encoder, images, ["local"])
    assert sum(counted) == 60, "what was not announced is made when it is asked for"
    direct = features(encoder, images)
    for name, value in zip(("global", "fc", "conv"), made):
        np.testing.assert_array_equal(value, direct[name])


def test_other_weights_other_pictures_and_another_order_are_something_else(tmp_path, encoder, images, counted):
    store = FeatureCache(tmp_path, 10**9)
    store.features(encoder, images, ["fc"])
    other = store.features(random_copy(encoder, 3), images, ["fc"])["fc"]
    store.features(encoder, images[::-1], ["fc"])
    store.features(encoder, images.astype("float32"), ["fc"])
    assert sum(counted) == 120
    assert not np.allclose(other, store.features(encoder, images, ["fc"])["fc"])
    changed = images.copy()
    changed[29, 31, 31, 2] ^= 1
    store.features(encoder, changed, ["fc"])
    assert sum(counted) == 150


@pytest.mark.parametrize("damage", ["shorter", "changed", "empty", "other rows"])
def test_a_damaged_file_is_computed_anew(tmp_path, encoder, images, counted, damage):
    store = FeatureCache(tmp_path, 10**9)
    first = store.features(encoder, images, ["fc"])["fc"]
    (path,) = files_of(store)
    whole = path.read_bytes()
    if damage == "other rows":
        store.features(encoder, images[:20], ["fc"])
        (other,) = set(files_of(store)) - {path}
        os.replace(other, path)
    else:
        middle = len(whole) // 2
        changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        path.write_bytes({"shorter": whole[:-40], "changed": changed, "empty": b""}[damage])
    before = sum(counted)
    np.testing.assert_array_equal(store.features(encoder, images, ["fc"])["fc"], first)
    assert sum(counted) - before == 30 and store.corrupted == [path]
    assert path.read_bytes() == whole


def test_the_files_that_were_not_used_for_longest_go_first(tmp_path, encoder, images):
    size = 30 * 16 * 2 + 200  # fc in half precision
    store = FeatureCache(tmp_path, 3 * size)
    for shift in range(3):
        store.features(encoder, np.roll(images, shift, axis=0), ["fc"])
    first = files_of(store)
    for age, path in enumerate(sorted(first, key=lambda path: path.stat().st_mtime_ns)):
        os.utime(path, (1000 + age, 1000 + age))
    oldest = min(first, key=lambda path: path.stat().st_mtime)
    store.features(encoder, images, ["fc"])  # used again, and so no longer the oldest
    store.features(encoder, np.roll(images, 3, axis=0), ["fc"])
    left = files_of(store)
    assert len(left) == 3 and len(set(first) & set(left)) == 2
    assert oldest in left and sum(path.stat().st_size for path in left) <= 3 * size
    store.features(encoder, images, ["local"])  # larger than all that there is room for
    assert files_of(store) == left


def test_a_plain_function_and_pixels_are_not_cached(tmp_path, encoder, images):
    store = FeatureCache(tmp_path, 10**9)
    assert list(store.features(lambda batch: {"a": batch[:, 0, 0]}, images, None)) == ["a"]
    assert list(store.features(None, images, None)) == ["pixels"]
    FeatureCache(None, 0).features(encoder, images, ["fc"])
    assert not files_of(store)
    with pytest.raises(UserError, match="No such endpoint: middle"):
        store.features(encoder, images, ["middle"])


def test_a_folder_that_cannot_be_written_to_is_no_reason_to_stop(tmp_path, encoder, images, capsys):
    (tmp_path / "file").write_text("")
    store = FeatureCache(tmp_path / "file" / "cache", 10**9)
    assert store.features(encoder, images, ["fc"])["fc"].shape == (30, 16)
    assert "not cached" in capsys.readouterr().err


def test_the_place_and_the_size_are_the_users_choice(tmp_path, monkeypatch):
    monkeypatch.setenv("MIZOO_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("MIZOO_CACHE_GB", "0.5")
    assert (open_cache().folder, open_cache().limit) == (tmp_path / "mine", 5 * 10**8)
    assert open_cache(tmp_path).folder == tmp_path and open_cache(False).folder is None
    monkeypatch.delenv("MIZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr(cache.sys, "platform", "linux")
    assert open_cache(True).folder == tmp_path / "caches" / "mizoo"
    for wrong in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("MIZOO_CACHE_GB", wrong)
        with pytest.raises(UserError, match="MIZOO_CACHE_GB"):
            open_cache()


def _write(folder, seed):
    store = FeatureCache(folder, 40_000)
    for i in range(20):
        array = np.random.default_rng((i + seed) % 20).normal(size=(200, 20)).astype("float16")
        store._write(store.folder / f"{(i + seed) % 20}.features", array)


def test_several_processes_may_write_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(tmp_path, seed)) for seed in (0, 7, 13)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(60)
    assert all(each.exitcode == 0 for each in workers)
    store = FeatureCache(tmp_path, 40_000)
    assert 1 <= len(files_of(store)) <= 4 and not list(tmp_path.glob(".writing-*"))
    for path in files_of(store):
        expected = np.random.default_rng(int(path.stem)).normal(size=(200, 20)).astype("float16")
        np.testing.assert_array_equal(store._read(path, 200), expected)


# Evaluations.


@pytest.fixture
def pictures(rng, monkeypatch):
    """120 labelled pictures to fit on and 60 to score, in the place of any data set."""
    from mizoo import data

    def part(count):
        labels = rng.integers(0, 2, count)
        images = rng.integers(0, 128, (count, 32, 32, 3)) + 127 * labels[:, None, None, None]
        return Dataset("halves", images.astype("uint8"), labels)

    parts = {"train": part(120), "test": part(60)}
    monkeypatch.setattr(data, "load", lambda source, split, size=None, **_: parts[split])
    return parts


def test_a_second_protocol_starts_at_once(tmp_path, encoder, pictures, counted):
    evaluate(encoder, "halves", ["knn"], ["fc"], progress=False, cache=tmp_path)
    assert sum(counted) == 180
    (row,) = evaluate(encoder, "halves", ["linear"], ["fc"], progress=False, cache=tmp_path)
    assert sum(counted) == 180 and row.value > 60
    evaluate(encoder, "halves", ["linear"], ["fc"], progress=False, cache=False)
    assert sum(counted) == 360


def test_an_interrupted_evaluation_goes_on_with_what_is_missing(tmp_path, encoder, pictures, monkeypatch):
    from mizoo.evaluate.protocols import knn, linear

    runs = []

    def count(name, function):
        def run(*arguments, **more):
            runs.append(name)
            if name == "linear" and stop:
                raise KeyboardInterrupt
            return function(*arguments, **more)

        return run

    monkeypatch.setattr(knn, "run", count("knn", knn.run))
    monkeypatch.setattr(linear, "run", count("linear", linear.run))
    arguments = (encoder, "halves", ["knn", "linear"], ["fc", "global"])
    stop = True
    with pytest.raises(KeyboardInterrupt):
        evaluate(*arguments, progress=False, cache=tmp_path / "cache", rows=tmp_path / "rows.json")
    assert [row.protocol for row in read_rows(tmp_path / "rows.json")] == ["knn", "knn"]
    stop, runs[:] = False, []
    others = evaluate(*arguments[:3], ["fc"], progress=False, cache=tmp_path / "cache")  # other arguments: all anew
    assert runs == ["knn", "linear"] and len(others) == 2
    runs.clear()
    rows = evaluate(*arguments, progress=False, cache=tmp_path / "cache", rows=tmp_path / "rows.json")
    assert runs == ["linear", "linear"]
    assert [row.protocol for row in rows] == ["knn", "knn", "linear", "linear"]
    assert read_rows(tmp_path / "rows.json") == sorted(rows, key=lambda row: row.key)
    runs.clear()
    evaluate(*arguments, progress=False, cache=tmp_path / "cache")  # that one ended: measured anew
    assert runs == ["knn", "knn", "linear", "linear"]


def test_a_variant_that_cannot_be_measured_is_left_out_and_named(tmp_path, encoder, pictures, capsys):
    rows = evaluate(encoder, "halves", ["labels"], ["fc"], cache=tmp_path)
    assert [row.settings["variant"] for row in rows] == ["5", "10", "25", "50", "100"]
    assert [row.train_size for row in rows] == [6, 12, 30, 60, 120]
    assert [row.seeds for row in rows] == [3, 3, 1, 1, 1]
    assert "1 % of 120 labels are 1" in " ".join(capsys.readouterr().err.split())
    (row,) = evaluate(encoder, "halves", ["retrieval:p1"], ["fc"], progress=False, cache=tmp_path)
    assert row.settings["variant"] == "p1"
    with pytest.raises(UserError, match="1 % of 120"):
        evaluate(encoder, "halves", ["labels:1"], ["fc"], progress=False, cache=tmp_path)


def test_a_protocol_of_ones_own_is_run_again_after_an_interruption(tmp_path, encoder, pictures):
    runs = []

    def half(task, options, progress):
        runs.append(task.endpoint)
        if task.endpoint == "global" and len(runs) < 3:
            raise KeyboardInterrupt
        return Score(50.0)

    mine = Protocol("half", "half", "top-1 %", "higher", ("labels", "features"), half, fits=True)
    with pytest.raises(KeyboardInterrupt):
        evaluate(encoder, "halves", [mine], ["fc", "global"], progress=False, cache=tmp_path)
    evaluate(encoder, "halves", [mine], ["fc", "global"], progress=False, cache=tmp_path)
    assert runs == ["fc", "global", "fc", "global"]


@pytest.mark.parametrize("change", [{"split": "validation"}, {"seeds": 2}, {"endpoints": ["global"]}])
def test_rows_of_other_arguments_are_not_taken_over_beside_a_protocol_of_ones_own(tmp_path, encoder, pictures, change):
    """A command with an object in it says little of its arguments."""

    def stop(task, options, progress):
        raise KeyboardInterrupt

    def value(task, options, progress):
        return Score(50.0)

    facts = ("half", "half", "top-1 %", "higher", ("labels", "features"))
    arguments = {"endpoints": ["fc"], "split": "test", "seeds": 3, "progress": False, "cache": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        evaluate(encoder, "halves", ["mlp200", Protocol(*facts, stop, fits=True)], **arguments)
    changed = arguments | change
    (row, _) = evaluate(encoder, "halves", ["mlp200", Protocol(*facts, value, fits=True)], **changed)
    (anew,) = evaluate(encoder, "halves", ["mlp200"], **(changed | {"cache": False}))
    assert (row.value, row.seeds, row.test_size) == (anew.value, anew.seeds, anew.test_size)


def test_a_protocol_without_labels_is_given_the_encoder(encoder, pictures):
    given = []

    def look(task, options, progress):
        given.append(task.encoder)
        return Score(1.0)

    mine = Protocol("look", "look", "nats", "lower", ("encoder", "pictures"), look)
    evaluate(encoder, pictures["test"].images, [mine], ["fc"], progress=False, cache=False)
    assert given == [encoder]
    with pytest.raises(UserError, match="views are made for protocols without labels"):
        Protocol("both", "both", "nats", "lower", ("labels", "views"), look)


@pytest.mark.parametrize("protocol", ["svm", "retrieval", "labels", "finetune", "scratch"])
def test_data_that_cannot_be_learned_from_are_refused(encoder, pictures, protocol):
    pictures["test"].labels[:3] = 2
    with pytest.raises(UserError, match="holds no picture of 2"):
        evaluate(encoder, "halves", [protocol], ["fc"], progress=False)
    pictures["train"].labels[:] = 0
    with pytest.raises(UserError, match="all of one"):
        evaluate(encoder, "halves", [protocol], ["fc"], progress=False)
    pictures["train"] = Dataset("halves", pictures["train"].images)
    with pytest.raises(UserError, match="needs labels"):
        evaluate(encoder, "halves", [protocol], ["fc"], progress=False)


def test_what_is_no_encoder_is_not_trained(encoder, pictures):
    for protocol in ("finetune", "labels_scratch"):
        with pytest.raises(UserError, match=f"`{protocol}` trains a Keras encoder.*raw pixels"):
            evaluate(encoder, "halves", [protocol], encoder="pixels", progress=False)
    with pytest.raises(UserError, match="Training from new ones is `labels_scratch`"):
        evaluate(encoder, "halves", ["labels_finetune"], encoder="random", progress=False)
    with pytest.raises(UserError, match="No such endpoint: middle"):
        evaluate(encoder, "halves", ["scratch"], ["middle"], progress=False)


def test_what_trains_the_encoder_and_what_restores_the_pictures_become_rows(
    tmp_path, encoder, pictures, monkeypatch, eager
):
    from mizoo import data, finetune
    from mizoo.evaluate.protocols import reconstruct

    monkeypatch.setattr(data, "splits", lambda source: ("train", "test"))
    monkeypatch.setattr(reconstruct, "STEPS", 3)
    budget = finetune.Budget(steps=4, batch_size=16, check_every=2)
    monkeypatch.setattr(finetune, "Budget", lambda: budget)
    chosen = ["finetune", "labels_scratch:50", "reconstruct"]
    rows = evaluate(encoder, "halves", chosen, seeds=1, progress=False, cache=tmp_path)
    assert [(row.protocol, row.encoder, row.endpoint) for row in rows] == [
        ("finetune", "published", "fc"),
        ("labels_scratch", "random", "fc"),
        ("reconstruct", "published", "global"),
    ]
    assert [row.train_size for row in rows] == [120, 60, 120]
    assert rows[2].settings["scales"] == 2 and -1 <= rows[2].value <= 1
    assert "labels_scratch:50" in rows[1].command


def test_variants_of_a_protocol_of_ones_own_have_rows_and_tables_of_their_own(tmp_path, encoder, pictures):
    def run(task, options, progress):
        value = {"near": 10.0, "far": 20.0}[options.variant]
        return Score(value, {"labels": "coarse", "count": np.int64(3), "weights": np.ones(2, "float32")})

    columns = (("near", "near"), ("far", "far"))
    mine = Protocol("reach", "`reach`: how far", "steps", "higher", ("labels", "features"), run, True, columns=columns)
    kept = tmp_path / "rows.json"
    evaluate(encoder, "halves", [mine], ["fc"], progress=False, cache=False, rows=kept)
    rows = {row.settings["variant"]: row for row in read_rows(kept)}
    assert {name: row.value for name, row in rows.items()} == {"near": 10.0, "far": 20.0}
    settings = rows["near"].settings
    assert (settings["labels"], settings["count"], settings["weights"]) == ("coarse", 3, [1, 1])
    assert rows["near"].train_size == 120
    text = table(rows.values())
    assert text.count("Protocol `reach`") == 2 and "variant `near`" in text and "variant `far`" in text


def test_a_second_interruption_loses_no_row_of_the_first(tmp_path):
    rows = [a_row(value=1.0), a_row(value=2.0, endpoint="conv")]

    def begun() -> Unfinished:
        again = Unfinished(tmp_path, ("hash",))
        again.begin({})
        return again

    begun().add(rows)
    begun().add(rows[1:])  # interrupted as soon as one row is taken over
    assert sorted(row.value for row in begun().earlier) == [1.0, 2.0]
