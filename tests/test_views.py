"""Objectives across two views: Deep InfoMax and SimCLR against direct loops."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from support.encoders import toy_encoder

from mizoo import augment, data
from mizoo.errors import UserError
from mizoo.objectives import DeepInfoMax, SimCLR
from mizoo.objectives.prior_matching import prior_losses

VIEWS = augment.preset("views")
NO_CHANGE = augment.Compose([])
AMDIM = [("local", "global"), ("conv", "global"), ("conv", "conv")]


def two_views(**arguments) -> DeepInfoMax:
    return DeepInfoMax(
        toy_encoder(), **{"critic_width": 12, "views": 2, "augment": VIEWS, "prior_weight": 0.0, **arguments}
    )


def with_twins(rng, size: int = 8) -> np.ndarray:
    """Pictures of which the first and the sixth are the same."""
    images = rng.integers(0, 256, (size, 32, 32, 3), dtype="uint8")
    images[5] = images[0]
    return images


def critic_features(model, images) -> dict[str, np.ndarray]:
    """Endpoint -> (views, N, L, U), the critic's features of a batch of views."""
    endpoints = model.encoder(images, training=True)
    found = {}
    for key, critic in model.local_critic.items():
        flat = ops.reshape(endpoints[key], (len(images), -1, endpoints[key].shape[-1]))
        features = ops.convert_to_numpy(critic(flat, training=True))
        found[key] = features.reshape(2, len(images) // 2, *features.shape[1:])
    return found


def by_loops(features, vectors, partners, negatives: str, clip: float | None) -> float:
    """InfoNCE of features (N, L, U) and vectors (N, U), sum by sum; `partners[i]` are the columns taken as positive."""
    scores = np.einsum("ilu,ju->ilj", features, vectors) / np.sqrt(vectors.shape[-1])
    if clip:
        scores = clip * np.tanh(scores / clip)
    total, count = 0.0, 0
    for i in range(len(features)):
        for location in range(features.shape[1]):
            for j in partners[i]:
                if negatives == "images":
                    candidates = scores[i, location]
                else:
                    others = [scores[k][:, j] for k in range(len(features)) if k != j]
                    candidates = np.concatenate([[scores[i, location, j]], *others])
                total += scores[i, location, j] - np.log(np.exp(candidates).sum()) + np.log(len(candidates))
                count += 1
    return total / count


@pytest.mark.parametrize("negatives", ["images", "locations", "both"])
def test_the_views_of_a_picture_are_positives_and_nothing_else_is(rng, negatives):
    model = two_views(negatives=negatives, clip=3.0)
    images = with_twins(rng)
    other = rng.integers(0, 256, images.shape)  # the second views, which tell the twins apart
    batch = np.concatenate([images, other]).astype("float32")
    _, terms = model.compute_terms(batch, np.zeros((8, 0), "float32"))
    found = critic_features(model, batch)
    kinds = ("images", "locations") if negatives == "both" else (negatives,)

    def expected(partners):
        values = []
        for kind in kinds:
            for one, other in ((0, 1), (1, 0)):
                values.append(by_loops(found["local"][one], found["global"][other][:, 0], partners, kind, 3.0))
        return np.mean(values)

    own = {i: [i] for i in range(8)}
    assert float(terms["local_mi"]) == pytest.approx(expected(own), abs=1e-4)
    with_duplicates = {**own, 0: [0, 5], 5: [0, 5]}
    within = {i: [(i + 1) % 8] for i in range(8)}
    assert abs(float(terms["local_mi"]) - expected(with_duplicates)) > 1e-3
    assert abs(float(terms["local_mi"]) - expected(within)) > 1e-3


def test_pairs_of_scales_draw_one_location_for_each_picture(rng):
    model = two_views(pairs=AMDIM, score_penalty=0.05, clip=20.0)
    assert model.term_names == ("local_mi", "conv_mi", "conv_conv_mi", "score_penalty")
    assert model.own_noise_size == 2 and model.noise_size == 2 + 2 * VIEWS.noise_size
    batch = np.concatenate([with_twins(rng), with_twins(rng)]).astype("float32")
    noise = rng.random((8, 2), dtype="float32")
    loss, terms = model.compute_terms(batch, noise)
    found = critic_features(model, batch)
    own = {i: [i] for i in range(8)}
    values, squares = [], []
    for direction, (one, other) in enumerate(((0, 1), (1, 0))):
        place = np.floor(noise[:, direction] * 16).astype(int)
        vectors = found["conv"][other][np.arange(8), place]
        values.append(by_loops(found["conv"][one], vectors, own, "images", 20.0))
        for features, columns in (("local", "global"), ("conv", "global")):
            columns = found[columns][other][:, 0]
            squares.append((np.einsum("ilu,ju->ilj", found[features][one], columns) ** 2 / 12).mean())
        squares.append((np.einsum("ilu,ju->ilj", found["conv"][one], vectors) ** 2 / 12).mean())
    assert float(terms["conv_conv_mi"]) == pytest.approx(np.mean(values), abs=1e-4)
    assert float(terms["score_penalty"]) == pytest.approx(np.mean(squares), rel=1e-4)
    expected = -sum(float(terms[name]) for name in model.term_names[:3]) / 3 + 0.05 * float(terms["score_penalty"])
    assert float(loss) == pytest.approx(expected, abs=1e-4)


def test_occlusion_leaves_the_statistics_of_whole_pictures(rng):
    """The moving averages after a step are those of the same step without occlusion, on the step of the backend."""
    images = rng.integers(0, 256, (8, 32, 32, 3), dtype="uint8")
    found = []
    for share in (0.0, 0.5):
        model = two_views(views=1, occlusion=share, augment=None)
        model.compile(keras.optimizers.SGD(0.0))
        model.fit(data.batches(images, batch_size=8, noise_size=model.noise_size), epochs=1, verbose=0)
        found.append([ops.convert_to_numpy(v) for v in model.encoder.non_trainable_variables])
    moved = [v for v in found[0] if not np.allclose(v, v.flat[0])]  # those of zeros and ones are as they began
    assert len(moved) == len(found[0])
    for plain, occluded in zip(*found):
        np.testing.assert_allclose(occluded, plain, atol=1e-5)


@pytest.mark.parametrize("views", [1, 2])
def test_occlusion_hides_the_picture_from_the_vector_alone(rng, views):
    model = two_views(views=views, occlusion=0.5, negatives="images", prior_weight=0.1, global_weight=0.5)
    assert model.own_noise_size == views * (2 + 5)
    images = rng.integers(0, 256, (8 * views, 32, 32, 3)).astype("float32")
    noise = rng.random((8, model.own_noise_size), dtype="float32")
    _, terms = model.compute_terms(images, noise)
    covered = images.copy()
    for view in range(views):
        for i, (down, right) in enumerate(np.floor(noise[:, 2 * view : 2 * view + 2] * 17).astype(int)):
            covered[8 * view + i, down : down + 16, right : right + 16] = 127.5

    def side(critic, inputs, pictures):
        features = ops.convert_to_numpy(critic(inputs(model.encoder(pictures, training=True)), training=True))
        return features.reshape(views, 8, *features.shape[1:])

    def vector(endpoints):
        return endpoints["global"][:, None]

    def both_ways(features, vectors):
        ways = ((0, 1), (1, 0)) if views == 2 else ((0, 0),)
        own = {i: [i] for i in range(8)}
        return np.mean([by_loops(features[a], vectors[b][:, 0], own, "images", None) for a, b in ways])

    local = side(model.local_critic["local"], lambda e: ops.reshape(e["local"], (-1, 64, 6)), images)
    assert float(terms["local_mi"]) == pytest.approx(
        both_ways(local, side(model.local_critic["global"], vector, covered)), abs=1e-4
    )
    whole = side(model.global_critic["map"], lambda e: ops.reshape(e["local"], (-1, 1, 384)), images)
    assert float(terms["global_mi"]) == pytest.approx(
        both_ways(whole, side(model.global_critic["global"], vector, covered)), abs=1e-4
    )
    y = model.encoder(covered, training=True)["global"]
    prior, adversary = prior_losses(model.discriminator, y, ops.reshape(noise[:, 2 * views :], (-1, 5)))
    assert float(terms["prior"]) == pytest.approx(float(prior), abs=1e-5)
    assert float(terms["adversary"]) == pytest.approx(float(adversary), abs=1e-5)


def test_each_view_has_its_own_noise(rng):
    model = two_views(prior_weight=1.0)
    columns = VIEWS.noise_size
    assert model.noise_size == 2 * columns + 2 * 5
    seen = []
    model.compute_terms = lambda images, noise: seen.append((images, noise)) or (0.0, {})
    images = with_twins(rng)
    noise = rng.random((8, model.noise_size), dtype="float32")
    model.forward(images, noise)
    views, rest = (ops.convert_to_numpy(x) for x in seen[0])
    for i in range(2):
        expected = ops.convert_to_numpy(VIEWS(images, noise[:, i * columns : (i + 1) * columns]))
        np.testing.assert_array_equal(views[8 * i : 8 * (i + 1)], expected)
    np.testing.assert_array_equal(rest, noise[:, 2 * columns :])


@pytest.mark.parametrize(
    "arguments",
    [
        {"pairs": AMDIM, "negatives": "both"},
        {"bound": "jsd", "prior_weight": 0.1},
        {"global_weight": 1.0, "local_weight": 0.0},
    ],
)
def test_two_views_train_and_stay_below_their_ceilings(rng, arguments):
    model = two_views(augment=NO_CHANGE, **arguments)
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)  # a dozen steps take less than a trace
    batches = data.batches(with_twins(rng), batch_size=8, noise_size=model.noise_size)
    history = model.fit(batches, epochs=12, verbose=0).history
    assert sorted(history) == sorted(("loss", *model.term_names))
    assert history["loss"][-1] < history["loss"][0] - 0.1
    for name, ceiling in model.ceilings(8).items():
        assert history[name][-1] <= ceiling + 1e-5


def test_ceilings_count_the_candidates_of_each_kind():
    model = two_views(pairs=AMDIM, negatives="both")
    expected = {"local_mi": 64, "conv_mi": 16, "conv_conv_mi": 16}
    for name, locations in expected.items():
        mean = (np.log(8) + np.log(1 + 7 * locations)) / 2
        assert model.ceilings(8)[name] == pytest.approx(mean)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"views": 0}, "views=0"),
        ({"augment": None}, "differ by `augment`"),
        ({"pairs": []}, "pairs"),
        ({"pairs": [("local",)]}, "pairs"),
        ({"pairs": [("conv", "conv"), ("conv", "conv")]}, "pairs"),
        ({"pairs": [("conv", "conv")], "views": 1}, "take views=2"),
        ({"pairs": [("stem", "global")]}, "no endpoint stem"),
        ({"clip": 0.0}, "clip"),
        ({"score_penalty": -1.0}, "score_penalty"),
    ],
)
def test_impossible_arguments_are_named(arguments, words):
    with pytest.raises(UserError, match=words):
        two_views(**arguments)


def simclr(**arguments) -> SimCLR:
    return SimCLR(toy_encoder(2), **{"augment": augment.preset("simclr"), **arguments})


def test_simclr_is_nt_xent_by_a_direct_double_loop(rng):
    model = simclr(temperature=0.2)
    batch = np.concatenate([with_twins(rng), 255 - with_twins(rng)]).astype("float32")
    loss, terms = model.compute_terms(batch, np.zeros((8, 0), "float32"))
    z = ops.convert_to_numpy(model.encoder(batch, training=True)["global"])
    total = 0.0
    for i in range(16):
        similar = [z[i] @ z[k] / np.linalg.norm(z[i]) / np.linalg.norm(z[k]) / 0.2 for k in range(16)]
        partner = (i + 8) % 16
        total += np.log(sum(np.exp(similar[k]) for k in range(16) if k != i)) - similar[partner]
    nt_xent = total / 16
    assert float(loss) == pytest.approx(nt_xent - np.log(15), abs=1e-4)
    assert float(terms["global_mi"]) == pytest.approx(model.ceilings(8)["global_mi"] - nt_xent, abs=1e-4)


def test_simclr_trains_and_refuses(rng):
    model = simclr(augment=NO_CHANGE, temperature=0.2)
    model.compile(keras.optimizers.Adam(1e-2))
    batches = data.batches(rng.integers(0, 256, (8, 32, 32, 3), dtype="uint8"), batch_size=8)
    history = model.fit(batches, epochs=8, verbose=0).history["global_mi"]
    assert history[0] + 0.2 < history[-1] <= np.log(15)
    with pytest.raises(UserError, match="temperature"):
        simclr(temperature=0.0)
    with pytest.raises(UserError, match="augment"):
        simclr(augment=None)
    inputs = keras.Input((4,))
    with pytest.raises(UserError, match="no endpoint global"):
        SimCLR(keras.Model(inputs, {"fc": keras.layers.Dense(2)(inputs)}), augment=NO_CHANGE)


def test_simclr_compares_the_projection_and_leaves_it_behind(rng):
    model = simclr(projection=3, temperature=0.2, augment=NO_CHANGE)
    batch = rng.integers(0, 256, (8, 32, 32, 3)).astype("float32")
    z = model.head(model.encoder(batch, training=True)["global"], training=True)
    assert z.shape == (8, 3)
    inputs = keras.Input((3,))
    bare = SimCLR(keras.Model(inputs, {"global": inputs}), temperature=0.2, augment=NO_CHANGE)
    expected, _ = bare.compute_terms(z, None)
    found, _ = model.compute_terms(batch, None)
    assert float(found) == pytest.approx(float(expected), abs=1e-5)
    assert not {id(v) for v in model.head.variables} & {id(v) for v in model.encoder.variables}

    model.compile(keras.optimizers.Adam(1e-2))
    before = [v.numpy() for v in model.head.trainable_variables]
    model.fit(batch, batch_size=8, epochs=2, verbose=0)
    assert all(np.any(v.numpy() != old) for v, old in zip(model.head.trainable_variables, before))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert again.projection == 3 and len(again.head.variables) == len(model.head.variables)
    for wrong in (0, 2.5, "3"):
        with pytest.raises(UserError, match="projection"):
            simclr(projection=wrong)
