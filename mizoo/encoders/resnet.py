"""Residual networks for small pictures, and for larger ones."""

from __future__ import annotations

import keras
from keras import layers

from mizoo._tools.checks import check_choice, check_name, check_real, check_sizes
from mizoo.encoders._layers import Side, check_side, named
from mizoo.errors import UserError

STEMS = {"small": 8, "large": 32}
"""The stems, and the pixels of a picture for one of the last map."""


def resnet18(
    width: float = 1.0,
    head_size: int = 512,
    global_size: int = 128,
    side: Side = 32,
    channels: int = 3,
    name: str = "resnet18",
    stem: str = "small",
) -> keras.Model:
    """ResNet-18 (He et al. 2015, table 1), with the stem of ImageNet or with one for small pictures.

    The stem "small" is a 3x3 convolution of stride 1, as on 32-pixel pictures; "large" is that of the paper, a 7x7
    convolution of stride 2 and max-pooling by 2, which leaves a sixteenth of the positions: for 96 to 224 pixels.

    Four stages of two basic blocks, 64, 128, 256 and 512 channels times `width`; the last block's mean is what linear
    probes of such networks read, and a head of one hidden layer makes the global vector of it.

    Args:
        width: factor of the channels; 0.25 to 0.5 is what a CPU can train, and multiples of 0.25 keep the channels
            multiples of 16, which its kernels are fast with.
        head_size: hidden units of the head.
        global_size: width of the global vector.
        side: height and width of the pictures, one number or both, (height, width): multiples of 8, with the large
            stem of 32.
        channels: channels of the pictures.
        name: name of the model.
        stem: "small" or "large".

    Returns:
        A Functional `keras.Model` from pictures (B, side, side, channels), 0..255, to a dict of float32 endpoints:
        `local` (B, side/4, side/4, 256 width), the third stage; `conv` (B, side/8, side/8, 512 width), the fourth (a
        quarter of these sides with the large stem); `fc` (B, 512 width), its mean; and `global` (B, global_size), the
        output of the head.

    Raises:
        UserError: for a width that leaves a stage without channels, sizes that are no whole numbers from 1 on,
            pictures that do not halve three times (five with the large stem), or another stem.
    """
    check_sizes(head_size=head_size, global_size=global_size, channels=channels)
    if round(64 * check_real(width, "width", above=0)) < 1:
        raise UserError(f"`width` is a factor of 64 channels that leaves at least one. Received: width={width}")
    large = check_choice(stem, "stem", STEMS) == "large"
    height, columns = check_side(side, STEMS[stem])

    images = keras.Input((height, columns, channels), name="images", dtype="float32")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(images)
    kernel, strides = (7, 2) if large else (3, 1)
    x = layers.Conv2D(round(64 * width), kernel, strides=strides, padding="same", use_bias=False, name="stem")(x)
    x = _batch_norm(x, "stem")
    if large:
        x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    maps = []
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in (1, 2):
            strides = 2 if stage > 1 and block == 1 else 1
            x = _basic_block(x, round(filters * width), strides, f"stage{stage}_block{block}")
        maps.append(x)
    fc = layers.GlobalAveragePooling2D(name="pool")(x)
    h = layers.Dense(head_size, use_bias=False, name="head")(fc)
    h = _batch_norm(h, "head")
    y = layers.Dense(global_size, name="output")(h)

    endpoints = named({"local": maps[2], "conv": maps[3], "fc": fc, "global": y})
    return keras.Model(images, endpoints, name=check_name(name))


def _batch_norm(x, name: str, relu: bool = True):
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _basic_block(x, filters: int, strides: int, name: str):
    shortcut = x
    h = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False, name=f"{name}_conv1")(x)
    h = _batch_norm(h, f"{name}_conv1")
    h = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv2")(h)
    h = _batch_norm(h, f"{name}_conv2", relu=False)
    if strides > 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, strides=strides, use_bias=False, name=f"{name}_shortcut")(x)
        shortcut = _batch_norm(shortcut, f"{name}_shortcut", relu=False)
    h = layers.Add(name=f"{name}_sum")([h, shortcut])
    return layers.ReLU(name=f"{name}_relu")(h)
