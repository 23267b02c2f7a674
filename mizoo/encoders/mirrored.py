"""The decoder of 32-pixel pictures that mirrors `conv32`, for autoencoders."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from mizoo._tools.checks import check_each_size, check_name, check_sizes


def mirrored32(
    size: int = 64,
    widths: Sequence[int] = (64, 128, 256),
    fc_size: int = 1024,
    channels: int = 3,
    name: str = "mirrored32",
) -> keras.Model:
    """Decoder of vectors to 32x32 pictures: the layers of `conv32` in reverse (Hjelm et al. 2018, appendix A.2).

    Two dense layers and three transposed convolutions (kernel 4, stride 2), each but the last with batch normalisation
    and ReLU.

    Args:
        size: d, columns of the vectors.
        widths: channels of the encoder's three convolutions, in its order.
        fc_size: width of the first dense layer.
        channels: channels of the pictures.
        name: name of the model.

    Returns:
        A Functional `keras.Model` from vectors (B, size) to float32 pictures (B, 32, 32, channels) in units of which
        -1..1 are the pixels 0..255; not clipped.

    Raises:
        UserError: if `widths` are not three whole numbers from 1 on, or another size is none.
    """
    widths = check_each_size(widths, "widths", 3)
    check_sizes(size=size, fc_size=fc_size, channels=channels)

    vectors = keras.Input((size,), name="vectors")
    x = _normalised(layers.Dense(fc_size, use_bias=False, name="decoder_dense1")(vectors), "decoder_dense1")
    x = _normalised(layers.Dense(16 * widths[2], use_bias=False, name="decoder_dense2")(x), "decoder_dense2")
    x = layers.Reshape((4, 4, widths[2]), name="decoder_map")(x)
    for i, width in enumerate((widths[1], widths[0]), start=1):
        layer = layers.Conv2DTranspose(width, 4, strides=2, padding="same", use_bias=False, name=f"decoder_conv{i}")
        x = _normalised(layer(x), f"decoder_conv{i}")
    x = layers.Conv2DTranspose(channels, 4, strides=2, padding="same", name="decoder_conv3")(x)
    return keras.Model(vectors, layers.Activation("linear", dtype="float32", name="pixels")(x), name=check_name(name))


def _normalised(x, name: str):
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
