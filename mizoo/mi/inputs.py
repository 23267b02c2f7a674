"""What `estimate` takes: paired rows, checked, and brought to a common scale."""

from __future__ import annotations

import numpy as np

from mizoo._tools.arrays import to_numpy
from mizoo.errors import UserError

PREPROCESS = ("rank", "standardise", "none")
MINIMUM_ROWS = 50


def check_pairs(x, y) -> tuple[np.ndarray, np.ndarray]:
    """Paired arrays (N, d_x) and (N, d_y) as float64; (N,) counts as one column.

    Raises:
        UserError: for anything that is no array of that shape, unpaired lengths, fewer than 50 rows, no column, half
            precision, complex numbers or objects, NaN, infinity or masked values, or a constant column.
    """
    x, y = _array("x", x), _array("y", y)
    if len(x) != len(y):
        raise UserError(f"`x` and `y` are paired row by row. Received: {len(x)} rows and {len(y)} rows.")
    if len(x) < MINIMUM_ROWS:
        raise UserError(
            f"An estimate takes {MINIMUM_ROWS} rows at least, and thousands to be worth much. Received: {len(x)}."
        )
    for name, values in (("x", x), ("y", y)):
        constant = np.flatnonzero(np.ptp(values, axis=0) == 0)
        if len(constant):
            raise UserError(
                f"`{name}` has columns with one value in all rows, which carry no information: leave them out. "
                f"Received: constant columns {_some(constant)} of {values.shape[1]}."
            )
    return x, y


def _array(name: str, values) -> np.ndarray:
    values = to_numpy(values, name)
    if values.dtype.kind not in "fiub":
        raise UserError(f"`{name}` is an array of real numbers. Received: dtype {values.dtype}.")
    if values.dtype == np.float16 or values.dtype.name == "bfloat16":
        raise UserError(
            f"`{name}` has half precision, in which different rows become equal. Received: dtype {values.dtype}. "
            "Compute it in float32."
        )
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise UserError(f"`{name}` has the shape (N, d), one row for each example. Received: shape {values.shape}.")
    if values.shape[1] == 0:
        raise UserError(f"`{name}` has no column. Received: shape {values.shape}.")
    values = values.astype("float64")
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise UserError(f"`{name}` holds NaN or infinity. Received: {len(bad)} such rows, among them {_some(bad)}.")
    return values


def _some(numbers: np.ndarray) -> str:
    return ", ".join(str(i) for i in numbers[:5]) + (", ..." if len(numbers) > 5 else "")


def rescale(values: np.ndarray, how: str) -> np.ndarray:
    """Bring each column to a common scale; mutual information does not change under it.

    Args:
        values: (N, d) float64.
        how: "rank": normal scores, the Gaussian quantile of each value's rank (ties share their mean rank), so heavy
            tails and monotone warps of a column are gone. "standardise": mean 0, standard deviation 1. "none": as they
            are, less their mean, which float32 would keep instead of the differences.

    Returns:
        (N, d) float32.
    """
    if how == "rank":
        from scipy.special import ndtri
        from scipy.stats import rankdata

        values = ndtri((rankdata(values, axis=0) - 0.5) / len(values))
        values = values / values.std(axis=0)
    elif how == "standardise":
        values = (values - values.mean(axis=0)) / values.std(axis=0)
    else:
        values = values - values.mean(axis=0)
    return values.astype("float32")
