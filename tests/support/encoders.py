"""The toy encoder of the tests, as it starts, with weights of its own, and published in a folder once a process."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mizoo._tools import files

TOY = {"widths": (4, 6, 8), "fc_size": 16, "global_size": 5}
"""Arguments of `mizoo.encoders.conv32`, and keys of a recipe's `encoder`."""
ENDPOINTS = {"local": [8, 8, 6], "conv": [4, 4, 8], "fc": [16], "global": [5]}


def toy_encoder(seed: int | None = 1) -> Any:
    """The toy encoder with fresh weights; everything that is built after it is drawn from the same seed, if any."""
    import keras

    from mizoo.encoders import conv32

    if seed is not None:
        keras.utils.set_random_seed(seed)  # which imports TensorFlow on every backend
    return conv32(**TOY)


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

    model = toy_encoder(7)
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


def shaken_encoder(policy: str = "float32", seed: int = 1) -> Any:
    """The toy encoder with every weight, statistics included, far from its initial value."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = toy_encoder(seed)
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
