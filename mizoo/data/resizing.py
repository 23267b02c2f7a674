"""Pictures brought to one size: the middle, resized with antialiasing, by Pillow or as two products of matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mizoo.errors import UserError

Size = int | Sequence[int]
"""Height and width: one number of squares, otherwise both."""

_GAP = 3.0  # of the reduction, the part that is left for the filter after whole blocks were averaged
_MARGIN = 1.5  # of the averaged part around what is cut out, in pixels of the result
_HALF = 0.5 + 2**-12  # above the rounding of floats, so that halves are rounded alike everywhere
_RECIPROCAL, _BELOW = float(1 << 24), 2e-5


def square(image: np.ndarray, size: int) -> np.ndarray:
    """Centre square of a picture: `fit` with one number.

    Args:
        image: uint8 array (H, W, C) or (H, W).
        size: side of the result, in pixels.

    Returns:
        uint8 array (size, size, C) or (size, size).

    Raises:
        UserError: if `size` is not positive or `image` is no such array.
    """
    return fit(image, size)


def fit(image: np.ndarray, size: Size) -> np.ndarray:
    """The middle of a picture, of the shape that is asked for: resized to just cover it, and cropped evenly.

    Resampled with Pillow's bicubic filter, whose support grows with the reduction (antialiasing), each channel by
    itself; before a reduction of more than 6, the picture is averaged over whole blocks, which is faster and cannot be
    told apart.

    Args:
        image: uint8 array (H, W, C) or (H, W).
        size: height and width of the result, in pixels; one number for a square.

    Returns:
        uint8 array (height, width, C) or (height, width).

    Raises:
        UserError: if `size` is not positive or `image` is no such array.
    """
    rows, columns = both_sides(size)
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
        raise UserError(
            f"`image` must be a uint8 array (H, W, C) or (H, W). Received: {array.dtype} array of shape {array.shape}"
        )
    height, width = array.shape[:2]
    if (height, width) == (rows, columns):
        return array.copy()
    wide = height * columns <= width * rows
    tall, across = (height, height * columns / rows) if wide else (width * rows / columns, width)
    box = ((width - across) / 2, (height - tall) / 2, (width + across) / 2, (height + tall) / 2)
    if array.ndim == 2 or array.shape[-1] == 3:
        return _resized(Image.fromarray(array), box, columns, rows)
    bands = (Image.fromarray(np.ascontiguousarray(array[..., i])) for i in range(array.shape[-1]))
    return np.stack([_resized(band, box, columns, rows) for band in bands], axis=-1)


def _resized(image: Image.Image, box: tuple[float, float, float, float], columns: int, rows: int) -> np.ndarray:
    """The part of a picture in `box` (left, top, right, bottom), resized.

    What Pillow's `resize` does with a `reducing_gap`, but always along the rows first: some releases take the other
    order for some sizes, and their pixels differ.
    """
    step = (box[2] - box[0]) / columns
    if (factor := int(step / _GAP) or 1) > 1:
        margin = _MARGIN * step
        left, top = (max(0, int(edge - margin)) for edge in box[:2])
        right, bottom = (min(size, math.ceil(edge + margin)) for size, edge in zip(image.size, box[2:]))
        image = image.reduce(factor, (left, top, right, bottom))
        box = tuple((edge - first) / factor for edge, first in zip(box, (left, top, left, top)))
    left, top, right, bottom = box
    reach = 2 * max(step / factor, 1.0) + 1
    first, last = max(0, math.floor(top - reach)), min(image.height, math.ceil(bottom + reach))
    part = image.resize((columns, last - first), Image.Resampling.BICUBIC, (left, first, right, last))
    return np.array(part.resize((columns, rows), Image.Resampling.BICUBIC, (0, top - first, columns, bottom - first)))


def both_sides(size: Size) -> tuple[int, int]:
    """Height and width of a `Size`.

    Raises:
        UserError: if they are no positive whole numbers.
    """
    both = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
    if len(both) != 2 or any(not isinstance(each, (int, np.integer)) or each < 1 for each in both):
        raise UserError(f"`size` must be a positive number of pixels, or two, (height, width). Received: {size}")
    return int(both[0]), int(both[1])


def fitted(images: Any, high: Any, wide: Any, size: tuple[int, int], plan: Any = np, xp: Any = np) -> Any:
    """What `fit` makes of pictures, by products of matrices, for whatever computes them.

    The steps are those of Pillow, with its rounding after each: means of whole blocks before a reduction of more than
    6, then its bicubic filter along the rows and along the columns. Values of just a half may come out one grey level
    away from Pillow's, or from another backend's.

    Args:
        images: (N, H, W, C), float32 in 0..255.
        high, wide: H and W, which may be tensors.
        size: height and width of the result, in pixels.
        plan, xp: NumPy or `keras.ops`: what computes the weights (`keras.ops` where `high` and `wide` are tensors), and
            what computes the pictures.

    Returns:
        float32 (N, height, width, C), whole numbers in 0..255.
    """
    step = plan.minimum(_cast(high, plan) / size[0], _cast(wide, plan) / size[1])
    factor = plan.maximum(plan.floor(step / _GAP), 1.0)
    rows, columns = (_axis(length, each, step, factor, plan) for length, each in zip((high, wide), size))
    bands = xp.transpose(_rounded(images, xp), (0, 3, 1, 2))
    sums = _block_sums(_block_sums(bands, rows, 2, xp), columns, 3, xp)
    counts = rows.counts[:, None] * columns.counts[None]
    # Pillow multiplies by the reciprocal in 24 bits, cut off: what would be whole comes out just below.
    share = plan.floor(_RECIPROCAL / counts) / _RECIPROCAL
    bands = xp.floor((sums + plan.floor(counts / 2)) * share - plan.where(share * counts < 1.0, _BELOW, 0.0))
    bands = _rounded(xp.matmul(bands, plan.transpose(columns.taps)), xp)
    bands = _rounded(xp.matmul(rows.taps, bands), xp)
    return xp.reshape(xp.transpose(bands, (0, 2, 3, 1)), (-1, *size, images.shape[-1]))


class _Axis(NamedTuple):
    """How one axis of a picture is resized.

    Attributes:
        index: int32 (blocks * factor,), the pixels in the blocks, one block after the other.
        inside: float32 of the same shape, 0 for those that fill up the last block.
        counts: float32 (blocks,), the pixels of each block.
        factor: int32, the pixels of a whole block, 1 for none.
        taps: float32 (size, blocks), the weights of the filter.
    """

    index: Any
    inside: Any
    counts: Any
    factor: Any
    taps: Any


def _axis(length: Any, size: int, step: Any, factor: Any, plan: Any) -> _Axis:
    """The plan of one axis: the part that `step` pixels for one of the result cover, in the middle, with a margin."""
    whole = _cast(length, plan)
    first = (whole - size * step) / 2
    by_blocks, margin = factor > 1.0, _MARGIN * step
    begin = plan.where(by_blocks, plan.maximum(plan.floor(first - margin), 0.0), 0.0)
    end = plan.where(by_blocks, plan.minimum(plan.ceil(first + size * step + margin), whole), whole)
    blocks = plan.ceil((end - begin) / factor)
    positions = begin + plan.arange(_cast(blocks * factor, plan, "int32"), dtype="float32")
    starts = plan.arange(_cast(blocks, plan, "int32"), dtype="float32") * factor
    return _Axis(
        _cast(plan.minimum(positions, whole - 1.0), plan, "int32"),
        _cast(positions < end, plan),
        plan.minimum(end - begin - starts, factor),
        _cast(factor, plan, "int32"),
        _taps(starts / factor + 0.5, (first - begin) / factor, size, step / factor, plan),
    )


def _taps(pixels: Any, first: Any, size: int, step: Any, plan: Any) -> Any:
    """The weights (size, pixels) of Pillow's bicubic filter (a = -0.5), wider with a reduction; rows sum to 1."""
    centres = first + (plan.arange(size, dtype="float32") + 0.5) * step
    distance = plan.abs(pixels[None] - centres[:, None]) / plan.maximum(step, 1.0)
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    weights = plan.where(distance < 1.0, near, plan.where(distance < 2.0, far, 0.0))
    return weights / plan.sum(weights, axis=-1, keepdims=True)


def _block_sums(bands: Any, axis: _Axis, number: int, xp: Any) -> Any:
    """Bands (N, C, H, W) summed over the blocks along the axis `number`."""
    shape = [1, 1, 1, 1]
    shape[number] = -1
    taken = xp.take(bands, axis.index, axis=number) * xp.reshape(axis.inside, shape)
    rest = xp.shape(taken)
    blocks = xp.reshape(taken, (*rest[:number], -1, axis.factor, *rest[number + 1 :]))
    return xp.sum(blocks, axis=number + 1)


def _rounded(values: Any, xp: Any) -> Any:
    """Whole numbers in 0..255, halves upwards."""
    return xp.clip(xp.floor(values + _HALF), 0.0, 255.0)


def _cast(value: Any, plan: Any, dtype: str = "float32") -> Any:
    return np.asarray(value).astype(dtype)[()] if plan is np else plan.cast(value, dtype)
