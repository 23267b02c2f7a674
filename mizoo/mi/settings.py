"""The settings of `estimate`, and which of them it refuses."""

from __future__ import annotations

from mizoo.errors import UserError
from mizoo.mi.inputs import PREPROCESS

KIND_OF_BOUND = {
    "infonce": "lower",
    "nwj": "lower",
    "jsd": "lower",
    "dv": "lower",
    "mine": "lower",
    "smile": "neither",
    "club": "upper",
    "doe": "neither",
    "ksg": "neither",
}
BOUNDS = tuple(KIND_OF_BOUND)
_WITHOUT_CRITIC = ("club", "doe", "ksg")


def check_settings(
    bound, critic, preprocess, folds, neighbours, candidates, tau, batch_size, max_steps, patience, learning_rate
) -> None:
    """Refuse what `estimate` cannot do.

    Raises:
        UserError: that names the argument.
    """
    if bound not in BOUNDS:
        raise UserError(f"`bound` is one of {', '.join(BOUNDS)}. Received: bound={bound!r}")
    if critic is not None and bound in _WITHOUT_CRITIC:
        raise UserError(f"{bound!r} has no critic: leave `critic` out. Received: critic={critic!r}")
    if preprocess not in PREPROCESS:
        raise UserError(f"`preprocess` is one of {', '.join(PREPROCESS)}. Received: preprocess={preprocess!r}")
    if not 1 <= folds <= 10 or folds == 2:
        raise UserError(f"`folds` is 1, or 3 to 10. Received: folds={folds}")
    counts = {"neighbours": neighbours, "candidates": candidates, "max_steps": max_steps, "patience": patience}
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"`{name}` is 1 or more. Received: {name}={value}")
    if batch_size < 2:
        raise UserError(f"`batch_size` is 2 or more: other rows of a batch are the mismatches. Received: {batch_size}")
    for name, value in (("tau", tau), ("learning_rate", learning_rate)):
        if not value > 0:
            raise UserError(f"`{name}` is above 0. Received: {name}={value}")
