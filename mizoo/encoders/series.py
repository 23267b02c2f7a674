"""A small encoder for multivariate series."""

from __future__ import annotations

import keras
from keras import layers

from mizoo._tools.checks import check_name, check_sizes
from mizoo.encoders._layers import named


def series(
    features: int, width: int = 128, context_size: int = 128, kernel: int = 1, name: str = "series"
) -> keras.Model:
    """Encoder of Contrastive Predictive Coding for a series of vectors: one frame for each step of time.

    Args:
        features: d, numbers in each step.
        width: channels of the frames.
        context_size: units of the GRU over the frames.
        kernel: steps that a frame sees: itself and the kernel - 1 before it.
        name: name of the model.

    Returns:
        A Functional `keras.Model` from float32 (B, T, features), any T, to a dict of float32 endpoints: `local`
        (B, T, width), `context` (B, T, context_size) and `global` (B, context_size), the mean of the contexts. Bring
        each of the d numbers to about unit scale first.

    Raises:
        UserError: for a size that is no whole number from 1 on.
    """
    check_sizes(features=features, width=width, context_size=context_size, kernel=kernel)
    steps = keras.Input((None, features), name="series", dtype="float32")
    x = layers.Conv1D(width, kernel, padding="causal", name="conv1")(steps)
    x = layers.ReLU(name="conv1_relu")(x)
    x = layers.Dense(width, name="dense")(x)
    context = layers.GRU(context_size, return_sequences=True, name="gru")(x)
    mean = layers.GlobalAveragePooling1D(name="mean")(context)
    endpoints = named({"local": x, "context": context, "global": mean})
    return keras.Model(steps, endpoints, name=check_name(name))
