"""Pictures of any number of channels: from TIFF files and NumPy arrays, and brought to the number that is wanted."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from mizoo.data import depth as depths
from mizoo.errors import UserError, not_installed

ARRAYS = frozenset((".npy",))
"""Suffixes of files that hold a picture as an array of NumPy; in a folder they count by their shape."""
_ORIENTATION, _PHOTOMETRIC, _BITS_PER_SAMPLE, _PLANES = 274, 262, 258, 284  # tags of TIFF
_BEGINNINGS = {b"\x93NUMPY": "array", b"II*\0": "tiff", b"MM\0*": "tiff", b"II+\0": "tiff", b"MM\0+": "tiff"}
COLOURS = (None, 1, 3)
"""Numbers of channels that ordinary files are brought to: all are read as RGB, or turned to grey."""


class Bands(NamedTuple):
    """A file that was opened and not read yet.

    Attributes:
        shape: of its array as it is stored, (H, W), (H, W, C) or (C, H, W), without axes of length 1.
        read: its values, an array of so many, turned upright.
        white_is_zero: whether grey values count from white.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    white_is_zero: bool = False


def opened(file: Path | bytes) -> BinaryIO:
    """A stream of a file, or of its content."""
    return open(file, "rb") if isinstance(file, Path) else io.BytesIO(file)


def format_of(file: Path | bytes) -> str | None:
    """What a file, or its content, begins as: "array" (.npy), "tiff", or None for anything else."""
    with opened(file) as stream:
        beginning = stream.read(6)
    return next((name for start, name in _BEGINNINGS.items() if beginning.startswith(start)), None)


def is_picture(path: Path, channels: int | None) -> bool:
    """Whether a .npy file may hold a picture: three axes, or two where it has one channel; its content is not read."""
    try:
        shape = _array(path).shape
    except Exception:  # damaged, of another format, or unreadable: no picture
        return False
    rank = len(_without_ones(shape))
    return rank == 3 or (rank == 2 and (channels == 1 or (len(shape) == 3 and 1 in (shape[0], shape[-1]))))


def open_array(file: Path | bytes) -> Bands:
    """A .npy file, or the content of one.

    Raises:
        UserError: for Python objects in it.
        ValueError, OSError: for a damaged file.
    """
    values = _array(file)
    return Bands(_without_ones(values.shape), lambda: np.array(values).reshape(_without_ones(values.shape)))


def _array(file: Path | bytes) -> np.ndarray:
    """The array of a .npy file, which is not read yet; errors as of `open_array`."""
    if isinstance(file, bytes):
        values = np.load(io.BytesIO(file), allow_pickle=False)
    else:
        values = np.load(file, mmap_mode="r", allow_pickle=False)
    if not isinstance(values, np.ndarray):
        raise UserError("it holds several arrays: save one picture a file, with `numpy.save`.")
    return values


def is_scrambled(image: Any) -> bool:
    """Whether an opened file, not yet decoded, is a TIFF of which Pillow would take values of 16 bits for 8."""
    tags = getattr(image, "tag_v2", None) or {}
    by_planes = tags.get(_PLANES) == 2 and len(image.getbands()) > 1 and max(tags.get(_BITS_PER_SAMPLE, (8,))) > 8
    return by_planes and any(tile[0] == "raw" for tile in image.tile)  # what is compressed goes through libtiff


def unscrambled(source: Path | bytes, image: Image.Image, depth: int | None) -> tuple[Image.Image, str | None]:
    """The first page of a file of `is_scrambled`, in its mode and upright, and a note.

    Raises:
        UserError: if tifffile is not installed, and as of `eight_bits`.
    """
    with _tifffile().TiffFile(_named(source)) as file:
        page = file.pages.first
        stored, axes, orientation = page.asarray(), page.axes, page.tags.valueof(_ORIENTATION, 1)
    upright = _upright(stored, orientation, *map(axes.index, "YX"))
    count = len(image.getbands())
    values, note = eight_bits(np.moveaxis(upright, axes.index("S"), -1)[..., :count], count, depth)
    return Image.frombytes(image.mode, values.shape[1::-1], values.tobytes()), note


def open_tiff(source: Path | bytes, channels: int | None = None) -> Bands:
    """The first series of a TIFF, whose channels are samples of a pixel, planes or pages.

    Pages of one channel that were written one by one, each a series of its own, are channels too, unless colours are
    wanted: of several frames those are in the first.

    Args:
        source: the file, or its content.
        channels: those that are wanted, or None.

    Raises:
        UserError: if tifffile is not installed, or the file is no TIFF that it reads.
    """
    tifffile = _tifffile()
    with tifffile.TiffFile(_named(source)) as file:
        series = file.series[0]
        shape, axes, samples = tuple(series.shape), series.axes, series.axes.find("S")
        tags = file.pages.first.tags
        orientation, photometric = tags.valueof(_ORIENTATION, 1), tags.valueof(_PHOTOMETRIC)
        kinds = {(each.shape, each.dtype) for each in file.series}
        pages = len(file.series)
        stacked = channels not in (1, 3) and pages > 1 and len(kinds) == 1 and len(shape) == 2
    which: dict[str, Any] = {"key": range(pages)} if stacked else {"series": 0}

    def read() -> np.ndarray:
        """The values, the samples of a pixel behind its position."""
        try:
            values = tifffile.imread(_named(source), **which)
        except ValueError as error:
            if "imagecodecs" in str(error):
                raise UserError(
                    f"its compression is one that tifffile reads with imagecodecs, which is not installed: {error}. "
                    "`pip install imagecodecs`."
                ) from error
            raise
        if "Y" in axes and "X" in axes:
            values = _upright(values, orientation, *(axes.index(axis) + stacked for axis in "YX"))
        if 0 <= samples < 2 and values.ndim == 3:
            values = np.moveaxis(values, samples, -1)
        return values.reshape(_without_ones(values.shape))

    return Bands((pages, *shape) if stacked else _without_ones(shape), read, photometric == 0)


def _tifffile() -> Any:
    """The package, or a `UserError` that says how to install it."""
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise not_installed(error) or error from None
    return tifffile


def _named(source: Path | bytes) -> Any:
    """A file by its path, beside which tifffile finds further parts, or its content as a stream."""
    return source if isinstance(source, Path) else io.BytesIO(source)


def _upright(values: np.ndarray, orientation: int, rows: int, columns: int) -> np.ndarray:
    """Values turned by the tag of a TIFF, given the axes of the rows and the columns."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(rows, columns)
    if orientation in (2, 3, 6, 7):
        values = np.flip(values, columns)
    if orientation in (3, 4, 7, 8):
        values = np.flip(values, rows)
    return values


def pixels(bands: Bands) -> tuple[int, int]:
    """Pixels of a picture, and values of all its channels.

    Raises:
        UserError: for an array that is no picture.
    """
    if len(bands.shape) not in (2, 3) or 0 in bands.shape:
        raise UserError(f"it holds an array of shape {bands.shape}, and a picture is (H, W), (H, W, C) or (C, H, W).")
    values = int(np.prod(bands.shape))
    fewest = min(bands.shape[0], bands.shape[-1]) if len(bands.shape) == 3 else 1
    return values // fewest, values


def eight_bits(
    values: np.ndarray, channels: int | None, depth: int | None, white_is_zero: bool = False
) -> tuple[np.ndarray, str | None]:
    """Values as they were stored -> the picture, and what the user should know about its range.

    Args:
        values: (H, W), (H, W, C) or (C, H, W).
        channels: those that are wanted; None takes what the file has: the shorter of the first and the last axis.
        depth: as of `mizoo.data.pictures.read`.
        white_is_zero: whether grey values count from white; those of several channels are taken as they are.

    Returns:
        uint8 (H, W, C), and a note or None.

    Raises:
        UserError: for another number of channels, and values outside the range.
    """
    if values.dtype.kind not in "iuf":
        raise UserError(f"its values are {values.dtype}: a picture holds whole numbers or floats.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UserError("it holds NaN or infinity: fill these pixels first, for example by 0.")
    placed = _channels_last(values, channels)
    inverted = white_is_zero and placed.shape[-1] == 1
    if placed.dtype == np.uint8:
        return np.ascontiguousarray(255 - placed if inverted else placed), None
    return depths.eight_bits(placed, depth, None, inverted)


def _channels_last(values: np.ndarray, channels: int | None) -> np.ndarray:
    """(H, W, C) of an array whose channels come last or first, or that has one."""
    if values.ndim == 2:
        values = values[..., None]
    elif channels is None:
        channels = min(values.shape[0], values.shape[-1])
    if channels in (None, values.shape[-1]):
        return values
    if values.shape[0] == channels:
        return np.moveaxis(values, 0, -1)
    if channels in (1, 3) and values.shape[-1] in (1, 3):
        return values
    if channels in (1, 3) and values.shape[0] == 3:
        return np.moveaxis(values, 0, -1)
    raise UserError(
        f"it holds an array of shape {values.shape}, and {channels} channels are wanted, as its first or its last axis."
    )


def of_image(image: Image.Image, channels: int) -> np.ndarray:
    """The bands of a decoded file of 8 bits, (H, W, C), as they are stored.

    Raises:
        UserError: for another number of them.
    """
    if (count := len(image.getbands())) != channels or image.mode.startswith(("I", "F", "P", "1")):
        raise UserError(
            f"it has {count} channel{'s' if count > 1 else ''} (Pillow's mode {image.mode}), and {channels} are wanted."
        )
    values = np.array(image)
    return values if values.ndim == 3 else values[..., None]


def with_channels(images: np.ndarray, channels: int | None, what: str) -> np.ndarray:
    """Pictures brought to a number of channels: grey from RGB (ITU-R 601-2), or three equal ones of grey.

    Args:
        images: uint8 (..., H, W, C).
        channels: those that are wanted; None leaves them.
        what: what the message calls the pictures.

    Raises:
        UserError: for any other pair of numbers.
    """
    have = images.shape[-1]
    if channels in (None, have):
        return images
    if have == 1 and channels == 3:
        return np.repeat(images, 3, axis=-1)
    if have == 3 and channels == 1:
        return grey(images)
    raise UserError(
        f"{what} has pictures of {have} channels, and {channels} are wanted: the encoder and its data have the same "
        "number (`encoder.channels` of a recipe). Leave channels out, or choose another encoder."
    )


def grey(images: np.ndarray) -> np.ndarray:
    """uint8 (..., H, W, 1) of RGB (..., H, W, 3), as Pillow's mode L, which rounds in the same way."""
    rows = images.reshape(-1, *images.shape[-2:])
    return np.array(Image.fromarray(rows).convert("L")).reshape(*images.shape[:-1], 1)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without axes of length 1 in front of or behind the two of the picture, as microscopes write them."""
    kept: Any = [size for size in shape if size != 1]
    return tuple(kept) if len(kept) >= 2 else tuple(shape)
