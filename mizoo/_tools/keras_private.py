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


def declared_variables(config: dict[str, Any]) -> list[tuple[tuple[int, ...], int]]:
    """Shape of each variable of the model that a configuration describes, and the bytes of one number, 4 or 8.

    None of them is allocated.

    Args:
        config: what the `config.json` in a `.keras` file holds.

    Raises:
        Exception: whatever Keras raises where it cannot build the model, such as for code in a Lambda layer.
    """
    import keras
    from keras.src.backend.common import global_state
    from keras.src.saving.serialization_lib import ObjectSharingScope

    kept = global_state.get_global_attribute("uninitialized_variables")
    global_state.set_global_attribute("uninitialized_variables", [])
    try:
        # Within it variables have a shape and an initialiser, and get their values at its end, which is switched off.
        with keras.StatelessScope(initialize_variables=False), ObjectSharingScope():
            model = keras.saving.deserialize_keras_object({**config, "compile_config": None}, safe_mode=True)
        variables = getattr(model, "variables", [])
        return [(tuple(variable.shape), 8 if str(variable.dtype).endswith("64") else 4) for variable in variables]
    finally:
        global_state.set_global_attribute("uninitialized_variables", kept)


def is_functional(model: Any) -> bool:
    """Whether a model is Functional or Sequential, so that it can be rebuilt from its configuration."""
    import keras

    return isinstance(model, keras.Sequential) or type(model).__name__ == "Functional"


def seed_generators(model: Any) -> list[Any]:
    """The `keras.random.SeedGenerator`s that the layers of a model draw from, each once, in the order of the layers."""
    found = {id(each): each for layer in model._flatten_layers() for each in layer._seed_generators}
    return list(found.values())


def adam_moments(adam: Any, variable: Any) -> tuple[Any, Any]:
    """The running means of a variable's gradient and of its square, as Adam or AdamW keeps them."""
    position = adam._get_variable_index(variable)
    return adam._momentums[position], adam._velocities[position]


def trained_by_adam(muon: Any, variable: Any) -> bool:
    """Whether a built `keras.optimizers.Muon` hands a variable to Adam."""
    return muon.adam_velocities[muon._get_variable_index(variable)] is not None
