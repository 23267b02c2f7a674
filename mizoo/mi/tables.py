"""Columns of a table, by name: what `mizoo mi estimate` reads."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mizoo.errors import UserError


def read(path: str | Path, sides: Sequence[str]) -> dict[str, np.ndarray]:
    """The columns that are named in `sides`, each "a,b,c", by name.

    Args:
        path: .csv, whose first line names the columns, or .npz with one array (N,) or (N, d) for each name.
        sides: names with commas between.

    Raises:
        UserError: for a file that is not there or not of that kind, and names that are not in it.
    """
    path = Path(path)
    names = [name for side in sides for name in _names(side)]
    if not path.is_file():
        raise UserError(f"There is no such table. Received: {path}")
    if path.suffix == ".npz":
        with np.load(path) as stored:
            _check_names(path, names, stored.files)
            return {name: stored[name] for name in names}
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise UserError(f"A table is .csv, .tsv or .npz. Received: {path}")
    with open(path, newline="", encoding="utf-8-sig") as stream:
        rows = csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
        head = [name.strip() for name in next(rows, [])]
        _check_names(path, names, head)
        lines = [line for line in rows if line]
    uneven = next((i for i, line in enumerate(lines) if len(line) != len(head)), None)
    if uneven is not None:
        raise UserError(f"Line {uneven + 2} of {path} has {len(lines[uneven])} values for {len(head)} columns.")
    return {name: np.array([line[head.index(name)].strip() for line in lines]) for name in names}


def _check_names(path: Path, names: Sequence[str], known: Sequence[str]) -> None:
    if missing := [name for name in names if name not in known]:
        raise UserError(f"{path} has the columns {', '.join(known)}. Received: {', '.join(missing)}")


def _names(side: str) -> list[str]:
    return [name.strip() for name in side.split(",") if name.strip()]


def side(table: dict[str, np.ndarray], names: str) -> np.ndarray:
    """The columns `names` ("a,b") side by side, (N, d); one of text becomes a column for each of its values.

    Raises:
        UserError: for text whose values are nearly all different, and missing values.
    """
    columns = []
    for name in _names(names):
        values = table[name]
        if values.dtype.kind in "fiub":
            columns.append(values.reshape(len(values), -1).astype("float64"))
            continue
        if missing := int(np.isin(values, ("", "NA", "NaN", "nan")).sum()):
            raise UserError(f"Column {name!r} has missing values: leave these rows out. Received: {missing} of them.")
        try:
            columns.append(values.astype("float64")[:, None])
        except ValueError:
            distinct = np.unique(values)
            if len(distinct) > len(values) / 5:
                raise UserError(
                    f"Column {name!r} is text whose values are nearly all different. Received: {len(distinct)} values "
                    f"in {len(values)} rows, such as {str(distinct[0])!r}."
                ) from None
            columns.append((values[:, None] == distinct[: max(len(distinct) - 1, 1)]).astype("float64"))
    if not columns:
        raise UserError(f"A side takes one column at least. Received: {names!r}")
    return np.concatenate(columns, axis=1)


def labels(table: dict[str, np.ndarray], name: str) -> np.ndarray:
    """The column that names groups, as it is."""
    return table[name.strip()]
