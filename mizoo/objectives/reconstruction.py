"""What autoencoders share: a decoder that fits the pictures, and how far off its output is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mizoo.encoders import mirrored32
from mizoo.errors import UserError


def decoder_for(encoder: keras.Model, decoder: Any) -> keras.Model:
    """`decoder`, once it turns the encoder's `global` into pictures like its inputs; where None, `mirrored32`.

    Raises:
        UserError: for a decoder of other shapes, or None beside an encoder of other pictures than 32x32.
    """
    size, pictures = encoder.output["global"].shape[-1], tuple(encoder.input_shape[1:])
    if decoder is None:
        if pictures[:2] != (32, 32):
            raise UserError(
                f"The default decoder makes pictures of 32x32, and the encoder takes {pictures}: pass a `decoder` from "
                f"vectors (B, {size}) to pictures of that shape, in units of which -1..1 are the pixels 0..255."
            )
        return mirrored32(size, channels=pictures[-1])
    shapes = (getattr(decoder, "input_shape", None), getattr(decoder, "output_shape", None))
    if not isinstance(decoder, keras.Model) or shapes != ((None, size), (None, *pictures)):
        raise UserError(
            f"`decoder` is a keras.Model from vectors (B, {size}) to pictures (B, {', '.join(map(str, pictures))}). "
            f"Received: {decoder!r}, with the shapes {shapes}"
        )
    return decoder


def squared_errors(decoded, images):
    """Squared error of each picture, float32 (B,), summed over its values in units of which -1..1 are 0..255.

    Args:
        decoded: (B, H, W, C), the decoder's pictures.
        images: (B, H, W, C), 0..255.
    """
    axes: Sequence[int] = range(1, len(images.shape))
    return ops.sum(ops.square(ops.cast(decoded, "float32") - (images / 127.5 - 1.0)), axis=tuple(axes))
