"""Critics of plain vectors: which scores they give to which pairs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from mizoo import bounds, critics, densities
from mizoo.errors import UserError


def shaken(kind: str, rng, rows: int = 3, columns: int = 3):
    """A critic with random weights."""
    critic = critics.vector_critic(kind, rows, columns, hidden=(8, 6), embedding=4, seed=1)
    for variable in critic.trainable_variables:
        variable.assign(rng.standard_normal(variable.shape))
    return critic


@pytest.mark.parametrize("kind", critics.VECTOR_CRITICS)
def test_a_new_critic_says_nothing_and_can_learn(rng, kind):
    critic = critics.vector_critic(kind, 3, 3, seed=1)
    scores = ops.convert_to_numpy(critic(rng.standard_normal((5, 3)), rng.standard_normal((7, 3))))
    assert scores.shape == (5, 1, 7)
    assert not scores.any()
    assert critic.trainable_variables


@pytest.mark.parametrize("kind", critics.VECTOR_CRITICS)
def test_each_pair_is_scored_by_itself(rng, kind):
    critic = shaken(kind, rng)
    x, y = rng.standard_normal((5, 3)).astype("float32"), rng.standard_normal((7, 3)).astype("float32")
    scores = ops.convert_to_numpy(critic(x, y))
    single = ops.convert_to_numpy(critic(x[2:3], y[4:5]))
    assert scores[2, 0, 4] == pytest.approx(single[0, 0, 0], rel=1e-3, abs=1e-3)
    assert np.std(scores) > 0.01


@pytest.mark.parametrize("kind", critics.VECTOR_CRITICS)
def test_candidates_are_the_own_column_and_those_that_follow(rng, kind):
    critic = shaken(kind, rng)
    x, y = rng.standard_normal((5, 3)).astype("float32"), rng.standard_normal((5, 3)).astype("float32")
    every = ops.convert_to_numpy(critic(x, y))
    some = ops.convert_to_numpy(critic(x, y, candidates=2))
    assert some.shape == (5, 1, 3)
    for row in range(5):
        np.testing.assert_allclose(some[row, 0], every[row, 0, (row + np.arange(3)) % 5], rtol=1e-3, atol=1e-3)


def test_the_seed_decides_the_weights():
    first, again, other = (
        [ops.convert_to_numpy(v) for v in critics.vector_critic("concat", 2, 2, seed=seed).trainable_variables]
        for seed in (1, 1, 2)
    )
    assert all((a == b).all() for a, b in zip(first, again))
    assert any((a != b).any() for a, b in zip(first, other))


def test_concat_and_convolve_is_a_network_on_each_pair_by_itself(rng):
    critic = critics.ConcatConvolve(5, 4, width=6)
    for variable in critic.trainable_variables:
        variable.assign(rng.standard_normal(variable.shape))
    maps = rng.standard_normal((3, 2, 5)).astype("float32")
    vectors = rng.standard_normal((7, 4)).astype("float32")
    scores = ops.convert_to_numpy(critic(maps, vectors))
    assert scores.shape == (3, 2, 7) and scores.dtype == "float32"
    rows, bias, columns, hidden, hidden_bias, last, last_bias = (
        ops.convert_to_numpy(v) for v in critic.trainable_variables
    )
    first = np.concatenate([rows, columns])
    for i in range(3):
        for place in range(2):
            for j in range(7):
                h = np.maximum(np.concatenate([maps[i, place], vectors[j]]) @ first + bias, 0)
                h = np.maximum(h @ hidden + hidden_bias, 0)
                assert scores[i, place, j] == pytest.approx((h @ last + last_bias)[0], rel=1e-4, abs=1e-4)


def test_concat_and_convolve_trains_every_weight_through_its_recomputed_pairs(rng):
    """The gradient by recomputation is that of finite differences."""
    critic = critics.ConcatConvolve(3, 3, width=8)
    for variable in critic.trainable_variables:
        variable.assign(0.7 * rng.standard_normal(variable.shape))
    maps, vectors = rng.standard_normal((4, 2, 3)).astype("float32"), rng.standard_normal((4, 3)).astype("float32")
    weights = rng.standard_normal((4, 2, 4)).astype("float32")

    def loss():
        return ops.sum(critic(maps, vectors) * weights)

    for variable, slope in zip(critic.trainable_variables, gradients_of(loss, critic.trainable_variables)):
        start, direction = ops.convert_to_numpy(variable), rng.standard_normal(variable.shape)
        values = []
        for step in (1e-3, -1e-3):
            variable.assign(start + step * direction)
            values.append(float(loss()))
        variable.assign(start)
        assert (values[0] - values[1]) / 2e-3 == pytest.approx((slope * direction).sum(), rel=0.05, abs=0.05)


def test_concat_and_convolve_forms_its_scores_in_float32_under_mixed_precision(rng):
    maps, vectors = rng.standard_normal((3, 2, 5)).astype("float32"), rng.standard_normal((7, 4)).astype("float32")
    full = critics.ConcatConvolve(5, 4, width=16)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = critics.ConcatConvolve(5, 4, width=16)
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(full.get_weights())
    expected, found = (critic(maps, vectors) for critic in (full, mixed))
    assert keras.backend.standardize_dtype(found.dtype) == "float32" and mixed.compute_dtype == "bfloat16"
    expected, found = ops.convert_to_numpy(expected), ops.convert_to_numpy(found)
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())
    assert np.abs(found - expected).max() > 0


@pytest.mark.parametrize("count", [256, 61])  # 61 is prime: blocks of one row
def test_scores_by_blocks_have_the_gradients_of_all_scores(rng, monkeypatch, count):
    monkeypatch.setattr(critics.blocks, "BLOCK", 1 << 20)
    rows = keras.Variable(rng.standard_normal((count, 16, 8)))
    columns = keras.Variable(rng.standard_normal((count, 8)))
    positives = np.arange(count, dtype="int32")

    def of_block(columns, rows, positives):
        return ops.stack([bounds.infonce(critics.dot_scores(rows, columns), positives)])

    def by_block():
        return ops.mean(critics.blocks.mapped(of_block, columns.value, rows.value, positives))

    def at_once():
        return of_block(columns.value, rows.value, positives)[0]

    assert float(by_block()) == pytest.approx(float(at_once()), rel=1e-5)
    direct, blocked = (gradients_of(loss, [rows, columns]) for loss in (at_once, by_block))
    for one, other in zip(direct, blocked):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-4 * np.abs(one).max())


def test_the_budget_decides_by_the_whole_batch_where_tensors_do_not_tell(monkeypatch):
    monkeypatch.setattr(critics.blocks, "BUDGET", 4 * 8 * 5 * 8)
    sides = [(8, 5, 2), (8, 2)], [(9, 5, 2), (9, 2)], [(None, 5, 2), (None, 2)]
    few, many, unknown = ([keras.KerasTensor(shape) for shape in each] for each in sides)
    assert not critics.blocks.needed(*few) and critics.blocks.needed(*many)
    assert not critics.blocks.needed(*unknown)
    assert critics.blocks.needed(*unknown, batch=9) and not critics.blocks.needed(*unknown, batch=9, replicas=2)


def gradients_of(loss_of, variables) -> list[np.ndarray]:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function  # as in training: the pairs are a loop in a graph
        def slopes():
            with tf.GradientTape() as tape:
                loss = loss_of()
            return tape.gradient(loss, [v.value for v in variables])

        return [ops.convert_to_numpy(slope) for slope in slopes()]
    import jax

    def stateless(values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values))):
            return loss_of()

    return [np.asarray(slope) for slope in jax.grad(stateless)([v.value for v in variables])]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kind": "dot"}, "separable, bilinear, inner, concat"),
        ({"kind": "inner", "columns": 4}, "3 and 4 columns"),
        ({"kind": "concat", "hidden": ()}, "hidden layer"),
    ],
)
def test_impossible_critics_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        critics.vector_critic(**{"rows": 3, "columns": 3, **arguments})


@pytest.mark.parametrize(
    "build",
    [
        *(
            lambda size, kind=kind: critics.vector_critic(kind, size, size, (size,), size)
            for kind in critics.VECTOR_CRITICS
        ),
        lambda size: critics.projection(size, size, "net"),
        lambda size: critics.log_bilinear(size, size, "net"),
        lambda size: critics.ConcatConvolve(size, size, size),
        lambda size: critics.Network(size, (size,), size, 0),
        lambda size: densities.Marginal(size),
        lambda size: densities.PairMoments(size),
        lambda size: densities.Conditional(size, size, hidden=(size,)),
    ],
)
def test_sizes_may_be_whole_numbers_of_numpy(build):
    shapes = [[tuple(v.shape) for v in build(size).variables] for size in (np.int64(4), 4)]
    assert shapes[0] == shapes[1]
