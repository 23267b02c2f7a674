"""The faster kernels of a step on a CPU with TensorFlow give what Keras gives, and leave the layers as they were."""

from __future__ import annotations

import contextlib
import functools

import keras
import numpy as np
import pytest
from keras import ops
from support.encoders import toy_encoder

from mizoo import augment
from mizoo.encoders import conv32, three_stage
from mizoo.objectives import DeepInfoMax, SimCLR

if keras.backend.backend() != "tensorflow":
    pytest.skip("the kernels are TensorFlow's", allow_module_level=True)

import tensorflow as tf

from mizoo.objectives import _cpu, _tensorflow

COMPILED = [False, pytest.param(True, marks=pytest.mark.slow)]


def batch(rng, model, size: int = 8) -> dict[str, np.ndarray]:
    images = rng.integers(0, 256, (size, 32, 32, 3), dtype="uint8")
    return {"images": images, "noise": rng.random((size, model.noise_size), dtype="float32")}


def of_kinds(*kinds):
    """The kernels of layers of some kinds alone, and the layers that they were given."""
    seen = []

    def context(layers):
        chosen = [layer for layer in layers if type(layer) in kinds]
        seen.append(chosen)
        return _cpu.cpu_kernels(chosen)

    return context, seen


def trained(monkeypatch, context, model, epochs: int = 2):
    """The terms after four passes, and the weights."""
    monkeypatch.setattr(_tensorflow, "cpu_kernels", context)
    own = np.random.default_rng(3)
    logs = [model.fit(batch(own, model), batch_size=8, epochs=epochs, verbose=0).history for _ in range(2)]
    left = [layer for layer in model._flatten_layers() if {"call", "convolution_op"} & set(layer.__dict__)]
    assert not left, "a layer keeps a kernel of the step"
    return logs[-1], [v.numpy() for v in model.variables]


def assert_same(found, expected, tolerance: float) -> None:
    for name, values in expected[0].items():
        assert found[0][name] == pytest.approx(values, abs=tolerance), name
    for weight, value in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(weight, value, atol=tolerance)


@pytest.mark.parametrize("jit", COMPILED)
def test_batch_norm_by_one_kernel_is_that_of_keras(monkeypatch, jit):
    def model():
        keras.utils.set_random_seed(1)
        encoder = conv32(widths=(16, 6, 8), fc_size=16, global_size=5)
        encoder.get_layer("conv2_norm").trainable = False  # a frozen one stays in inference mode
        made = DeepInfoMax(encoder, critic_width=16, augment=augment.preset("dim"))
        made.compile(keras.optimizers.SGD(0.1), jit_compile=jit)
        return made

    fused, seen = of_kinds(keras.layers.BatchNormalization)
    one = trained(monkeypatch, fused, model())
    assert len(seen[0]) == 6  # four of the encoder, one for each side of the critic
    assert_same(one, trained(monkeypatch, lambda layers: contextlib.nullcontext(), model()), 2e-4)


@pytest.mark.parametrize("shape, dtype", [((6, 3, 2, 16), "bfloat16"), ((6, 5, 16), "bfloat16"), ((9, 4), "float32")])
def test_batch_norm_by_one_kernel_keeps_the_moving_averages(rng, shape, dtype):
    x = ops.cast(rng.normal(2.0, 3.0, shape), dtype)
    made = []
    for fused in (True, False):
        layer = keras.layers.BatchNormalization(momentum=0.7, dtype="mixed_bfloat16" if dtype == "bfloat16" else dtype)
        layer.build(shape)
        layer.gamma.assign(np.linspace(0.5, 2.0, shape[-1]))
        layer.beta.assign(np.linspace(-1.0, 1.0, shape[-1]))
        with _cpu.cpu_kernels([layer] if fused else []):
            y = layer(x, training=True)
        made.append([ops.convert_to_numpy(v).astype("float32") for v in (y, layer.moving_mean, layer.moving_variance)])
    for one_kernel, expected, tolerance in zip(*made, (2e-2 if dtype == "bfloat16" else 1e-5, 1e-5, 1e-5)):
        np.testing.assert_allclose(one_kernel, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("taps", [(1, 1), (2, 3), (3, 3), (4, 4), (5, 2)])
@pytest.mark.parametrize("sides", [(1, 2), (4, 5), (7, 6), (8, 9)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_gradient_of_filters_by_products_is_tensorflows(rng, padding, taps, sides, stride):
    if padding == "VALID" and (taps[0] > sides[0] or taps[1] > sides[1]):
        pytest.skip("nothing comes out of so small a map")
    x, kernel = (tf.constant(rng.standard_normal(shape), "float32") for shape in ((3, *sides, 4), (*taps, 4, 5)))
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        y = tf.nn.conv2d(x, kernel, stride, padding)
    upstream = tf.constant(rng.standard_normal(y.shape), "float32")
    expected = tape.gradient(y, kernel, upstream)
    np.testing.assert_allclose(_cpu.filter_gradient(x, upstream, taps, padding, stride), expected, atol=1e-4)


def test_a_strided_convolution_by_products_has_the_gradients_of_keras(rng):
    layer = keras.layers.Conv2D(128, 4, strides=2, padding="same", dtype="bfloat16")
    x = tf.cast(rng.standard_normal((2, 8, 8, 128)), "bfloat16")
    layer.build(x.shape)
    assert _cpu._by_products(x, layer.kernel, 2)
    made = []
    for chosen in ([layer], []):
        with _cpu.cpu_kernels(chosen), tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.square(tf.cast(y, "float32")))
        made.append([tf.cast(each, "float32") for each in (y, *tape.gradient(loss, [x, layer.kernel.value]))])
    for found, expected in zip(*made):
        np.testing.assert_allclose(found, expected, atol=2e-2 * float(tf.reduce_max(tf.abs(expected))))


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("mixed_bfloat16", 3e-2)])
def test_layer_norm_by_compiled_passes_is_that_of_keras(rng, dtype, tolerance):
    layer = keras.layers.LayerNormalization(epsilon=1e-3, dtype=dtype)
    x = tf.cast(rng.normal(1.0, 2.0, (3, 5, 8)), layer.compute_dtype)
    layer.build(x.shape)
    layer.gamma.assign(np.linspace(0.5, 2.0, 8))
    layer.beta.assign(np.linspace(-1.0, 1.0, 8))
    upstream = tf.cast(rng.standard_normal(x.shape), x.dtype)
    made = []
    for chosen in ([layer], []):
        with _cpu.cpu_kernels(chosen), tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        assert y.dtype == x.dtype
        gradients = tape.gradient(y, [x, layer.gamma.value, layer.beta.value], upstream)
        made.append([tf.cast(each, "float32") for each in (y, *gradients)])
    for found, expected in zip(*made):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=5 * tolerance)


@pytest.mark.parametrize("decay, rate", [(None, 0.1), (0.1, keras.optimizers.schedules.CosineDecay(0.1, 5))])
def test_adam_by_one_kernel_is_that_of_keras(rng, decay, rate):
    start, gradients = rng.standard_normal((4, 3)), rng.standard_normal((6, 4, 3))

    def trained(kind, fused):
        variable = keras.Variable(start, dtype="float32")
        optimizer = kind(rate, weight_decay=decay, clipnorm=1.0, epsilon=1e-3)
        optimizer.build([variable])

        @tf.function
        def step(gradient):
            with _cpu.cpu_update([optimizer] if fused else []):
                optimizer.apply([gradient], [variable])

        for gradient in gradients:
            step(tf.constant(gradient, "float32"))
        assert "update_step" not in optimizer.__dict__
        return [variable.numpy(), *[each.numpy() for each in optimizer.variables]]

    for kind in [keras.optimizers.Adam, *([keras.optimizers.AdamW] if decay else [])]:
        for found, expected in zip(trained(kind, True), trained(kind, False), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_adam_by_one_kernel_accumulates_gradients():
    weights = []
    for kind, every in ((keras.optimizers.Adam, 2), (keras.optimizers.AdamW, 2), (keras.optimizers.Adam, None)):
        model = SimCLR(toy_encoder(), augment=augment.preset("views"))
        model.compile(kind(1e-2, gradient_accumulation_steps=every))
        images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype="uint8")
        start = model.encoder.get_weights()[0].copy()
        model.fit(images, batch_size=8, epochs=2, verbose=0, shuffle=False)
        weights.append(np.abs(model.encoder.get_weights()[0] - start).max())
    assert 1e-2 < weights[0] < weights[2] and weights[1] == pytest.approx(weights[0], rel=0.2)


def test_the_kernel_of_adam_is_for_adam_alone():
    others = [keras.optimizers.Adam(amsgrad=True), keras.optimizers.SGD(), keras.optimizers.Muon()]
    with _cpu.cpu_update([*others, adam := keras.optimizers.Adam()]):
        assert ["update_step" in each.__dict__ for each in (*others, adam)] == [False, False, False, True]


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("bfloat16", 2e-2)])
def test_the_gradient_of_silu_is_exact_at_any_size_of_the_inputs(dtype, tolerance):
    values = np.concatenate([np.linspace(-12, 12, 97), [-1e4, -90.0, 90.0, 1e4]])
    x = tf.cast(tf.constant(values), dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = _cpu.silu(x)
    exact = tf.cast(x, "float64").numpy()
    with np.errstate(over="ignore"):
        s = 1 / (1 + np.exp(-exact))
    np.testing.assert_allclose(tf.cast(y, "float64"), exact * s, rtol=tolerance, atol=tolerance)
    slope = tape.gradient(y, x, 2 * tf.ones_like(x))
    np.testing.assert_allclose(tf.cast(slope, "float64"), 2 * s * (1 + exact * (1 - s)), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("jit", COMPILED)
def test_a_run_with_all_kernels_is_one_without(monkeypatch, jit):
    products = []
    by_products = _cpu.filter_gradient
    monkeypatch.setattr(_cpu, "filter_gradient", lambda *a: products.append(a[0].shape[1:]) or by_products(*a))

    def model():
        keras.utils.set_random_seed(1)
        encoder = three_stage(widths=(8, 128, 128), head_size=16, global_size=5, side=20)
        made = SimCLR(encoder, augment=augment.preset("views", 20, (0.3, 1.0)))
        made.compile(keras.optimizers.SGD(0.05), jit_compile=jit)
        return made

    with_kernels = trained(monkeypatch, _cpu.cpu_kernels, model(), epochs=1)
    assert products and all(shape == (2, 2, 128) for shape in products)
    assert_same(with_kernels, trained(monkeypatch, lambda layers: contextlib.nullcontext(), model(), epochs=1), 1e-3)


@pytest.mark.parametrize(
    "sides, channels, dtype, faster",
    [
        ((5, 5), (256, 256), "bfloat16", True),
        ((5, 5), (256, 256), "float32", False),
        ((3, 3), (256, 256), "float32", True),
        ((11, 11), (256, 256), "bfloat16", False),
        ((5, 5), (64, 256), "bfloat16", False),
        ((None, None), (256, 256), "bfloat16", False),
    ],
)
def test_products_are_taken_where_they_were_measured_to_be_faster(sides, channels, dtype, faster):
    inputs = keras.KerasTensor((None, *sides, channels[0]), tf.as_dtype(dtype))
    kernel = keras.KerasTensor((3, 3, *channels), dtype)
    assert _cpu._by_products(inputs, kernel) is faster


@pytest.mark.parametrize("side, dtype, faster", [(8, "bfloat16", True), (8, "float32", False), (16, "bfloat16", False)])
def test_products_with_a_stride_are_taken_where_they_were_measured_to_be_faster(side, dtype, faster):
    inputs = keras.KerasTensor((None, side, side, 128), tf.as_dtype(dtype))
    assert _cpu._by_products(inputs, keras.KerasTensor((4, 4, 128, 256), dtype), 2) is faster


@pytest.mark.parametrize(
    "layer",
    [
        functools.partial(keras.layers.Conv2D, strides=2),
        functools.partial(keras.layers.Conv2D, dilation_rate=2),
        functools.partial(keras.layers.Conv2D, groups=2),
        functools.partial(keras.layers.Conv2D, activation="silu", use_bias=True),
    ],
)
def test_other_convolutions_come_out_as_keras_has_them(rng, layer):
    made = layer(filters=128, kernel_size=3, padding="same")
    x = tf.constant(rng.standard_normal((2, 4, 4, 256)), "float32")
    expected = made(x)
    results = []
    for layers in ([], [made]):
        with _cpu.cpu_kernels(layers), tf.GradientTape() as tape:
            tape.watch(x)
            y = made(x)
            loss = tf.reduce_sum(tf.square(y))
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
        results.append(tape.gradient(loss, [x, *[v.value for v in made.trainable_variables]]))
    for found, wanted in zip(*results):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
