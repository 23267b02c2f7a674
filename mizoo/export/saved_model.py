"""An encoder as a SavedModel, for TensorFlow Serving and everything else that reads one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo._tools.files import user_path
from mizoo.export.keras_file import to_float32, with_endpoints
from mizoo.export.onnx import endpoint_shapes
from mizoo.export.requirements import quiet, require_export
from mizoo.zoo import interface

if TYPE_CHECKING:
    import keras

UINT8, ENCODED = "serve_uint8", "serve_encoded"
BYTES = "encoded"
"""What the input of the signature `serve_encoded` is called."""


def save_saved_model(encoder: keras.Model, path: str | os.PathLike) -> None:
    """Save an encoder as a SavedModel with the signature `serve` (all endpoints) and one for each endpoint.

    These take `images`, float32 (batch, H, W, C) in 0..255 (`samples` or `series`, as of `save_onnx`), and return a
    dict of named endpoints. Of pictures there are two more, with all endpoints: `serve_uint8` takes `images` as uint8,
    and, for grey or RGB pictures of one size, `serve_encoded` takes `encoded`, the bytes (batch,) of JPEG, PNG, BMP or
    GIF files of any size: they are decoded, resized and cropped in the graph as `mizoo.data.pictures.fit` does, except
    that EXIF orientation and transparency are not looked at.

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
    shape, name = (None, *encoder.inputs[0].shape[1:]), interface.input_name(encoder)
    signature = [tf.TensorSpec(shape, tf.float32, name=name)]
    archive = keras.export.ExportArchive()
    archive.track(encoder)
    archive.add_endpoint("serve", lambda images: encoder(images, training=False), signature)
    for endpoint in endpoint_shapes(encoder):
        archive.add_endpoint(
            endpoint, lambda images, name=endpoint: {name: encoder(images, training=False)[name]}, signature
        )
    further = further_signatures(encoder)
    if UINT8 in further:
        archive.add_endpoint(
            UINT8,
            lambda images: encoder(tf.cast(images, tf.float32), training=False),
            [tf.TensorSpec(shape, tf.uint8, name=name)],
        )
    if ENCODED in further:
        archive.add_endpoint(
            ENCODED,
            lambda encoded: encoder(_decoded(encoded, *shape[1:]), training=False),
            [tf.TensorSpec((None,), tf.string, name=BYTES)],
        )
    with quiet("tensorflow"):
        archive.write_out(os.fspath(user_path(path)), verbose=False)


def further_signatures(encoder: keras.Model) -> tuple[str, ...]:
    """Those of bytes, for an encoder of pictures, and of files, if they can be brought to what it takes."""
    shape = interface.picture_shape(encoder)
    if shape is None:
        return ()
    return (UINT8,) if None in shape or shape[2] not in (1, 3) else (UINT8, ENCODED)


def _decoded(encoded: Any, height: int, width: int, channels: int) -> Any:
    """Pictures (batch, height, width, channels), whole numbers in 0..255 as float32, of the bytes of files."""
    import tensorflow as tf

    size = tf.constant([height, width], tf.float32)

    def fitted(content: Any) -> Any:
        """The picture of one file, resized to cover what is asked for, and cut."""
        picture = tf.cast(tf.io.decode_image(content, channels=3, expand_animations=False), tf.float32)
        if channels == 1:  # as Pillow turns RGB to grey (ITU-R 601-2)
            picture = tf.round(tf.tensordot(picture, tf.constant([0.299, 0.587, 0.114]), 1))[..., None]
        sides = tf.cast(tf.shape(picture)[:2], tf.float32)
        scale = tf.reduce_max(size / sides)
        resized = tf.raw_ops.ScaleAndTranslate(
            images=picture[None],
            size=[height, width],
            scale=tf.stack([scale, scale]),
            translation=(size - sides * scale) / 2,  # the middle of both stays the middle
            kernel_type="keyscubic",  # the bicubic filter of Pillow
            antialias=True,
        )[0]
        resized = tf.clip_by_value(tf.round(resized), 0.0, 255.0)
        return tf.ensure_shape(resized, (height, width, channels))

    return tf.map_fn(fitted, encoded, fn_output_signature=tf.TensorSpec((height, width, channels), tf.float32))


def run_saved_model(path: Path, argument: str, batch: np.ndarray, endpoints: list[str]) -> list[dict[str, np.ndarray]]:
    """Endpoints of a SavedModel by its signature `serve`, by that of each endpoint, and by `serve_uint8`, if any.

    The last is compared where the batch holds whole numbers of 0..255.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(os.fspath(path))
    inputs = {argument: tf.constant(batch)}
    together = {name: value.numpy() for name, value in loaded.signatures["serve"](**inputs).items()}
    alone = {name: loaded.signatures[name](**inputs)[name].numpy() for name in endpoints}
    results = [together, alone]
    if UINT8 in loaded.signatures and np.array_equal(batch, batch.astype(np.uint8)):
        as_bytes = {argument: tf.constant(batch.astype(np.uint8))}
        results.append({name: value.numpy() for name, value in loaded.signatures[UINT8](**as_bytes).items()})
    return results
