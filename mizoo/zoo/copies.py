"""The architecture of an encoder once more: with its weights, with new ones, or in another precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo._tools import keras_private
from mizoo.errors import UserError
from mizoo.zoo import interface

if TYPE_CHECKING:
    import keras

_OTHER_FLOATS = ("bfloat16", "float16", "mixed_bfloat16", "mixed_float16", "float64")


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


def to_float32(encoder: keras.Model) -> keras.Model:
    """Rebuild an encoder under the float32 policy, as it is published.

    An encoder trained in mixed precision reloads with bfloat16 outputs, and a synchronised BatchNormalization does not
    run on JAX: both belong to the training and stay behind, as does a compiled optimiser.

    Args:
        encoder: a Functional or Sequential `keras.Model`. It is not changed.

    Returns:
        A new, uncompiled model with the same layers, names and weights, whose variables and outputs are float32.

    Raises:
        UserError: if `encoder` is no Functional or Sequential model.
    """
    if not keras_private.is_functional(encoder):
        interface.outputs(encoder)  # which says what to do about a model that is only a wrapper around an encoder
        raise UserError(
            "An encoder is a Functional or Sequential `keras.Model`, which can be rebuilt from its configuration. "
            f"Received: {type(encoder).__name__}. Make one with `keras.Model(inputs, outputs)`."
        )
    config = mapped(encoder.get_config(), _float32_setting)
    rebuilt = type(encoder).from_config(config)
    rebuilt.set_weights([_as_float32(weight) for weight in encoder.get_weights()])
    return rebuilt


def computes_in_float32(encoder: keras.Model) -> bool:
    """Whether no layer of a Functional or Sequential model is of another precision, which `to_float32` changes."""
    found = set()

    def note(key: str, value: Any) -> Any:
        """The value as it is."""
        found.add(_precision(key, value))
        return value

    mapped(encoder.get_config(), note)
    return found.isdisjoint(_OTHER_FLOATS)


def _precision(key: str, value: Any) -> str | None:
    """The name of a dtype or of a dtype policy in a configuration; None for any other value."""
    if key != "dtype":
        return None
    name = value.get("config", {}).get("name") if isinstance(value, dict) else value
    return name if isinstance(name, str) else None


def _as_float32(weight: np.ndarray) -> np.ndarray:
    # ml_dtypes gives bfloat16 the kind "V", which numpy's own floats never have.
    return weight.astype(np.float32) if weight.dtype.kind in "fV" else weight


def mapped(value: Any, change: Callable[[str, Any], Any], key: str = "") -> Any:
    """A copy of a nested configuration with `change(key, value)` applied to every value, outside in."""
    value = change(key, value)
    if isinstance(value, dict):
        return {name: mapped(item, change, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(item, change) for item in value)
    return value


def _float32_setting(key: str, value: Any) -> Any:
    if key == "synchronized":
        return False
    return "float32" if _precision(key, value) in _OTHER_FLOATS else value
