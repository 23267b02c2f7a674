"""A decoder from flat features back to pictures, to see what a representation holds of them."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from mizoo._tools.checks import check_each_size, check_sizes, check_widths

_DOUBLINGS = 3


def decoder(
    features: int,
    shape: Sequence[int] = (32, 32, 3),
    widths: Sequence[int] = (256, 128, 64),
    hidden: Sequence[int] = (),
    name: str = "decoder",
) -> keras.Model:
    """The mirror image of the encoder of Deep InfoMax (`conv32`): a dense layer and three transposed convolutions.

    Args:
        features: columns of the features.
        shape: height, width and channels of the pictures.
        widths: channels of the maps of an eighth, a quarter and half the size.
        hidden: units of dense layers before the map, such as the 1,024 that `conv32` has behind it.
        name: name of the model.

    Returns:
        A Functional `keras.Model` from features (B, features) to float32 pictures (B, *shape) on the scale -1 to 1
        (which it may overshoot). Sizes that are no multiple of 8 are cut from the next larger one.

    Raises:
        UserError: if a size is no whole number from 1 on, or `shape` or `widths` are not three.
    """
    check_sizes(features=features)
    hidden = check_widths(hidden, "hidden", 0)
    height, width, channels = check_each_size(shape, "shape", 3)
    widths = check_each_size(widths, "widths", 3)
    scale = 2**_DOUBLINGS
    rows, columns = -(-height // scale), -(-width // scale)

    inputs = keras.Input((features,), name="features", dtype="float32")
    x = inputs
    names = [*(f"hidden{i + 1}" for i in range(len(hidden))), "dense"]
    for each, units in zip(names, (*hidden, rows * columns * widths[0])):
        x = layers.Dense(units, use_bias=False, name=each)(x)
        x = layers.BatchNormalization(name=f"{each}_norm")(x)
        x = layers.ReLU(name=f"{each}_relu")(x)
    x = layers.Reshape((rows, columns, widths[0]), name="map")(x)
    for i, size in enumerate(widths[1:], start=1):
        x = layers.Conv2DTranspose(size, 4, strides=2, padding="same", use_bias=False, name=f"conv{i}")(x)
        x = layers.BatchNormalization(name=f"conv{i}_norm")(x)
        x = layers.ReLU(name=f"conv{i}_relu")(x)
    x = layers.Conv2DTranspose(channels, 4, strides=2, padding="same", name=f"conv{len(widths)}")(x)
    if (rows * scale, columns * scale) != (height, width):
        x = layers.Cropping2D(((0, rows * scale - height), (0, columns * scale - width)), name="crop")(x)
    return keras.Model(inputs, layers.Activation("linear", dtype="float32", name="pictures")(x), name=name)
