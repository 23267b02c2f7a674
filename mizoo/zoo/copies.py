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
        """The layer with new weights, and all layers within it."""
        config = layer.get_config()
        _renew_within(config, rng, precision)
        return layer.__class__.from_config(config)

    return keras.models.clone_model(encoder, clone_function=renew)


def _renew_within(config: Any, rng: np.random.Generator, precision: str | None) -> None:
    """Give every initialiser in a configuration, however deep, a seed of its own, and every layer the precision."""
    if isinstance(config, (list, tuple)):
        for each in config:
            _renew_within(each, rng, precision)
        return
    if not isinstance(config, dict):
        return
    if precision is not None and "dtype" in config and "trainable" in config:  # a layer, and not an input
        config["dtype"] = precision
    for key, value in config.items():
        if key.endswith("_initializer") and isinstance(value, dict) and "seed" in (value.get("config") or {}):
            value["config"]["seed"] = int(rng.integers(2**31))
        else:
            _renew_within(value, rng, precision)


def weighted_copy(encoder: Any, precision: str | None = None) -> Any:
    """The same architecture with the same weights, so that training it leaves `encoder` as it is.

    Args:
        encoder, precision: as of `random_copy`, and the same error.
    """
    copy = random_copy(encoder, precision=precision)
    copy.set_weights(encoder.get_weights())
    return copy
