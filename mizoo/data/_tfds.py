"""Data sets of tensorflow-datasets."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from mizoo._tools.progress import bar
from mizoo.data._network import any_reachable
from mizoo.data.bands import with_channels
from mizoo.data.dataset import Dataset
from mizoo.data.records import TfdsRecords
from mizoo.data.streams import Stream
from mizoo.errors import UserError

_MIRROR = "https://storage.googleapis.com"  # where tensorflow-datasets looks for prepared data before the source
_SLOW = 10_000  # pictures, from which on reading them shows its progress


def read(name: str, split: str, size: tuple[int, int] | None = None, channels: int | None = None) -> Dataset:
    """Read one split of a TFDS data set with `image` (and `label`) features.

    Pictures of one size stay as they are; others are brought to `size`, (height, width), as grey ones where `channels`
    is 1. The arrays are kept for the
    next call: the pictures cannot be written to, and the labels are a copy.

    Raises:
        UserError: if tensorflow-datasets is missing, does not have the name or the split, or could not get the data;
            for pictures of several sizes without `size`.
    """
    kept = _read(name, split, size, channels == 1)
    return replace(kept, labels=None if kept.labels is None else kept.labels.copy())


@functools.lru_cache(maxsize=4)
def _read(name: str, split: str, size: tuple[int, int] | None, grey: bool) -> Dataset:
    from mizoo.data.pictures import fit

    builder = _prepared(name, split, "image")
    features = builder.info.features
    if _is_array_record(builder):
        return _read_array_record(name, builder, split, size, grey)

    # batch_size=-1 would need pictures of one size to fail late and without a name; stacking names the reason.
    images, labels = [], []
    side = size if None in features["image"].shape[:2] else None
    for batch in _arrays(builder, split):
        picture = batch["image"]
        if side is not None:
            picture = fit(with_channels(picture, 1, name) if grey else picture, side)
        images.append(picture)
        labels.append(batch.get("label", -1))
    if len({image.shape for image in images}) > 1:
        raise UserError(f"The pictures of {name!r} differ in size. Pass `size` (--size) to bring all to one square.")
    stacked = np.stack(images)
    if stacked.shape[-1] == 1:
        stacked = np.repeat(stacked, 3, axis=-1)
    stacked.flags.writeable = False
    has_labels = "label" in features
    return Dataset(name, stacked, np.asarray(labels, np.int64) if has_labels else None, _classes(features))


def stream(name: str, split: str, size: tuple[int, int] | None = None, labelled: bool = False) -> Dataset:
    """One split of a TFDS data set that is prepared as ArrayRecord, as a Dataset whose pictures are a `Stream`.

    Args:
        name, split, size: as of `read`.
        labelled: whether to read the labels, for which all examples are read once.

    Raises:
        UserError: as of `read`; for a data set that is prepared as TFRecord, which has no order of its own to read in.
    """
    builder = _prepared(name, split, "image")
    if not _is_array_record(builder):
        raise UserError(
            f"{name!r} is prepared as {builder.info.file_format.value}, which cannot be streamed. Pack it once, "
            f"`mizoo data pack {name} --out FOLDER`, and give that folder; or prepare it as ArrayRecord, "
            f"`tfds build {name} --file_format=array_record`."
        )
    features = builder.info.features
    records = TfdsRecords(builder.data_path, split)
    shape = _shape(name, features, size)
    labels = None
    if labelled and "label" in features:
        with bar(f"labels of {name}", len(records), shown=len(records) >= _SLOW, unit="pictures") as advance:
            labels = np.array([records.label(index) for index in _counted(len(records), advance)], np.int64)
    images: Any = Stream(records, np.arange(len(records)), shape)
    return Dataset(name, images, labels, _classes(features))


def _read_array_record(name: str, builder: Any, split: str, size: tuple[int, int] | None, grey: bool) -> Dataset:
    streamed = stream(name, split, size, labelled=True)
    with bar(f"reading {name}", len(streamed), shown=len(streamed) >= _SLOW, unit="pictures") as advance:
        images: Any = streamed.images
        if grey and size is not None:
            images = replace(images, picture_shape=(*images.picture_shape[:2], 1))
        loaded = images.load(advance)
    loaded.flags.writeable = False
    return replace(streamed, images=loaded)


def _counted(count: int, advance: Callable[[int], Any]) -> Iterator[int]:
    """The numbers below `count`, each announced when it is done."""
    for index in range(count):
        yield index
        advance(1)


def _classes(features: Any) -> tuple[str, ...]:
    return tuple(getattr(features["label"], "names", ())) if "label" in features else ()


def _shape(name: str, features: Any, size: tuple[int, int] | None) -> tuple[int, int, int]:
    """(H, W, 3) that the pictures get; theirs where all have one."""
    height, width = features["image"].shape[:2]
    if size is not None:
        return (*size, 3)
    if None in (height, width):
        raise UserError(f"The pictures of {name!r} differ in size. Pass `size` (--size) to bring all to one square.")
    return (height, width, 3)


def _is_array_record(builder: Any) -> bool:
    """Whether the data are prepared as ArrayRecord, whose examples can be read in any order."""
    return getattr(getattr(builder.info, "file_format", None), "value", None) == "array_record"


def items(name: str, split: str) -> tuple[int, tuple[str, ...], Iterator[tuple[bytes, int | None]]]:
    """The pictures of one split as they are stored: how many, the classes, and (bytes of the file, label) of each.

    Raises:
        UserError: as of `read`; for pictures that are not stored as PNG or JPEG files of 8 bits.
    """
    import tensorflow_datasets as tfds

    builder = _prepared(name, split, "image")
    features = builder.info.features
    if np.dtype(features["image"].np_dtype) != np.uint8:
        raise UserError(f"{name!r} holds pictures of {features['image'].dtype}, and 8-bit pictures are packed.")
    count = builder.info.splits[split].num_examples
    if _is_array_record(builder):
        records = TfdsRecords(builder.data_path, split)
        return count, _classes(features), (records.item(index) for index in range(count))
    _check_tensorflow(builder)
    raw = builder.as_dataset(split=split, shuffle_files=False, decoders={"image": tfds.decode.SkipDecoding()})
    pairs = ((each["image"], each.get("label")) for each in tfds.as_numpy(raw))
    return count, _classes(features), ((image, None if label is None else int(label)) for image, label in pairs)


def count(name: str, split: str) -> int:
    """How many examples one split has; errors as of `read`."""
    return int(_prepared(name, split, "image").info.splits[split].num_examples)


def splits(name: str) -> tuple[str, ...]:
    """The splits of a TFDS data set of pictures; errors as of `read`."""
    return tuple(_prepared(name, None, "image").info.splits)


def examples(name: str, split: str, feature: str) -> Iterator[dict[str, Any]]:
    """The examples of one split of a TFDS data set that has `feature`, in their fixed order; errors as of `read`."""
    yield from _arrays(_prepared(name, split, feature), split)


def _arrays(builder: Any, split: str) -> Iterable[dict[str, Any]]:
    import tensorflow_datasets as tfds

    _check_tensorflow(builder)
    return tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False))


def _check_tensorflow(builder: Any) -> None:
    """What is not prepared as ArrayRecord is read by TensorFlow, whatever backend Keras has."""
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{builder.name!r} is prepared as {builder.info.file_format.value}, which TensorFlow reads, and it is not "
            "installed. It may be, beside another backend of Keras: `pip install tensorflow`. Or give the folder that "
            "`mizoo data pack` wrote elsewhere, or prepare the data set as ArrayRecord."
        ) from error


def _prepared(name: str, split: str | None, feature: str) -> Any:
    """The builder of a data set that holds `feature` and `split`, its data prepared: it says so where they were not."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"{name!r} is no folder here, and data sets by name need tensorflow-datasets and TensorFlow: "
            '`pip install ".[tensorflow,train]"` in a clone. '
            "Where TensorFlow cannot be installed, give the folder that `mizoo data pack` wrote elsewhere."
        ) from error

    try:
        builder = tfds.builder(name)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise UserError(f"{name!r} is neither a folder here nor a data set of tensorflow-datasets.") from error
    if feature not in builder.info.features:
        names = ", ".join(builder.info.features)
        raise UserError(f"{name!r} holds {names} and no `{feature}`, which is what mizoo reads from it here.")
    if not _is_prepared(builder):
        _prepare(name, builder)
    if split is not None and split not in builder.info.splits:
        raise UserError(f"{name!r} has the splits {', '.join(builder.info.splits)}. Received: split={split!r}")
    return builder


def _is_prepared(builder: Any) -> bool:
    """Whether the data of a builder lie where it looks."""
    return (Path(builder.data_path) / "dataset_info.json").exists()


def _prepare(name: str, builder: Any) -> None:
    """Download and prepare the data of a builder, and say so; refuse at once where they cannot be had.

    Raises:
        UserError: naming where was looked: without a network, without a package that decodes the data, or for data that
            have to be fetched by hand.
    """
    where = _looked_in(builder)
    infos = builder.url_infos or {}
    urls = list(infos)
    hosts = ", ".join(dict.fromkeys(urlsplit(url).hostname or url for url in urls))
    if urls and not any_reachable([urls[0], _MIRROR]):
        raise UserError(
            f"{name!r} is not prepared in {where}, and there is no network to fetch it: {hosts} does not answer. Set "
            "TFDS_DATA_DIR to a folder that holds it, give a folder that `mizoo data pack` wrote, or try again with a "
            "network."
        )
    sizes = [info.size for info in infos.values()]
    size = f" ({sum(sizes) / 1e6:,.0f} MB)" if sizes and all(sizes) else ""
    print(
        f"{name!r} is not prepared in {where}: it is downloaded there{f' from {hosts}' if hosts else ''}{size}.",
        file=sys.stderr,
        flush=True,
    )
    try:
        builder.download_and_prepare()
    except ImportError as error:  # tensorflow-datasets does not require the decoders that it uses
        raise UserError(
            f"Preparing {name!r} needs a package that is not installed ({error}). Install it; the `train` "
            'extra has what pictures take, `sound` what sounds take: `pip install ".[tensorflow,train,sound]"`.'
        ) from error
    except Exception as error:  # any of a dozen network and checksum errors: what helps is the same
        if by_hand := getattr(builder, "MANUAL_DOWNLOAD_INSTRUCTIONS", None):
            raise UserError(
                f"{name!r} is not prepared in {where} and has to be fetched by hand: {' '.join(by_hand.split())}"
            ) from error
        raise UserError(
            f"{name!r} is not prepared in {where} and could not be fetched ({type(error).__name__}). Set TFDS_DATA_DIR "
            "to a folder that holds it, or try again with a network."
        ) from error


def _looked_in(builder: Any) -> str:
    """The folder of all data sets in which a builder looks for its own, and whether it is there at all."""
    path = Path(builder.data_path)
    folder = path.parents[len(builder.info.full_name.split("/")) - 1]
    named = os.environ.get("TFDS_DATA_DIR")  # tensorflow-datasets took what it was when it was imported
    source = " (TFDS_DATA_DIR)" if named and Path(named).expanduser().absolute() == folder.absolute() else ""
    return f"{folder}{source}" + ("" if folder.is_dir() else ", a folder that is not there")
