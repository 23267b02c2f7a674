"""Contexts: summaries of a grid of features that see nothing below their own position."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers, ops

CONTEXTS = ("masked_conv", "row_gru")


def masked_conv(features: int, width: int, blocks: int, name: str) -> keras.Model:
    """Causal convolutions in raster order (van den Oord et al. 2016, PixelCNN): (B, H, W, features) to (.., width).

    Each residual block sees the two rows above with one column more to either side, and the position itself with
    its left neighbour: the context at row r and column c depends on the 2 `blocks` rows above r, up to `blocks` columns
    further right than c, and on row r up to c.

    Args:
        features: channels of the grid.
        width: channels of the context.
        blocks: residual blocks; each sees two rows further up.
        name: prefix of the names of the layers.
    """
    x = keras.Input((None, None, features), name=f"{name}_input")
    h = layers.Dense(width, name=f"{name}_first")(x)
    for i in range(1, blocks + 1):
        prefix = f"{name}_block{i}"
        n = layers.LayerNormalization(epsilon=1e-5, name=f"{prefix}_norm")(h)
        above = layers.ZeroPadding2D(((2, 0), (1, 1)), name=f"{prefix}_pad_above")(n)
        above = layers.Cropping2D(((0, 1), (0, 0)), name=f"{prefix}_crop_above")(above)
        above = layers.Conv2D(width, (2, 3), name=f"{prefix}_above")(above)
        left = layers.ZeroPadding2D(((0, 0), (1, 0)), name=f"{prefix}_pad_left")(n)
        left = layers.Conv2D(width, (1, 2), name=f"{prefix}_left")(left)
        both = layers.ReLU(name=f"{prefix}_relu")(layers.Add(name=f"{prefix}_both")([above, left]))
        both = layers.Dense(width, name=f"{prefix}_output")(both)
        h = layers.Add(name=f"{prefix}_sum")([h, both])
    return keras.Model(x, h, name=name)


def row_gru(shape: Sequence[int], width: int, name: str) -> keras.Model:
    """A GRU from row to row: (B, H, W, C) to (B, H, W, width).

    Each column has its own state, fed with the position and its two neighbours in the row: the context at row r depends
    on no row below r.

    Args:
        shape: (H, W, C) of the grid.
        width: units of the GRU.
        name: prefix of the names of the layers.
    """
    rows, columns, _ = shape
    x = keras.Input(shape, name=f"{name}_input")
    h = layers.Conv2D(width, (1, 3), padding="same", activation="relu", name=f"{name}_row")(x)
    h = ops.reshape(ops.transpose(h, (0, 2, 1, 3)), (-1, rows, width))
    h = layers.GRU(width, return_sequences=True, name=f"{name}_gru")(h)
    h = ops.transpose(ops.reshape(h, (-1, columns, rows, width)), (0, 2, 1, 3))
    return keras.Model(x, h, name=name)


def facing_down(grid, direction: str):
    """Turn a grid (B, H, W, C) so that what lies in `direction` lies below."""
    if direction in ("left", "right"):
        grid = ops.transpose(grid, (0, 2, 1, 3))
    return ops.flip(grid, axis=1) if direction in ("up", "left") else grid
