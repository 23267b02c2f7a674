"""What the encoders share: named endpoints, and the receptive field of a chain of convolutions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import keras
from keras import layers

from mizoo._tools.checks import check_size
from mizoo.errors import UserError

Side = int | Sequence[int]
"""Height and width of pictures: one whole number of square ones, otherwise both."""


def check_side(side: Side, multiple: int = 1, smallest: int = 1) -> tuple[int, int]:
    """Height and width of the pictures that an encoder is built for.

    Args:
        side: one number for both, or both.
        multiple: what either has to be a multiple of.
        smallest: what either has to be at least.

    Raises:
        UserError: if they are not.
    """
    both = tuple(side) if isinstance(side, (list, tuple)) else (side, side)
    if len(both) != 2:
        raise UserError(f"`side` is one number, or two, (height, width). Received: side={side!r}")
    height, width = (check_size(each, "side") for each in both)
    if any(each % multiple or each < smallest for each in (height, width)):
        rules = [f"a multiple of {multiple}"] if multiple > 1 else []
        rules += [f"{smallest} or more"] if smallest > max(multiple, 1) else []
        raise UserError(f"`side` is {' and '.join(rules)}. Received: side={side!r}")
    return height, width


def named(endpoints: dict) -> dict:
    """The endpoints behind identity layers that name them and lift them out of a mixed-precision policy to float32."""
    return {key: layers.Activation("linear", dtype="float32", name=key)(value) for key, value in endpoints.items()}


def field_and_stride(chain: Iterable[keras.Layer], *kinds: type[keras.Layer]) -> tuple[int, int]:
    """Receptive field and stride of the output of a chain of unpadded layers, in inputs along the first axis.

    Args:
        chain: layers in order; those of other kinds are passed over.
        kinds: of `keras.layers.Conv1D`, `Conv2D` and `STFTSpectrogram`.
    """
    field, stride = 1, 1
    for layer in chain:
        if isinstance(layer, kinds):
            spectra = isinstance(layer, layers.STFTSpectrogram)
            size, step = (layer.frame_length, layer.frame_step) if spectra else (layer.kernel_size[0], layer.strides[0])
            field += (size - 1) * stride
            stride *= step
    return field, stride
