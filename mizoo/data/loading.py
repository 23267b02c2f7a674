"""Data sets by name, from a folder, from packed shards or from arrays, and training batches of them."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mizoo._tools.checks import check_size
from mizoo._tools.files import user_path
from mizoo.data import bands, folder, packed, pictures
from mizoo.data.arrays import check_array
from mizoo.data.dataset import Dataset, parse_split
from mizoo.data.streams import Stream
from mizoo.errors import UserError

_SPLITS = ("train", "test")

Shape = int | Sequence[int | None]
"""Height and width of pictures: one number, both, or both with the channels, as an encoder takes them."""


def load(
    source: str | os.PathLike | np.ndarray | Dataset,
    split: str = "train",
    size: Shape | None = None,
    depth: int | None = None,
    channels: int | None = None,
    without: Collection[str] = (),
) -> Dataset:
    """Load one split of a data set into memory.

    Args:
        source: the name of a TFDS data set ("cifar10"; `TFDS_DATA_DIR` is honoured), a folder of pictures, a folder
            that `mizoo data pack` wrote, a uint8 array (N, H, W, C), a float array of sounds (N, T) in -1..1 or of
            series (N, T, d), or a `Dataset`, also one of `stream`. A folder of pictures with the subfolders `train` and
            `test` has both splits.
        split: "train" or "test", with the slices of TFDS: "train[:-5000]", "train[-5000:]". Other folders of pictures
            and arrays have one split, "train".
        size: height and width that the pictures get where they have others, one number or (height, width): resized
            with antialiasing to just cover it, centre crop (`mizoo.data.pictures.fit`). By default they stay as they
            are. Or the shape (height, width, channels) of an encoder, None for what is free.
        depth: bits of the values of deep files, of a folder of pictures: see `mizoo.data.pictures.read`.
        channels: of the pictures: 3 for RGB, 1 for grey, which either is turned into; another number for data that
            have as many, such as TIFF and .npy files (`mizoo.data.pictures.read`). By default files give RGB, and
            arrays what they have.
        without: pictures of a folder to leave out, by their paths below it, such as "cats/7.jpg" or "train/cats/7.jpg".

    Returns:
        The pictures, in a fixed order; those of a folder of pictures are shuffled, so that any slice is a fair sample.
        Those of TFDS cannot be written to, as they are kept for the next call: change a copy.

    Raises:
        UserError: if the source, the split or the pictures are not there, or the slice is empty; for arrays of another
            type, shape or range, with NaN or masked values; and for other channels.
    """
    name, rows = parse_split(split)
    wanted, channels = wanted_shape(size, channels)
    whole = _load_split(source, name, wanted, _OfFiles(depth, channels, tuple(without)))
    _check_selected(whole, split, rows)
    labels = None if whole.labels is None else whole.labels[rows]
    selected = replace(whole, images=whole.images[rows], labels=labels)
    of_pictures = selected.images.ndim == 4
    if of_pictures and channels not in (None, selected.images.shape[-1]):
        selected = replace(selected, images=bands.with_channels(selected.images, channels, repr(selected.name)))
    if wanted is not None and selected.images.shape[1:3] != wanted:
        if not of_pictures:
            raise UserError(f"`size` is of pictures, and {selected.name!r} holds sequences. Received: size={size}")
        selected = replace(selected, images=np.stack([pictures.fit(image, wanted) for image in selected.images]))
    return selected


def wanted_shape(size: Shape | None, channels: int | None) -> tuple[tuple[int, int] | None, int | None]:
    """Height and width that are asked for, if they are, and the channels."""
    if isinstance(size, (list, tuple)) and len(size) == 3:
        *size, own = size
        channels = own if channels is None else channels
        size = None if None in size else size
    if channels is not None:
        check_size(channels, "channels")
    if size is None:
        return None, channels
    both = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
    if len(both) != 2:
        raise UserError(f"`size` is one number, or two, (height, width). Received: size={size!r}")
    height, width = (check_size(each, "size") for each in both)
    return (height, width), channels


def stream(
    source: str | os.PathLike | Dataset,
    split: str = "train",
    size: Shape | None = None,
    depth: int | None = None,
    labelled: bool = False,
    channels: int | None = None,
    without: Collection[str] = (),
) -> Dataset:
    """One split of a data set whose pictures stay in their files: they are decoded when they are asked for.

    The order is that of `load`, and so is what `.images` gives for any rows: an index, a slice, or an array of numbers
    (`mizoo.data.streams.Stream`). `mizoo.data.batches` reads them ahead of a training, in processes of their own.

    Args:
        source: a folder of pictures, a folder that `mizoo data pack` wrote, or the name of a TFDS data set that is
            prepared as ArrayRecord; or what this gave, which other arguments than `split` leave as it is.
        split, depth: as of `load`.
        size: height and width that the pictures get, as of `load`. Only packed pictures of one size take None.
        channels: as of `load`, of a folder; other data are streamed with those that they have.
        without: as of `load`.
        labelled: whether the labels are needed where they lie among the pictures and take a pass over all, as in a set
            of TFDS. Those of folders and packed data are always there.

    Raises:
        UserError: as of `load`; for arrays, and TFDS data sets that are prepared as TFRecord.
    """
    name, rows = parse_split(split)
    if isinstance(source, Dataset) and isinstance(source.images, Stream):
        _check_single_split(name, "a stream")
        _check_as_it_is(source.images, *wanted_shape(size, channels), depth, without)
        whole = source
    elif isinstance(source, (str, os.PathLike)):
        wanted, channels = wanted_shape(size, channels)
        whole = _stream_split(source, name, wanted, labelled, _OfFiles(depth, channels, tuple(without)))
    else:
        raise UserError("`source` of a stream names files; what is in memory already needs none: pass it to `batches`.")
    _check_selected(whole, split, rows)
    images: Any = whole.images
    return replace(whole, images=images.part(rows), labels=None if whole.labels is None else whole.labels[rows])


def _check_as_it_is(
    images: Stream, size: tuple[int, int] | None, channels: int | None, depth: int | None, without: Collection[str]
) -> None:
    """Refuse other pictures than those of a stream."""
    height, width, own = images.picture_shape
    if (
        size not in (None, (height, width))
        or channels not in (None, own)
        or depth not in (None, images.depth)
        or without
    ):
        raise UserError(
            f"A stream is streamed again as it is: {height} x {width} pixels, {own} channels, depth={images.depth}. "
            f"Received: size={size}, channels={channels}, depth={depth}, {len(without)} files to leave out. Make one "
            "of the folder or the name again."
        )


def _check_selected(whole: Dataset, split: str, rows: slice) -> None:
    if not len(range(len(whole))[rows]):
        raise UserError(f"`split` selects no picture. Received: split={split!r}, where {whole.name!r} has {len(whole)}")


def splits(source: str | os.PathLike | np.ndarray | Dataset) -> tuple[str, ...]:
    """The splits of what `load` takes: ("train",) of arrays and plain folders, those of its own of a TFDS data set.

    A folder of pictures with the subfolders `train` and `test`, each laid out like a folder of pictures of its own, has
    both; packed data have those that were packed.

    Raises:
        UserError: if there is no such folder or data set.
    """
    if not isinstance(source, (str, os.PathLike)):
        return ("train",)
    path = as_folder(source)
    if path is None:
        from mizoo.data import _tfds

        return _tfds.splits(str(source))
    if packed.is_packed(path):
        return packed.splits(path)
    return _SPLITS if all((path / each).is_dir() for each in _SPLITS) else ("train",)


@dataclass(frozen=True)
class _OfFiles:
    """How the pictures of a folder are read: see `load`."""

    depth: int | None
    channels: int | None
    without: tuple[str, ...]

    def check_folder(self, is_one: bool) -> None:
        """Refuse what is of picture files for other data."""
        if self.depth is not None and not is_one:
            raise UserError(
                f"`depth` is of deep picture files in a folder. Received: depth={self.depth} for other data."
            )
        if self.without and not is_one:
            raise UserError(f"`without` leaves out files of a folder. Received: {len(self.without)} names.")

    def below(self, split: str) -> _OfFiles:
        """The same for one of the subfolders `train` and `test`."""
        inside = tuple(each.removeprefix(f"{split}/") for each in self.without if each.startswith(f"{split}/"))
        return replace(self, without=inside)

    @property
    def arguments(self) -> dict[str, Any]:
        """As of `folder.read` and `folder.stream`."""
        return {"depth": self.depth, "channels": self.channels, "without": self.without}


def _load_split(source: Any, split: str, size: tuple[int, int] | None, how: _OfFiles) -> Dataset:
    path = as_folder(source) if isinstance(source, (str, os.PathLike)) else None
    how.check_folder(path is not None and not packed.is_packed(path))
    if not isinstance(source, (str, os.PathLike)):
        given: Any = source.images if isinstance(source, Dataset) else source
        images: Any = given if isinstance(given, Stream) else check_array(given)
        _check_single_split(split, "an array")
        if not isinstance(source, Dataset):
            return Dataset("array", images)
        return source if images is given else replace(source, images=images)
    if path is not None:
        if packed.is_packed(path):
            return packed.read(path, split, size, how.channels)
        if splits(path) == _SPLITS:
            _check_train_or_test(path, split)
            return _from_train_and_test(path, split, size, how)
        _check_single_split(split, "a folder of pictures without the subfolders `train` and `test`")
        return _shuffled(folder.read(path, size, **how.arguments))
    from mizoo.data import _tfds

    return _tfds.read(str(source), split, size, how.channels)


def _stream_split(
    source: str | os.PathLike,
    split: str,
    size: tuple[int, int] | None,
    labelled: bool,
    how: _OfFiles,
) -> Dataset:
    path = as_folder(source)
    how.check_folder(path is not None and not packed.is_packed(path))
    if path is None:
        from mizoo.data import _tfds

        return _of_channels(_tfds.stream(str(source), split, size, labelled), how.channels)
    if packed.is_packed(path):
        return _of_channels(packed.stream(path, split, size), how.channels)
    if size is None:
        raise UserError("Pictures of a folder are streamed in one `size`. Received: size=None")
    if splits(path) != _SPLITS:
        _check_single_split(split, "a folder of pictures without the subfolders `train` and `test`")
        return _shuffled(folder.stream(path, size, **how.arguments))
    _check_train_or_test(path, split)
    classes = _classes_of_both(path, how)
    dataset = folder.stream(path / split, size, classes, **how.below(split).arguments)
    return replace(_shuffled(dataset), name=path.resolve().name)


def _of_channels(streamed: Dataset, channels: int | None) -> Dataset:
    """The same, once its pictures have the channels that are wanted.

    Raises:
        UserError: if they have others.
    """
    if channels not in (None, streamed.images.shape[-1]):
        raise UserError(
            f"The pictures of {streamed.name!r} have {streamed.images.shape[-1]} channels, and {channels} are wanted: "
            "load them into memory (`data.stream: false`), which turns RGB to grey and grey to RGB."
        )
    return streamed


def as_folder(source: str | os.PathLike) -> Path | None:
    """The folder that is meant, or None where it is the name of a TFDS data set, such as "emnist/balanced"."""
    path = user_path(source)
    if path.is_dir():
        return path
    text = str(source)
    if path.is_absolute() or text.startswith((".", "~")) or text.endswith("/") or "\\" in text:
        raise UserError(f"There is no folder {text!r}.")
    return None


def same_source(one: str, other: str) -> bool:
    """Whether two sources are one folder, however its path is written, or one TFDS data set."""
    folders = [user_path(each) for each in (one, other)]
    if all(each.is_dir() for each in folders):
        return folders[0].resolve() == folders[1].resolve()
    return one.partition(":")[0] == other.partition(":")[0]


def _from_train_and_test(path: Path, split: str, size: tuple[int, int] | None, how: _OfFiles) -> Dataset:
    """One of the two subfolders, under the name of the folder, its labels counted over the classes of both."""
    classes = _classes_of_both(path, how)
    dataset = folder.read(path / split, size, classes, **how.below(split).arguments)
    return replace(_shuffled(dataset), name=path.resolve().name)


def _classes_of_both(path: Path, how: _OfFiles) -> list[str]:
    return sorted(
        {name for each in _SPLITS for name in folder.classes(path / each, how.channels, how.below(each).without)}
    )


def _shuffled(dataset: Dataset) -> Dataset:
    """The same pictures in one fixed random order: a slice of sorted files would hold few of the classes."""
    order = np.random.default_rng(0).permutation(len(dataset))
    images: Any = dataset.images
    labels = None if dataset.labels is None else dataset.labels[order]
    shuffled: Any = images.part(order) if isinstance(images, Stream) else images[order]
    return replace(dataset, images=shuffled, labels=labels)


def _check_train_or_test(path: Path, split: str) -> None:
    if split not in _SPLITS:
        raise UserError(f"{path} has the splits {', '.join(_SPLITS)}. Received: split={split!r}")


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
    shard: tuple[int, int] = (0, 1),
    workers: int | None = None,
):
    """Shuffled training batches for `Objective.fit`, the same for the same seed, and whether streamed or in memory.

    Args:
        source, split: as in `load`; a `Dataset` of `stream` is read ahead as the training goes.
        batch_size: pictures in a batch; a last, smaller batch is left out.
        seed: decides the order of the pictures and the noise.
        noise_size: columns of uniform noise that come with every picture (`Objective.noise_size`); with 0 the
            objective draws its own.
        start_epoch: the epoch the first batch belongs to.
        targets: (N, D), the teacher's vectors that `mizoo.Distillation` takes (`mizoo.teachers.targets`).
        shard: (index, count) of the host that takes its equal part of every batch, see `mizoo.data.order.rows_of_host`.
        workers: of a stream: how many processes decode; 0 decodes in threads of this one, None takes half of the
            cores, 8 at most.

    Returns:
        A `mizoo.data.batching.Batches`, a `keras.utils.PyDataset`.

    Raises:
        UserError: as of `load`; for fewer pictures than one batch takes, and targets or numbers that do not fit.
    """
    from mizoo.data.batching import Batches, StreamedBatches

    settings: dict[str, Any] = {
        "seed": seed, "noise_size": noise_size, "start_epoch": start_epoch, "targets": targets, "shard": shard
    }  # fmt: skip
    if isinstance(source, Stream):
        source = Dataset("stream", source)  # type: ignore[arg-type]
    if isinstance(source, Dataset) and isinstance(source.images, Stream):
        return StreamedBatches(stream(source, split).images, batch_size, workers=workers, **settings)
    return Batches(load(source, split).images, batch_size, **settings)
