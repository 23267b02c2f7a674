"""What a caller passes as an array -> a NumPy array, or a message; arrays of rows."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from mizoo.errors import UserError

_UNEVEN = "its rows differ in length or are nested unevenly. Bring them to one length first."


def to_numpy(value: Any, argument: str, uneven: str = _UNEVEN) -> np.ndarray:
    """`value` as a plain NumPy array, which shares its memory where it can.

    Args:
        value: an array of any library, a number, or nested lists of them.
        argument: what the messages call it.
        uneven: what the message says after the name where nested lists do not make one array.

    Raises:
        UserError: for nothing, values that are masked (NumPy's functions would use what lies under the mask), lists
            that make no array, and arrays of other libraries that cannot be converted (on another device, with
            gradients, of a type that NumPy does not have).
    """
    if value is None:
        raise UserError(f"`{argument}` is None: pass an array of real numbers.")
    masked = _masked(value)
    if masked:
        raise UserError(
            f"`{argument}` holds {masked} masked values, whose numbers stand for nothing. Leave these rows out, or "
            "fill them: `numpy.ma.filled(values, ...)`."
        )
    try:
        return np.asarray(value)
    except Exception as error:  # whatever `__array__` of another library raises: RuntimeError, TypeError, ...
        elements = value if isinstance(value, (list, tuple)) else ()
        foreign = next((each for each in (value, *elements) if hasattr(each, "__array__")), None)
        if isinstance(error, (ValueError, TypeError)) and (foreign is None or isinstance(foreign, np.ndarray)):
            raise UserError(f"`{argument}` must be one array: {uneven}") from error
        name = type(value if foreign is None else foreign).__name__
        raise UserError(
            f"`{argument}` cannot be made a NumPy array: {name} says {str(error) or type(error).__name__!r}. Convert "
            "it first; a tensor of torch by `tensor.detach().float().cpu().numpy()`."
        ) from error


def _masked(value: Any) -> int:
    """How many values are masked, in an array or in those that nested lists hold."""
    if isinstance(value, np.ma.MaskedArray):
        return int(np.ma.count_masked(value))
    if isinstance(value, (list, tuple)):
        return sum(_masked(each) for each in value if isinstance(each, (list, tuple, np.ma.MaskedArray)))
    return 0


def check_whole(value: Any, argument: str, minimum: int = 0) -> int:
    """`value` as an int, once it is a whole number of at least `minimum` that 64 bits hold.

    Raises:
        UserError: otherwise, naming `argument`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < minimum:
        raise UserError(f"`{argument}` is a whole number, {minimum} or more. Received: {argument}={value!r}")
    if number >= 1 << 63:
        raise UserError(f"`{argument}` is a whole number below 2^63. Received: {argument}={value!r}")
    return number


def unit_rows(rows: Any, dtype: Any = "float32") -> np.ndarray:
    """Rows (N, d) scaled to the length 1, as a new array of `dtype`; a row of zeros stays one."""
    scaled = np.array(rows, dtype=dtype)
    scaled /= np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
    return scaled
