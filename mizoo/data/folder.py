"""A folder of picture files as a data set."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mizoo._tools.files import user_path
from mizoo._tools.progress import bar
from mizoo.data import bands, pictures, search
from mizoo.data.dataset import Dataset
from mizoo.data.records import FileRecords
from mizoo.data.resizing import Size, both_sides
from mizoo.data.streams import Stream
from mizoo.errors import UserError

_LISTED = 10
_NOT_READ = frozenset(
    (".arw", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".jxl", ".nef", ".orf", ".psd", ".raf", ".rw2")
)
_SLOW = 1000  # files, from which on reading them shows its progress


def classes(path: str | os.PathLike, channels: int | None = None, without: Collection[str] = ()) -> tuple[str, ...]:
    """Names of the subfolders directly below a folder, sorted, where every picture lies in one; else ().

    Args:
        path: the folder.
        channels, without: as of `read`.
    """
    folder = user_path(path)
    files = _kept(folder, pictures.find(folder, channels=channels), without)
    paths = [file.relative_to(folder).parts for file in files]
    return () if any(len(path) < 2 for path in paths) else tuple(sorted({path[0] for path in paths}))


def remaining(folder: Path, paths: Sequence[Path], without: Collection[str]) -> list[Path]:
    """The files of a folder but those of `without`, given by their paths below it.

    Raises:
        UserError: if none is left.
    """
    rest = list(_kept(folder, paths, without))
    if not rest:
        raise _none_left(folder, f"all {len(paths)}")
    return rest


def _kept(folder: Path, paths: Iterable[Path], without: Collection[str]) -> Iterator[Path]:
    left_out = set(without)
    return (file for file in paths if not left_out or file.relative_to(folder).as_posix() not in left_out)


def _none_left(folder: Path, which: str) -> UserError:
    return UserError(f"{which.capitalize()} pictures below {folder} are to be left out (`without`): none is left.")


def read(
    path: str | os.PathLike,
    size: Size | None = None,
    class_names: Sequence[str] | None = None,
    depth: int | None = None,
    channels: int | None = None,
    without: Collection[str] = (),
) -> Dataset:
    """Read every picture file below a folder, in the order of their paths.

    When every picture lies in a subfolder, the names of the subfolders directly below `path` are the classes, sorted.

    Args:
        path: the folder, searched recursively; hidden files and files without the suffix of a picture are passed over.
        size: side of the square, or height and width, that every picture is brought to with `mizoo.data.pictures.fit`.
            None leaves the pictures as they are, which must then be of one size.
        class_names: the classes that the labels number, where the folder is one of several splits; by default its own.
        depth, channels: bits of the values of deep files, and channels of the pictures: see
            `mizoo.data.pictures.read`.
        without: pictures to leave out, by their paths below the folder, such as "cats/7.jpg".

    Returns:
        Dataset named after the folder: images uint8 (N, size, size, 3 or channels), or (N, H, W, ...) without `size`;
        labels int64 (N,) and classes, or None and ().

    Raises:
        UserError: no folder, no picture in it or none left, files that cannot be read or have other channels (the
            first ten by name), or pictures of several sizes without `size`.

    Warns:
        UserWarning: for pictures in formats that are not read (.heic, raw files), and for deep files that come out
            almost black.
    """
    folder = user_path(path)
    _check_folder(folder)
    passed_over: dict[str, int] = {}
    paths = remaining(folder, pictures.find(folder, passed_over=passed_over, channels=channels), without)
    _warn_of(passed_over, folder, 3)
    notes: list[tuple[Path, str]] = []
    images: np.ndarray | None = None
    problems: list[str] = []
    shape = (*(both_sides(size) if size is not None else (None, None)), channels)
    with bar(f"reading {folder.name}", len(paths), shown=len(paths) >= _SLOW, unit="pictures") as advance:
        for i, file in enumerate(paths):
            advance(1)
            try:
                picture = pictures.prepare(file, shape, depth, notes=notes)
            except UserError as error:
                problems.append(str(error))
                continue
            if images is None:
                # One array from the start: a list and its stack would need the memory twice.
                first, images = file, np.empty((len(paths), *picture.shape), np.uint8)
            if picture.shape[-1] != images.shape[-1]:
                raise UserError(
                    f"The pictures below {folder} differ in channels: {first} has {images.shape[-1]} and {file} has "
                    f"{picture.shape[-1]}. Pass `channels`, or move the others away."
                )
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
    labels, names = _labelled([str(file.relative_to(folder)) for file in paths], class_names)
    return Dataset(folder.resolve().name, images, labels, names)


def stream(
    path: str | os.PathLike,
    size: Size,
    class_names: Sequence[str] | None = None,
    depth: int | None = None,
    channels: int | None = None,
    without: Collection[str] = (),
) -> Dataset:
    """The pictures of a folder as a Dataset whose images are a `mizoo.data.streams.Stream`, in the order of `read`.

    The files are listed, and none of them is read, but for the first where it is a TIFF or an array and `channels` is
    None: its channels are those of all.

    Args:
        path, size, class_names, depth, channels, without: as of `read`.

    Raises:
        UserError: no folder, no picture in it or none left, or a folder below it that cannot be read.

    Warns:
        UserWarning: for pictures in formats that are not read (.heic, raw files).
    """
    folder = user_path(path)
    _check_folder(folder)
    passed_over, unread = Counter[str](), list[tuple[Path, str]]()
    records = FileRecords(
        folder, _kept(folder, pictures.stream(folder, unread, passed_over, channels), without), channels
    )
    if without and not len(records):
        raise _none_left(folder, "all")
    if unread:
        raise UserError(f"{unread[0][0]}: {unread[0][1]}. Give yourself permission, or leave it out of the folder.")
    _warn_of(passed_over, folder, 3)
    labels, names = _labelled([records.inner(index) for index in range(len(records))], class_names)
    shape = (*both_sides(size), channels or _channels_of_first(records, depth))
    images: Any = Stream(records, np.arange(len(records)), shape, depth)
    return Dataset(folder.resolve().name, images, labels, names)


def _channels_of_first(records: FileRecords, depth: int | None) -> int:
    """The channels that `read` gives the first file: 3 of an ordinary one, and of one that cannot be read."""
    if not len(records):
        return 3
    try:
        if bands.format_of(records.path(0)) is None:
            return 3
        return records.decode(0, depth, notes=[]).shape[-1]
    except (OSError, UserError):  # it is named when it is asked for
        return 3


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"A data set of pictures is a folder. Received: {folder}, which is none.")


def _warn_of(passed_over: Mapping[str, int], folder: Path, level: int) -> None:
    if others := {suffix: number for suffix, number in passed_over.items() if suffix in _NOT_READ}:
        message = f"Passed over below {folder}: {search.count(others)}, which are not read. Convert them to PNG."
        warnings.warn(message, UserWarning, stacklevel=level)


def _labelled(
    inner_paths: Sequence[str], class_names: Sequence[str] | None
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels and classes by the subfolders of files; None and () where one lies in none.

    Names that are no UTF-8, which could not be written or printed, are given with escapes, such as "caf\\xe9".
    """
    parts = [path.partition(os.sep) for path in inner_paths]
    if not all(rest for _, _, rest in parts):
        return None, ()
    names = tuple(sorted({first for first, _, _ in parts})) if class_names is None else tuple(class_names)
    number = {label: i for i, label in enumerate(names)}
    printable = tuple(os.fsencode(name).decode("utf-8", "backslashreplace") for name in names)
    return np.array([number[first] for first, _, _ in parts], np.int64), printable
