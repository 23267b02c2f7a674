"""The convolutional encoder of Deep InfoMax for 32-pixel pictures."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from mizoo._tools.checks import check_each_size, check_name, check_sizes
from mizoo.encoders._layers import named


def conv32(
    widths: Sequence[int] = (64, 128, 256),
    fc_size: int = 1024,
    global_size: int = 64,
    channels: int = 3,
    name: str = "conv32",
) -> keras.Model:
    """Encoder of Deep InfoMax for 32x32 pictures (Hjelm et al. 2018, appendix A.2).

    Three convolutions (kernel 4, stride 2), each with batch normalisation and ReLU, a dense layer with both, and a
    dense output. The scaling of pixels to [-1, 1] is the first layer, so decoded pictures go in as they are.

    Args:
        widths: channels of the three convolutions.
        fc_size: width of the dense layer.
        global_size: width of the global representation Y.
        channels: channels of the pictures.
        name: name of the model.

    Returns:
        A Functional `keras.Model` from pictures (B, 32, 32, channels), 0..255, to a dict of float32 endpoints:
        `local` (B, 8, 8, widths[1]), `conv` (B, 4, 4, widths[2]), `fc` (B, fc_size) and `global` (B, global_size),
        the last before the sigmoid that the prior sees.

    Raises:
        UserError: if `widths` are not three whole numbers from 1 on, or another size is none.
    """
    widths = check_each_size(widths, "widths", 3)
    check_sizes(fc_size=fc_size, global_size=global_size, channels=channels)

    images = keras.Input((32, 32, channels), name="images", dtype="float32")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(images)
    maps = []
    for i, width in enumerate(widths, start=1):
        x = layers.Conv2D(width, 4, strides=2, padding="same", use_bias=False, name=f"conv{i}")(x)
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"conv{i}_norm")(x)
        x = layers.ReLU(name=f"conv{i}_relu")(x)
        maps.append(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(fc_size, use_bias=False, name="dense")(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="dense_norm")(x)
    fc = layers.ReLU(name="dense_relu")(x)
    y = layers.Dense(global_size, name="output")(fc)

    endpoints = named({"local": maps[1], "conv": maps[2], "fc": fc, "global": y})
    return keras.Model(images, endpoints, name=check_name(name))
