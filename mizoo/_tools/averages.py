"""The moving averages of weights that an optimiser keeps, in the place of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from mizoo._tools import keras_private


@contextlib.contextmanager
def averaged(model: Any) -> Iterator[None]:
    """Within it, what `model` trains has the averages of an optimiser with `use_ema`, and after it what it had.

    Args:
        model: a Keras model. Without an optimiser, or with one that keeps no averages, nothing changes.
    """
    optimizer = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of loss scaling
    variables = model.trainable_variables if getattr(optimizer, "use_ema", False) else []
    trained = [variable.numpy() for variable in variables]
    averages = keras_private.averaged_weights(optimizer) if variables else []
    try:
        for variable, average in zip(variables, averages):
            variable.assign(average)
        yield
    finally:
        for variable, value in zip(variables, trained):
            variable.assign(value)
