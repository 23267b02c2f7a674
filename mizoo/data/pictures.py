"""Pictures, from files and arrays to what an encoder takes: RGB values in 0..255. Needs NumPy and Pillow only."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mizoo.errors import UserError

SUFFIXES = frozenset(
    (".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pcx", ".pgm", ".png", ".pnm")
    + (".ppm", ".tga", ".tif", ".tiff", ".webp")
)
"""Suffixes, in lower case, by which a picture is recognised in a folder."""

_TOLERANCE = 0.5  # rounding, and no more: other scalings of pixels differ by far more than that


def check_images(images: Any, shape: Sequence[int | None], argument: str = "images", cast: bool = True) -> np.ndarray:
    """Check a batch of decoded pictures and cast it to float32.

    Args:
        images: array (B, H, W, C) of real numbers in 0..255, or anything `numpy.asarray` takes.
        shape: (H, W, C) that the encoder takes; None stands for any size.
        argument: what the error messages call `images`.
        cast: False leaves the type as it is, for a caller that casts batch by batch.

    Returns:
        float32 array (B, H, W, C). The data are not copied if they are float32 already.

    Raises:
        UserError: wrong rank or shape, empty batch, a type that is no real number, NaN or infinity, values outside
            0..255. Floats that all lie within 0..1 give a `UserWarning`: they look scaled already.
    """
    try:
        array = np.asarray(images)
    except ValueError as error:
        raise UserError(
            f"`{argument}` must be one array (B, H, W, C): the pictures differ in size or are nested unevenly. "
            "Bring them to one size first, for example with `mizoo.data.pictures.square`."
        ) from error
    _check_type(array, argument)
    _check_shape(array, tuple(shape), argument)
    _check_values(array, argument)
    return array.astype(np.float32, copy=False) if cast else array


def _check_type(array: np.ndarray, argument: str) -> None:
    real = np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)
    if not real:
        raise UserError(
            f"`{argument}` must hold real numbers in 0..255. Received: dtype {array.dtype}. "
            "Pass decoded pictures as uint8 or float32 (to read files: `mizoo.data.pictures.read`)."
        )


def _check_shape(array: np.ndarray, shape: tuple[int | None, ...], argument: str) -> None:
    wanted = "(B, " + ", ".join("any" if size is None else str(size) for size in shape) + ")"

    def fits(sizes: tuple[int, ...]) -> bool:
        """Whether a picture has these sizes, None for any."""
        return len(sizes) == len(shape) and all(s in (None, size) for s, size in zip(shape, sizes, strict=True))

    if array.ndim == len(shape) + 1 and array.shape[0] == 0:
        raise UserError(f"`{argument}` holds no picture. Received: shape {array.shape}; needed: {wanted} with B >= 1.")
    if array.ndim == len(shape) + 1 and fits(array.shape[1:]):
        return
    remedy = "Resize pictures with `mizoo.data.pictures.square`."
    if fits(array.shape):
        remedy = "For one picture, add the batch axis: `images[None]`."
    elif array.ndim == 4 and fits((*array.shape[2:], array.shape[1])):
        remedy = "The channels come first: pass `numpy.moveaxis(images, 1, -1)`."
    elif array.ndim == 3 and shape[-1] == 3 and fits((*array.shape[1:], 3)):
        remedy = "Grey pictures: pass `numpy.repeat(images[..., None], 3, axis=-1)`."
    elif array.ndim == 4 and array.shape[-1] != shape[-1] and fits((*array.shape[1:3], shape[-1] or 0)):
        remedy = f"The number of channels must be {shape[-1]}, not {array.shape[-1]}."
    raise UserError(f"`{argument}` must have the shape {wanted}. Received: shape {array.shape}. {remedy}")


def _check_values(array: np.ndarray, argument: str) -> None:
    if array.dtype == np.uint8:
        return
    low, high = float(array.min()), float(array.max())  # NaN anywhere makes both NaN
    if not (np.isfinite(low) and np.isfinite(high)):
        where = np.argwhere(~np.isfinite(array).all(axis=tuple(range(1, array.ndim))))[:, 0]
        raise UserError(
            f"`{argument}` holds NaN or infinite values, in {len(where)} of {len(array)} pictures (the first is number "
            f"{where[0]}). Repair or leave out these pictures."
        )
    floats = np.issubdtype(array.dtype, np.floating)
    standardised = floats and low < -0.01 and high < 16
    if low < -_TOLERANCE or high > 255 + _TOLERANCE or standardised:
        raise UserError(
            f"`{argument}` must lie in 0..255, as decoded: the encoder scales them itself. Received: values from "
            f"{low:g} to {high:g}. Pass the pictures before any scaling (16-bit pictures: divide by 257), or clip "
            "what a resize has overshot: `numpy.clip(images, 0, 255)`."
        )
    if floats and 0 < high <= 1:
        warnings.warn(
            f"All values of `{argument}` lie within 0..1, but the encoder takes 0..255: the pictures would be almost "
            "black. If they were divided by 255, multiply them by 255 again.",
            UserWarning,
            stacklevel=4,
        )


def read(path: str | os.PathLike) -> np.ndarray:
    """Read a picture file of any mode as 8-bit RGB.

    The EXIF orientation is honoured, transparency is laid on white, 16-bit grey is scaled to 8 bits, and of several
    frames the first is taken. Colour profiles are not applied.

    Args:
        path: a file in a format that Pillow reads.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        UserError: naming the file, if it is missing, empty, truncated, no picture, or too large to be decoded safely.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError("is a folder, not a picture.")
        if path.stat().st_size == 0:
            raise UserError("the file is empty (0 bytes).")
        with Image.open(path) as image:
            image.load()
            return np.array(_rgb(_upright(image)))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file.") from error
    except PermissionError as error:
        raise UserError(f"{path}: no permission to read the file.") from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{path}: not a picture in a known format.") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: too many pixels to be decoded safely ({error}). Make it smaller first.") from error
    except Exception as error:  # decoders raise almost anything on a damaged file: SyntaxError, struct.error, ...
        raise UserError(f"{path}: damaged or truncated picture ({error}).") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata do not spoil the pixels: keep the picture as it was stored
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Grey values of 16-bit, 32-bit or float pictures as uint8, by the range that their type stands for."""
    low, high = float(values.min()), float(values.max())
    if np.issubdtype(values.dtype, np.floating):
        scale, top = (255.0, 1.0) if high <= 1 else (1.0, 255.0)
    else:
        scale, top = 255 / 65535, 65535.0
    if not (low >= 0 and high <= top):
        raise UserError(f"grey values from {low:g} to {high:g} have no known range: store it with 8 or 16 bits.")
    return np.rint(values.astype(np.float64) * scale).astype(np.uint8)


def square(image: np.ndarray, size: int) -> np.ndarray:
    """Centre square of a picture: the shorter side resized to `size`, the longer side cropped evenly.

    Resampled with Pillow's bicubic filter, whose support grows with the reduction (antialiasing); before a reduction
    of more than 6, the picture is averaged over whole blocks, which is faster and cannot be told apart.

    Args:
        image: uint8 array (H, W, 3) or (H, W).
        size: side of the result, in pixels.

    Returns:
        uint8 array (size, size, 3) or (size, size).

    Raises:
        UserError: if `size` is not positive or `image` is no such array.
    """
    if size < 1:
        raise UserError(f"`size` must be a positive number of pixels. Received: {size}")
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or 0 in array.shape:
        raise UserError(
            f"`image` must be a uint8 array (H, W, 3) or (H, W). Received: {array.dtype} array of shape {array.shape}"
        )
    height, width = array.shape[:2]
    if height == width == size:
        return array.copy()
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    resized = Image.fromarray(array).resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    return np.array(resized)


def prepare(path: str | os.PathLike, shape: Sequence[int]) -> np.ndarray:
    """Read a picture file as an encoder takes it: `read`, then `square`, then grey if there is one channel.

    Args:
        path: a picture file.
        shape: (size, size, channels) of the encoder, with 3 channels or 1.

    Returns:
        uint8 array of that shape.

    Raises:
        UserError: naming the file, if it cannot be read.
    """
    image = square(read(path), shape[0])
    if shape[-1] == 1:
        return np.array(Image.fromarray(image).convert("L"))[..., None]
    return image


def find(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    missing: list[tuple[Path, str]] | None = None,
    suffixes: frozenset[str] = SUFFIXES,
    what: str = "picture",
) -> list[Path]:
    """List picture files: in the order of `paths`, sorted within a folder or pattern, each file once.

    Args:
        paths: files, with any suffix; folders, searched recursively; glob patterns, `**` included. In folders and
            patterns only files with a suffix in `SUFFIXES` count, and in folders no hidden ones. A name that exists
            is never taken for a pattern.
        missing: list to which (path, reason) is appended for each argument that holds no picture, instead of raising,
            as long as another one does.
        suffixes: the suffixes, in lower case, that count instead.
        what: what messages call such a file.

    Returns:
        The files, as they were named.

    Raises:
        UserError: naming each argument that is not there or holds no picture.
    """
    arguments = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not arguments:
        raise UserError(f"No path was given. Pass {what} files, folders or patterns.")
    by_path: dict[str, Path] = {}
    problems: list[tuple[Path, str]] = []
    for argument in arguments:
        path = Path(argument).expanduser()
        before = len(problems)
        files = list(_expand(path, problems, suffixes))
        if not files and len(problems) == before:
            problems.append((path, f"no file with the suffix of a {what} (" + " ".join(sorted(suffixes)) + ")"))
        for file in files:
            by_path.setdefault(os.path.abspath(file), file)
    if problems and (missing is None or not by_path):
        listed = "\n".join(f"  {path}: {reason}" for path, reason in problems[:10])
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise UserError(f"No {what} was found at:\n{listed}{more}")
    if missing is not None:
        missing.extend(problems)
    return list(by_path.values())


def _expand(path: Path, problems: list[tuple[Path, str]], suffixes: frozenset[str]) -> Iterator[Path]:
    if path.is_dir():
        yield from _walk(path, problems, suffixes)
    elif path.exists():
        yield path
    elif not glob.has_magic(str(path)):
        problems.append((path, "no such file or folder"))
    else:
        for match in sorted(glob.glob(str(path), recursive=True)):
            if not os.path.isdir(match):
                if _has_suffix(os.path.basename(match), suffixes):
                    yield Path(match)
            elif "**" not in path.parts:  # `**` lists the files below by itself
                yield from _walk(Path(match), problems, suffixes)


def _walk(folder: Path, problems: list[tuple[Path, str]], suffixes: frozenset[str]) -> Iterator[Path]:
    seen: set[str] = set()

    def unreadable(error: OSError) -> None:
        """Record a folder that could not be read."""
        problems.append((Path(error.filename), error.strerror or "cannot be read"))

    files = []
    for root, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        if (real := os.path.realpath(root)) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(root, name) for name in names if _has_suffix(name, suffixes)]
    yield from sorted(files)


def _has_suffix(name: str, suffixes: frozenset[str]) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes
