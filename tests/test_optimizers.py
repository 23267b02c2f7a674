"""Muon: which variable takes which path, orthogonal updates of kernels, and what is saved."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from mizoo.optimizers import Muon


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3))
    h = keras.layers.Conv2D(8, 2, trainable=False, name="fixed")(x)
    h = keras.layers.Conv2D(6, 3, use_bias=False, name="conv")(h)
    h = keras.layers.BatchNormalization(name="norm")(h)
    h = keras.layers.GlobalAveragePooling2D()(h)
    return keras.Model(x, keras.layers.Dense(4, name="dense")(h))


def test_kernels_go_to_muon_and_all_else_to_adam():
    model, optimizer = network(), Muon(0.05)
    optimizer.build(model.trainable_variables)
    with_adam = {
        v.path for v, velocity in zip(model.trainable_variables, optimizer.adam_velocities) if velocity is not None
    }
    paths = {v.path for v in model.trainable_variables}
    assert paths - with_adam == {"conv/kernel", "dense/kernel"}
    assert with_adam == {"norm/gamma", "norm/beta", "dense/bias"}


def test_layers_are_excluded_by_name_and_embeddings_by_default():
    model, optimizer = network(), Muon(0.05, exclude_layers=["dense"])
    optimizer.build(model.trainable_variables)
    kept = [v.path for v, other in zip(model.trainable_variables, optimizer.adam_velocities) if other is None]
    assert kept == ["conv/kernel"]
    assert keras.optimizers.deserialize(keras.optimizers.serialize(optimizer)).exclude_layers == ["dense"]
    table = keras.layers.Embedding(7, 3)
    table.build()
    for excluded in (True, False):
        optimizer = Muon(0.05, exclude_embeddings=excluded)
        optimizer.build(table.trainable_variables)
        assert (optimizer.adam_velocities[0] is not None) == excluded


def test_biases_of_any_rank_go_to_adam():
    gru, attention = keras.layers.GRU(3), keras.layers.MultiHeadAttention(2, 3)
    gru.build((None, 5, 4))
    attention.build((None, 5, 4), (None, 5, 4))
    variables = [*gru.trainable_variables, *attention.trainable_variables]
    optimizer = Muon(0.05)
    optimizer.build(variables)
    kernels = {v.path for v, other in zip(variables, optimizer.adam_velocities) if other is None}
    assert kernels == {v.path for v in variables if v.path.endswith("kernel")} and len(kernels) == 6
    assert sum(len(v.shape) > 1 for v in variables) == 10  # what went by the rank before


@pytest.mark.parametrize("shape", [(3, 3, 8, 6), (2, 2, 3, 40), (7, 5)])
def test_a_step_of_a_kernel_is_orthogonal_and_of_the_size_of_the_rate(rng, shape):
    kernel = keras.Variable(rng.standard_normal(shape).astype("float32"), name="kernel")
    optimizer = Muon(0.1, momentum=0.0)
    optimizer.build([kernel])
    before = ops.convert_to_numpy(kernel).reshape(-1, shape[-1])
    held = before * shape[-1] ** 0.5 / np.linalg.norm(before)
    optimizer.apply([ops.convert_to_tensor(rng.standard_normal(shape).astype("float32"))], [kernel])
    step = held - ops.convert_to_numpy(kernel).reshape(-1, shape[-1])
    singular = np.linalg.svd(step, compute_uv=False) / (0.1 * (shape[-1] / min(before.shape)) ** 0.5)
    assert singular.min() > 0.5 and singular.max() < 1.4  # five iterations bring them near 1, not to it
    assert np.linalg.norm(step) == pytest.approx(0.1 * shape[-1] ** 0.5, rel=0.25)


def test_a_flattened_kernel_takes_the_step_of_the_matrix(rng):
    values, gradient = rng.standard_normal((2, 3, 3, 4, 5)).astype("float32")
    kernel, matrix = keras.Variable(values, name="kernel"), keras.Variable(values.reshape(-1, 5), name="matrix")
    for variable, g in ((kernel, gradient), (matrix, gradient.reshape(-1, 5))):
        optimizer = Muon(0.1)
        optimizer.build([variable])
        for _ in range(3):
            optimizer.apply([ops.convert_to_tensor(g)], [variable])
    np.testing.assert_allclose(ops.convert_to_numpy(kernel).reshape(-1, 5), ops.convert_to_numpy(matrix), atol=1e-5)


def test_it_comes_back_from_its_configuration():
    optimizer = Muon(0.03, momentum=0.8, adam_lr_ratio=0.1, fixed_norm=False)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, Muon) and again.get_config() == optimizer.get_config()
