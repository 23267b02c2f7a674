"""Faster kernels for a training step on a CPU with TensorFlow; layers and results stay those of Keras."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf
from keras import layers

from mizoo._tools import keras_private


@contextlib.contextmanager
def cpu_update(optimizers: Sequence[keras.optimizers.Optimizer]) -> Iterator[None]:
    """Within it, Adam and AdamW are traced with TensorFlow's one kernel instead of Keras's dozen operations."""
    plain = [each for each in optimizers if type(each) in (keras.optimizers.Adam, keras.optimizers.AdamW)]
    plain = [each for each in plain if not each.amsgrad]
    for each in plain:
        each.update_step = functools.partial(_adam, each)
    try:
        yield
    finally:
        for each in plain:
            del each.update_step


def _adam(adam: keras.optimizers.Adam, gradient, variable, learning_rate) -> None:
    """`Adam.update_step`."""
    mean, square = keras_private.adam_moments(adam, variable)
    step = tf.cast(tf.convert_to_tensor(adam.iterations) + 1, variable.dtype)  # a tensor where it accumulates
    beta_1, beta_2 = tf.cast(adam.beta_1, variable.dtype), tf.cast(adam.beta_2, variable.dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=mean.value.handle,
        v=square.value.handle,
        beta1_power=beta_1**step,
        beta2_power=beta_2**step,
        lr=tf.cast(learning_rate, variable.dtype),
        beta1=beta_1,
        beta2=beta_2,
        epsilon=adam.epsilon,
        grad=tf.cast(gradient, variable.dtype),
    )


@contextlib.contextmanager
def cpu_kernels(model_layers: Sequence[layers.Layer]) -> Iterator[None]:
    """Within it, the layers are traced with kernels of this file where one is faster.

    - Batch normalisation by TensorFlow's one kernel instead of Keras's dozen.
    - The gradient of a convolution's filters as matrix products where oneDNN takes several times as long.
    - The gradient of SiLU compiled into one pass over the map instead of eight, and layer normalisation into a few.
    """
    patched: list[tuple[layers.Layer, str]] = []
    for layer in model_layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.call = functools.partial(_normalise, layer)
            patched.append((layer, "call"))
        elif type(layer) is layers.Conv2D and _plain(layer):
            layer.convolution_op = functools.partial(_convolve, layer)
            patched.append((layer, "convolution_op"))
        elif type(layer) is layers.Activation and layer.activation is keras.activations.silu:
            layer.call = silu
            patched.append((layer, "call"))
        elif type(layer) is layers.LayerNormalization and layer.scale and layer.center and layer.axis in (-1, [-1]):
            layer.call = functools.partial(_layer_normalise, layer)
            patched.append((layer, "call"))
    try:
        yield
    finally:
        for layer, name in patched:
            delattr(layer, name)


def _normalise(norm: layers.BatchNormalization, inputs, training=None, mask=None):
    """`BatchNormalization.call` with the same result and the same moving averages."""
    channels_last = norm.axis in (-1, inputs.shape.rank - 1)
    plain = norm.scale and norm.center and not norm.renorm and mask is None and channels_last
    if not (training and norm.trainable and plain):
        return type(norm).call(norm, inputs, training=training, mask=mask)
    # The kernel of bfloat16 is slow where channels do not fill its blocks of 16.
    direct = inputs.dtype == tf.bfloat16 and inputs.shape[-1] % 16 == 0
    x = inputs if direct else tf.cast(inputs, tf.float32)
    if inputs.shape.rank != 4:
        x = tf.reshape(x, (-1, 1, 1, inputs.shape[-1]))
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=norm.gamma,
        offset=norm.beta,
        mean=tf.zeros(0),
        variance=tf.zeros(0),
        epsilon=norm.epsilon,
        is_training=True,
    )
    count = tf.cast(tf.size(x) // inputs.shape[-1], tf.float32)
    variance *= (count - 1.0) / count  # the kernel's is unbiased, Keras's is that of the batch
    for moving, value in ((norm.moving_mean, mean), (norm.moving_variance, variance)):
        moving.assign(moving * norm.momentum + value * (1.0 - norm.momentum))
    if inputs.shape.rank != 4:
        y = tf.ensure_shape(tf.reshape(y, tf.shape(inputs)), inputs.shape)
    return tf.cast(y, norm.compute_dtype)


@tf.custom_gradient
def silu(inputs):
    """SiLU with a gradient of one pass; in float32 within it, whatever the type of the inputs."""
    return tf.nn.silu(inputs), lambda upstream: _silu_gradient(inputs, upstream)


@tf.function(jit_compile=True)
def _silu_gradient(inputs, upstream):
    x = tf.cast(inputs, tf.float32)
    s = tf.sigmoid(x)
    return tf.cast(tf.cast(upstream, tf.float32) * s * (1.0 + x * (1.0 - s)), inputs.dtype)


def _layer_normalise(norm: layers.LayerNormalization, inputs):
    """`LayerNormalization.call` by compiled passes."""
    x = tf.cast(inputs, tf.float32)
    return tf.cast(layer_norm(x, norm.gamma.value, norm.beta.value, norm.epsilon), norm.compute_dtype)


@tf.custom_gradient
def layer_norm(x, gamma, beta, epsilon: float):
    """Layer normalisation of (..., C) over the last axis; float32, gamma and beta (C,)."""
    outputs = _layer_norm_outputs(x, gamma, beta, epsilon)
    return outputs, lambda upstream: (*_layer_norm_gradients(x, gamma, upstream, epsilon), None)


@tf.function(jit_compile=True)
def _layer_norm_outputs(x, gamma, beta, epsilon: float):
    return _standardised(x, epsilon)[0] * gamma + beta


@tf.function(jit_compile=True)
def _layer_norm_gradients(x, gamma, upstream, epsilon: float):
    """Of x, gamma and beta."""
    h, scale = _standardised(x, epsilon)
    inner = upstream * gamma
    means = [tf.reduce_mean(each, axis=-1, keepdims=True) for each in (inner, inner * h)]
    rows = [tf.reshape(each, (-1, x.shape[-1])) for each in (upstream * h, upstream)]
    return scale * (inner - means[0] - h * means[1]), *[tf.reduce_sum(each, axis=0) for each in rows]


def _standardised(x, epsilon: float):
    """x of mean 0 and variance 1 along the last axis, and the factor that made the variance 1."""
    centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    scale = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True) + epsilon)
    return centred * scale, scale


def _plain(layer: layers.Conv2D) -> bool:
    """Whether a convolution is one whose filters can get their gradient from `filter_gradient`."""
    dense = layer.groups == 1 and set(layer.dilation_rate) == {1} and len(set(layer.strides)) == 1
    return dense and layer.data_format == "channels_last" and layer.padding in ("same", "valid")


def _convolve(layer: layers.Conv2D, inputs, kernel):
    """`Conv2D.convolution_op`, with the gradient of the kernel by matrix products where that is faster."""
    kernel = tf.convert_to_tensor(kernel)
    stride, padding = layer.strides[0], layer.padding.upper()
    if not _by_products(inputs, kernel, stride):
        return tf.nn.conv2d(inputs, kernel, stride, padding)

    @tf.custom_gradient
    def convolved(inputs, kernel):
        """The convolution and its gradients."""

        def gradients(upstream):
            """Of the inputs and of the kernel."""
            of_inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(inputs),
                filter=kernel,
                out_backprop=upstream,
                strides=[1, stride, stride, 1],
                padding=padding,
            )
            return of_inputs, filter_gradient(inputs, upstream, kernel.shape[:2], padding, stride)

        return tf.nn.conv2d(inputs, kernel, stride, padding), gradients

    return convolved(inputs, kernel)


def _by_products(inputs, kernel, stride: int = 1) -> bool:
    """Whether the products are faster, by what was measured on one core: on small maps of many channels."""
    if None in inputs.shape[1:3] or min(kernel.shape[2:]) < 128:
        return False
    positions, channels, narrow = inputs.shape[1] * inputs.shape[2], kernel.shape[2], inputs.dtype == tf.bfloat16
    if stride > 1:
        return narrow and positions <= channels // 2
    return positions <= channels // (5 if narrow else 16)


def filter_gradient(inputs, upstream, taps: Sequence[int], padding: str, stride: int = 1):
    """The gradient of a convolution's kernel, one matrix product for each of its taps.

    With a stride the inputs are folded first, stride x stride positions into the channels of one, so that the kernel is
    one without a stride, of fewer taps and more channels.

    Args:
        inputs: (B, H, W, C), of known H, W and C.
        upstream: gradient of the outputs (B, H', W', D).
        taps: height and width of the kernel.
        padding: "SAME" or "VALID".
        stride: along height and width.

    Returns:
        (*taps, C, D), in the type of the inputs.
    """
    if stride == 1:
        return _unstrided(inputs, upstream, taps, padding)
    folded = [-(-count // stride) for count in taps]
    borders = [
        _border(inputs.shape[axis], upstream.shape[axis], taps[axis - 1], folded[axis - 1], stride, padding)
        for axis in (1, 2)
    ]
    inputs = tf.pad(inputs, [(0, 0), *borders, (0, 0)])[:, : stride * (upstream.shape[1] + folded[0] - 1)]
    inputs = tf.nn.space_to_depth(inputs[:, :, : stride * (upstream.shape[2] + folded[1] - 1)], stride)
    channels = inputs.shape[-1] // stride**2
    whole = tf.reshape(_unstrided(inputs, upstream, folded, "VALID"), (*folded, stride, stride, channels, -1))
    whole = tf.reshape(tf.transpose(whole, (0, 2, 1, 3, 4, 5)), (*(stride * each for each in folded), channels, -1))
    return whole[: taps[0], : taps[1]]


def _border(inputs: int, outputs: int, taps: int, folded: int, stride: int, padding: str) -> tuple[int, int]:
    """How many zeros go before and behind the inputs of one side, so that they fold into what the outputs see."""
    before = max(0, (outputs - 1) * stride + taps - inputs) // 2 if padding == "SAME" else 0
    return before, max(0, stride * (outputs + folded - 1) - inputs - before)


def _unstrided(inputs, upstream, taps: Sequence[int], padding: str):
    """`filter_gradient` without a stride."""
    rows, columns = (
        [_overlap(inputs.shape[axis], upstream.shape[axis], tap - _before(count, padding)) for tap in range(count)]
        for axis, count in zip((1, 2), taps)
    )
    products = []
    for seen_rows, given_rows in rows:
        for seen_columns, given_columns in columns:
            seen = tf.reshape(inputs[:, seen_rows, seen_columns], (-1, inputs.shape[-1]))
            given = tf.reshape(upstream[:, given_rows, given_columns], (-1, upstream.shape[-1]))
            products.append(tf.matmul(seen, given, transpose_a=True))
    return tf.reshape(tf.stack(products), (*taps, inputs.shape[-1], upstream.shape[-1]))


def _before(taps: int, padding: str) -> int:
    """How many zeros precede the inputs along one side."""
    return (taps - 1) // 2 if padding == "SAME" else 0


def _overlap(inputs: int, outputs: int, offset: int) -> tuple[slice, slice]:
    """Where one tap sees inputs, output o that of o + offset, and those outputs; none beyond the borders."""
    first, last = max(0, -offset), min(outputs, inputs - offset)
    return slice(first + offset, max(first, last) + offset), slice(first, max(first, last))
