"""Whether two forms of an encoder compute the same: endpoint by endpoint, on the same pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mizoo.errors import UserError

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4
"""The largest relative difference that an exported form may have."""


def compare(values: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Largest difference relative to the largest value, max|a - b| / max|b|, of each endpoint of `reference`.

    An endpoint that is missing, of another shape or not finite differs by infinity.
    """
    result = {}
    for name, expected in reference.items():
        value = values.get(name)
        if value is None or value.shape != expected.shape or not np.isfinite(value).all():
            result[name] = float("inf")
            continue
        difference, scale = np.abs(value - expected).max(), np.abs(expected).max()
        result[name] = float(difference / scale) if scale else (float("inf") if difference else 0.0)
    return result


def compare_rms(values: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Root mean square of the difference relative to that of the values of each endpoint of `reference`.

    This measures what rounding the weights does to features: a recurrence can carry one rounding far at a few frames.
    """
    result = {}
    for name, expected in reference.items():
        difference, scale = np.square(values[name] - expected).mean() ** 0.5, np.square(expected).mean() ** 0.5
        result[name] = float(difference / scale) if scale else (float("inf") if difference else 0.0)
    return result


def run_keras(model: keras.Model, pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Endpoints of a Keras encoder in inference mode, as arrays."""
    return {name: np.asarray(value) for name, value in model(pictures, training=False).items()}


def run_onnx(path: Path, pictures: np.ndarray, endpoints: list[str]) -> dict[str, np.ndarray]:
    """Endpoints of an ONNX file, run at two batch sizes.

    Raises:
        UserError: if the graph is invalid, or its outputs are not the `endpoints`.
    """
    import onnx

    from mizoo.zoo.onnx_encoder import OnnxEncoder

    try:
        onnx.checker.check_model(os.fspath(path), full_check=True)
    except Exception as error:  # the checker has one class of exception for each kind of damage
        raise UserError(f"The converter wrote an invalid ONNX graph: {error}") from error
    runner = OnnxEncoder(path)
    if sorted(runner.endpoints) != sorted(endpoints):
        raise UserError(f"The ONNX graph has the outputs {list(runner.endpoints)} instead of {endpoints}.")
    head, tail = runner(pictures[:1]), runner(pictures[1:]) if len(pictures) > 1 else {}
    return {name: np.concatenate([batch[name] for batch in (head, tail) if batch]) for name in endpoints}


def joined(batches: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Endpoints of one batch after the other, each as one array."""
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def check_tolerance(name: str, form: str, differences: dict[str, float]) -> None:
    """Raise a UserError if an endpoint of one form of the encoder `name` differs by more than `TOLERANCE`."""
    worst = max(differences, key=lambda endpoint: differences[endpoint])
    if not differences[worst] <= TOLERANCE:
        raise UserError(
            f"The {form} form of {name} does not compute what Keras computes, so nothing was written: endpoint "
            f"{worst!r} differs by {differences[worst]:.2g} of its largest value, where {TOLERANCE:g} is allowed. A "
            "layer is not converted faithfully (exact GELU and antialiased Resizing are known not to be): replace it."
        )
