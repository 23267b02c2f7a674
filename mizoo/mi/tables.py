"""Columns of a table, by name: what `mizoo mi estimate` reads."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mizoo._tools import files
from mizoo.errors import UserError
from mizoo.mi.inputs import check_missing_text, check_text


def read(path: str | Path, sides: Sequence[str]) -> dict[str, np.ndarray]:
    """The columns that are named in `sides`, each "a,b,c", by name.

    Args:
        path: .csv, whose first line names the columns, .tsv, or .npz with one array (N,) or (N, d) for each name.
        sides: names with commas between.

    Raises:
        UserError: for a file that is not there or not of that kind, names that are not in it, and arrays that are no
            columns of one length.
    """
    path = files.user_path(path)
    names = [name for side in sides for name in _names(side)]
    if not path.is_file():
        raise UserError(f"There is no such table. Received: {path}")
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".txt", ".npz"):
        raise UserError(f"A table is .csv, .tsv or .npz. Received: {path}")
    columns = _arrays(path, names) if kind == ".npz" else _text(path, names, "\t" if kind == ".tsv" else ",")
    for name, values in columns.items():
        if values.ndim not in ((1, 2) if values.dtype.kind in "fiub" else (1,)):
            raise UserError(
                f"A column of a table has the shape (N,), or (N, d) for numbers. Received: {name!r} in {path}, of "
                f"shape {values.shape} and dtype {values.dtype}."
            )
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        received = ", ".join(f"{name!r} of {length} rows" for name, length in lengths.items())
        raise UserError(f"The columns of a table are of one length. Received: {received} in {path}.")
    return columns


def _arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as stored:
            _check_names(path, names, stored.files)
            return {name: stored[name] for name in names}
    except UserError:
        raise
    except (ValueError, TypeError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} cannot be read as an .npz file of arrays of numbers or text: {error}. Write it by `np.savez`, "
            "without objects."
        ) from error


def _text(path: Path, names: Sequence[str], delimiter: str) -> dict[str, np.ndarray]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream, delimiter=delimiter)
            head = [name.strip() for name in next(rows, [])]
            lines = [line for line in rows if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a table in UTF-8: {error}. Save it as such.") from error
    _check_names(path, names, head)
    uneven = next((i for i, line in enumerate(lines) if len(line) != len(head)), None)
    if uneven is not None:
        raise UserError(f"Line {uneven + 2} of {path} has {len(lines[uneven])} values for {len(head)} columns.")
    return {name: np.array([line[head.index(name)].strip() for line in lines]) for name in names}


def _check_names(path: Path, names: Sequence[str], known: Sequence[str]) -> None:
    if missing := [name for name in names if name not in known]:
        raise UserError(f"{path} has the columns {', '.join(known)}. Received: {', '.join(missing)}")


def _names(side: str) -> list[str]:
    return [name.strip() for name in side.split(",") if name.strip()]


def side(table: dict[str, np.ndarray], names: str) -> tuple[np.ndarray, dict[str, int]]:
    """The columns `names` ("a,b") side by side, (N, d); one of text becomes a column for each value but the last.

    Returns:
        The columns, and the number of different values of each one of text by its name.

    Raises:
        UserError: for text whose values are nearly all different or mostly numbers, and missing values.
    """
    columns, texts = [], {}
    for name in _names(names):
        values = table[name]
        if values.dtype.kind in "fiub":
            columns.append(values.reshape(len(values), -1).astype("float64"))
            continue
        _check_missing(name, values, "leave these rows out, or fill them")
        try:
            columns.append(values.astype("float64")[:, None])
        except ValueError:
            check_text(f"Column {name!r}", values.tolist())
            distinct = np.unique(values)
            if len(distinct) > len(values) / 5:
                raise UserError(
                    f"Column {name!r} is text whose values are nearly all different. Received: {len(distinct)} values "
                    f"in {len(values)} rows, such as {str(distinct[0])!r}."
                ) from None
            columns.append((values[:, None] == distinct[: max(len(distinct) - 1, 1)]).astype("float64"))
            texts[name] = len(distinct)
    if not columns:
        raise UserError(f"A side takes one column at least. Received: {names!r}")
    return np.concatenate(columns, axis=1), texts


def _check_missing(name: str, values: np.ndarray, remedy: str) -> None:
    if values.dtype.kind in "US":
        check_missing_text(f"Column {name!r}", values.tolist(), remedy)


def labels(table: dict[str, np.ndarray], name: str) -> np.ndarray:
    """The column that names groups, as it is.

    Raises:
        UserError: for anything else than one name, and missing values.
    """
    names = _names(name)
    if len(names) != 1:
        raise UserError(f"`groups` is the name of one column. Received: {name!r}")
    _check_missing(names[0], table[names[0]], "leave these rows out, or give each of them a group of its own")
    return table[names[0]]
