"""Arrays that are computed once for the same content: kept in a folder under a hash of all that decides them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mizoo._tools import files

Arrays = dict[str, np.ndarray]


def kept(
    folder: Path,
    determining: Mapping[str, Any],
    compute: Callable[[], Arrays],
    complete: Callable[[Arrays], bool] = lambda arrays: True,
) -> Arrays:
    """The arrays that `compute` gives, from the folder where they were computed before.

    Args:
        folder: of the cache; it may be removed at any time.
        determining: all that decides the arrays, as JSON takes it.
        compute: called where they are not there, or the file is damaged: it is then computed anew.
        complete: whether what was computed is worth keeping.
    """
    key = hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()
    file = folder / f"{key[:32]}.npz"
    arrays = _read(file, key)
    if arrays is None:
        arrays = compute()
        if not complete(arrays):
            return arrays
        with files.atomic(file) as path, open(path, "wb") as stream:
            marks = {"key": np.array(key), "digest": np.array(digest(arrays))}
            np.savez_compressed(stream, **{**marks, **arrays})  # type: ignore[arg-type]
    return arrays


def _read(file: Path, key: str) -> Arrays | None:
    """What a file holds; None if it is not there, of other content, or not as it was written."""
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        right = str(arrays.pop("key")) == key and str(arrays.pop("digest")) == digest(arrays)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return arrays if right else None


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """A hash of the names and the values of arrays."""
    made = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        made.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        made.update(values.tobytes())
    return made.hexdigest()
