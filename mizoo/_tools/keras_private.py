"""Private attributes of Keras that nothing public replaces: a release that moves one breaks this file alone."""

from __future__ import annotations

from typing import Any


def all_layers(model: Any) -> list[Any]:
    """Every layer of a model, those inside other layers too."""
    return list(model._flatten_layers())


def averaged_weights(optimizer: Any) -> list[Any]:
    """The moving averages of an optimiser with `use_ema`, in the order of the variables that it trains."""
    return optimizer._model_variables_moving_average


def copy_decay_exclusions(source: Any, target: Any) -> None:
    """Exclude from weight decay in `target` what `source` excludes: Keras leaves it out of an optimiser's config."""
    if pattern := getattr(source, "_exclude_from_weight_decay_pattern", None):
        target.exclude_from_weight_decay(var_names=[pattern.pattern])


def is_functional(model: Any) -> bool:
    """Whether a model is Functional or Sequential, so that it can be rebuilt from its configuration."""
    import keras

    return isinstance(model, keras.Sequential) or type(model).__name__ == "Functional"
