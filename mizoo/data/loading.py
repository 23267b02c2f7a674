"""Data sets by name, from a folder, from packed chunks or from arrays, and training batches of them."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mizoo._tools.checks import check_size
from mizoo._tools.files import user_path
from mizoo.data import folder, packed, pictures
from mizoo.data.arrays import check_array
from mizoo.data.dataset import Dataset, parse_split
from mizoo.errors import UserError

_SPLITS = ("train", "test")


def load(
    source: str | os.PathLike | np.ndarray | Dataset,
    split: str = "train",
    size: int | None = None,
    depth: int | None = None,
    without: Collection[str] = (),
) -> Dataset:
    """Load one split of a data set into memory.

    Args:
        source: the name of a TFDS data set ("cifar10"; `TFDS_DATA_DIR` is honoured), a folder of pictures, a folder
            that `mizoo data pack` wrote, a uint8 array (N, H, W, 3), a float array of sounds (N, T) in -1..1 or of
            series (N, T, d), or a `Dataset`. A folder of pictures with the subfolders `train` and `test` has both
            splits.
        split: "train" or "test", with the slices of TFDS: "train[:-5000]", "train[-5000:]". Other folders of pictures
            and arrays have one split, "train".
        size: height and width that the pictures get where they have others: shorter side resized with antialiasing,
            centre crop (`mizoo.data.pictures.square`). By default they stay as they are.
        depth: bits of the values of deep grey files, of a folder of pictures: see `mizoo.data.pictures.read`.
        without: pictures of a folder to leave out, by their paths below it, such as "cats/7.jpg" or "train/cats/7.jpg".

    Returns:
        The pictures, in a fixed order; those of a folder of pictures are shuffled, so that any slice is a fair sample.

    Raises:
        UserError: if the source, the split or the pictures are not there, or the slice is empty; for arrays of another
            type, shape or range, with NaN or masked values.
    """
    name, rows = parse_split(split)
    if size is not None:
        size = check_size(size, "size")
    whole = _load_split(source, name, size, depth, without)
    labels = None if whole.labels is None else whole.labels[rows]
    selected = replace(whole, images=whole.images[rows], labels=labels)
    if not len(selected):
        raise UserError(f"`split` selects no picture. Received: split={split!r}, where {whole.name!r} has {len(whole)}")
    if size is not None and selected.images.shape[1:3] != (size, size):
        if selected.images.ndim != 4:
            raise UserError(f"`size` is of pictures, and {selected.name!r} holds sequences. Received: size={size}")
        selected = replace(selected, images=_squares(selected.images, size))
    return selected


def _squares(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 (N, size, size, C), C = 1 or 3."""
    grey = images.shape[-1] == 1
    squares = np.stack([pictures.square(image[..., 0] if grey else image, size) for image in images])
    return squares[..., None] if grey else squares


def splits(source: str | os.PathLike | np.ndarray | Dataset) -> tuple[str, ...]:
    """The splits of what `load` takes: ("train",) of arrays and plain folders, those of its own of a TFDS data set.

    A folder of pictures with the subfolders `train` and `test`, each laid out like a folder of pictures of its own, has
    both; packed data have those that were packed.

    Raises:
        UserError: if there is no such folder or data set.
    """
    if not isinstance(source, (str, os.PathLike)):
        return ("train",)
    path = _as_folder(source)
    if path is None:
        from mizoo.data import _tfds

        return _tfds.splits(str(source))
    if packed.is_packed(path):
        return packed.splits(path)
    return _SPLITS if all((path / each).is_dir() for each in _SPLITS) else ("train",)


def _load_split(source: Any, split: str, size: int | None, depth: int | None, without: Collection[str] = ()) -> Dataset:
    path = _as_folder(source) if isinstance(source, (str, os.PathLike)) else None
    of_files = path is not None and not packed.is_packed(path)
    if depth is not None and not of_files:
        raise UserError(f"`depth` is of deep picture files in a folder. Received: depth={depth} for other data.")
    if without and not of_files:
        raise UserError(f"`without` leaves out files of a folder. Received: {len(without)} names for other data.")
    if not isinstance(source, (str, os.PathLike)):
        given = source.images if isinstance(source, Dataset) else source
        images = check_array(given)
        _check_single_split(split, "an array")
        if not isinstance(source, Dataset):
            return Dataset("array", images)
        return source if images is given else replace(source, images=images)
    if path is not None:
        if packed.is_packed(path):
            return packed.read(path, split)
        if splits(path) == _SPLITS:
            if split not in _SPLITS:
                raise UserError(f"{path} has the splits {', '.join(_SPLITS)}. Received: split={split!r}")
            return _from_train_and_test(path, split, size, depth, without)
        _check_single_split(split, "a folder of pictures without the subfolders `train` and `test`")
        return _shuffled(folder.read(path, size, depth=depth, without=without))
    from mizoo.data import _tfds

    return _tfds.read(str(source), split, size)


def _as_folder(source: str | os.PathLike) -> Path | None:
    """The folder that is meant, or None where it is the name of a TFDS data set, such as "emnist/balanced"."""
    path = user_path(source)
    if path.is_dir():
        return path
    text = str(source)
    if path.is_absolute() or text.startswith((".", "~")) or text.endswith("/") or "\\" in text:
        raise UserError(f"There is no folder {text!r}.")
    return None


def _from_train_and_test(
    path: Path, split: str, size: int | None, depth: int | None, without: Collection[str]
) -> Dataset:
    """One of the two subfolders, under the name of the folder, its labels counted over the classes of both."""
    classes = sorted({label for each in _SPLITS for label in folder.classes(path / each)})
    below = [each.removeprefix(f"{split}/") for each in without if each.startswith(f"{split}/")]
    return replace(_shuffled(folder.read(path / split, size, classes, depth, below)), name=path.resolve().name)


def _shuffled(dataset: Dataset) -> Dataset:
    """The same pictures in one fixed random order: a slice of sorted files would hold few of the classes."""
    order = np.random.default_rng(0).permutation(len(dataset))
    labels = None if dataset.labels is None else dataset.labels[order]
    return replace(dataset, images=dataset.images[order], labels=labels)


def _check_single_split(split: str, what: str) -> None:
    if split != "train":
        raise UserError(f"{what} has one split, 'train'. Received: split={split!r}")


def batches(
    source,
    split: str = "train",
    batch_size: int = 128,
    seed: int = 0,
    noise_size: int = 0,
    start_epoch: int = 0,
    targets: np.ndarray | None = None,
):
    """Shuffled training batches for `Objective.fit`, the same for the same seed.

    Args:
        source, split: as in `load`.
        batch_size: pictures in a batch; a last, smaller batch is left out.
        seed: decides the order of the pictures and the noise.
        noise_size: columns of uniform noise that come with every picture (`Objective.noise_size`); with 0 the
            objective draws its own.
        start_epoch: the epoch the first batch belongs to.
        targets: (N, D), the teacher's vectors that `mizoo.Distillation` takes (`mizoo.teachers.targets`).

    Returns:
        A `mizoo.data.batching.Batches`, a `keras.utils.PyDataset`.

    Raises:
        UserError: as of `load`; for fewer pictures than one batch takes, and targets or numbers that do not fit.
    """
    from mizoo.data.batching import Batches

    return Batches(load(source, split).images, batch_size, seed, noise_size, start_epoch, targets)
