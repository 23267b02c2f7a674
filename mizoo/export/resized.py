"""The proof that an exported form which resizes inside gives the features of `mizoo embed`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo.data.pictures import decode, fit
from mizoo.errors import UserError
from mizoo.export.parity import compare, joined, run_keras, run_onnx
from mizoo.export.samples import sample_pictures
from mizoo.export.saved_model import ENCODED, few_at_once, file_of, run_encoded, run_saved_model
from mizoo.zoo import interface

if TYPE_CHECKING:
    import keras

TOLERANCE = 0.02
"""The largest difference from the features of `mizoo embed`, relative to the largest value of an endpoint."""

FACTORS = ((1.5, 2.0), (3.1, 2.2), (0.7, 0.9), (9.0, 7.0))
"""Height and width of the pictures that are compared, in those of the encoder: wide, tall, small and large."""
PIXELS = 2_000_000
"""Above which the pictures that are compared are smaller, of the same shape."""
PICTURES = 16
"""Of each size; fewer for an encoder of more than 125 x 125 pixels, which takes memory and time."""
QUALITY = 75
"""Of the JPEG files that are compared: that of Pillow, at which decoders differ most visibly."""
ENCODED_TOLERANCE = 0.05
"""The difference above which a warning says how far `serve_encoded` is from `mizoo embed`."""


def compare_resized(encoder: keras.Model, resizing: keras.Model, folder: Path, name: str) -> dict[str, Any]:
    """Compare three forms that resize inside with the encoder itself on pictures that were resized by Pillow.

    Args:
        encoder: of pictures of one size, with a dict of outputs.
        resizing: the Keras form, as of `mizoo.encoders.resizing.any_size`.
        folder: holds the others, `encoder.onnx` and `saved_model`.
        name: of the encoder, for messages.

    Returns:
        `sizes`, `pictures` of each, `tolerance`, and the largest `differences` of each form, by endpoint.

    Raises:
        UserError: for a difference above `TOLERANCE`.
    """
    height, width, channels = interface.input_shape(encoder)
    assert height and width
    sizes, count = _sizes(height, width), _count(height, width)
    endpoints = list(interface.endpoint_names(encoder))
    worst: dict[str, dict[str, float]] = {}
    for size in sizes:
        pictures = sample_pictures(count, (*size, channels))
        fitted = np.stack([fit(picture, (height, width)) for picture in pictures]).astype("float32")
        reference, batch = run_keras(encoder, fitted), pictures.astype("float32")
        forms = {
            "keras": run_keras(resizing, batch),
            "onnx": run_onnx(folder / "encoder.onnx", batch, endpoints),
            "saved_model": run_saved_model(folder / "saved_model", "images", batch, endpoints)[0],
        }
        for form, values in forms.items():
            found, known = compare(values, reference), worst.get(form, {})
            worst[form] = {key: max(found[key], known.get(key, 0.0)) for key in found}
    for form, differences in worst.items():
        endpoint = max(differences, key=lambda key: differences[key])
        if not differences[endpoint] <= TOLERANCE:
            raise UserError(
                f"The {form} form of {name} that resizes inside differs from `mizoo embed`, so nothing was written: "
                f"endpoint {endpoint!r} by {differences[endpoint]:.2g} of its largest value, where {TOLERANCE:g} is "
                "allowed. Resize before the encoder instead (`mizoo.data.pictures.fit`)."
            )
    listed = [list(size) for size in sizes]
    return {"sizes": listed, "pictures": count, "tolerance": TOLERANCE, "differences": worst}


def compare_encoded(encoder: keras.Model, folder: Path, name: str) -> dict[str, Any]:
    """Compare the signature `serve_encoded` with the encoder on the same JPEG files, read as `mizoo embed` reads them.

    Args:
        encoder: of grey or RGB pictures of one size, with a dict of outputs.
        folder: holds `saved_model`.
        name: of the encoder, for messages.

    Returns:
        `sizes`, `pictures` of each, `quality`, and the largest `differences`, by endpoint.

    Warns:
        UserWarning: for a difference above `ENCODED_TOLERANCE`. Another decoder rounds otherwise: to one grey level.
    """
    height, width, channels = interface.input_shape(encoder)
    assert height and width
    sizes, count = _sizes(height, width), _count(height, width)
    contents = [
        file_of(picture, "JPEG", quality=QUALITY)
        for size in sizes
        for picture in sample_pictures(count, (*size, channels))
    ]
    reference = []
    for part in few_at_once(contents):
        read = np.stack([fit(decode(each, "JPEG", channels=channels), (height, width)) for each in part])
        reference.append(run_keras(encoder, read.astype("float32")))
    differences = compare(run_encoded(folder / "saved_model", contents), joined(reference))
    endpoint = max(differences, key=lambda key: differences[key])
    if not differences[endpoint] <= ENCODED_TOLERANCE:
        warnings.warn(
            f"The signature {ENCODED} of {name} differs from `mizoo embed` on JPEG files: endpoint {endpoint!r} by "
            f"{differences[endpoint]:.2g} of its largest value. Decode before the encoder (`serve_uint8`) where that "
            "matters.",
            UserWarning,
            stacklevel=2,
        )
    listed = [list(size) for size in sizes]
    return {"sizes": listed, "pictures": count, "quality": QUALITY, "differences": differences}


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of the pictures that are compared."""
    sizes = []
    for tall, wide in FACTORS:
        shrunk = min(1.0, (PIXELS / (height * tall * width * wide)) ** 0.5)
        sizes.append((max(1, round(height * tall * shrunk)), max(1, round(width * wide * shrunk))))
    return sizes


def _count(height: int, width: int) -> int:
    """How many pictures of a size are compared."""
    return max(1, min(PICTURES, 250_000 // (height * width)))
