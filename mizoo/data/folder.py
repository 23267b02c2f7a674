"""A folder of picture files as a data set."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from mizoo._tools.files import user_path
from mizoo._tools.progress import bar
from mizoo.data import pictures, search
from mizoo.data.dataset import Dataset
from mizoo.errors import UserError

_LISTED = 10
_NOT_READ = frozenset(
    (".arw", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".jxl", ".nef", ".orf", ".psd", ".raf", ".rw2")
)
_SLOW = 1000  # files, from which on reading them shows its progress


def classes(path: str | os.PathLike) -> tuple[str, ...]:
    """Names of the subfolders directly below a folder, sorted, where every picture lies in one; else ()."""
    folder = user_path(path)
    paths = [file.relative_to(folder).parts for file in pictures.find(folder)]
    return () if any(len(path) < 2 for path in paths) else tuple(sorted({path[0] for path in paths}))


def remaining(folder: Path, paths: Sequence[Path], without: Collection[str]) -> list[Path]:
    """The files of a folder but those of `without`, given by their paths below it.

    Raises:
        UserError: if none is left.
    """
    left_out = set(without)
    rest = [file for file in paths if file.relative_to(folder).as_posix() not in left_out] if left_out else list(paths)
    if not rest:
        raise UserError(f"All {len(paths)} pictures below {folder} are to be left out (`without`): none is left.")
    return rest


def read(
    path: str | os.PathLike,
    size: int | None = None,
    class_names: Sequence[str] | None = None,
    depth: int | None = None,
    without: Collection[str] = (),
) -> Dataset:
    """Read every picture file below a folder, in the order of their paths.

    When every picture lies in a subfolder, the names of the subfolders directly below `path` are the classes, sorted.

    Args:
        path: the folder, searched recursively; hidden files and files without the suffix of a picture are passed over.
        size: side of the square that every picture is brought to with `mizoo.data.pictures.square`. None leaves the
            pictures as they are, which must then be of one size.
        class_names: the classes that the labels number, where the folder is one of several splits; by default its own.
        depth: bits of the values of deep grey files: see `mizoo.data.pictures.read`.
        without: pictures to leave out, by their paths below the folder, such as "cats/7.jpg".

    Returns:
        Dataset named after the folder: images uint8 (N, size, size, 3), or (N, H, W, 3) without `size`; labels
        int64 (N,) and classes, or None and ().

    Raises:
        UserError: no folder, no picture in it or none left, files that cannot be read (the first ten by name), or
            pictures of several sizes without `size`.

    Warns:
        UserWarning: for pictures in formats that are not read (.heic, raw files), and for deep files that come out
            almost black.
    """
    folder = user_path(path)
    if not folder.is_dir():
        raise UserError(f"A data set of pictures is a folder. Received: {folder}, which is none.")
    passed_over: dict[str, int] = {}
    paths = remaining(folder, pictures.find(folder, passed_over=passed_over), without)
    if others := {suffix: number for suffix, number in passed_over.items() if suffix in _NOT_READ}:
        message = f"Passed over below {folder}: {search.count(others)}, which are not read. Convert them to PNG."
        warnings.warn(message, UserWarning, stacklevel=2)
    notes: list[tuple[Path, str]] = []
    images: np.ndarray | None = None
    problems: list[str] = []
    with bar(f"reading {folder.name}", len(paths), shown=len(paths) >= _SLOW, unit="pictures") as advance:
        for i, file in enumerate(paths):
            advance(1)
            try:
                picture = pictures.read(file, depth, notes=notes)
            except UserError as error:
                problems.append(str(error))
                continue
            if size is not None:
                picture = pictures.square(picture, size)
            if images is None:
                # One array from the start: a list and its stack would need the memory twice.
                first, images = file, np.empty((len(paths), *picture.shape), np.uint8)
            if picture.shape != images.shape[1:]:
                sizes = [f"{each.shape[-2]}x{each.shape[-3]}" for each in (images, picture)]
                raise UserError(
                    f"The pictures below {folder} differ in size: {first} is {sizes[0]} and {file} is {sizes[1]} "
                    "(width x height). Pass `size` (--size) to bring all to one square."
                )
            images[i] = picture
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems[:_LISTED])
        more = f"\n  and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise UserError(
            f"{len(problems)} of {len(paths)} files below {folder} cannot be read. Repair or remove:\n{listed}{more}"
        )
    if notes:
        warnings.warn(pictures.summary(notes, len(paths)), UserWarning, stacklevel=2)
    assert images is not None  # `find` gives one file at least
    name = folder.resolve().name
    subfolders = classes(folder)
    if not subfolders:
        return Dataset(name, images, None, ())
    names = subfolders if class_names is None else tuple(class_names)
    number = {label: i for i, label in enumerate(names)}
    labels = [number[file.relative_to(folder).parts[0]] for file in paths]
    return Dataset(name, images, np.array(labels, np.int64), names)
