"""The convolutional encoder of Deep InfoMax for 64-pixel pictures."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from mizoo._tools.checks import check_each_size, check_name, check_sizes
from mizoo.encoders._layers import named

SIDE = 64
_POOLED = (1, 2, 5)  # the convolutions after which the map is halved


def conv64(
    widths: Sequence[int] = (96, 192, 384, 384, 192),
    fc_sizes: Sequence[int] = (4096, 4096),
    global_size: int = 64,
    channels: int = 3,
    name: str = "conv64",
) -> keras.Model:
    """Encoder of Deep InfoMax for 64x64 pictures, such as STL-10 and Tiny ImageNet (Hjelm et al. 2018, appendix A.2).

    Five 3x3 convolutions of stride 1, as AlexNet's, each with batch normalisation and ReLU, and max-pooling (3x3,
    stride 2, without padding) after the first, the second and the fifth; two dense layers with both; and a dense
    output. The scaling of pixels to [-1, 1] is the first layer. With the paper's sizes it has 58 million weights, most
    of them in the dense layers: `fc_sizes=(1024,)` leaves 13 million.

    Args:
        widths: channels of the five convolutions.
        fc_sizes: widths of the dense layers, one or more.
        global_size: width of the global representation Y.
        channels: channels of the pictures.
        name: name of the model.

    Returns:
        A Functional `keras.Model` from pictures (B, 64, 64, channels), 0..255, to a dict of float32 endpoints: `local`
        (B, 15, 15, widths[2]), the third convolution; `conv` (B, 7, 7, widths[4]), the fifth after its pooling; `fc`
        (B, fc_sizes[-1]), the last dense layer; and `global` (B, global_size).

    Raises:
        UserError: if `widths` are not five whole numbers from 1 on, `fc_sizes` not one or more, or another size is
            none.
    """
    widths = check_each_size(widths, "widths", 5)
    fc_sizes = check_each_size(fc_sizes, "fc_sizes")
    check_sizes(global_size=global_size, channels=channels)

    images = keras.Input((SIDE, SIDE, channels), name="images", dtype="float32")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(images)
    maps = []
    for i, width in enumerate(widths, start=1):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"conv{i}")(x)
        x = _norm_relu(x, f"conv{i}")
        if i in _POOLED:
            x = layers.MaxPooling2D(3, strides=2, name=f"pool{i}")(x)
        maps.append(x)
    x = layers.Flatten(name="flatten")(x)
    for i, size in enumerate(fc_sizes, start=1):
        x = layers.Dense(size, use_bias=False, name=f"dense{i}")(x)
        x = _norm_relu(x, f"dense{i}")
    y = layers.Dense(global_size, name="output")(x)

    endpoints = named({"local": maps[2], "conv": maps[4], "fc": x, "global": y})
    return keras.Model(images, endpoints, name=check_name(name))


def _norm_relu(x, name: str):
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
