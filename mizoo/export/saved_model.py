"""An encoder as a SavedModel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mizoo._tools.files import user_path
from mizoo.export.keras_file import to_float32, with_endpoints
from mizoo.export.onnx import endpoint_shapes
from mizoo.export.requirements import quiet, require_export
from mizoo.zoo import interface

if TYPE_CHECKING:
    import keras


def save_saved_model(encoder: keras.Model, path: str | os.PathLike) -> None:
    """Save an encoder as a SavedModel with the signature `serve` (all endpoints) and one for each endpoint.

    Every signature takes `images`, float32 (batch, H, W, C) in 0..255 (`samples` or `series`, as of `save_onnx`), and
    returns a dict of named endpoints.

    Args:
        encoder: as for `save_onnx`.
        path: the folder to write.

    Raises:
        UserError: as for `save_onnx`.
    """
    require_export()
    import keras
    import tensorflow as tf

    encoder = with_endpoints(to_float32(encoder))
    signature = [tf.TensorSpec((None, *encoder.inputs[0].shape[1:]), tf.float32, name=interface.input_name(encoder))]
    archive = keras.export.ExportArchive()
    archive.track(encoder)
    archive.add_endpoint("serve", lambda images: encoder(images, training=False), signature)
    for name in endpoint_shapes(encoder):
        archive.add_endpoint(name, lambda images, name=name: {name: encoder(images, training=False)[name]}, signature)
    with quiet("tensorflow"):
        archive.write_out(os.fspath(user_path(path)), verbose=False)


def run_saved_model(path: Path, argument: str, batch: np.ndarray, endpoints: list[str]) -> list[dict[str, np.ndarray]]:
    """Endpoints of a SavedModel twice: by its signature `serve`, and by the signature of each endpoint."""
    import tensorflow as tf

    loaded = tf.saved_model.load(os.fspath(path))
    inputs = {argument: tf.constant(batch)}
    together = {name: value.numpy() for name, value in loaded.signatures["serve"](**inputs).items()}
    alone = {name: loaded.signatures[name](**inputs)[name].numpy() for name in endpoints}
    return [together, alone]
