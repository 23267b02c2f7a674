"""Statistics of batch normalisation from the pictures that an encoder will see."""

from __future__ import annotations

import keras
import numpy as np

from mizoo._tools import keras_private
from mizoo._tools.checks import check_size
from mizoo.errors import UserError

PICTURES = 4096
_BATCH = 256


def fit_statistics(encoder: keras.Model, images: np.ndarray, count: int = PICTURES) -> None:
    """Set the means and variances of batch normalisation from whole pictures.

    An encoder that was trained on small or coloured views normalises by theirs, and gets other pictures to see after
    its training. The statistics become the mean of those of batches of 256, each normalised by its own as in training;
    all other weights stay. An encoder without batch normalisation is left as it is.

    Args:
        encoder: any Keras model of pictures with batch normalisation. It is changed.
        images: pictures (N, H, W, C), 0..255, without their labels; `count` of them are used, evenly spread.
        count: how many pictures.

    Raises:
        UserError: for fewer than two pictures, or a `count` that is no whole number from 2 on.
    """
    if check_size(count, "count") < 2 or len(images) < 2:
        raise UserError(
            f"Statistics of batch normalisation take 2 pictures and more. Received: {len(images)}, count={count}"
        )
    every = [layer for layer in keras_private.all_layers(encoder) if isinstance(layer, keras.layers.BatchNormalization)]
    norms = [layer for layer in every if layer.trainable]  # the others normalise by what they have in training too
    kept = [norm.momentum for norm in norms]
    chosen = images[np.linspace(0, len(images) - 1, min(count, len(images))).round().astype("int64")]
    batches = np.array_split(chosen, -(-len(chosen) // _BATCH)) if norms else []
    try:
        for done, batch in enumerate(batches):
            for norm in norms:
                norm.momentum = done / (done + 1)
            encoder(batch.astype("float32"), training=True)
    finally:
        for norm, momentum in zip(norms, kept):
            norm.momentum = momentum
