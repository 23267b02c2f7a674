"""Data packed by version 0.1.0: pictures side by side in mosaics, each a lossless WebP. They are still read."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from mizoo._tools import files
from mizoo.data.dataset import Dataset
from mizoo.errors import UserError

FORMAT = "mizoo packed pictures, 1"


def read(path: Path, index: dict[str, Any], split: str) -> Dataset:
    """Read one split. Every chunk is checked against its hash before it is opened.

    Args:
        path: the folder.
        index: what its index.json holds.
        split: one of its splits.

    Raises:
        UserError: naming a chunk that is missing or damaged.
    """
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


def _read_chunk(path: Path, chunk: dict[str, Any]) -> dict[str, np.ndarray]:
    with np.load(files.checked(path, chunk, "chunk"), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
