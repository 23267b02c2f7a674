"""The architecture of an encoder once more: with its weights, with new ones, or in another precision."""

from __future__ import annotations

from typing import Any

import numpy as np

from mizoo.errors import UserError


def random_copy(encoder: Any, seed: int = 0, precision: str | None = None) -> Any:
    """The same architecture with freshly initialised weights: the baseline an encoder has to beat.

    Args:
        encoder: a Functional `keras.Model`.
        seed: seed of the initialisation, the same on every run.
        precision: dtype policy of Keras for the layers of the copy; by default that of each layer.

    Returns:
        A `keras.Model` with the endpoints of `encoder`.

    Raises:
        UserError: if `encoder` is not a Keras model (an ONNX file keeps no initialisers).
    """
    import keras

    if not isinstance(encoder, keras.Model):
        raise UserError(
            "A random encoder is a Keras model with new weights. Received: "
            f'{type(encoder).__name__}. Load the entry with `runtime="keras"`'
        )
    rng = np.random.default_rng(seed)

    def renew(layer):
        """The layer with new weights."""
        config = layer.get_config()
        for key, value in config.items():
            if key.endswith("_initializer") and isinstance(value, dict) and "seed" in value.get("config", {}):
                value["config"]["seed"] = int(rng.integers(2**31))
        if precision is not None and isinstance(layer, keras.Layer) and not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = precision
        return layer.__class__.from_config(config)

    return keras.models.clone_model(encoder, clone_function=renew)


def weighted_copy(encoder: Any, precision: str | None = None) -> Any:
    """The same architecture with the same weights, so that training it leaves `encoder` as it is.

    Args:
        encoder, precision: as of `random_copy`, and the same error.
    """
    copy = random_copy(encoder, precision=precision)
    copy.set_weights(encoder.get_weights())
    return copy
