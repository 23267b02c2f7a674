"""Overlapping patches of a picture, each encoded by itself."""

from __future__ import annotations

import keras
from keras import layers

from mizoo._tools.arrays import check_whole
from mizoo._tools.checks import check_name, check_sizes
from mizoo.encoders._layers import Side, check_side, field_and_stride, named
from mizoo.errors import UserError

PATCHES = "patches"  # name of the inner model that encodes one patch


def patch_grid(
    side: Side = 32,
    patch: int = 8,
    width: int = 128,
    size: int = 256,
    blocks: int = 3,
    channels: int = 3,
    name: str = "patch_grid",
) -> keras.Model:
    """Encoder of Contrastive Predictive Coding for pictures: a grid of patches that overlap by half (section 3.3).

    The convolutions are not padded and their receptive field is one patch, so their map is what they give for each
    patch alone, without computing twice what two patches share. Residual blocks follow, each on one position of
    the map, and all normalisation is over the channels of one position: batch normalisation leaks from patch to patch.

    Args:
        side: height and width of the pictures, one number or both, (height, width).
        patch: height and width of a patch, a power of two from 4 on; the stride is half of it. 8 gives 7x7 patches
            of 32 pixels, 16 gives 7x7 patches of 64 pixels.
        width: channels of the first convolutions; those that end at a patch have twice as many.
        size: channels of the patch vectors z.
        blocks: residual blocks of each patch.
        channels: channels of the pictures.
        name: name of the model.

    Returns:
        A Functional `keras.Model` from pictures (B, side, side, channels), 0..255, to a dict of float32 endpoints:
        `local` (B, g, g, size), the vectors z of the patches, g = 2 side / patch - 1; `fc` (B, 4 size), the mean over
        the patches of the layer before z; `global` (B, size), the mean of z. Its layer "patches" is the encoder of
        one patch, a model of pictures of any size.

    Raises:
        UserError: for a patch that is no power of two from 4 on, pictures that whole strides do not fill, or
            sizes that are no whole numbers from 1 on.
    """
    height, columns = check_side(side)
    check_sizes(patch=patch, width=width, size=size, channels=channels)
    check_whole(blocks, "blocks")
    if patch < 4 or patch & (patch - 1):
        raise UserError(f"`patch` is a power of two from 4 on. Received: patch={patch}")
    if any(each < patch or each % (patch // 2) for each in (height, columns)):
        raise UserError(
            f"`side` is at least `patch` and a multiple of its half. Received: side={side} with patch={patch}"
        )

    encoder = _patch_encoder(patch, width, size, blocks, channels)
    images = keras.Input((height, columns, channels), name="images", dtype="float32")
    fc, z = encoder(images)
    means = {
        "fc": layers.GlobalAveragePooling2D(name="mean_fc")(fc),
        "global": layers.GlobalAveragePooling2D(name="mean_z")(z),
    }
    endpoints = named({"local": z, **means})
    return keras.Model(images, endpoints, name=check_name(name))


def patch_geometry(encoder: keras.Model) -> tuple[int, int]:
    """Side of a patch and pixels from patch to patch, from the convolutions of an encoder of `patch_grid`.

    Raises:
        UserError: if the encoder has no layer "patches".
    """
    if PATCHES not in [layer.name for layer in encoder.layers]:
        raise UserError(f"Patches come from an encoder of mizoo.encoders.patch_grid. Received: {encoder.name!r}")
    return field_and_stride(encoder.get_layer(PATCHES).layers, layers.Conv2D)


def _patch_encoder(patch: int, width: int, size: int, blocks: int, channels: int) -> keras.Model:
    """Pictures (B, H, W, channels) to maps of the layer before z and of z, one position for each patch."""
    images = keras.Input((None, None, channels), name="patch", dtype="float32")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(images)
    kernel, stride, filters = 3, 2, width
    while stride <= patch // 2:
        # (3, then 2 with stride 2), (2, then 2 with stride 2), ...: the field after each pair is twice the stride.
        level = f"stride{stride}"
        x = _layer_norm_relu(layers.Conv2D(filters, kernel, use_bias=False, name=f"{level}_conv1")(x), f"{level}_norm1")
        filters = 2 * width
        x = layers.Conv2D(filters, 2, strides=2, use_bias=False, name=f"{level}_conv2")(x)
        x = _layer_norm_relu(x, f"{level}_norm2")
        kernel, stride = 2, 2 * stride
    x = layers.Dense(size, name="merge")(x)
    for i in range(1, blocks + 1):
        h = layers.LayerNormalization(epsilon=1e-5, name=f"block{i}_norm")(x)
        h = layers.Dense(4 * size, activation="relu", name=f"block{i}_hidden")(h)
        h = layers.Dense(size, name=f"block{i}_output")(h)
        x = layers.Add(name=f"block{i}_sum")([x, h])
    x = layers.LayerNormalization(epsilon=1e-5, name="last_norm")(x)
    fc = layers.Dense(4 * size, activation="relu", name="last_hidden")(x)
    z = layers.Dense(size, name="output")(fc)
    return keras.Model(images, [fc, z], name=PATCHES)


def _layer_norm_relu(x, name: str):
    x = layers.LayerNormalization(epsilon=1e-5, name=name)(x)
    return layers.ReLU(name=f"{name}_relu")(x)
