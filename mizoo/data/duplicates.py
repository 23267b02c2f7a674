"""Pictures that are the same: files byte for byte, arrays value by value."""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mizoo._tools.files import sha256
from mizoo.data import folder as folders
from mizoo.data import pictures, splits


def groups(files: Iterable[Path]) -> list[list[Path]]:
    """Files with the same bytes, each group in the order of `files`; only files of equal size are read.

    What cannot be read, such as a link that leads nowhere, is in no group: loading the pictures names it.
    """
    return [same for candidates in _grouped(files, _size) for same in _grouped(candidates, sha256)]


@dataclass(frozen=True)
class Copies:
    """Copies among the pictures of a folder of class folders.

    Attributes:
        without: the copies to leave out, so that no picture is trained on twice, trained on and scored, or in two
            classes: paths below the folder.
        leaked: (path in `train`, the same picture in `test`); the former is left out.
        contradictory: groups of the same picture in several classes, all of which are left out.
        repeated: how many others are left out, copies within a class.
    """

    without: tuple[str, ...]
    leaked: tuple[tuple[str, str], ...]
    contradictory: tuple[tuple[str, ...], ...]
    repeated: int


def copies(folder: Path, channels: int | None = None) -> Copies:
    """Find copies in a folder of class folders, or in one with `train` and `test`.

    Args:
        folder: the folder.
        channels: that its pictures are read with, as of `mizoo.data.pictures.find`.
    """
    both = len(splits(folder)) > 1
    depth = 1 if both else 0
    below = [folder / split for split in ("train", "test")] if both else [folder]
    found = groups(file for each in below for file in pictures.find(each, channels=channels))
    labelled = bool(folders.classes(below[0], channels))
    without: list[str] = []
    leaked, contradictory, repeated = [], [], 0
    for group in found:
        names = [file.relative_to(folder).as_posix() for file in group]
        trained = [name for name in names if not both or name.startswith("train/")]
        scored = [name for name in names if name not in trained]
        if labelled and len({name.split("/")[depth] for name in names}) > 1:
            contradictory.append(tuple(names))
            without += names
        elif scored and trained:
            leaked += [(name, scored[0]) for name in trained]
            without += trained
        else:
            repeated += len(trained[1:])
            without += trained[1:]
    return Copies(tuple(without), tuple(leaked), tuple(contradictory), repeated)


def in_both(folder: Path, channels: int | None = None) -> tuple[str, str] | None:
    """(a picture of `test`, the same file in `train`), by their paths below a folder with both, or None.

    Only files of a size that occurs in both are read, and those of `train` until one is found; arguments as above.
    """
    trained, scored = (_by(pictures.find(folder / each, channels=channels), _size) for each in ("train", "test"))
    for size in (each for each in scored if each in trained):
        known = _by(scored[size], sha256)
        for file in trained[size]:
            with contextlib.suppress(OSError):
                if same := known.get(sha256(file)):
                    return same[0].relative_to(folder).as_posix(), file.relative_to(folder).as_posix()
    return None


def seen(images: Iterable[np.ndarray], known: Iterable[np.ndarray]) -> np.ndarray:
    """Which of some pictures are among the known ones, value by value: bool (N,)."""
    fingerprints = set(map(_fingerprint, known))
    return np.array([_fingerprint(image) in fingerprints for image in images], bool)


def _fingerprint(image: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def _grouped(files: Iterable[Path], key: Callable[[Path], Hashable]) -> list[list[Path]]:
    """Groups of two and more with the same key."""
    return [group for group in _by(files, key).values() if len(group) > 1]


def _by(files: Iterable[Path], key: Callable[[Path], Hashable]) -> dict[Hashable, list[Path]]:
    """The files of each key, without those that cannot be read."""
    by_key: dict[Hashable, list[Path]] = defaultdict(list)
    for file in files:
        with contextlib.suppress(OSError):
            by_key[key(file)].append(file)
    return dict(by_key)


def _size(file: Path) -> int:
    return file.stat().st_size
