"""Arrays of pictures, sounds or series that a caller passes, checked by the contract of files."""

from __future__ import annotations

from typing import Any

import numpy as np

from mizoo._tools.arrays import to_numpy
from mizoo.data import sound_files
from mizoo.errors import UserError


def check_array(images: Any, argument: str = "images") -> np.ndarray:
    """An array of pictures, uint8 (N, H, W, C), of sounds, float (N, T) in -1..1, or of series, float (N, T, d).

    Raises:
        UserError: for anything else, with what to do about it; for masked values, NaN and infinity, and no rows.
    """
    array = to_numpy(images, argument)
    if array.ndim in (2, 3) and np.issubdtype(array.dtype, np.floating):
        return sound_files.check_samples(array, (None,) * (array.ndim - 1), argument, cast=False)
    if array.ndim != 4 or array.dtype != np.uint8 or _channels_first(array.shape):
        raise UserError(
            f"`{argument}` holds pictures, uint8 of shape (N, H, W, C), or sequences, float32 of shape (N, T) or "
            f"(N, T, d). Received: {array.dtype} of shape {array.shape}. {_remedy(array, argument)}"
        )
    if not array.size:
        raise UserError(f"`{argument}` holds no picture and no sequence. Received: shape {array.shape}")
    return array


def _channels_first(shape: tuple[int, ...]) -> bool:
    """Whether the second axis of pictures is that of channels: the last two are equal and it is not, or it is RGB."""
    channels, height, width = shape[1:]
    return (channels < height == width) or (channels in (1, 3) and width not in (1, 3) and height > channels)


def _remedy(array: np.ndarray, argument: str) -> str:
    """What to do about an array that is neither pictures nor sequences."""
    sizes, kind = array.shape, array.dtype.kind
    if array.dtype == np.uint8 and array.ndim == 3:
        if sizes[-1] in (1, 3):
            return f"For one picture, add the batch axis: `{argument}[None]`."
        return f"Grey pictures: pass `numpy.repeat({argument}[..., None], 3, axis=-1)`."
    if array.ndim == 4 and _channels_first(sizes):
        return f"The channels come first: pass `numpy.moveaxis({argument}, 1, -1)`."
    if array.ndim == 4 and kind in "iuf" and array.size:
        low, high = float(array.min()), float(array.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            return "It holds NaN or infinity: repair or leave out these pictures."
        if kind == "f" and 0 <= low and 0 < high <= 1:
            return f"These look divided by 255: `numpy.rint(255 * {argument}).astype('uint8')`."
        if 0 <= low and high <= 255:
            return f"Decoded pictures in 0..255 go in as they are; convert with `{argument}.astype('uint8')`."
        return f"Pictures lie in 0..255, as decoded, and here are values from {low:g} to {high:g}: undo the scaling."
    if array.ndim == 2 and kind in "iu":
        return f"Divide 16-bit sounds by 32768: `({argument} / 32768).astype('float32')`."
    if array.ndim in (2, 3):
        return f"Cast sequences: `{argument}.astype('float32')`."
    return "Bring it to one of these forms first."
