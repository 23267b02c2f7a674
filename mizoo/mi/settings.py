"""The settings of `estimate`, and which of them it refuses."""

from __future__ import annotations

from mizoo._tools.arrays import check_whole
from mizoo._tools.checks import check_choice, check_real, check_seed, check_widths
from mizoo.errors import UserError
from mizoo.mi.inputs import PREPROCESS

KIND_OF_BOUND = {
    "auto": "lower",
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
VECTOR_CRITICS = ("separable", "bilinear", "inner", "concat")  # of `mizoo.critics`, which imports Keras
FAMILIES = ("gaussian", "logistic")  # of `mizoo.densities`, likewise
_WITHOUT_CRITIC = ("club", "doe", "ksg")


def seed_of_repeat(seed: int, repeat: int) -> int:
    """The seed of a repeat of `estimate`: alone, it gives the estimate that `repeats` averages."""
    return (seed + 1_000_003 * repeat) % (1 << 32)


def check_settings(
    bound,
    critic,
    preprocess,
    folds,
    neighbours,
    candidates,
    tau,
    batch_size,
    max_steps,
    patience,
    learning_rate,
    *,
    seed=0,
    hidden=(64,),
    embedding=32,
    family="gaussian",
    permutations=0,
    repeats=1,
) -> None:
    """Refuse what `estimate` cannot do.

    Raises:
        UserError: that names the argument.
    """
    check_choice(bound, "bound", BOUNDS)
    if critic is not None and bound in _WITHOUT_CRITIC:
        raise UserError(f"{bound!r} has no critic: leave `critic` out. Received: critic={critic!r}")
    if critic is not None:
        check_choice(critic, "critic", VECTOR_CRITICS)
    check_choice(preprocess, "preprocess", PREPROCESS)
    check_choice(family, "family", FAMILIES)
    check_seed(seed)
    check_widths(hidden, "hidden", fewest=0)
    if check_whole(folds, "folds") not in (1, *range(3, 11)):
        raise UserError(f"`folds` is 1, or 3 to 10. Received: folds={folds}")
    counts = {"neighbours": neighbours, "candidates": candidates, "max_steps": max_steps, "patience": patience}
    for name, value in (counts | {"embedding": embedding}).items():
        check_real(value, name, minimum=1)
        check_whole(value, name, 1)
    if check_whole(batch_size, "batch_size") < 2:
        raise UserError(f"`batch_size` is 2 or more: other rows of a batch are the mismatches. Received: {batch_size}")
    if tau is not None:
        check_real(tau, "tau", above=0)
    check_whole(permutations, "permutations")
    if check_whole(repeats, "repeats", 1) > 1 and bound == "ksg":
        raise UserError(f"'ksg' fits nothing that a repeat would fit anew: leave `repeats` out. Received: {repeats}")
    check_real(learning_rate, "learning_rate", above=0)
