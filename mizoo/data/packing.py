"""Pictures of any source -> ArrayRecord files: the writing half of `mizoo.data.packed`."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features

from mizoo._tools import files
from mizoo._tools.progress import bar
from mizoo._tools.threads import in_order
from mizoo.data import depth as depths
from mizoo.data import pictures
from mizoo.data.bands import COLOURS
from mizoo.data.dataset import Dataset
from mizoo.data.records import Notes
from mizoo.errors import UserError

INDEX = "index.json"
FORMAT = "mizoo packed pictures, 2"
CHUNK_MB = 256
_OPTIONS = "group_size:1,uncompressed"  # each record by itself, and picture files do not shrink further
_EACH, _SHARD = 72, 200_000  # bytes that a record and a shard take at most beside the pictures
_KEPT_FORMATS = ("JPEG", "MPO", "PNG", "WEBP")  # MPO is JPEG with further pictures behind it, as cameras write
_KEPT_MODES = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"))  # of 8 bits
_WEBP_SIDE = 16383  # pixels at most
_LISTED = 10


class Item(NamedTuple):
    """A picture to pack.

    Attributes:
        name: what messages call it.
        load: gives its file, the bytes of that, or the decoded picture, uint8 (H, W, C); and its label or None.
    """

    name: str
    load: Callable[[], tuple[Path | bytes | np.ndarray, int | None]]


class Source(NamedTuple):
    """A split to pack: the name of the set and its classes, the number of its pictures, and the pictures."""

    name: str
    classes: tuple[str, ...]
    total: int
    items: Iterable[Item]


def write(dataset_by_split: Mapping[str, Dataset], out: str | os.PathLike, chunk_mb: float = CHUNK_MB) -> dict:
    """Pack the splits of a data set that is in memory, without loss.

    Writes `<split>-00000.array_record`, ... one by one, each complete or absent, and `index.json` last: a folder with
    an index is whole.

    Args:
        dataset_by_split: split name -> Dataset with images uint8 (N, H, W, C). All have the same classes.
        out: the folder to write into; made if it is missing.
        chunk_mb: the most that a shard may take, in megabytes of 10**6 bytes.

    Returns:
        The index, with the count, size and SHA-256 of each shard.

    Raises:
        UserError: a folder that holds packed data already, nothing to pack, pictures of another type, or `chunk_mb`
            too small for one picture.
    """
    for split, dataset in dataset_by_split.items():
        _check_split(split, dataset)
    sources = {split: of_dataset(dataset) for split, dataset in dataset_by_split.items()}
    return write_sources(sources, out, chunk_mb)


def write_sources(
    sources: Mapping[str, Source],
    out: str | os.PathLike,
    chunk_mb: float = CHUNK_MB,
    size: int | None = None,
    depth: int | None = None,
    channels: int | None = None,
) -> dict[str, Any]:
    """Pack splits picture by picture, in constant memory. Every picture is decoded once, to see that it can be.

    JPEG, PNG and WebP files of 8 bits are kept as they are, everything else and what is resized becomes a lossless
    WebP, or with other channels than 1 and 3 an array as of a .npy file, so that what is read from the packed folder
    equals what is read from the source.

    Args:
        sources: split name -> its pictures.
        out, chunk_mb: as of `write`.
        size: side of the square that every picture is brought to; None leaves them as they are.
        depth, channels: of the pictures in files: see `mizoo.data.pictures.read`.

    Returns:
        The index, as of `write`.

    Raises:
        UserError: as of `write`; for pictures that cannot be read, the first ten by name, or that differ in channels:
            then there is no index.

    Warns:
        UserWarning: for deep files that come out almost black.
    """
    out = files.user_path(out)
    if not features.check("webp"):
        raise UserError("Packing needs a Pillow with WebP, as its wheels have: `pip install --upgrade pillow`.")
    if (out / INDEX).exists():
        raise UserError(f"{out} holds packed data already. Choose another folder, or remove that one first.")
    if not sources:
        raise UserError("There is nothing to pack: pass at least one split.")
    first = next(iter(sources.values()))
    index: dict[str, Any] = {"format": FORMAT, "name": first.name, "classes": list(first.classes), "splits": {}}
    for split, source in sources.items():
        index["splits"][split] = _Writer(out, split, int(chunk_mb * 1e6)).write(source, size, depth, channels)
    files.write_json(out / INDEX, index)
    return index


@dataclass(frozen=True)
class _Encoded:
    """A picture as it is packed: the bytes, and (H, W, C) of what they hold."""

    content: bytes
    shape: tuple[int, ...]
    label: int | None


def _encode(
    item: Item, size: int | None, depth: int | None, channels: int | None, notes: Notes
) -> _Encoded | UserError:
    """The bytes that an item is packed as, or why there are none."""
    try:
        loaded, label = item.load()
        if isinstance(loaded, np.ndarray):
            return _Encoded(_lossless(loaded), loaded.shape, label)
        if isinstance(loaded, Path):
            picture = pictures.read(loaded, depth, notes=notes, channels=channels)
        else:
            picture = pictures.decode(loaded, item.name, depth, notes=notes, channels=channels)
    except UserError as error:
        return error
    if size is not None:
        picture = pictures.square(picture, size)
    elif isinstance(loaded, bytes) and channels != 1 and _is_kept(loaded):
        return _Encoded(loaded, picture.shape, label)
    return _Encoded(_lossless(picture), picture.shape, label)


def _is_kept(content: bytes) -> bool:
    with Image.open(io.BytesIO(content), formats=pictures.FORMATS) as image:
        return image.format in _KEPT_FORMATS and image.mode in _KEPT_MODES and not depths.is_deep_colour(image)


def _lossless(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    if picture.shape[2] not in COLOURS:
        np.save(stream, picture)
        return stream.getvalue()
    rgb = np.broadcast_to(picture, (*picture.shape[:2], 3))  # WebP has no grey; equal channels cost it nothing
    if max(rgb.shape) > _WEBP_SIDE:
        Image.fromarray(np.ascontiguousarray(rgb)).save(stream, "PNG")
        return stream.getvalue()
    # Of its methods the second is the smallest for small photographs, and three times as fast as the usual one.
    Image.fromarray(np.ascontiguousarray(rgb)).save(stream, "WEBP", lossless=True, quality=50, method=2)
    return stream.getvalue()


class _Writer:
    """Writes one split as shards of at most `limit` bytes."""

    def __init__(self, out: Path, split: str, limit: int) -> None:
        self.out, self.split, self.limit = out, split, limit
        self.shards: list[dict[str, Any]] = []
        self.labels: list[int] = []
        self.sizes: set[tuple[int, ...]] = set()
        self.problems: list[str] = []

    def write(self, source: Source, size: int | None, depth: int | None, channels: int | None) -> dict[str, Any]:
        """Pack the pictures; what the index says of them."""
        notes: Notes = []
        encode = functools.partial(_encode, size=size, depth=depth, channels=channels, notes=notes)
        for left in self.out.glob(f"{self.split}-[0-9][0-9][0-9][0-9][0-9].array_record"):
            left.unlink()  # of a packing that was interrupted
        with bar(f"packing {self.split}", source.total, unit="pictures") as advance:
            encoded = self._whole(in_order(encode, source.items), advance)
            ahead = next(encoded, None)
            while ahead is not None:
                ahead = self._write_shard(ahead, encoded)
        if self.problems:
            raise self._refusal(source.total)
        if notes:
            warnings.warn(pictures.summary(notes, source.total), UserWarning, stacklevel=4)
        self._check_channels(source.name)
        shapes = {shape[:2] for shape in self.sizes}
        return {
            "count": sum(shard["count"] for shard in self.shards),
            "size": list(shapes.pop()) if len(shapes) == 1 else None,
            "channels": max((shape[2] for shape in self.sizes), default=3),
            "labels": self._write_labels(),
            "shards": self.shards,
        }

    def _whole(self, encoded: Iterator[_Encoded | UserError], advance: Callable[[int], Any]) -> Iterator[_Encoded]:
        """The pictures that could be read, as long as all could; the others are noted."""
        for each in encoded:
            advance(1)
            if isinstance(each, UserError):
                self.problems.append(str(each))
            elif not self.problems:
                yield each

    def _write_shard(self, first: _Encoded, rest: Iterator[_Encoded]) -> _Encoded | None:
        """Write the next shard, and give the picture that begins the one after it."""
        from array_record.python.array_record_module import ArrayRecordWriter

        if len(first.content) + _EACH + _SHARD > self.limit:
            raise UserError(
                f"One picture of {first.shape[1]}x{first.shape[0]} takes {len(first.content):,} bytes and more, and a "
                f"shard has {self.limit:,}: raise `chunk_mb` (--chunk-mb)."
            )
        path = self.out / f"{self.split}-{len(self.shards):05d}.array_record"
        count, size, ahead = 0, _SHARD, first
        with files.atomic(path) as temporary:
            with contextlib.closing(ArrayRecordWriter(str(temporary), _OPTIONS)) as writer:
                while ahead is not None and size + len(ahead.content) + _EACH <= self.limit:
                    writer.write(ahead.content)
                    self._note(ahead)
                    count, size = count + 1, size + len(ahead.content) + _EACH
                    ahead = next(rest, None)
        self.shards.append({"file": path.name, "count": count, **files.facts(path)})
        return ahead

    def _note(self, picture: _Encoded) -> None:
        self.sizes.add(picture.shape)
        if picture.label is not None:
            self.labels.append(picture.label)

    def _write_labels(self) -> dict[str, Any] | None:
        if not self.labels:
            return None
        path = self.out / f"{self.split}-labels.npy"
        with files.atomic(path) as temporary:
            np.save(temporary, np.array(self.labels, np.int64))
        return {"file": path.name, **files.facts(path)}

    def _check_channels(self, name: str) -> None:
        counts = sorted({shape[2] for shape in self.sizes})
        if len(counts) > 1 and counts != [1, 3]:
            raise UserError(
                f"The pictures of {name} differ in channels: {', '.join(map(str, counts))}. Say how many are wanted, "
                "`channels` (--channels), which names the files that have others."
            )

    def _refusal(self, count: int) -> UserError:
        listed = "\n".join(f"  {problem}" for problem in self.problems[:_LISTED])
        more = f"\n  and {len(self.problems) - _LISTED} more" if len(self.problems) > _LISTED else ""
        return UserError(f"{len(self.problems)} of {count} pictures cannot be read. Repair or remove:\n{listed}{more}")


def of_dataset(dataset: Dataset) -> Source:
    """A split that is in memory, to pack."""
    labels = dataset.labels

    def load(index: int) -> tuple[np.ndarray, int | None]:
        """A picture and its label."""
        return dataset.images[index], None if labels is None else int(labels[index])

    count = len(dataset.images)
    items = (Item(f"picture {index}", functools.partial(load, index)) for index in range(count))
    return Source(dataset.name, dataset.classes, count, items)


def _check_split(split: str, dataset: Dataset) -> None:
    images = dataset.images
    if not split.isidentifier():
        raise UserError(f"The name of a split is a word, such as 'train'. Received: {split!r}")
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        raise UserError(
            f"Pictures to pack are uint8 (N, H, W, C). Received: {images.dtype} {images.shape} in split {split!r}"
        )
