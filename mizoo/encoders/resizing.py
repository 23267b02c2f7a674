"""An encoder of pictures of one size -> one that takes any size and resizes inside, with antialiasing."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from mizoo._tools.checks import check_sizes
from mizoo.data.resizing import fitted
from mizoo.errors import UserError


@keras.saving.register_keras_serializable("mizoo")
class Fit(layers.Layer):
    """`mizoo.data.pictures.fit` as a layer: the middle of pictures of any size, resized with antialiasing.

    It computes what Pillow does, its rounding to whole numbers included (`mizoo.data.resizing.fitted`), on every
    backend and in every exported form. All pictures of a batch have one size.

    Args:
        height, width: of the result, in pixels.

    Raises:
        UserError: if they are no whole numbers from 1 on.
    """

    def __init__(self, height: int, width: int, **settings: Any) -> None:
        super().__init__(**{"dtype": "float32", **settings})
        check_sizes(height=height, width=width)
        self.height, self.width = height, width

    def call(self, images):
        """Pictures (B, H, W, C) in 0..255 -> float32 (B, height, width, C)."""
        images = ops.cast(images, "float32")
        high, wide = ops.shape(images)[1:3]
        plan = np if isinstance(high, int) and isinstance(wide, int) else ops
        return fitted(images, high, wide, (self.height, self.width), plan, ops)

    def compute_output_shape(self, input_shape):
        """(B, height, width, C)."""
        return (input_shape[0], self.height, self.width, input_shape[-1])

    def get_config(self) -> dict:
        """Height and width, for `model.save`."""
        return {**super().get_config(), "height": self.height, "width": self.width}


def any_size(encoder: keras.Model) -> keras.Model:
    """The same encoder for pictures of any size: they are resized to just cover its own, and cropped evenly.

    Args:
        encoder: a Functional or Sequential model of pictures of one size.

    Returns:
        A Functional `keras.Model` from pictures (B, H, W, C), 0..255, to what the encoder gives, with its weights and
        under its name.

    Raises:
        UserError: for an encoder of anything else.
    """
    shape = tuple(encoder.inputs[0].shape[1:])
    if len(shape) != 3 or None in shape:
        raise UserError(
            f"Resizing is for an encoder of pictures of one size (`resize`, --resize). {encoder.name} takes {shape}."
        )
    height, width, channels = shape
    images = keras.Input((None, None, channels), name="images", dtype="float32")
    return keras.Model(images, encoder(Fit(height, width, name="fit")(images)), name=encoder.name)
