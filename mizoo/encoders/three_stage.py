"""A shallow network of three stages for small pictures, fast to train on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from mizoo._tools.checks import check_each_size, check_name, check_sizes
from mizoo.encoders._layers import Side, check_side, named
from mizoo.errors import UserError

WHITENING = "whitening"  # name of the convolution that is fixed from patches of pictures
_BLOCK = 1 << 23  # values of patches that are in memory at a time: 64 MB


def three_stage(
    widths: Sequence[int] = (64, 256, 256),
    head_size: int = 512,
    global_size: int = 128,
    side: Side = 32,
    whitening: bool = True,
    padding: str = "same",
    channels: int = 3,
    name: str = "three_stage",
) -> keras.Model:
    """Three stages of two convolutions without shortcuts, after a fixed whitening (Jordan 2024, arXiv 2404.00498).

    The first convolution sees patches of 2x2 pixels and is not trained: `fit_whitening` sets it from patches of the
    training pictures, whose directions it brings to one scale. Each stage is a 3x3 convolution, max-pooling by 2, batch
    normalisation, SiLU, and a second convolution with the same. Its weights fit pictures of every size from 8 on.

    Args:
        widths: channels of the three stages.
        head_size: hidden units of the head.
        global_size: width of the global vector.
        side: height and width of the pictures, one number or both, (height, width), from 8 on.
        whitening: whether the first convolution is fixed; else it is trained from random weights.
        padding: of the first convolution. With "valid" every stage loses a row and a column to the borders, and a step
            takes a third less time.
        channels: channels of the pictures.
        name: name of the model.

    Returns:
        A Functional `keras.Model` from pictures (B, side, side, channels), 0..255, to a dict of float32 endpoints, with
        sides rounded down: `local` (B, side/4, side/4, widths[1]), the second stage; `conv` (B, side/8, side/8,
        widths[2]), the third, both one smaller with `padding="valid"`; `fc` (B, widths[1] + widths[2]), the means of
        both side by side; and `global` (B, global_size), the output of the head on the mean of the third.

    Raises:
        UserError: for widths and sizes that are no whole numbers from 1 on, a side below 8 (16 without padding), or
            another padding.
    """
    widths = check_each_size(widths, "widths", 3)
    check_sizes(head_size=head_size, global_size=global_size, channels=channels)
    if padding not in ("same", "valid"):
        raise UserError(f'`padding` is "same" or "valid". Received: padding={padding!r}')
    height, columns = check_side(side, smallest=8)
    if padding == "valid" and min(height, columns) < 16:
        raise UserError(f'`padding="valid"` leaves nothing of pictures below 16 pixels. Received: side={side}')

    images = keras.Input((height, columns, channels), name="images", dtype="float32")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(images)
    x = layers.Conv2D(8 * channels, 2, padding=padding, use_bias=False, trainable=not whitening, name=WHITENING)(x)
    x = layers.Activation("silu", name="whitening_silu")(x)
    maps = []
    for stage, width in enumerate(widths, start=1):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"stage{stage}_conv1")(x)
        x = layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
        x = _normalised(x, f"stage{stage}_conv1")
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"stage{stage}_conv2")(x)
        x = _normalised(x, f"stage{stage}_conv2")
        maps.append(x)
    means = [layers.GlobalAveragePooling2D(name=f"mean{stage}")(maps[stage - 1]) for stage in (2, 3)]
    h = layers.Dense(head_size, use_bias=False, name="head")(means[1])
    h = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="head_norm")(h)
    h = layers.ReLU(name="head_relu")(h)
    y = layers.Dense(global_size, use_bias=False, name="output")(h)

    fc = layers.Concatenate(name="means")(means)
    endpoints = named({"local": maps[1], "conv": maps[2], "fc": fc, "global": y})
    return keras.Model(images, endpoints, name=check_name(name))


def fit_whitening(encoder: keras.Model, images: np.ndarray, count: int = 5000) -> None:
    """Set the fixed first convolution of a `three_stage` encoder from patches of 2x2 pixels of pictures.

    Its filters are the eigenvectors of the patches' covariance over the square root of their eigenvalue, and their
    negatives, so that the responses of either half are uncorrelated and of one variance.

    Args:
        encoder: as `three_stage` gives it.
        images: pictures (N, H, W, C), 0..255, or a `mizoo.data.streams.Stream` of them; `count` of them are used,
            evenly spread, and a block of them is in memory at a time.
        count: how many pictures.
    """
    layer = encoder.get_layer(WHITENING)
    height, width, channels = images.shape[1:]
    rows = np.arange(0, len(images), max(1, len(images) // count))[:count]
    block = max(1, _BLOCK // (4 * channels * height * width))
    sums, products = np.zeros(4 * channels), np.zeros((4 * channels, 4 * channels))
    for start in range(0, len(rows), block):
        patches = _patches(images[rows[start : start + block]])
        sums += patches.sum(axis=0)
        products += patches.T @ patches
    total = len(rows) * (height - 1) * (width - 1)
    mean = sums / total
    values, vectors = np.linalg.eigh(products / total - np.outer(mean, mean))
    filters = vectors / np.sqrt(values + 5e-4)  # the smallest directions hold little but rounding
    both = np.concatenate([filters, -filters], axis=1)  # (4 C, 8 C)
    layer.set_weights([both.reshape(2, 2, channels, 8 * channels).astype("float32")])


def _patches(images: np.ndarray) -> np.ndarray:
    """All patches of 2x2 pixels of pictures (N, H, W, C), scaled to -1..1, float64 (patches, 4 C)."""
    scaled = images.astype("float32") / 127.5 - 1.0
    corners = [scaled[:, y : y - 1 or None, x : x - 1 or None] for y in (0, 1) for x in (0, 1)]
    return np.concatenate(corners, axis=-1).reshape(-1, 4 * scaled.shape[-1]).astype("float64")


def _normalised(x, name: str):
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
    return layers.Activation("silu", name=f"{name}_silu")(x)
