"""Export: an encoder as a Keras file, as ONNX and as SavedModel, and the proof that they agree."""

from __future__ import annotations

from typing import Any

from mizoo.export.bundle import export
from mizoo.export.keras_file import half_precision, save_keras, to_float32
from mizoo.export.onnx import save_onnx
from mizoo.export.parity import compare
from mizoo.export.saved_model import save_saved_model

__all__ = [
    "compare",
    "export",
    "half_precision",
    "publish",
    "save_keras",
    "save_onnx",
    "save_saved_model",
    "to_float32",
]


def __getattr__(name: str) -> Any:
    """`publish`, which was here in version 0.1.0 and is `mizoo.publish.publish` now."""
    if name == "publish":
        from mizoo.publish import publish  # the one arrow upwards: it publishes what this package exports

        return publish
    raise AttributeError(f"module 'mizoo.export' has no attribute {name!r}")
