"""A small published encoder for the tests of loading, embedding and the demo, exported by Keras once a session."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mizoo._tools import files

ENDPOINTS = {"local": [8, 8, 6], "conv": [4, 4, 8], "fc": [16], "global": [5]}


@dataclass(frozen=True)
class Published:
    """A folder laid out like a clone, the registry that pins its files, and the encoder that they hold."""

    root: Path
    registry: dict[str, Any]
    model: Any

    @property
    def keras_file(self) -> Path:
        return self.root / "models/small_net/encoder.keras"

    @property
    def onnx_file(self) -> Path:
        return self.root / "export/small_net/encoder.onnx"


@functools.cache
def publish() -> Published:
    """Build, export and pin the encoder "small_net"; the folder lives as long as the process."""
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras exports ONNX through TensorFlow")

    from mizoo.encoders import conv32

    keras.utils.set_random_seed(7)
    model = conv32((4, 6, 8), fc_size=16, global_size=5)
    model(np.zeros((1, 32, 32, 3), np.float32))  # Keras exports no model that was never called
    root = Path(publish.folder.name)
    published = Published(root, {}, model)
    pinned = {}
    for file in (published.keras_file, published.onnx_file):
        file.parent.mkdir(parents=True)
        model.save(file) if file.suffix == ".keras" else model.export(file, format="onnx", verbose=False)
        pinned[file.name] = {
            "path": file.relative_to(root).as_posix(),
            "sha256": files.sha256(file),
            "bytes": file.stat().st_size,
        }
    published.registry["small_net"] = {"summary": "test", "endpoints": ENDPOINTS, "files": pinned}
    return published


publish.folder = tempfile.TemporaryDirectory(prefix="mizoo-tests-")


def planted(policy: str = "float32", seed: int = 1) -> Any:
    """A small encoder whose every weight, statistics included, is far from its initial value."""
    import keras

    from mizoo import encoders

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = encoders.conv32((4, 6, 8), fc_size=16, global_size=5)
    finally:
        keras.config.set_dtype_policy(before)
    draw = np.random.default_rng(seed)
    for variable in model.variables:
        shape = variable.shape
        variable.assign(draw.uniform(0.2, 1.8, shape) if len(shape) == 1 else draw.normal(size=shape) * 0.2)
    return model


def values_of(model: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    """What an encoder computes, endpoint by endpoint."""
    return {name: np.asarray(value) for name, value in model(images, training=False).items()}
