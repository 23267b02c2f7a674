"""What `estimate` takes: paired rows, checked, and brought to a common scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from mizoo._tools.arrays import to_numpy
from mizoo.errors import UserError

PREPROCESS = ("rank", "standardise", "none")
MINIMUM_ROWS = 50
LARGEST_RATIO = 1000.0
LARGEST_POINT_MASS = 0.05
"""Share of the rows above which a value is an atom of its column for a density."""
MISSING = ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A")
MISSING += ("NA", "NULL", "NaN", "None", "n/a", "nan", "null")
"""Text that stands for a missing value: what `pandas.read_csv` takes for one."""


def check_pairs(x, y) -> tuple[np.ndarray, np.ndarray]:
    """Paired arrays (N, d_x) and (N, d_y) as float64; (N,) counts as one column.

    Raises:
        UserError: for anything that is no array of that shape, unpaired lengths, fewer than 50 rows, no column, half
            precision, complex numbers or objects, NaN, infinity or masked values, or a constant column.
    """
    x, y = check_rows({"x": x, "y": y})
    return x, y


def check_rows(sides: dict) -> list[np.ndarray]:
    """Each of `sides`, by the name that messages call it, as float64 (N, d); (N,) counts as one column.

    Raises:
        UserError: as `check_pairs`.
    """
    arrays = {name: _array(name, values) for name, values in sides.items()}
    lengths = [len(values) for values in arrays.values()]
    if len(set(lengths)) > 1:
        names = [f"`{name}`" for name in arrays]
        raise UserError(
            f"{', '.join(names[:-1])} and {names[-1]} are paired row by row. Received: "
            f"{', '.join(f'{length} rows' for length in lengths[:-1])} and {lengths[-1]} rows."
        )
    if lengths[0] < MINIMUM_ROWS:
        raise UserError(
            f"An estimate takes {MINIMUM_ROWS} rows at least, and thousands to be worth much. Received: {lengths[0]}."
        )
    for name, values in arrays.items():
        constant = np.flatnonzero(np.ptp(values, axis=0) == 0)
        if len(constant):
            raise UserError(
                f"`{name}` has columns with one value in all rows, which carry no information: leave them out. "
                f"Received: constant columns {_some(constant)} of {values.shape[1]}."
            )
    return list(arrays.values())


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
            tails and monotone warps of a column are gone. "standardise": mean 0, standard deviation 1. "none": less
            their mean and over one number, the root mean square of the columns' standard deviations, so that the unit
            of a side does not matter and the columns keep their sizes against each other.

    Returns:
        (N, d) float32.

    Raises:
        UserError: for "none" and columns whose standard deviations differ by more than a factor of 1,000.
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
        values = values / _unit(values.std(axis=0))
    return values.astype("float32")


def _unit(spread: np.ndarray) -> float:
    """The root mean square of the standard deviations of columns (d,)."""
    if spread.max() > LARGEST_RATIO * spread.min():
        raise UserError(
            "preprocess='none' leaves the sizes of columns as they are, and the small ones would not count: give "
            f"them comparable units, or take 'rank' or 'standardise'. Received: standard deviations from "
            f"{spread.min():.2g} to {spread.max():.2g}."
        )
    return float(np.sqrt(np.mean(np.square(spread))))


def spread_ties(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Spread values (N, d) that occur more than once, at random, over half the way to the values beside them.

    The value can be read off the result, and the rest is noise of its own for each row and column: mutual information
    is the same, and estimators of continuous values can be used. Values that occur once stay.
    """
    values = values.copy()
    for column in values.T:
        distinct, place, counts = np.unique(column, return_inverse=True, return_counts=True)
        if len(distinct) in (1, len(column)):
            continue
        gaps = np.diff(distinct)
        gaps = np.minimum(np.r_[gaps[0], gaps], np.r_[gaps, gaps[-1]])
        tied = counts[place] > 1
        column[tied] += (0.98 * gaps[place] * rng.uniform(-0.5, 0.5, len(column)))[tied]
    return values


def split_atoms(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """The values that more than a twentieth of the rows share in a column, apart from the others.

    Args:
        values: (N, d) float64.

    Returns:
        The values (N, d) with NaN where one is an atom; for each atom which rows have it, (N, A) bool; and its column.
    """
    rest, hits, columns = values.copy(), [], []
    for i, column in enumerate(values.T):
        distinct, counts = np.unique(column, return_counts=True)
        for value in distinct[counts > LARGEST_POINT_MASS * len(column)]:
            hits.append(column == value)
            columns.append(i)
            rest[hits[-1], i] = np.nan
    return rest, np.array(hits, bool).reshape(len(hits), len(values)).T, tuple(columns)


def for_density(values: np.ndarray, how: str, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, ...]]:
    """Columns as a density takes them: those of `rescale`, and one for each atom, see `mizoo.densities.Atoms`.

    Args:
        values: (N, d) float64.
        how: as for `rescale`, of the values that are no atoms.
        rng: for spreading what else occurs more than once.

    Returns:
        (N, d + A) float32, and the column of each atom.
    """
    rest, hits, columns = split_atoms(values)
    if not columns:
        return rescale(spread_ties(values, rng), how), ()
    scaled = np.zeros(values.shape, "float32")
    free = [~np.isnan(column) for column in rest.T]
    parts = [spread_ties(column[rows][:, None], rng) for column, rows in zip(rest.T, free)]
    vary = [i for i, part in enumerate(parts) if len(part) > 1 and part.std() > 0]
    unit = _unit(np.array([parts[i].std() for i in vary])) if how == "none" and vary else None
    for i in vary:
        scaled[free[i], i] = (rescale(parts[i], how) if unit is None else (parts[i] - parts[i].mean()) / unit)[:, 0]
    return np.concatenate([scaled, hits.astype("float32")], axis=1), columns


def check_groups(groups, rows: int, folds: int) -> np.ndarray | None:
    """Numbers (N,) of the groups, from 0 on.

    Raises:
        UserError: as `number_groups`, and for fewer groups than folds.
    """
    numbers = number_groups(groups, rows)
    count = 0 if numbers is None else len(np.unique(numbers))
    if numbers is not None and count < 2 * max(folds, 3):
        raise UserError(
            f"`groups` are kept whole, in {max(folds, 3)} folds: there are {2 * max(folds, 3)} of them at least. "
            f"Received: {count} different ones."
        )
    return numbers


def number_groups(groups, rows: int) -> np.ndarray | None:
    """Numbers (N,) of the groups, from 0 on; such numbers stay as they are.

    Raises:
        UserError: for anything else than one label for each row.
    """
    if groups is None:
        return None
    labels = to_numpy(groups, "groups")
    if labels.shape != (rows,):
        raise UserError(f"`groups` has one label for each of the {rows} rows. Received: shape {labels.shape}.")
    missing = np.array([_is_missing(label) for label in labels.tolist()])
    if missing.any():
        raise UserError(
            "`groups` has missing values: leave these rows out, or give each of them a group of its own. Received: "
            f"{int(missing.sum())} of them, the first in row {int(missing.argmax())}."
        )
    check_missing_text("`groups`", labels.tolist(), "leave these rows out, or give each of them a group of its own")
    try:
        numbers = np.unique(labels, return_inverse=True)[1]
    except TypeError:  # text and numbers in one column have no order
        seen: dict = {}
        numbers = np.array([seen.setdefault(label, len(seen)) for label in labels.tolist()])
    return numbers.reshape(-1)


def _is_missing(label) -> bool:
    """Whether a label is None, NaN or what pandas has in their place."""
    return label is None or type(label).__name__ == "NAType" or label != label


def check_missing_text(column: str, values: Iterable, remedy: str) -> None:
    """Refuse text that stands for a missing value (`MISSING`), which would count as a value of its own.

    Args:
        column: what the message calls it.
        values: text, or whatever else a column of objects holds.
        remedy: what to do with missing values.

    Raises:
        UserError: naming one, and how many there are.
    """
    texts = (value.decode(errors="replace") if isinstance(value, bytes) else value for value in values)
    missing = [text for text in texts if isinstance(text, str) and text in MISSING]
    if missing:
        raise UserError(
            f"{column} has missing values: {remedy}, or, if {missing[0]!r} is a value of its own, write it otherwise "
            f"(such as 'none'). Received: {len(missing)} of them, such as {missing[0]!r}."
        )


def check_text(column: str, values: Iterable) -> None:
    """Refuse a column most of whose values are numbers: for a stray "?" each number would become a column of its own.

    Args:
        column: what the message calls it.
        values: text, or whatever else a column of objects holds.

    Raises:
        UserError: naming what is no number.
    """
    counts = Counter(values)
    strays = {value: count for value, count in counts.items() if not _is_number(value)}
    if 0 < 2 * sum(strays.values()) < sum(counts.values()):
        named = ", ".join(f"{value!r} ({count})" for value, count in list(strays.items())[:3])
        raise UserError(
            f"{column} holds numbers and text: leave the rows of text out, or, if the numbers are names, begin each "
            f"with a letter. Received text, and in how many rows: {named}{', ...' if len(strays) > 3 else ''}."
        )


def _is_number(value) -> bool:
    if isinstance(value, (bool, np.bool_)):  # a name, though Python counts it as 0 or 1
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def one_hot_columns(name: str, values) -> tuple[object, tuple[str, ...] | None]:
    """A DataFrame or Series of pandas as an array and the names of its columns; anything else as it is, and None.

    Columns of numbers and truth values stay; of others (text, categories) each value but the last becomes a column.

    Raises:
        UserError: for missing values, in text also `MISSING`, and for columns of text whose values are nearly all
            different or mostly numbers.
    """
    if not (hasattr(values, "to_numpy") and hasattr(values, "dtypes")):
        return values, None
    frame = values.to_frame() if not hasattr(values, "columns") else values
    columns, names = [], []
    for i, label in enumerate(frame.columns):
        column = frame.iloc[:, i]
        if column.isna().any():
            raise UserError(
                f"`{name}` has missing values: leave these rows out, or fill them. Received: "
                f"{int(column.isna().sum())} of them in column {label!r}."
            )
        kind = getattr(column.dtype, "kind", "O")
        if kind in "fiub" and getattr(column.dtype, "name", "") != "category":
            columns.append(column.to_numpy())
            names.append(str(label))
        else:
            if getattr(column.dtype, "name", "") != "category":
                check_missing_text(
                    f"Column {label!r} of `{name}`", column.tolist(), "leave these rows out, or fill them"
                )
                check_text(f"Column {label!r} of `{name}`", column.tolist())
            distinct = sorted(column.unique().tolist(), key=str)
            if len(distinct) > len(frame) / 5:
                raise UserError(
                    f"`{name}` has a column of text whose values are nearly all different, which no estimate can use: "
                    f"leave it out. Received: column {label!r} with {len(distinct)} values in {len(frame)} rows."
                )
            # The last value is the absence of the others.
            for value in distinct[:-1] if len(distinct) > 1 else distinct:
                columns.append((column == value).to_numpy().astype("float64"))
                names.append(f"{label}={value}")
    return np.column_stack(columns) if columns else np.zeros((len(frame), 0)), tuple(names)
