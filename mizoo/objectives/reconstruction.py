"""What autoencoders share: a decoder that fits the pictures, and how far off its output is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mizoo import encoders
from mizoo.errors import UserError

HIDDEN = 1024  # units between code and map, as in the encoder of Deep InfoMax


def decoder_for(encoder: keras.Model, decoder: Any) -> keras.Model:
    """`decoder`, once it turns the encoder's `global` into pictures like its inputs; where None, one for these shapes.

    Raises:
        UserError: for an encoder of pictures of any size, and a decoder of other shapes.
    """
    size, pictures = encoder.output["global"].shape[-1], tuple(encoder.input_shape[1:])
    if None in pictures:
        raise UserError(
            f"A decoder takes pictures of known size, and the encoder takes {pictures}: give the encoder's Input a "
            "height and a width."
        )
    if decoder is None:
        return encoders.decoder(size, pictures, hidden=(HIDDEN,))
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
