"""Deep pictures, of 16 or 32 bits a value -> 8 bits, by the range that their values have."""

from __future__ import annotations

from typing import Any

import numpy as np

from mizoo.errors import UserError

OVERSHOOT = 1.1
"""The largest value of a float picture of 0..1: a resize by cubic or Lanczos filters passes 1 by a few percent."""
DARK_FLOATS = 16.0
"""Floats of 0..255 that are all below this are almost black, and probably have another range."""

_FULL = 65535
_DARK = 1 << 14  # values that fit into 14 bits come out at a quarter of the brightness or less
_BLOCK = 1 << 22  # values that are scaled at a time
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE = 258, 262, 281  # tags of TIFF
_OPTIONS = "--depth; in a recipe `data.depth`, `watch.depth`"


def declared(image: Any) -> int | None:
    """The bits that the values of an opened TIFF have where its tags say fewer than 16; else None.

    BitsPerSample says it where the values are packed. MaxSampleValue is by the standard a statistic of the picture,
    so it counts only where it is the largest number of some bits, such as 4095.
    """
    tags = getattr(image, "tag_v2", None) or {}
    bits, most = (_number(tags.get(tag)) for tag in (_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE))
    if bits is not None and 8 < bits < 16:
        return bits
    if most is not None and 8 < most.bit_length() < 16 and most == 2 ** most.bit_length() - 1:
        return most.bit_length()
    return None


def told(image: Any) -> tuple[int | None, bool]:
    """What an opened file tells of its deep grey values: `declared`, and whether they count from white."""
    tags = getattr(image, "tag_v2", None) or {}
    return declared(image), tags.get(_PHOTOMETRIC) == 0


def eight_bits(
    values: np.ndarray, depth: int | None, said: int | None, white_is_zero: bool = False
) -> tuple[np.ndarray, str | None]:
    """Values of 16-bit, 32-bit or float pictures as uint8.

    Args:
        values: (H, W) or (H, W, C), integers or floats.
        depth: the bits that the values have, which says their range, but of floats that are fractions of 1; None takes
            that of `said` or of their type: 16 bits of integers, of floats 0..1 where none is above `OVERSHOOT`, what
            passes 1 being clipped, otherwise 0..255.
        said: as `declared` gives it.
        white_is_zero: whether 0 is white and the end of the range black (of 8 bits Pillow inverts them itself).

    Returns:
        uint8 of the same shape, and what the user should know about the range that was taken, or None.

    Raises:
        UserError: for values outside the range.
    """
    low, high = float(values.min()), float(values.max())
    kind = "grey values" if values.ndim == 2 else "values"
    whole = np.issubdtype(values.dtype, np.integer)
    of_one = not whole and high <= OVERSHOOT and (depth is None or bool((values % 1 != 0).any()))
    if depth is not None and not of_one:
        top = float(2**depth - 1)
    elif whole:
        top = float(2**said - 1) if said and high < 2**said else float(_FULL)
    else:
        top = 1.0 if of_one else 255.0
    if not (low >= 0 and (of_one or high <= top)):
        if depth is not None:
            raise UserError(f"{kind} from {low:g} to {high:g} do not fit into the {depth} bits of `depth`.")
        raise UserError(
            f"{kind} from {low:g} to {high:g} have no known range: give their bits as `depth` ({_OPTIONS}), or store "
            "it with 8 or 16 bits."
        )
    note, dark = None, "white" if white_is_zero else "black"
    if whole and depth is None and top == _FULL and 0 < high < _DARK:
        note = (
            f"the largest value of this {8 * values.dtype.itemsize}-bit {'grey ' * (values.ndim == 2)}picture is "
            f"{high:.0f} of {_FULL}, so it comes out almost {dark}. If its values have fewer bits than 16, say how "
            f"many: depth={bits_of(high)} ({_OPTIONS})."
        )
    if not whole and depth is None and OVERSHOOT < high < DARK_FLOATS:
        note = (
            f"the largest value of this float picture is {high:g}, which is taken as one of 0..255, so it comes out "
            f"almost {dark}. If the range ends at 1, clip the values, `numpy.clip(values, 0, 1)`; if at more, divide "
            "by it."
        )
    if whole and top == _FULL:  # 65,536 results, looked up
        table = np.rint(np.arange(_FULL + 1) * (255 / _FULL)).astype(np.uint8)
        return (255 - table if white_is_zero else table)[values], note
    # In blocks: float64 takes eight times the memory of the result.
    out = np.empty(values.shape, np.uint8)
    rows = max(1, _BLOCK // max(1, values[0].size))
    for start in range(0, len(values), rows):
        scaled = np.rint(values[start : start + rows].astype(np.float64) * (255.0 / top))
        out[start : start + rows] = np.minimum(scaled, 255)
    return np.subtract(255, out, out=out) if white_is_zero else out, note


def is_deep_colour(image: Any) -> bool:
    """Whether an opened file, not yet decoded, holds colours of 16 bits, of which Pillow keeps the upper 8."""
    return not image.mode.startswith(("I", "F")) and any(";16" in str(tile[3]) for tile in image.tile)


def check_deep_colour(image: Any, depth: int | None) -> str | None:
    """What the user should know about the colours of a decoded file of 16 bits a value, or None.

    Raises:
        UserError: where `depth` says that there are fewer bits: the lower ones are gone.
    """
    extrema = image.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    high = max(high for (_, high), name in zip(bands, image.getbands()) if name not in ("A", "a"))
    if depth not in (None, 16):
        raise UserError(
            f"it has colours of 16 bits, of which Pillow keeps the upper 8: depth={depth} cannot be taken. Store it "
            "with 8 bits a channel, or its channels as 16-bit grey files."
        )
    if depth is None and 0 < high < _DARK >> 8:
        return (
            f"the largest value of this 16-bit colour picture is below {(high + 1) << 8} of {_FULL}, so it comes out "
            "almost black. If its values have fewer bits than 16, store it with 8 bits a channel: `depth` (--depth) is "
            "for grey files."
        )
    return None


def bits_of(high: float) -> int:
    """The bits, of those that cameras and scanners have, into which a value fits."""
    return next(bits for bits in (8, 10, 12, 14, 16) if high < 2**bits)


def _number(value: Any) -> int | None:
    if isinstance(value, (tuple, list)):
        value = value[0] if value else None
    return int(value) if isinstance(value, (int, float)) else None
