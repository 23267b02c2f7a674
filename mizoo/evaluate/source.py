"""Where data came from: what tells rows of one data set from those of another with the same name."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mizoo._tools.files import user_path
from mizoo._tools.progress import Progress
from mizoo.evaluate.rows import CONTENT, TFDS, UNKNOWN

_BLOCK = 1 << 20


def data_source(dataset: Any, progress: Progress, depth: int | None = None) -> str:
    """The identity of data that were loaded, for their rows.

    Args:
        dataset: what `mizoo.data.load` has loaded: a TFDS name, a folder, an array or a `Dataset`.
        progress: shows the progress over the files of a folder.
        depth: that deep files were read with: with another, their pictures are others.

    Returns:
        "tfds:NAME/VERSION"; "sha256:..." of the names and bytes of all files of a folder but the hidden ones, wherever
        it lies; or "sha256:..." of the values of an array, and of its labels.
    """
    if isinstance(dataset, (str, os.PathLike)):
        folder = user_path(dataset)
        if not folder.is_dir():
            return TFDS + _tfds_version(str(dataset))
        return CONTENT + _hash_of_folder(folder, progress, depth)
    return CONTENT + hash_of_arrays(getattr(dataset, "images", dataset), getattr(dataset, "labels", None))


def _tfds_version(name: str) -> str:
    """NAME/VERSION of a data set that tensorflow-datasets has just loaded."""
    tfds = sys.modules.get("tensorflow_datasets")
    try:
        info = tfds.builder(name).info  # type: ignore[union-attr]
        return str(info.full_name)
    except Exception:  # not loaded by it after all, as in a test that has data of its own
        return f"{name}/{UNKNOWN}"


def _hash_of_folder(folder: Path, progress: Progress, depth: int | None) -> str:
    named = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    seen = sorted(name for name in named if not any(part.startswith(".") for part in name.split("/")))
    line = progress.start("hash of the data", len(seen), "files")
    digest = hashlib.sha256(b"" if depth is None else f"depth {depth}\n".encode())
    for name in seen:
        digest.update(f"{len(name)} {name} {named[name].stat().st_size}\n".encode("utf-8", "surrogateescape"))
        with open(named[name], "rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        line.advance()
    line.finish()
    return digest.hexdigest()


def hash_of_arrays(*arrays: Any) -> str:
    """SHA-256 of the types, shapes and values of arrays, without those that are None."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is not None:
            values = np.ascontiguousarray(array)
            digest.update(f"{values.dtype.str} {values.shape}\n".encode())
            digest.update(values.data if values.size else b"")
    return digest.hexdigest()
