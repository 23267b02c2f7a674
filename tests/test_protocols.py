"""Support vector machine, retrieval, reconstruction and label curves, on data whose answer is known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from mizoo.data.sampling import shuffled_batches, stratified
from mizoo.errors import UserError
from mizoo.evaluate.protocols import (
    SHARES,
    TABLE,
    LeftOut,
    Options,
    Task,
    choose,
    label_shares,
    reconstruct,
    retrieval,
    svm,
)
from mizoo.evaluate.protocols.linear import standardisation, standardise

CLASSES = 4


def blobs(rng, count, width=24, gap=6.0):
    """Features of Gaussian classes, and their labels."""
    centres = np.random.default_rng(5).normal(size=(CLASSES, width)) * gap / np.sqrt(width)
    labels = rng.integers(0, CLASSES, count)
    return (centres[labels] + rng.normal(size=(count, width)) * 0.3).astype("float16"), labels


def task(train, test, **more):
    return Task("blobs", "test", "fc", test[0], test[1], train[0], train[1], CLASSES, **more)


class Line:
    """A progress line that counts."""

    def __init__(self):
        self.total = self.done = 0

    def resize(self, total):
        self.total = total

    def advance(self, parts=1):
        self.done += parts


# Svm


@pytest.mark.parametrize("cost", [1.0, 100.0])
def test_svm_agrees_with_liblinear(rng, cost):
    from sklearn.svm import LinearSVC

    centres = rng.normal(size=(10, 256)) * 0.18
    labels = rng.integers(0, 10, 8000)
    x = (centres[labels] + rng.normal(size=(8000, 256))).astype("float32")
    x = np.concatenate([standardise(x, *standardisation(x[:4000])), np.ones((8000, 1), "float32")], axis=1)
    weights, converged = svm.fit(x[:4000], labels[:4000], cost, np.zeros((257, 10), "float32"))
    reference = LinearSVC(C=cost / 4000, fit_intercept=False, dual=False).fit(x[:4000], labels[:4000])
    ours = 100 * np.mean((x[4000:] @ weights).argmax(axis=1) == labels[4000:])
    theirs = 100 * reference.score(x[4000:], labels[4000:])
    assert converged and 60 < theirs < 95
    assert abs(ours - theirs) < 0.5
    np.testing.assert_allclose(weights.T, reference.coef_, atol=0.01 * np.abs(reference.coef_).max())


def test_svm_tells_blobs_apart_and_not_noise(rng):
    train, test, line = blobs(rng, 600), blobs(rng, 400), Line()
    score = svm.run(task(train, test), Options(), line)
    assert score.mean >= 99 and line.done == line.total == svm.ROUNDS
    assert score.settings["cost"] in svm.COSTS
    noise = task((train[0], rng.permutation(train[1])), (test[0], rng.permutation(test[1])))
    assert abs(svm.run(noise, Options(), Line()).mean - 25) < 12


def test_svm_of_rows_in_order_of_their_classes_is_that_of_shuffled_ones(rng):
    (x, y), test = blobs(rng, 400, gap=1.5), blobs(rng, 400, gap=1.5)
    order = np.argsort(y, kind="stable")
    by_class = svm.fit_score(x[order], y[order], *test, CLASSES)[0]
    assert abs(by_class - svm.fit_score(x, y, *test, CLASSES)[0])[0] < 4
    with pytest.raises(UserError, match="of one class"):
        svm.fit_score(x[:2], np.array([0, 1]), *test, CLASSES)


# Retrieval


def test_retrieval_is_that_of_a_direct_loop(rng):
    (gallery, labels), (queries, asked) = blobs(rng, 130, gap=0.8), blobs(rng, 20, gap=0.8)
    expected = dict.fromkeys(("p1", "p10", "p100", "map"), 0.0)
    for query, label in zip(queries.astype("float64"), asked):
        cosine = [row @ query / np.linalg.norm(row) / np.linalg.norm(query) for row in gallery.astype("float64")]
        hits = [labels[i] == label for i in np.argsort(cosine)[::-1]]
        for depth in (1, 10, 100):
            expected[f"p{depth}"] += sum(hits[:depth]) / depth / 20
        at = [rank for rank, hit in enumerate(hits, start=1) if hit]
        expected["map"] += np.mean([(i + 1) / rank for i, rank in enumerate(at)]) / 20
    found = retrieval.precisions(gallery, labels, queries, asked)
    assert 0.3 < expected["map"] < 0.9
    assert found == pytest.approx(expected, abs=1e-6)


def test_retrieval_finds_the_duplicate_of_a_picture_and_nothing_in_noise(rng):
    x, y = rng.normal(size=(400, 16)).astype("float16"), rng.integers(0, CLASSES, 400)
    scores = retrieval.run(task((x, y), (x[:100], y[:100])), Options(), Line())
    assert scores["p1"].mean == 100
    other = retrieval.run(task((x, y), (rng.normal(size=(400, 16)).astype("float16"), y)), Options(), Line())
    assert abs(other["p100"].mean - 25) < 2 and abs(other["map"].mean - 25) < 3


def test_precision_is_left_out_where_there_are_fewer_pictures_than_k(rng):
    few = retrieval.precisions(*blobs(rng, 30), *blobs(rng, 10))
    assert set(few) == {"p1", "p10", "map"}


# Reconstruct


def fields(rng, count, side=16):
    """Smooth pictures: one colour turns into another from left to right."""
    ends = rng.uniform(0, 255, (2, count, 1, 1, 3))
    slope = np.linspace(0, 1, side)[None, None, :, None] * np.ones((1, side, 1, 1))
    return (ends[0] * (1 - slope) + ends[1] * slope).astype("uint8")


def test_a_decoder_on_the_identity_restores_the_pictures_and_one_on_a_constant_does_not(rng):
    train, test = fields(rng, 400), fields(rng, 60)
    flat = [(each.reshape(len(each), -1) / 127.5 - 1).astype("float16") for each in (train, test)]
    restored = reconstruct.reconstruct(flat[0], train, flat[1], steps=100)
    nothing = reconstruct.reconstruct(np.zeros((400, 3)), train, np.zeros((60, 3)), steps=20)
    assert restored.shape == test.shape and restored.min() >= 0 and restored.max() <= 255
    assert np.abs(restored - test).mean() < 12 < 35 < np.abs(nothing - test).mean()
    assert reconstruct.ms_ssim(test, restored) > 0.65 > 0.5 > reconstruct.ms_ssim(test, nothing)


def test_ms_ssim_has_the_scales_that_the_size_allows(rng):
    assert [reconstruct.scales_for(side) for side in (8, 11, 32, 64, 175, 176, 500)] == [0, 1, 2, 3, 4, 5, 5]
    pictures = fields(rng, 5, side=32)
    assert reconstruct.ms_ssim(pictures, pictures) == pytest.approx(1, abs=1e-6)
    noisy = np.clip(pictures + rng.normal(size=pictures.shape) * 40, 0, 255)
    assert reconstruct.ms_ssim(pictures, noisy) < 0.6
    small = fields(rng, 20, side=8)
    flat = small.reshape(20, -1).astype("float16")
    with pytest.raises(LeftOut, match="11 pixels"):
        reconstruct.run(Task("a", "test", "fc", flat, None, flat, None, 0, small, small), Options(), Line())


@pytest.mark.parametrize("shape", [(32, 32, 3), (13, 20, 1)])
def test_the_decoder_makes_pictures_of_any_size(shape):
    from mizoo.encoders import decoder

    assert decoder(7, shape, (8, 4, 4)).output_shape == (None, *shape)
    with pytest.raises(UserError, match="widths"):
        decoder(7, shape, (8, 4))


# Label curves


def test_a_stratified_part_has_each_class_in_its_share(rng):
    labels = rng.permutation(np.repeat([0, 1, 2], [600, 300, 100]))
    rows = stratified(labels, 100, seed=1)
    assert np.bincount(labels[rows]).tolist() == [60, 30, 10]
    assert len(np.unique(rows)) == 100 and not np.array_equal(rows, stratified(labels, 100, seed=2))
    assert np.array_equal(rows, stratified(labels, 100, seed=1))
    assert set(stratified(labels, 50, seed=1)) < set(rows)
    assert np.bincount(labels[stratified(labels, 4, seed=0, at_least=2)]).min() == 2
    assert len(stratified(labels, 0)) == 0 and len(stratified(labels, 1000)) == 1000


def test_batches_hold_every_row_once_before_any_twice(rng):
    batches = list(shuffled_batches(10, 4, 5, rng))
    assert [len(batch) for batch in batches] == [4] * 5
    drawn = np.concatenate(batches)
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert sorted(next(shuffled_batches(3, 7, 1, rng))[:3]) == [0, 1, 2]


@pytest.mark.parametrize("share", ["1", "10", "100"])
def test_separable_classes_need_few_labels(rng, share):
    train, test, line = blobs(rng, 1500), blobs(rng, 300), Line()
    score = label_shares.frozen(task(train, test), Options(variant=share), line)
    draws = 3 if share != "100" else 1
    assert score.mean >= 98 and score.seeds == draws
    assert score.settings["labels"] == round(1500 * int(share) / 100)
    assert line.done == line.total


def test_labels_that_are_noise_give_chance_and_too_few_are_left_out(rng):
    train, test = blobs(rng, 1000), blobs(rng, 1000)
    noise = task((train[0], rng.permutation(train[1])), (test[0], rng.permutation(test[1])))
    assert abs(label_shares.frozen(noise, Options(variant="50"), Line()).mean - 25) < 8
    few = task((train[0][:200], train[1][:200]), test)
    with pytest.raises(LeftOut, match="1 % of 200 labels are 2"):
        label_shares.frozen(few, Options(variant="1"), Line())


# The table of protocols


def test_one_variant_is_chosen_by_name():
    (part,) = choose(["labels:10", "labels:1"])
    assert part.variants == ("1", "10") and part.run == TABLE["labels"].run
    assert choose(["labels:10", "labels"])[0].variants == tuple(map(str, SHARES))
    for wrong in ("labels:3", "knn:", "knn:fast"):
        with pytest.raises(UserError, match="`protocols` takes"):
            choose([wrong])
