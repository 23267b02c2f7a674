"""Data sets packed into a few files without loss, for machines that have neither TFDS nor TensorFlow.

Pictures are laid side by side in mosaics, each a lossless WebP. On CIFAR-10 this takes 98 MB, where a PNG for each
picture takes 136 MB, a WebP for each 106 MB, and prediction from the neighbours with LZMA 99 MB at twice the time.
"""

from __future__ import annotations

import io
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mizoo._tools import files
from mizoo._tools.progress import bar
from mizoo.data.dataset import Dataset
from mizoo.errors import UserError

_INDEX = "index.json"
_FORMAT = "mizoo packed pictures, 1"
_SIDE = 10  # pictures along each side of a mosaic; larger ones pack CIFAR-10 worse, as WebP adapts to each mosaic
_MAX_PIXELS = 16383  # along each side: what WebP can hold
_MAX_RAW_BYTES = 48_000_000  # of a mosaic, below the size at which Pillow suspects a decompression bomb


def write(dataset_by_split: Mapping[str, Dataset], out: str | os.PathLike, chunk_mb: float = 40) -> dict[str, Any]:
    """Pack the splits of a data set into chunk files and an index.

    Writes `<split>-00000.npz`, ... one by one, each complete or absent, and `index.json` last: a folder with an index
    is whole.

    Args:
        dataset_by_split: split name -> Dataset with images uint8 (N, H, W, C), C = 1 or 3. All have the same classes.
        out: the folder to write into; made if it is missing.
        chunk_mb: the most that a chunk may take, in megabytes of 10**6 bytes.

    Returns:
        The index, with the count, size and SHA-256 of each chunk.

    Raises:
        UserError: a folder that holds packed data already, nothing to pack, pictures of another type, or `chunk_mb`
            too small for one picture.
    """
    from PIL import features

    out = files.user_path(out)
    if not features.check("webp"):
        raise UserError("Packing needs a Pillow with WebP, as its wheels have: `pip install --upgrade pillow`.")
    if (out / _INDEX).exists():
        raise UserError(f"{out} holds packed data already. Choose another folder, or remove that one first.")
    if not dataset_by_split:
        raise UserError("There is nothing to pack: pass at least one split.")
    for split, dataset in dataset_by_split.items():
        _check_split(split, dataset)
    limit = int(chunk_mb * 1e6)
    first = next(iter(dataset_by_split.values()))
    index: dict[str, Any] = {"format": _FORMAT, "name": first.name, "classes": list(first.classes), "splits": {}}
    for split, dataset in dataset_by_split.items():
        columns, rows = _grid(dataset.images.shape[1:], limit)
        index["splits"][split] = {
            "count": len(dataset.images),
            "shape": list(dataset.images.shape[1:]),
            "labels": dataset.labels is not None,
            "mosaic": [rows, columns],
            "chunks": _write_split(split, dataset, out, limit, columns, rows),
        }
    files.write_json(out / _INDEX, index)
    return index


def read(path: str | os.PathLike, split: str) -> Dataset:
    """Read one split from a folder that `write` made. Every chunk is checked against its hash before it is opened.

    Args:
        path: the folder.
        split: "train", "test" or whatever was packed.

    Returns:
        The Dataset, equal to the one that was packed.

    Raises:
        UserError: a split that is not there, or an index or chunk that is missing or damaged, by name.
    """
    path = files.user_path(path)
    index = _read_index(path)
    if split not in index["splits"]:
        raise UserError(f"{path} has the splits {', '.join(index['splits'])}. Received: split={split!r}")
    facts = index["splits"][split]
    images = np.empty((facts["count"], *facts["shape"]), np.uint8)
    labels = np.empty(facts["count"], np.int64) if facts["labels"] else None
    done = 0
    for chunk in facts["chunks"]:
        arrays = _read_chunk(path, chunk)
        offsets = np.concatenate([[0], np.cumsum(arrays["sizes"])])
        stop = done + chunk["count"]
        if labels is not None:
            labels[done:stop] = arrays["labels"]
        for start, end in itertools.pairwise(offsets):
            block = images[done : min(done + facts["mosaic"][0] * facts["mosaic"][1], stop)]
            block[:] = _decode(arrays["mosaics"][start:end].tobytes(), block.shape, facts["mosaic"][1])
            done += len(block)
    return Dataset(index["name"], images, labels, tuple(index["classes"]))


def splits(path: str | os.PathLike) -> tuple[str, ...]:
    """The splits in a folder that `write` made; errors as of `read`."""
    return tuple(_read_index(files.user_path(path))["splits"])


def is_packed(path: str | os.PathLike) -> bool:
    """Whether a folder was written by `write`; one with a damaged index counts, so that `read` names the damage."""
    index = files.user_path(path) / _INDEX
    if not index.is_file():
        return False
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except ValueError:
        return any(index.parent.glob("*-[0-9][0-9][0-9][0-9][0-9].npz"))
    return isinstance(content, dict) and str(content.get("format", "")).startswith("mizoo packed pictures")


def _check_split(split: str, dataset: Dataset) -> None:
    images = dataset.images
    if not split.isidentifier():
        raise UserError(f"The name of a split is a word, such as 'train'. Received: {split!r}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise UserError(
            f"Pictures to pack are uint8 (N, H, W, 1 or 3). Received: {images.dtype} {images.shape} in split {split!r}"
        )
    if dataset.labels is not None and len(dataset.labels) != len(images):
        raise UserError(f"Split {split!r} has {len(images)} pictures and {len(dataset.labels)} labels.")


def _grid(shape: tuple[int, ...], limit: int) -> tuple[int, int]:
    """Columns and rows of a mosaic that WebP can hold and that fits into a chunk even if nothing is gained."""
    height, width, channels = shape
    most = int(min(0.9 * limit, _MAX_RAW_BYTES)) // (height * width * channels)
    if most < 1 or max(height, width) > _MAX_PIXELS:
        raise UserError(f"A picture of {width}x{height} does not fit into {limit / 1e6:g} MB: raise `chunk_mb`.")
    columns = min(_SIDE, most, _MAX_PIXELS // width)
    return columns, min(_SIDE, most // columns, _MAX_PIXELS // height)


def _write_split(split: str, dataset: Dataset, out: Path, limit: int, columns: int, rows: int) -> list[dict[str, Any]]:
    per_mosaic = columns * rows
    total = -(-len(dataset.images) // per_mosaic)
    mosaics = _encode_all(dataset.images, columns, per_mosaic)
    chunks: list[dict[str, Any]] = []
    waiting: list[bytes] = []
    first = size = 0  # first picture and bytes of the chunk that is being filled

    def flush() -> None:
        """Write what was gathered as the next chunk."""
        nonlocal first, size
        stop = min(first + len(waiting) * per_mosaic, len(dataset.images))
        labels = None if dataset.labels is None else dataset.labels[first:stop]
        chunks.append(_write_chunk(out / f"{split}-{len(chunks):05d}.npz", waiting, labels, stop - first))
        waiting.clear()
        first, size = stop, 0

    with bar(f"packing {split}", total) as advance:
        for mosaic in mosaics:
            needed = len(mosaic) + 8 * per_mosaic + 8  # with its labels and its size
            if waiting and size + needed > limit - 4096:  # the headers of the arrays
                flush()
            waiting.append(mosaic)
            size += needed
            advance(1)
    flush()
    return chunks


def _encode_all(images: np.ndarray, columns: int, per_mosaic: int) -> Iterator[bytes]:
    """Mosaics in order. The encoder runs outside Python's lock, so threads use all cores."""
    workers = os.cpu_count() or 1
    starts = range(0, len(images), per_mosaic)
    with ThreadPoolExecutor(workers) as pool:
        for batch in range(0, len(starts), 8 * workers):
            blocks = [images[start : start + per_mosaic] for start in starts[batch : batch + 8 * workers]]
            yield from pool.map(lambda block: _encode(block, columns), blocks)


def _encode(images: np.ndarray, columns: int) -> bytes:
    from PIL import Image

    count, height, width, channels = images.shape
    rows = -(-count // columns)
    tiles = np.zeros((rows * columns, height, width, channels), np.uint8)
    tiles[:count] = images
    mosaic = tiles.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    mosaic = mosaic.reshape(rows * height, columns * width, channels)
    mosaic = np.broadcast_to(mosaic, (*mosaic.shape[:2], 3))  # WebP has no grey; equal channels cost it nothing
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mosaic)).save(stream, "WEBP", lossless=True, quality=50, method=4)
    return stream.getvalue()


def _decode(mosaic: bytes, shape: tuple[int, ...], columns: int) -> np.ndarray:
    from PIL import Image

    count, height, width, channels = shape
    rows = -(-count // columns)
    with Image.open(io.BytesIO(mosaic), formats=("WEBP",)) as image:
        if image.size != (columns * width, rows * height):  # before anything is decoded
            raise UserError(
                f"The packed data hold a mosaic of {image.width} x {image.height} where the index says "
                f"{columns * width} x {rows * height}. Pack the data again with `mizoo data pack`."
            )
        pixels = np.asarray(image.convert("RGB"))[..., :channels]
    tiles = pixels.reshape(rows, height, columns, width, channels).swapaxes(1, 2)
    return tiles.reshape(rows * columns, height, width, channels)[:count]


def _write_chunk(path: Path, mosaics: list[bytes], labels: np.ndarray | None, count: int) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "mosaics": np.frombuffer(b"".join(mosaics), np.uint8),
        "sizes": np.array([len(mosaic) for mosaic in mosaics], np.int64),
    }
    if labels is not None:
        arrays["labels"] = labels.astype(np.int64)
    with files.atomic(path) as temporary:
        with open(temporary, "wb") as stream:
            np.savez(stream, **arrays)
    return {"file": path.name, "count": count, "bytes": path.stat().st_size, "sha256": files.sha256(path)}


def _read_index(path: Path) -> dict[str, Any]:
    remedy = "Pack the data again with `mizoo data pack`, or copy the folder again."
    try:
        index = json.loads((path / _INDEX).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} holds no packed data: {error.strerror}: {path / _INDEX}") from error
    except ValueError as error:
        raise UserError(f"The index of the packed data is damaged: {path / _INDEX}. {remedy}") from error
    if not isinstance(index, dict) or index.get("format") != _FORMAT:
        raise UserError(f"{path / _INDEX} is not of the format {_FORMAT!r}. {remedy}")
    return index


def _read_chunk(path: Path, chunk: dict[str, Any]) -> dict[str, np.ndarray]:
    file = path / Path(chunk["file"]).name
    remedy = "Copy it again from where it was packed, or pack the data again with `mizoo data pack`."
    if not file.is_file():
        raise UserError(f"A chunk of the packed data is missing: {file}. {remedy}")
    actual = files.sha256(file)
    if actual != chunk["sha256"]:
        raise UserError(
            f"A chunk of the packed data is damaged and was not opened: {file} ({file.stat().st_size:,} bytes of "
            f"{chunk['bytes']:,}; SHA-256 {actual}, expected {chunk['sha256']}). {remedy}"
        )
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
