"""The coordinates task: where in the picture a local feature is (Hjelm et al. 2018, appendix: coordinates)."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers, ops


def coordinate_classifier(local: Sequence[int], size: int, width: int = 512) -> keras.Model:
    """The network of the task: local features (B, h w, C) and Y (B, d) to logits of the row and of the column.

    Args:
        local: (h, w, C), the shape of the map of local features.
        size: d.
        width: hidden units of the two layers, ReLU.

    Returns:
        A model from the two to float32 logits (B, h w, h) and (B, h w, w).
    """
    height, columns, channels = local
    features = keras.Input((height * columns, channels), name="coordinates_local")
    y = keras.Input((size,), name="coordinates_global")
    # One layer on both side by side is the sum of a layer on each, and Y's is computed once a picture.
    own = layers.Dense(width, name="coordinates_local_hidden")(features)
    shared = layers.Dense(width, use_bias=False, name="coordinates_global_hidden")(y)
    h = layers.ReLU(name="coordinates_relu1")(own + layers.Reshape((1, width), name="coordinates_shared")(shared))
    h = layers.ReLU(name="coordinates_relu2")(layers.Dense(width, name="coordinates_hidden")(h))
    row = layers.Dense(height, dtype="float32", name="coordinates_row")(h)
    column = layers.Dense(columns, dtype="float32", name="coordinates_column")(h)
    return keras.Model([features, y], [row, column], name="coordinates")


def coordinate_losses(model: keras.Model, local, y):
    """How well the classifier finds the place of each local feature.

    Args:
        model: as `coordinate_classifier` gives it.
        local: (B, h, w, C), a map of local features.
        y: (B, d), the global representation.

    Returns:
        Two scalars: the sum of the cross-entropies of row and column, in nats, log h + log w by chance; and the share
        of features of which both are right, 1 / (h w) by chance.
    """
    _, height, columns, channels = local.shape
    logits = model([ops.reshape(local, (-1, height * columns, channels)), ops.convert_to_tensor(y)], training=True)
    index = ops.arange(height * columns)
    loss, right = 0.0, True
    for each, place in zip(logits, (index // columns, index % columns)):
        own = ops.sum(each * ops.one_hot(place, each.shape[-1], dtype="float32"), axis=-1)
        loss = loss + ops.mean(ops.logsumexp(each, axis=-1) - own)
        right = ops.logical_and(right, ops.argmax(each, axis=-1) == ops.cast(place, "int32"))
    return loss, ops.mean(ops.cast(right, "float32"))
