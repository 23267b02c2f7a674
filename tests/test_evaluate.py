"""The probes, on data whose answer is known beforehand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mizoo.data import Dataset
from mizoo.data.sampling import fair_sample
from mizoo.errors import UserError
from mizoo.evaluate import evaluate, features, pixels, random_copy
from mizoo.evaluate.protocols import knn, linear, mlp200
from mizoo.evaluate.splits import fit_and_test_splits

QUICK = mlp200.Schedule(batch_size=64, rate=5e-3, epochs=6, drops=(4,), last=2)
CLASSES = 4


def planted(rng, count, width=32, gap=6.0):
    """Features of well separated Gaussian classes, and their labels."""
    centres = np.random.default_rng(5).normal(size=(CLASSES, width)) * gap / np.sqrt(width)
    labels = rng.integers(0, CLASSES, count)
    return (centres[labels] + rng.normal(size=(count, width)) * 0.3).astype("float16"), labels


def probes():
    return {
        "linear": linear.fit_score,
        "mlp200": lambda *data, **more: mlp200.fit_score(*data, schedule=QUICK, seeds=2, **more),
        "knn": lambda *data, **more: knn.fit_score(*data, k=20, **more),
    }


@pytest.fixture(params=["linear", "mlp200", "knn"])
def probe(request):
    return probes()[request.param]


def test_separable_features_are_told_apart(probe, rng):
    scores, settings = probe(*planted(rng, 600), *planted(rng, 200), CLASSES)
    assert scores.min() >= 99
    assert settings


def test_shuffled_labels_give_chance(probe, rng):
    x, y = planted(rng, 800)
    test_x, test_y = planted(rng, 800)
    scores, _ = probe(x, rng.permutation(y), test_x, rng.permutation(test_y), CLASSES)
    assert abs(scores.mean() - 100 / CLASSES) < 8  # five standard deviations of 800 coin throws


def test_the_scored_features_never_reach_the_fit(probe, rng):
    """Scoring one half of the features gives the same hits whatever the other half is."""
    x, y = planted(rng, 400, gap=1.5)
    test_x, test_y = planted(rng, 200, gap=1.5)
    absurd = np.concatenate([test_x[:100], np.full_like(test_x[100:], 300)])
    # Labels beyond the first hundred are set to a class that does not exist: they can add no hit.
    labels = np.concatenate([test_y[:100], np.full(100, CLASSES)])
    first, _ = probe(x, y, test_x, labels, CLASSES)
    second, _ = probe(x, y, absurd, labels, CLASSES)
    np.testing.assert_allclose(first, second)


def test_the_same_call_gives_the_same_number_twice(probe, rng):
    data = (*planted(rng, 400, gap=1.5), *planted(rng, 200, gap=1.5), CLASSES)
    first, settings = probe(*data)
    second, again = probe(*data)
    np.testing.assert_array_equal(first, second)
    assert settings == again


def test_probes_trained_together_do_not_feel_each_other(rng):
    """The first weights of one probe alone and among three differ, but its gradient must not: the loss is a sum."""
    import keras
    from keras import ops

    x, y = planted(rng, 64)
    together = mlp200.build_probe(x.shape[1], CLASSES, 3, "float32")
    alone = mlp200.build_probe(x.shape[1], CLASSES, 1, "float32")
    for layer in together.layers:  # dropout draws differ between the two models
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
            alone.get_layer(index=together.layers.index(layer)).rate = 0.0
    hidden = mlp200.HIDDEN
    for source, target in zip(together.weights, alone.weights, strict=True):
        value = ops.convert_to_numpy(source)
        if value.shape != target.shape and "seed" not in source.path:
            value = value[1:2] if value.ndim in (2, 3) and value.shape[0] == 3 else value[..., hidden : 2 * hidden]
            target.assign(value)
    for model in (together, alone):
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss=mlp200.summed_cross_entropy, jit_compile=False)
        for _ in range(3):
            model.train_on_batch(x.astype("float32"), y)
    expected = ops.convert_to_numpy(together(x.astype("float32")))[:, 1]
    np.testing.assert_allclose(ops.convert_to_numpy(alone(x.astype("float32")))[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_probes_of_different_seeds_differ(rng):
    data = (*planted(rng, 300, gap=1.0), *planted(rng, 1000, gap=1.0), CLASSES)
    scores, _ = mlp200.fit_score(*data, schedule=QUICK, seeds=4)
    assert scores.shape == (4,)
    assert scores.std() > 0


def test_the_paper_schedule_is_the_papers():
    plan, name = mlp200.resolve("paper")
    assert (plan.batch_size, plan.rate, plan.epochs, plan.drops, plan.last) == (64, 1e-4, 120, (50, 100), 10)
    assert name == "paper"
    with pytest.raises(UserError, match="fast"):
        mlp200.resolve("slow")


def test_the_fast_schedule_takes_a_smaller_batch_for_narrow_features_alone(rng):
    assert [mlp200.resolve("fast", width)[0].batch_size for width in (64, 511, 512, 8192)] == [512, 512, 1024, 1024]
    assert mlp200.resolve("paper", 64) == mlp200.resolve("paper", 8192)
    assert mlp200.resolve(QUICK, 64) == (QUICK, "custom")


def test_the_rate_drops_where_the_schedule_says(rng, monkeypatch):
    import keras

    seen = []
    decay = keras.optimizers.schedules.PiecewiseConstantDecay
    monkeypatch.setattr(
        keras.optimizers.schedules,
        "PiecewiseConstantDecay",
        lambda bounds, values: seen.append((bounds, values)) or decay(bounds, values),
    )
    mlp200.fit_score(*planted(rng, 130), *planted(rng, 10), CLASSES, schedule=QUICK, seeds=1)
    ((boundaries, values),) = seen
    assert boundaries == [12]  # four epochs of three steps
    np.testing.assert_allclose(values, [5e-3, 5e-4])


def test_knn_equals_a_loop(rng):
    x, y = planted(rng, 90, gap=1.0)
    test_x, _ = planted(rng, 20, gap=1.0)
    k, temperature = 7, 0.1
    expected = np.zeros((20, CLASSES))
    for i, a in enumerate(test_x.astype("float64")):
        similar = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in x.astype("float64")]
        for j in np.argsort(similar)[-k:]:
            expected[i, y[j]] += np.exp((similar[j] - max(similar)) / temperature)
    votes = knn.class_votes(x, y, test_x, CLASSES, k, temperature, batch_size=6)
    np.testing.assert_allclose(votes, expected, rtol=1e-4)


def test_knn_at_a_low_temperature_follows_the_nearest_neighbour(rng):
    x, y = rng.normal(size=(300, 64)), rng.integers(0, CLASSES, 300)
    test_x = rng.normal(size=(40, 64))
    votes = knn.class_votes(x, y, test_x, CLASSES, 50, temperature=1e-4)
    unit, units = test_x / np.linalg.norm(test_x, axis=1)[:, None], x / np.linalg.norm(x, axis=1)[:, None]
    assert (votes.max(axis=1) >= 1).all()
    np.testing.assert_array_equal(votes.argmax(axis=1), y[(unit @ units.T).argmax(axis=1)])


def test_knn_takes_fewer_neighbours_than_k(rng):
    x, y = planted(rng, 30)
    scores, _ = knn.fit_score(x, y, x, y, CLASSES, k=200)
    assert scores[0] >= 99
    with pytest.raises(UserError, match="positive"):
        knn.fit_score(x, y, x, y, CLASSES, k=0)


def test_linear_chooses_a_strong_penalty_for_noise_and_a_weak_one_for_signal(rng):
    width = 400
    x = rng.normal(size=(600, width)).astype("float32")
    noisy = (x[:, 0] + 3 * rng.normal(size=600) > 0).astype(int)
    _, of_noise = linear.fit_score(x, noisy, x[:50], noisy[:50], 2)
    wide = rng.normal(size=(6000, 20)).astype("float32")
    clean = (wide @ rng.normal(size=20) > 0).astype(int)
    _, of_signal = linear.fit_score(wide, clean, wide[:50], clean[:50], 2)
    assert of_noise["l2"] > of_signal["l2"]
    assert of_noise["held_out_size"] == 60


def test_linear_goes_on_beyond_its_strengths_and_says_where_it_stopped(rng):
    """A little of the label in each of many columns wants a penalty far stronger than 0.1."""
    y = rng.integers(0, 2, 1500)
    x = (rng.normal(size=(1500, 600)) + 0.05 * (2 * y - 1)[:, None]).astype("float32")
    _, settings = linear.fit_score(x, y, x[:50], y[:50], 2)
    assert linear.STRENGTHS[0] < settings["l2"] < linear.STRONGER[-1] and not settings["l2_at_end"]


def test_linear_shuffles_data_that_lie_in_sorted_parts(rng):
    x, y = planted(rng, 2000)
    parts = [part[np.argsort(y[part], kind="stable")] for part in np.array_split(np.arange(2000), 5)]
    order = np.concatenate(parts)
    assert not fair_sample(y[order], 1800) and fair_sample(y, 1800)
    _, settings = linear.fit_score(x[order], y[order], x, y, CLASSES)
    shuffled = np.random.default_rng(0).permutation(2000)
    _, expected = linear.fit_score(x[order][shuffled], y[order][shuffled], x, y, CLASSES)
    assert settings == expected


def test_linear_is_blind_to_the_scale_of_a_feature(rng):
    x, y = planted(rng, 400, gap=1.5)
    test_x, test_y = planted(rng, 200, gap=1.5)
    scale = np.geomspace(1e-2, 1e2, x.shape[1])
    first, _ = linear.fit_score(x.astype("float32"), y, test_x.astype("float32"), test_y, CLASSES)
    second, _ = linear.fit_score(x * scale + 5, y, test_x * scale + 5, test_y, CLASSES)
    assert abs(first[0] - second[0]) <= 1


def small_encoder():
    """Two endpoints, one of them behind a batch normalisation whose training mode would show."""
    import keras
    from keras import initializers, layers

    images = keras.Input((4, 4, 3), name="images")
    maps = layers.Conv2D(5, 2, kernel_initializer=initializers.GlorotUniform(seed=1))(layers.Rescaling(1 / 255)(images))
    flat = layers.Flatten()(layers.BatchNormalization()(maps))
    flat = layers.Dense(6, kernel_initializer=initializers.GlorotUniform(seed=2))(flat)
    return keras.Model(images, {"maps": maps, "flat": flat})


def coloured(rng, count):
    """Pictures whose class is their colour: red, green, blue or grey."""
    labels = rng.integers(0, CLASSES, count)
    colours = np.concatenate([np.eye(3) * 180, np.full((1, 3), 180)])
    images = 20 + colours[labels][:, None, None, :] + rng.integers(0, 30, (count, 4, 4, 3))
    return Dataset("squares", images.astype("uint8"), labels, tuple("abcd"))


def test_features_are_flat_float16_in_inference_mode_whatever_the_batch(rng):
    encoder, images = small_encoder(), coloured(rng, 23).images
    done = []
    found = features(encoder, images, batch_size=5, advance=done.append)
    assert {name: (value.shape, str(value.dtype)) for name, value in found.items()} == {
        "maps": ((23, 45), "float16"),
        "flat": ((23, 6), "float16"),
    }
    expected = np.asarray(encoder(images.astype("float32"), training=False)["flat"])
    np.testing.assert_allclose(found["flat"], expected, rtol=2e-3, atol=1e-3)
    assert sum(done) == 23
    assert list(found) == ["maps", "flat"]
    assert list(features(encoder, images, endpoints=["flat"])) == ["flat"]


def test_an_array_goes_by_the_one_endpoint_that_its_encoder_names(rng):
    """As an encoder on ONNX Runtime that was loaded with one endpoint does."""

    class OneEndpoint:
        endpoints = ("fc",)

        def __call__(self, images):
            return images.mean(axis=(1, 2))

    images = rng.integers(0, 256, (3, 4, 4, 3), dtype="uint8")
    for endpoints in (None, ["fc"]):
        assert {name: value.shape for name, value in features(OneEndpoint(), images, endpoints=endpoints).items()} == {
            "fc": (3, 3)
        }


def test_features_beyond_half_precision_are_kept_in_single(rng):
    big = features(lambda x: {"big": x[:, 0, 0] * 1e4}, np.full((7, 1, 1, 3), 200.0), batch_size=3)["big"]
    assert big.dtype == np.float32
    np.testing.assert_allclose(big, 2e6)


def test_features_refuse_what_is_no_feature(rng):
    encoder, images = small_encoder(), coloured(rng, 4).images
    with pytest.raises(UserError, match="flat"):
        features(encoder, images, endpoints=["fc"])
    with pytest.raises(UserError, match="empty"):
        features(encoder, images[:0])
    with pytest.raises(UserError, match="not finite"):
        features(lambda x: {"bad": np.full((len(x), 2), np.nan)}, images)


def test_pixels_are_the_picture_between_minus_one_and_one():
    images = np.array([0, 255, 51], "uint8").reshape(1, 1, 1, 3)
    np.testing.assert_allclose(pixels(images)["pixels"], [[-1, 1, -0.6]], atol=1e-3)


def test_a_random_copy_has_the_architecture_and_none_of_the_weights(rng):
    encoder, images = small_encoder(), coloured(rng, 3).images
    first, again, other = random_copy(encoder, 0), random_copy(encoder, 0), random_copy(encoder, 1)
    values = [features(model, images)["flat"] for model in (encoder, first, again, other)]
    np.testing.assert_array_equal(values[1], values[2])
    for a, b in ((0, 1), (0, 3), (1, 3)):
        assert np.abs(values[a] - values[b]).max() > 1e-2
    with pytest.raises(UserError, match="Keras"):
        random_copy(lambda images: images)


def test_a_random_copy_renews_what_is_nested(rng):
    """A model within a model and a layer within a layer: seeds and precision reach them."""
    import keras

    from mizoo._tools.keras_private import all_layers

    inner_in = keras.Input((4,))
    inner = keras.Model(inner_in, keras.layers.Dense(3, name="deep")(inner_in), name="inner")
    inputs = keras.Input((5, 4), name="clips")
    frames = keras.layers.TimeDistributed(inner, name="frames")(inputs)
    both = keras.layers.Bidirectional(keras.layers.GRU(2), name="both")(frames)
    encoder = keras.Model(inputs, {"global": both})
    first, again, other = random_copy(encoder, 0), random_copy(encoder, 0), random_copy(encoder, 1)
    for a, b, c, original in zip(first.weights, again.weights, other.weights, encoder.weights):
        np.testing.assert_array_equal(a, b)
        if "bias" not in a.path:
            assert not np.allclose(a, c) and not np.allclose(a, original), a.path
    half = random_copy(encoder, 0, "mixed_bfloat16")
    leaves = [layer for layer in all_layers(half) if layer.weights and not isinstance(layer, keras.Model)]
    assert {layer.compute_dtype for layer in leaves} == {"bfloat16"} and len(leaves) > 4
    np.testing.assert_array_equal(half.weights[0], first.weights[0])


@pytest.fixture
def squares(rng, monkeypatch):
    """A data set of 1,600 training and 200 test pictures in the place of any other; the splits asked for."""
    from mizoo import data

    parts = {"train": coloured(rng, 1600), "test": coloured(rng, 200)}
    asked = []

    def load(source, split, size=None, **_):
        asked.append(split)
        return parts[split]

    monkeypatch.setattr(data, "load", load)
    return asked


def test_evaluate_makes_a_row_for_each_protocol_and_endpoint(squares):
    longer = mlp200.Schedule(batch_size=64, rate=1e-2, epochs=15, drops=(12,), last=2)
    rows = evaluate(small_encoder(), "squares", schedule=longer, seeds=2, entry="mine", progress=False)
    assert [(row.protocol, row.endpoint) for row in rows] == [
        (protocol, endpoint) for protocol in ("linear", "mlp200", "knn") for endpoint in ("maps", "flat")
    ]
    assert {row.entry for row in rows} == {"mine"}
    assert {row.seeds for row in rows if row.protocol == "mlp200"} == {2}
    assert all(row.value >= 90 and row.seconds >= 0 and row.settings for row in rows)
    assert (rows[0].train_size, rows[0].test_size, rows[0].split, rows[0].dataset) == (1600, 200, "test", "squares")
    assert squares == ["train", "test"]


def test_validation_reads_the_training_split_only(squares):
    (row,) = evaluate(small_encoder(), "squares", ["knn"], ["flat"], split="validation", progress=False)
    assert squares == ["train"] and (row.train_size, row.test_size, row.split) == (1280, 320, "validation")
    with pytest.raises(UserError, match="whole"):
        evaluate(small_encoder(), "squares", ["knn"], split="validation", train_split="train[:9]", progress=False)


def test_baselines_stand_under_the_entrys_name(squares):
    (random,) = evaluate(small_encoder(), "squares", ["knn"], ["flat"], encoder="random", progress=False)
    (raw,) = evaluate(small_encoder(), "squares", ["knn"], encoder="pixels", progress=False)
    assert (random.encoder, random.settings["encoder_seed"]) == ("random", 0)
    assert (raw.encoder, raw.endpoint) == ("pixels", "pixels")
    assert raw.value >= 99
    assert raw.command.endswith("--protocol knn --encoder pixels")


def test_a_file_is_measured_with_the_hash_of_its_weights(squares, tmp_path):
    from mizoo._tools.files import sha256

    path = tmp_path / "trial" / "encoder.keras"
    path.parent.mkdir()
    small_encoder().save(path)
    (by_folder,) = evaluate(path.parent, "squares", ["knn"], ["flat"], progress=False)
    (by_file,) = evaluate(str(path), "squares", ["knn"], ["flat"], progress=False)
    assert by_folder.entry == by_file.entry == "trial"
    assert by_folder.settings["weights"] == by_file.settings["weights"] == sha256(path)
    assert by_folder.value == by_file.value


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"protocols": ["forest"]}, "linear, mlp200, knn"),
        ({"protocols": []}, "nothing"),
        ({"protocols": "knn"}, "sequence"),
        ({"encoder": "best"}, "pixels"),
        ({"split": "train"}, "validation"),
        ({"schedule": "slow"}, "paper"),
        ({"encoder": "pixels", "endpoints": ["fc"]}, "pixels"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_measured(squares, wrong, hint):
    with pytest.raises(UserError, match=hint):
        evaluate(small_encoder(), "squares", progress=False, **wrong)


def test_a_folder_of_sorted_classes_is_probed_on_both_splits(tmp_path, rng):
    """Files come one class after the other; every protocol and either split sees all classes."""
    from PIL import Image

    for part, each in (("train", 30), ("test", 5)):
        whole = coloured(rng, 40 * each)
        for label in range(CLASSES):
            (tmp_path / "photos" / part / f"class{label}").mkdir(parents=True)
            for i, picture in enumerate(whole.images[whole.labels == label][:each]):
                Image.fromarray(picture).save(tmp_path / "photos" / part / f"class{label}" / f"{i}.png")
    for split, sizes in (("test", (120, 20)), ("validation", (96, 24))):
        rows = evaluate(small_encoder(), tmp_path / "photos", ["linear", "knn"], ["flat"], split=split, progress=False)
        assert all((row.train_size, row.test_size) == sizes and row.value >= 90 for row in rows), split
        assert all(f"--dataset {tmp_path / 'photos'} " in row.command for row in rows)
    (raw,) = evaluate(small_encoder(), tmp_path / "photos", ["knn"], encoder="pixels", progress=False)
    assert raw.value >= 90


def test_pictures_that_are_scored_and_fitted_on_are_counted_and_one_is_named(tmp_path, rng, capsys):
    from PIL import Image

    photos = tmp_path / "photos"
    whole = coloured(rng, 90)
    for i, (picture, label) in enumerate(zip(whole.images, whole.labels)):
        file = photos / ("train" if i < 70 else "test") / f"class{label}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file)
    first = next((photos / "train").rglob("*.png"))
    (photos / "test" / "class0" / "copy.png").write_bytes(first.read_bytes())
    name = first.relative_to(photos).as_posix()
    for split, words in (("test", f"1 of 21 .*such as test/class0/copy.png, which is {name} too"), ("validation", "")):
        rows = evaluate(small_encoder(), photos, ["knn", "prior_fit", "mine"], ["flat"], split=split)
        told = capsys.readouterr().err
        assert told.count("also among those") == bool(words) and re.search(words, told), told
        counted = {row.protocol: row.settings.get("test_in_train", 0) for row in rows}
        assert all(counted[row.protocol] == (1 if words and row.train_size else 0) for row in rows), counted
    twice = Dataset("twice", np.tile(whole.images, (2, 1, 1, 1)), np.tile(whole.labels, 2))
    (row,) = evaluate(small_encoder(), twice, ["knn"], ["flat"], split="validation", progress=False)
    assert row.settings["test_in_train"] == row.test_size == 36


def test_the_validation_part_of_pictures_sorted_by_class_has_all_classes(rng):
    """Of the last alone a probe would be scored on one class, at 100 % of noise."""
    images, labels = rng.integers(0, 256, (200, 2, 2, 3), dtype="uint8"), np.repeat([0, 1, 2, 3], 50)
    fitted, scored = fit_and_test_splits(Dataset("sorted", images, labels), "validation", "train", None)
    assert len(scored) == 40 and set(scored.labels) == set(fitted.labels) == {0, 1, 2, 3}
    of_label = {image.tobytes(): label for image, label in zip(images, labels)}
    for part in (fitted, scored):
        assert [of_label[image.tobytes()] for image in part.images] == part.labels.tolist()
    fair = rng.permutation(200)
    _, scored = fit_and_test_splits(Dataset("fair", images[fair], labels[fair]), "validation", "train", None)
    np.testing.assert_array_equal(scored.images, images[fair][160:])


def test_linear_chooses_on_all_classes_and_refits_one_that_only_the_last_tenth_had(rng):
    x, y = planted(rng, 400)
    order = np.argsort(y, kind="stable")
    scores, settings = linear.fit_score(x[order], y[order], x, y, CLASSES)
    assert scores[0] >= 99 and settings["held_out_accuracy"] >= 97
    rare = np.concatenate([np.flatnonzero(y != 3), np.flatnonzero(y == 3)[:1]])
    y_rare = y[rare]
    cut = len(rare) - round(0.1 * len(rare))
    assert len(np.unique(y_rare[:cut])) == 3 and fair_sample(y_rare, cut)
    scores, _ = linear.fit_score(x[rare], y_rare, x, y, CLASSES)
    assert scores[0] >= 85  # 75 without the class
    for labels in ([0, 1], 18 * [0] + [1, 0]):
        with pytest.raises(UserError, match=f"of the {len(labels)} rows.*one class"):
            linear.fit_score(x[: len(labels)], np.array(labels), x, y, CLASSES)


def test_a_scored_class_that_no_fit_saw_is_named(monkeypatch):
    from mizoo import data

    images = np.zeros((6, 8, 8, 3), np.uint8)
    parts = {
        "train": Dataset("pets", images, np.array([0, 0, 1, 1, 0, 1]), ("cat", "dog", "emu")),
        "test": Dataset("pets", images, np.array([0, 1, 2, 2, 0, 1]), ("cat", "dog", "emu")),
    }
    monkeypatch.setattr(data, "load", lambda source, split, size=None, **_: parts[split])
    with pytest.raises(UserError, match="no picture of emu"):
        evaluate(small_encoder(), "pets", progress=False)
    parts["train"] = Dataset("pets", images, np.zeros(6, np.int64), ("cat", "dog", "emu"))
    with pytest.raises(UserError, match="all of one"):
        evaluate(small_encoder(), "pets", progress=False)


def test_pictures_without_labels_are_refused(monkeypatch, rng):
    from mizoo import data

    monkeypatch.setattr(data, "load", lambda source, split, size=None, **_: Dataset("bare", coloured(rng, 5).images))
    with pytest.raises(UserError, match="labels"):
        evaluate(small_encoder(), "bare", progress=False)


def test_raw_pixels_of_cifar10_are_worth_something(cifar10):
    """On 2,000 real pictures, raw pixels beat chance by far and stay far from solved."""
    x = pixels(cifar10.images[:2000])["pixels"]
    y = cifar10.labels[:2000]
    scores, _ = knn.fit_score(x[:1500], y[:1500], x[1500:], y[1500:], 10)
    assert 18 < scores[0] < 45
