"""What a reader of an estimate has to know: the warnings of `estimate`."""

from __future__ import annotations

import math

import numpy as np

from mizoo.mi.copies import coinciding
from mizoo.mi.inputs import split_atoms

NEAR_CEILING = 0.1
FEWEST_SCORED = 100
"""Scored rows below which an estimate varies by more than its standard error says."""
ROWS_FOR_EACH_COLUMN = {"club": 20, "doe": 20}
"""Rows for each column of both sides that the density of an estimator takes; others take `ROWS_FOR_A_CRITIC`."""
ROWS_FOR_A_CRITIC = 5
MOST_COLUMNS_OF_NEIGHBOURS = 4
"""Columns of both sides together up to which nearest neighbours are near: at 6 "ksg" is a tenth low already."""
EXPONENTIAL = ("nwj", "jsd", "dv", "mine")


def of_data(bound: str, x: np.ndarray, y: np.ndarray, grouped: bool) -> list[str]:
    """Warnings of values that the estimator is not made for."""
    messages = []
    copies = 0 if grouped else coinciding(x, y)
    if copies:
        messages.append(
            f"{copies} of {len(x)} rows equal another row in all columns, though the values are continuous: copies "
            "fall on both sides of the split, and what is remembered counts as information. Leave copies out, or "
            "keep them together by `groups`."
        )
    if bound not in ("club", "doe"):
        return messages
    rest, _, _ = split_atoms(y)
    for column in rest.T:
        kept = column[~np.isnan(column)]
        if (fewest := len(np.unique(kept))) < len(kept) / 2:
            messages.append(
                f"`y` has a column of {fewest} different values in {len(kept)} rows, none of them in more than a "
                f"twentieth of all rows, and {bound!r} fits a density of continuous values to it: the number depends "
                "more on that density than on the information. Use 'infonce'."
            )
            break
    return messages


def of_sizes(bound: str, rows: int, columns: int, folds: int) -> list[str]:
    """Warnings of rows that are too few for the columns of both sides together, or to be scored at all."""
    scored = rows if bound == "ksg" or folds > 1 else rows // 3
    needed = 0 if bound == "ksg" else columns * ROWS_FOR_EACH_COLUMN.get(bound, ROWS_FOR_A_CRITIC)
    messages = []
    if scored < FEWEST_SCORED:
        messages.append(
            f"{scored} scored rows are few: the estimate can be wide of the truth by more than its standard error, "
            f"which leaves out how the fit varies. Use {FEWEST_SCORED} rows at least, better thousands"
            + (", or folds=3, which scores them all." if scored < rows else ".")
        )
    if rows < needed:
        messages.append(
            f"{rows} rows are few for {columns} columns of `x` and `y` together: {bound!r} takes about {needed} to be "
            "fitted. Use more rows, or fewer columns (the first principal components, say)."
        )
    if bound == "ksg" and columns > MOST_COLUMNS_OF_NEIGHBOURS:
        messages.append(
            f"'ksg' comes out too small with {columns} columns of `x` and `y` together, where no row is near another: "
            f"by a tenth at 6 columns, and by far more beyond. Use {MOST_COLUMNS_OF_NEIGHBOURS} columns at most, or a "
            "bound with a critic, such as 'infonce'."
        )
    return messages


def of_value(bound: str, nats: float, ceiling: float | None, sizes: list[int], tau: float | None) -> list[str]:
    """Warnings of a value that the estimator cannot be trusted at."""
    messages = []
    log_pairs = sum(size * math.log(max(size * (size - 1), 2)) for size in sizes) / sum(sizes)
    if ceiling is not None and nats > (1.0 - NEAR_CEILING) * ceiling:
        messages.append(
            f"The estimate of {nats:.2f} nats is within 10% of {ceiling:.2f}, the most that {bound!r} can report on "
            "these rows: the truth may be far above. Use more rows, or an estimator without ceiling ('doe', or 'smile' "
            "up to its `tau`)."
        )
    if bound in EXPONENTIAL and nats > log_pairs / 2:
        messages.append(
            f"The estimate of {nats:.2f} nats is above {log_pairs / 2:.2f}, half the logarithm of the mismatched pairs "
            f"that are scored together: there the variance of exp T, which grows like exp of twice the information, is "
            f"more than these pairs average out. {bound!r} can be far above the truth, and its standard error too "
            "small. Use more rows, or 'infonce'."
        )
    if bound == "smile" and nats > (clip := log_pairs if tau is None else tau):
        messages.append(
            f"The estimate of {nats:.2f} nats is above {clip:.2f}, the clip `tau` of 'smile': from there on it comes "
            "out too large. Use a larger `tau`, more rows, or 'doe'."
        )
    if not math.isfinite(nats):
        messages.append(f"The estimate is not finite: {bound!r} diverged. Use 'infonce', or a smaller `learning_rate`.")
    return messages
