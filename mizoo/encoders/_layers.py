"""What the encoders share: named endpoints, and the receptive field of a chain of convolutions."""

from __future__ import annotations

from collections.abc import Iterable

import keras
from keras import layers


def named(endpoints: dict) -> dict:
    """The endpoints behind identity layers that name them and lift them out of a mixed-precision policy to float32."""
    return {key: layers.Activation("linear", dtype="float32", name=key)(value) for key, value in endpoints.items()}


def field_and_stride(chain: Iterable[keras.Layer], kind: type[keras.Layer]) -> tuple[int, int]:
    """Receptive field and stride of the output of a chain of unpadded convolutions, in inputs along the first axis.

    Args:
        chain: layers in order; those of another kind are passed over.
        kind: `keras.layers.Conv1D` or `keras.layers.Conv2D`.
    """
    field, stride = 1, 1
    for layer in chain:
        if isinstance(layer, kind):
            field += (layer.kernel_size[0] - 1) * stride
            stride *= layer.strides[0]
    return field, stride
