"""Settings that a caller passes -> the values, or a message that names the argument, the rule and what was received."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterable, Sequence
from typing import Any

from mizoo._tools.arrays import check_whole
from mizoo.errors import UserError


def check_real(
    value: Any,
    argument: str,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    what: str = "",
) -> float:
    """`value`, once it is a finite real number within the limits: `minimum` and `maximum` are allowed themselves.

    Args:
        value: what was received.
        argument: its name.
        minimum, above, maximum, below: the limits, None for none.
        what: what the number is, for the message.

    Raises:
        UserError: otherwise, naming `argument` and the limits.
    """
    real = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    within = real and all(
        (
            minimum is None or value >= minimum,
            above is None or value > above,
            maximum is None or value <= maximum,
            below is None or value < below,
        )
    )
    if within:
        return value
    words = [] if minimum is None else [f"{minimum:g} or more"]
    words += [] if above is None else [f"above {above:g}"]
    words += [] if maximum is None else [f"at most {maximum:g}"]
    words += [] if below is None else [f"below {below:g}"]
    rule = " and ".join(words)
    said = ", ".join(part for part in (what, rule) if part) or "a number"
    raise UserError(f"`{argument}` is {said}. Received: {argument}={value!r}")


def check_span(value: Any, argument: str, minimum: float | None = None, above: float | None = None, maximum=None):
    """`value` as a tuple (low, high) of two numbers within the limits, low not above high.

    Raises:
        UserError: otherwise, naming `argument`.
    """
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise UserError(f"`{argument}` is a range, two numbers (low, high). Received: {argument}={value!r}")
    low, high = (check_real(each, argument, minimum=minimum, above=above, maximum=maximum) for each in value)
    if low > high:
        raise UserError(f"`{argument}` is a range, two numbers (low, high). Received: {argument}={value!r}")
    return (low, high)


def check_choice(value: Any, argument: str, choices: Iterable[str]) -> str:
    """`value`, once it is one of the names `choices`.

    Raises:
        UserError: otherwise, naming `argument` and the choices.
    """
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise UserError(f"`{argument}` is one of {', '.join(choices)}. Received: {argument}={value!r}")
    return value


_LARGEST_SIZE = (1 << 31) - 1  # what the kernels of the backends take for one axis
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_name(value: Any, argument: str = "name") -> Any:
    """`value`, once it is a name that Keras gives a model or a layer, or None for one of its own.

    Raises:
        UserError: otherwise.
    """
    if value is not None and not (isinstance(value, str) and _NAME.fullmatch(value)):
        raise UserError(
            f"`{argument}` is letters, digits, `_`, `-` and `.`, for a name of a Keras layer. Received: {value!r}"
        )
    return value


def check_size(value: Any, argument: str) -> int:
    """`value` as an int, once it is the length of an axis: a whole number from 1 to 2^31 - 1.

    Raises:
        UserError: otherwise, naming `argument`.
    """
    if check_whole(value, argument, 1) > _LARGEST_SIZE:
        raise UserError(f"`{argument}` is the length of an axis, below 2^31. Received: {argument}={value!r}")
    return int(value)


def check_sizes(**sizes: Any) -> None:
    """Check arguments, given by name, that are lengths of an axis, from 1 on.

    Raises:
        UserError: otherwise, naming the first that is none.
    """
    for argument, value in sizes.items():
        check_size(value, argument)


def check_each_size(value: Any, argument: str, count: int | None = None) -> tuple[int, ...]:
    """`value` as a tuple of whole numbers from 1 on, one at least, or `count` of them.

    Raises:
        UserError: otherwise, naming `argument`.
    """
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    if not listed or not value or (count is not None and len(value) != count):
        rule = "one whole number or more" if count is None else f"{count} whole numbers"
        raise UserError(f"`{argument}` takes {rule}. Received: {argument}={value!r}")
    return tuple(check_size(each, argument) for each in value)


def check_widths(value: Any, argument: str, fewest: int = 1) -> tuple[int, ...]:
    """`value` as a tuple of the widths of hidden layers: whole numbers from 1 on, `fewest` of them (0 or 1) at least.

    Raises:
        UserError: otherwise, naming `argument`.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < fewest:
        rule = "the width of one hidden layer at least" if fewest else "widths of hidden layers"
        raise UserError(f"`{argument}` holds {rule}. Received: {argument}={value!r}")
    return tuple(check_size(each, argument) for each in value)


def check_names(value: Any, argument: str) -> tuple[str, ...]:
    """`value` as a tuple of different names, one at least; a single name counts as one of them.

    Raises:
        UserError: otherwise, naming `argument`.
    """
    names = (value,) if isinstance(value, str) else value
    if (
        not isinstance(names, Sequence)
        or not names
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < len(names)
    ):
        raise UserError(f"`{argument}` names one at least, and none twice. Received: {argument}={value!r}")
    return tuple(names)


def check_seed(value: Any, argument: str = "seed") -> int:
    """`value` as an int, once it is a seed that every generator here takes: 0 up to 2^32 (without that).

    Raises:
        UserError: otherwise, naming `argument`.
    """
    if check_whole(value, argument) >= 1 << 32:
        raise UserError(f"`{argument}` is below 2^32. Received: {argument}={value!r}")
    return int(value)
