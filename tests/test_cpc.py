"""Contrastive Predictive Coding: what a feature may depend on, the value of its terms, and what it learns."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from support.encoders import toy_encoder

from mizoo import augment, bounds, data, encoders
from mizoo.encoders.patch_grid import PATCHES, patch_geometry
from mizoo.encoders.waveform import receptive_field
from mizoo.errors import UserError
from mizoo.objectives import CPC
from mizoo.objectives.contexts import facing_down, masked_conv, row_gru
from mizoo.objectives.cpc import cut_patches

numpy = ops.convert_to_numpy


def waveform(**arguments) -> keras.Model:
    keras.utils.set_random_seed(1)
    return encoders.waveform(8000, widths=(4, 6, 8, 8), context_size=5, **arguments)


def patch_grid(**arguments) -> keras.Model:
    keras.utils.set_random_seed(1)
    return encoders.patch_grid(**{"side": 16, "width": 4, "size": 6, "blocks": 1, **arguments})


def series(**arguments) -> keras.Model:
    keras.utils.set_random_seed(1)
    return encoders.series(**{"features": 3, "width": 7, "context_size": 5, **arguments})


def values(encoder, inputs) -> dict[str, np.ndarray]:
    return {key: numpy(value) for key, value in encoder(np.asarray(inputs, "float32"), training=True).items()}


# What a feature may depend on.


def test_a_patch_vector_depends_on_its_patch_alone(rng):
    """Training mode included: a normalisation over patches or pictures would show here."""
    encoder = patch_grid()
    images = rng.integers(0, 256, (2, 16, 16, 3)).astype("float32")
    before = values(encoder, images)["local"]
    assert before.shape == (2, 3, 3, 6)
    for row, column in [(0, 0), (1, 2), (2, 1)]:
        other = rng.integers(0, 256, images.shape).astype("float32")
        place = np.s_[:1, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8]
        other[place] = images[place]
        after = values(encoder, other)["local"]
        same = np.abs(after - before).max(axis=-1) < 1e-5
        assert same[0, row, column] and same.sum() == 1, "every other patch was changed"


@pytest.mark.parametrize("side, patch", [(16, 8), (32, 16), (12, 4)])
def test_the_grid_is_that_of_patches_encoded_one_by_one(rng, side, patch):
    encoder = patch_grid(side=side, patch=patch)
    assert patch_geometry(encoder) == (patch, patch // 2)
    images = rng.integers(0, 256, (2, side, side, 3)).astype("float32")
    patches = numpy(cut_patches(images, patch, patch // 2))
    np.testing.assert_array_equal(patches[1, 0, 2], images[1, :patch, patch : 2 * patch])
    grid = values(encoder, images)
    count = 2 * side // patch - 1
    assert patches.shape[1:3] == grid["local"].shape[1:3] == (count, count)
    fc, alone = encoder.get_layer(PATCHES)(patches.reshape(-1, patch, patch, 3))
    np.testing.assert_allclose(numpy(alone).reshape(grid["local"].shape), grid["local"], atol=1e-4)
    np.testing.assert_allclose(grid["global"], grid["local"].mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(grid["fc"], numpy(fc).reshape(2, count * count, -1).mean(axis=1), atol=1e-4)


@pytest.mark.parametrize("norm", [True, False])
def test_a_frame_sees_its_receptive_field_and_a_context_nothing_later(rng, norm):
    encoder = waveform(norm=norm)
    field, jump = receptive_field(encoder)
    assert (field, jump) == (225, 80) and receptive_field(encoders.waveform(widths=2, context_size=2)) == (465, 160)
    sounds = rng.uniform(-0.5, 0.5, (2, 1500)).astype("float32")
    before = values(encoder, sounds)
    frames = (1500 - field) // jump + 1
    assert before["local"].shape == (2, frames, 8) and before["context"].shape == (2, frames, 5)
    np.testing.assert_allclose(before["global"], before["context"].mean(axis=1), atol=1e-6)
    sample = 700
    sounds[0, sample] += 0.7
    after = values(encoder, sounds)
    seeing = [t for t in range(frames) if t * jump <= sample < t * jump + field]
    changed = {key: np.abs(after[key] - before[key]).max(axis=-1) > 1e-6 for key in ("local", "context")}
    assert np.flatnonzero(changed["local"][0]).tolist() == seeing and not changed["local"][1].any()
    assert np.flatnonzero(changed["context"][0])[0] == seeing[0] and not changed["context"][1].any()
    longer = values(encoder, np.pad(sounds, ((0, 0), (0, 333))))
    np.testing.assert_allclose(longer["context"][:, :frames], after["context"], atol=1e-5)
    assert values(encoder, sounds[:, :field])["context"].shape == (2, 1, 5), "one frame is the shortest"


def test_a_context_of_a_series_depends_on_nothing_later(rng):
    encoder = series(kernel=3)
    x = rng.standard_normal((2, 9, 3))
    before = values(encoder, x)
    x[0, 4] += 1
    after = values(encoder, x)
    for key, last in (("local", 6), ("context", 8)):
        changed = np.abs(after[key] - before[key]).max(axis=-1) > 1e-7
        assert np.flatnonzero(changed[0]).tolist() == list(range(4, last + 1)) and not changed[1].any()


@pytest.mark.parametrize("kind", ["masked_conv", "row_gru"])
def test_contexts_of_a_grid_see_nothing_below(rng, kind):
    keras.utils.set_random_seed(2)
    net = masked_conv(3, 6, 2, "c") if kind == "masked_conv" else row_gru((5, 4, 3), 6, "c")
    grid = rng.standard_normal((2, 5, 4, 3)).astype("float32")
    before = numpy(net(grid, training=True))
    grid[0, 2, 1] += 1
    changed = np.abs(numpy(net(grid, training=True)) - before).max(axis=-1) > 1e-7
    assert not changed[1].any() and not changed[0, :2].any()
    assert changed[0, 2, 1] and changed[0, 3:].any(axis=1).all()
    if kind == "masked_conv":  # raster order: nor to the left in its row
        assert not changed[0, 2, 0]


def test_facing_down_puts_what_lies_in_a_direction_below():
    grid = np.arange(6).reshape(1, 2, 3, 1)
    turned = {each: numpy(facing_down(grid, each))[0, ..., 0].tolist() for each in ("down", "up", "right", "left")}
    assert turned["down"] == [[0, 1, 2], [3, 4, 5]] and turned["up"] == [[3, 4, 5], [0, 1, 2]]
    assert turned["right"] == [[0, 3], [1, 4], [2, 5]] and turned["left"] == [[2, 5], [1, 4], [0, 3]]


# The value of the terms.


def direct(z, c, weight, k, negatives):
    """InfoNCE and accuracy of z (N, H, W, C) and c (N, H, W, D), pair by pair."""
    rows, height, width, size = z.shape
    picks, right = [], []
    for i in range(rows):
        for r in range(height - k):
            for column in range(width):
                target = (i, r + k, column)
                candidates = {target}
                if negatives != "sequence":
                    candidates |= {(j, r + k, column) for j in range(rows)}
                if negatives != "batch":
                    candidates |= {(i, a, b) for a in range(height) for b in range(width)}
                scores = {at: z[at] @ weight.T @ c[i, r, column] / np.sqrt(size) for at in candidates}
                total = np.log(np.sum(np.exp(list(scores.values()))))
                picks.append(scores[target] - total + np.log(len(candidates)))
                right.append(max(scores, key=scores.get) == target)
    return np.mean(picks), np.mean(right)


@pytest.mark.parametrize("negatives", ["batch", "sequence", "both"])
def test_the_terms_of_a_sequence_are_those_of_a_direct_double_loop(rng, negatives):
    model = CPC(series(), steps=3, negatives=negatives)
    x = 2 * rng.standard_normal((4, 6, 3)).astype("float32")
    loss, terms = model.compute_terms(x, np.zeros((4, 0), "float32"))
    found = values(model.encoder, x)
    z, c = found["local"][:, :, None], found["context"][:, :, None]
    for k in (1, 2, 3):
        weight = numpy(model.critics[f"forward_{k}"].kernel)
        value, accuracy = direct(z, c, weight, k, negatives)
        assert float(terms[f"mi_{k}"]) == pytest.approx(value, abs=1e-4)
        assert float(terms[f"accuracy_{k}"]) == pytest.approx(accuracy, abs=1e-6)
    assert float(loss) == pytest.approx(-np.mean([float(terms[f"mi_{k}"]) for k in (1, 2, 3)]), abs=1e-5)
    candidates = {"batch": 4, "sequence": 6, "both": 9}[negatives]
    assert model.ceilings(4) == {f"mi_{k}": pytest.approx(np.log(candidates)) for k in (1, 2, 3)}


@pytest.mark.parametrize("context", ["masked_conv", "row_gru"])
@pytest.mark.parametrize("negatives", ["batch", "both"])
def test_the_terms_of_a_grid_are_the_mean_over_the_directions(rng, context, negatives):
    directions = ("down", "left")
    settings = {"context": context, "context_size": 5, "context_blocks": 1}
    model = CPC(patch_grid(), steps=2, first_step=2, directions=directions, negatives=negatives, **settings)
    images = rng.integers(0, 256, (3, 16, 16, 3)).astype("float32")
    _, terms = model.compute_terms(images, np.zeros((3, 0), "float32"))
    z = model.encoder(images, training=True)["local"]
    found = []
    for direction in directions:
        grid = numpy(facing_down(z, direction))
        c = numpy(model.context_nets[direction](grid, training=True))
        found.append(direct(grid, c, numpy(model.critics[f"{direction}_2"].kernel), 2, negatives))
    assert set(terms) == {"mi_2", "accuracy_2"}
    assert float(terms["mi_2"]) == pytest.approx(np.mean([each[0] for each in found]), abs=1e-4)
    assert float(terms["accuracy_2"]) == pytest.approx(np.mean([each[1] for each in found]), abs=1e-6)


def test_every_patch_is_augmented_by_itself(rng):
    """With a colour drop of every patch, patches of one picture keep different channels."""
    drop = augment.Compose([augment.DropColour(1.0)])
    model = CPC(patch_grid(), steps=2, patch_augment=drop, context_size=4, context_blocks=1)
    assert model.noise_size == 9 * 2
    images = rng.integers(0, 256, (2, 16, 16, 3)).astype("float32")
    noise = rng.random((2, 18)).astype("float32")
    z = numpy(model._augmented_patches(images, noise))
    for i, row, column in [(0, 0, 0), (1, 2, 1)]:
        patch = images[i, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8]
        channel = int(3 * noise[i, 2 * (3 * row + column) + 1])
        single = np.repeat(patch[None, :, :, channel : channel + 1], 3, axis=-1)
        expected = numpy(model.encoder.get_layer(PATCHES)(single)[1])[0, 0, 0]
        np.testing.assert_allclose(z[i, row, column], expected, atol=1e-4)


@pytest.mark.parametrize("negatives", ["batch", "sequence", "both"])
def test_halves_of_a_gathered_batch_have_the_terms_of_the_whole(rng, negatives):
    """What each of two replicas computes, given all the rows that they gather."""
    model = CPC(series(), steps=2, negatives=negatives)
    x = rng.standard_normal((6, 5, 3)).astype("float32")
    noise = np.zeros((6, 0), "float32")
    _, whole = model.compute_terms(x, noise)
    every = model.encoder(x)["local"][:, :, None]
    model.gather = lambda z: every
    halves = []
    for first in (0, 3):
        model.positives = lambda rows, first=first: ops.arange(rows) + first
        halves.append(model.compute_terms(x[first : first + 3], noise[:3])[1])
    for name, value in whole.items():
        assert np.mean([float(half[name]) for half in halves]) == pytest.approx(float(value), abs=1e-5)


# What it learns.


def gaussian(rng, count: int, steps: int, decay: float, size: int) -> np.ndarray:
    """Order-1 Gaussian processes of unit variance, (count, steps, size)."""
    x = rng.standard_normal((count, steps, size))
    for t in range(1, steps):
        x[:, t] = decay * x[:, t - 1] + np.sqrt(1 - decay**2) * x[:, t]
    return x.astype("float32")


def expected_infonce(rng, correlation: float, size: int, batch: int, repeats: int = 200) -> float:
    """Mean InfoNCE of the best critic, the logarithm of the density ratio of two Gaussian vectors."""
    values = []
    for _ in range(repeats):
        x = rng.standard_normal((batch, size))
        y = correlation * x + np.sqrt(1 - correlation**2) * rng.standard_normal((batch, size))
        distance = ((y[None] - correlation * x[:, None]) ** 2).sum(-1) / (1 - correlation**2)
        scores = 0.5 * ((y**2).sum(-1)[None] - distance)
        values.append(float(bounds.infonce(scores[:, None].astype("float32"), np.arange(batch))))
    return float(np.mean(values))


@pytest.mark.slow
def test_a_gaussian_process_gives_its_information_at_every_step(rng):
    """I(x_{t+k}; x_t) = -(d/2) ln(1 - a^2k): the terms rise to what the best critic gets of it, in the right order."""
    size, decay, batch, steps = 2, 0.9, 64, 4
    keras.utils.set_random_seed(3)
    model = CPC(encoders.series(size, width=64, context_size=32), steps=steps)
    model.compile(keras.optimizers.Adam(3e-3))
    train = data.batches(gaussian(rng, 2048, 16, decay, size), batch_size=batch, noise_size=model.noise_size)
    history = model.fit(train, epochs=12, verbose=0).history
    fresh = gaussian(rng, 1024, 16, decay, size)
    terms = [model.compute_terms(part, np.zeros((batch, 0), "float32"))[1] for part in np.split(fresh, 16)]
    found = {k: np.mean([float(each[f"mi_{k}"]) for each in terms]) for k in range(1, steps + 1)}
    for k, value in found.items():
        best = expected_infonce(rng, decay**k, size, batch)
        truth = -0.5 * size * np.log(1 - decay ** (2 * k))
        assert best < truth < model.ceilings(batch)[f"mi_{k}"]
        assert 0.85 * best - 0.02 < value < best + 0.1, (k, value, best)
        assert history[f"mi_{k}"][0] < history[f"mi_{k}"][-1]
    assert sorted(found, key=found.get) == [4, 3, 2, 1]


# What is refused.


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"negatives": "speaker"}, "`negatives`"),
        ({"first_step": 3, "steps": 2}, "`first_step`"),
        ({"directions": ("up",)}, "for grids"),
        ({"patch_augment": augment.preset("dim")}, "for grids"),
        ({"context": "attention"}, "`context`"),
    ],
)
def test_impossible_settings_of_a_sequence_are_named(arguments, words):
    with pytest.raises(UserError, match=words):
        CPC(series(), **arguments)


def iter_of(batches):
    """A generator, of which Keras learns the shapes from the first two batches."""
    yield from batches


def test_a_batch_of_too_short_sequences_among_longer_ones_is_named(rng):
    """Of a data set whose batches have lengths of their own."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.data")
    import tensorflow as tf

    lengths = [9, 8, 4]
    spec = tf.TensorSpec((None, None, 2), tf.float32)
    batches = [rng.standard_normal((4, length, 2)).astype("float32") for length in lengths]
    model = CPC(encoders.series(2, width=4, context_size=4), steps=4)
    model.compile(keras.optimizers.SGD(0.1))
    for given in (tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=spec), iter_of(batches)):
        with pytest.raises(UserError, match="steps=4 with sequences of no more frames. Give longer sequences"):
            model.fit(given, verbose=0)
    first = tf.data.Dataset.from_generator(lambda: iter(batches[:1]), output_signature=spec)
    assert np.isfinite(model.fit(first, verbose=0).history["loss"]).all()


def test_impossible_settings_of_a_grid_and_of_encoders_are_named(rng):
    with pytest.raises(UserError, match="3x3"):
        CPC(patch_grid(), steps=3)
    with pytest.raises(UserError, match="twice"):
        CPC(patch_grid(), steps=2, directions=("up", "up"))
    with pytest.raises(UserError, match="patch_grid"):
        CPC(toy_encoder(), steps=2, patch_augment=augment.preset("dim"))
    with pytest.raises(UserError, match="6 frames"):
        CPC(series(), steps=6).compute_terms(rng.random((2, 6, 3), dtype="float32"), np.zeros((2, 0)))
    for wrong in ({"patch": 6}, {"patch": 32}, {"side": 18}):
        with pytest.raises(UserError, match="Received"):
            patch_grid(**wrong)
    for wrong in ({"sampling_rate": 11025}, {"strides": (5, 4)}, {"widths": (4, 4)}):
        with pytest.raises(UserError, match="Received"):
            encoders.waveform(**wrong)
    with pytest.raises(UserError, match="features=0"):
        encoders.series(0)
