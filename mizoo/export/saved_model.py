"""An encoder as a SavedModel, for TensorFlow Serving and everything else that reads one."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mizoo._tools.files import user_path
from mizoo.data.resizing import fitted
from mizoo.export.keras_file import to_float32, with_endpoints
from mizoo.export.onnx import endpoint_shapes
from mizoo.export.parity import joined
from mizoo.export.requirements import quiet, require_export
from mizoo.zoo import interface

if TYPE_CHECKING:
    import keras

UINT8, ENCODED = "serve_uint8", "serve_encoded"
BYTES = "encoded"
"""What the input of the signature `serve_encoded` is called."""
_AT_ONCE = 4  # files: TensorFlow decodes and resizes those of a batch side by side, each in several times its size


def save_saved_model(encoder: keras.Model, path: str | os.PathLike) -> None:
    """Save an encoder as a SavedModel with the signature `serve` (all endpoints) and one for each endpoint.

    These take `images`, float32 (batch, H, W, C) in 0..255 (`samples` or `series`, as of `save_onnx`), and return a
    dict of named endpoints. Of pictures there are two more, with all endpoints: `serve_uint8` takes `images` as uint8,
    and, for grey or RGB pictures of one size, `serve_encoded` takes `encoded`, the bytes (batch,) of JPEG, PNG, BMP or
    GIF files of any size: they are decoded, resized and cropped in the graph as `mizoo.data.pictures.prepare` does, to
    one grey level (two of PNG files of 16 bits), except that EXIF orientation and transparency are not looked at. A BMP
    file of 1 bit is refused, and in one with a palette of colours TensorFlow takes the indices for grey.

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
    from keras import ops

    def read(content: Any) -> Any:
        """RGB (H, W, 3), uint8; JPEG with the accurate transform that Pillow has (the default is off by ten levels)."""
        picture = tf.cond(
            tf.io.is_jpeg(content),
            lambda: tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE"),
            lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
        )
        return tf.ensure_shape(picture, (None, None, 3))

    def prepared(content: Any) -> Any:
        """The picture of one file, resized to cover what is asked for, and cut."""
        picture = tf.cast(read(content), tf.int32)
        if channels == 1:  # as Pillow turns RGB to grey (ITU-R 601-2, in 16 bits)
            picture = (tf.reduce_sum(picture * [19595, 38470, 7471], -1, keepdims=True) + (1 << 15)) // (1 << 16)
        high, wide = tf.unstack(tf.shape(picture)[:2])
        images = tf.cast(picture, tf.float32)[None]
        return tf.ensure_shape(fitted(images, high, wide, (height, width), ops, ops)[0], (height, width, channels))

    return tf.map_fn(prepared, encoded, fn_output_signature=tf.TensorSpec((height, width, channels), tf.float32))


def run_saved_model(path: Path, argument: str, batch: np.ndarray, endpoints: list[str]) -> list[dict[str, np.ndarray]]:
    """Endpoints of a SavedModel by its signature `serve`, by that of each endpoint, and by those of bytes, if any.

    These are compared where the batch holds whole numbers of 0..255; `serve_encoded` takes them as PNG files.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(os.fspath(path))  # it holds the weights
    signatures = loaded.signatures
    alone = {name: _run(signatures[name], argument, batch)[name] for name in endpoints}
    results = [_run(signatures["serve"], argument, batch), alone]
    if np.array_equal(batch, batch.astype(np.uint8)):
        whole = batch.astype(np.uint8)
        if UINT8 in signatures:
            results.append(_run(signatures[UINT8], argument, whole))
        if ENCODED in signatures:
            results.append(_run(signatures[ENCODED], BYTES, [file_of(picture, "PNG") for picture in whole]))
    return results


def run_encoded(path: Path, contents: list[bytes]) -> dict[str, np.ndarray]:
    """Endpoints of a SavedModel by its signature `serve_encoded`, of the contents of files, few at a time."""
    import tensorflow as tf

    loaded = tf.saved_model.load(os.fspath(path))
    return joined([_run(loaded.signatures[ENCODED], BYTES, part) for part in few_at_once(contents)])


def few_at_once(contents: list[bytes]) -> Iterator[list[bytes]]:
    """The contents of files in batches so small that the memory suffices for large pictures."""
    for start in range(0, len(contents), _AT_ONCE):
        yield contents[start : start + _AT_ONCE]


def _run(signature: Any, argument: str, values: Any) -> dict[str, np.ndarray]:
    """Endpoints by one signature."""
    import tensorflow as tf

    return {name: value.numpy() for name, value in signature(**{argument: tf.constant(values)}).items()}


def file_of(picture: np.ndarray, kind: str, **settings: Any) -> bytes:
    """The content of a file of the `kind` that Pillow names, of a picture (H, W, 1 or 3), uint8."""
    stream = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(stream, kind, **settings)
    return stream.getvalue()
