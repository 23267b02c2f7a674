"""Pictures, from files and arrays to what an encoder takes: RGB values in 0..255. Needs NumPy and Pillow only."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from mizoo._tools.arrays import check_whole, to_numpy
from mizoo.data import bands, search
from mizoo.data import depth as depths
from mizoo.data.crops import Grid
from mizoo.data.resizing import fit
from mizoo.data.resizing import square as square
from mizoo.errors import UserError

SUFFIXES = frozenset(
    (".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pcx", ".pgm", ".png", ".pnm")
    + (".ppm", ".tga", ".tif", ".tiff", ".webp")
)
"""Suffixes, in lower case, by which a picture is recognised in a folder."""

# What Pillow imports anyway comes first, so that an ordinary file costs no search; formats that start another program
# (EPS starts Ghostscript) or that only a plug-in of the user's decodes are not among them.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000", "QOI", "SGI", "PCX", "TGA")
"""Formats of Pillow in which a file is opened, whatever its suffix: those that Pillow decodes by itself."""

MAX_PIXELS = 128_000_000
"""The most pixels that a picture may have, and that all threads together decode at a time: about 1 GB of memory."""

MAX_BYTES = 1 << 30
"""The largest picture file that is opened, in bytes."""

_UNEVEN = (
    "(B, H, W, C): the pictures differ in size or are nested unevenly. Bring them to one size first, for example with "
    "`mizoo.data.pictures.square`."
)
_STRIP = 1 << 22  # pixels that are converted at a time
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
        UserError: wrong rank or shape, empty batch, a type that is no real number, masked values, NaN or infinity,
            values outside 0..255, or an array that cannot be converted. Floats that are all below 16 give a
            `UserWarning`: they look scaled already.
    """
    array = to_numpy(images, argument, _UNEVEN)
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
    remedy = "Resize pictures with `mizoo.data.pictures.square`, or many with `mizoo.data.load(images, size=...)`."
    if fits(array.shape):
        remedy = "For one picture, add the batch axis: `images[None]`."
    elif array.ndim == 4 and fits((*array.shape[2:], array.shape[1])):
        remedy = "The channels come first: pass `numpy.moveaxis(images, 1, -1)`."
    elif array.ndim == 3 and shape[-1] == 3 and (fits((*array.shape[1:], 3)) or array.shape[-1] not in (1, 3, 4)):
        remedy = "Grey pictures: pass `numpy.repeat(images[..., None], 3, axis=-1)`."
    elif array.ndim == 3 and shape[-1] == 1:
        remedy = "Grey pictures: add the axis of channels, `images[..., None]`."
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
    standardised = floats and low < -0.01 and high < depths.DARK_FLOATS
    if low < -_TOLERANCE or high > 255 + _TOLERANCE or standardised:
        raise UserError(
            f"`{argument}` must lie in 0..255, as decoded: the encoder scales them itself. Received: values from "
            f"{low:g} to {high:g}. Pass the pictures before any scaling (16-bit pictures: divide by 257), or clip "
            "what a resize has overshot: `numpy.clip(images, 0, 255)`."
        )
    if floats and 0 < high < depths.DARK_FLOATS:
        warnings.warn(
            f"All values of `{argument}` lie within 0..{max(1, high):g}, but the encoder takes 0..255: the pictures "
            "would be almost black. If they were divided by 255, multiply them by 255 again.",
            UserWarning,
            stacklevel=4,
        )


def read(
    path: str | os.PathLike,
    depth: int | None = None,
    max_pixels: int | None = None,
    notes: list[tuple[Path, str]] | None = None,
    channels: int | None = None,
) -> np.ndarray:
    """Read a picture file of any mode as 8-bit RGB, or with other channels.

    The EXIF orientation is honoured, transparency is laid on white, 16-bit grey is scaled to 8 bits, and of several
    frames the first is taken. Colour profiles are not applied.

    With another number of channels than 1 and 3, they are read as they are stored: samples, planes or pages of a TIFF
    (which takes tifffile), the bands of another file, the last or the first axis of a .npy file. All are scaled to 8
    bits alike.

    Args:
        path: a file in one of `FORMATS`, whatever its suffix, or a .npy file.
        depth: how many bits the values of a deep (16-bit, 32-bit or float) grey file have, 8 to 32: 12 where a camera
            of 12 bits wrote 0..4095. By default what the tags of a TIFF say, otherwise 16. Ordinary files of 8 bits are
            read as ever.
        max_pixels: the most pixels that the picture may have; `MAX_PIXELS` if None.
        notes: list to which (path, what to know) is appended where a deep file comes out almost black, instead of
            warning.
        channels: 1 for grey; 3 for RGB; another number for a file that has as many. None is RGB, and of a .npy file,
            and of a TIFF that Pillow does not read, what it has.

    Returns:
        uint8 array (H, W, 3), or (H, W, channels).

    Raises:
        UserError: naming the file, if it is missing, empty, truncated, no picture, or too large to be decoded safely
            (`max_pixels`, `MAX_BYTES`, the memory); if its values do not fit into `depth` bits; or if it has other
            channels.

    Warns:
        UserWarning: naming the file, if the largest value of a deep file is far below full scale.
    """
    with _decoded(Path(path), path, depth, max_pixels, notes, channels) as array:
        return bands.with_channels(array, channels, f"{path}")


def decode(
    content: bytes,
    name: str | os.PathLike,
    depth: int | None = None,
    max_pixels: int | None = None,
    notes: list[tuple[Path, str]] | None = None,
    channels: int | None = None,
) -> np.ndarray:
    """The picture that the bytes of a file hold, as `read` gives it.

    Args:
        content: a file in one of `FORMATS`, or a .npy file.
        name: what errors and `notes` call it.
        depth, max_pixels, notes, channels: as of `read`.

    Returns:
        uint8 array (H, W, 3), or (H, W, channels).

    Raises:
        UserError: as of `read`.
    """
    with _decoded(content, name, depth, max_pixels, notes, channels) as array:
        return bands.with_channels(array, channels, f"{name}")


def summary(notes: Sequence[tuple[Path, str]], total: int) -> str:
    """The `notes` on several files as one message, which names the first."""
    path, note = notes[0]
    others = f" The same holds for {len(notes) - 1} more of {total} files." if len(notes) > 1 else ""
    return f"{path}: {note}{others}"


class _Budget:
    """Pixels that are being decoded, over all threads: what would exceed the limit waits for the others."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.pixels = 0

    @contextlib.contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Take a share, once there is room for it or nobody has one."""
        with self.changed:
            self.changed.wait_for(lambda: not self.pixels or self.pixels + pixels <= MAX_PIXELS)
            self.pixels += pixels
        try:
            yield
        finally:
            with self.changed:
                self.pixels -= pixels
                self.changed.notify_all()


_BUDGET = _Budget()


@contextlib.contextmanager
def _decoded(
    file: Path | bytes,
    path: str | os.PathLike,
    depth: int | None,
    max_pixels: int | None,
    notes: list[tuple[Path, str]] | None,
    channels: int | None,
) -> Iterator[np.ndarray]:
    """The pixels of `file`, called `path`, as of `read`; its share of the budget is held until the block ends."""
    if depth is not None and check_whole(depth, "depth", 8) > 32:
        raise UserError(f"`depth` is the bits of a grey value, 8 to 32. Received: depth={depth!r}")
    if channels is not None:
        check_whole(channels, "channels", 1)
    most = MAX_PIXELS if max_pixels is None else check_whole(max_pixels, "max_pixels", 1)
    with contextlib.ExitStack() as stack:
        try:
            array, note = _open(file, depth, most, stack, channels)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such file.") from error
        except PermissionError as error:
            raise UserError(f"{path}: no permission to read the file.") from error
        except Image.UnidentifiedImageError as error:
            raise UserError(f"{path}: not a picture in a known format ({', '.join(FORMATS)}).") from error
        except Image.DecompressionBombError as error:
            raise UserError(
                f"{path}: too many pixels to be decoded safely ({error}). Make it smaller first, or raise Pillow's own "
                "limit, PIL.Image.MAX_IMAGE_PIXELS."
            ) from error
        except MemoryError as error:
            raise UserError(f"{path}: the memory does not suffice to decode it. Make it smaller first.") from error
        except Exception as error:  # decoders raise almost anything on a damaged file: SyntaxError, struct.error, ...
            raise UserError(f"{path}: damaged or truncated picture ({error}).") from error
        if note and notes is not None:
            notes.append((Path(path), note))
        elif note:
            warnings.warn(f"{path}: {note}", UserWarning, stacklevel=4)
        yield array
        del array  # before the share of the budget is given back


def _open(
    file: Path | bytes, depth: int | None, most: int, stack: contextlib.ExitStack, channels: int | None
) -> tuple[np.ndarray, str | None]:
    """uint8 (H, W, 3 or C), and what the user should know; the share of the budget is entered into `stack`."""
    if isinstance(file, Path) and file.is_dir():
        raise UserError("is a folder, not a picture.")
    size = file.stat().st_size if isinstance(file, Path) else len(file)
    if size == 0:
        raise UserError("the file is empty (0 bytes).")
    if size > MAX_BYTES:
        raise UserError(
            f"the file has {size:,} bytes, more than the {MAX_BYTES:,} that are opened "
            "(`mizoo.data.pictures.MAX_BYTES`). Make it smaller first."
        )
    counted = channels not in bands.COLOURS
    kind = bands.format_of(file)
    if kind == "array" or (kind == "tiff" and (counted or not _is_picture(file))):
        return _open_bands(file, depth, most, stack, channels)
    # By its name Pillow would map an uncompressed TIFF into memory and, if it is to be turned, scramble its rows.
    with bands.opened(file) as stream, Image.open(stream, formats=FORMATS) as image:
        pixels = image.width * image.height
        if pixels > most:
            raise _too_many(f"{image.width} x {image.height}", most)
        stack.enter_context(_BUDGET.hold(pixels))
        if bands.is_scrambled(image):
            whole, note = bands.unscrambled(file, image, depth)
            return _pixels(whole), note
        deep_colour = depths.is_deep_colour(image)
        image.load()
        note = depths.check_deep_colour(image, depth) if deep_colour else None
        upright = _upright(image)
        if counted:
            return bands.of_image(upright, channels or 0), note
        if upright.mode.startswith("I") or upright.mode == "F":
            grey, note = depths.eight_bits(np.asarray(upright), depth, *depths.told(image))
            upright = Image.fromarray(grey)
        return _pixels(upright), note


def _open_bands(
    file: Path | bytes, depth: int | None, most: int, stack: contextlib.ExitStack, channels: int | None
) -> tuple[np.ndarray, str | None]:
    """The same of a .npy file, or of a TIFF with the channels that it has."""
    opened = bands.open_tiff(file, channels) if bands.format_of(file) == "tiff" else bands.open_array(file)
    pixels, values = bands.pixels(opened)
    held = max(pixels, values // 3)  # the limit is meant for the three values of RGB
    if held > most:
        raise _too_many(f"{values:,} values", most if held == pixels else 3 * most)
    stack.enter_context(_BUDGET.hold(held))
    return bands.eight_bits(opened.read(), channels, depth, opened.white_is_zero)


def _too_many(what: str, most: int) -> UserError:
    return UserError(
        f"too many pixels to be decoded safely: {what} are more than {most:,}. Make it smaller first, or leave it out. "
        "(`mizoo embed` and `mizoo search index` take a higher limit, --max-pixels; in Python it is `max_pixels`.)"
    )


def _upright(image: Image.Image) -> Image.Image:
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image  # `exif_transpose` would copy it
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata do not spoil the pixels: keep the picture as it was stored
        return image


def _pixels(image: Image.Image) -> np.ndarray:
    """uint8 (H, W, 3) of a decoded picture; of a large one in strips, as each conversion takes it once more."""
    rows = max(1, _STRIP // image.width)
    if image.height <= rows:
        return np.array(_rgb(image))
    out = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        out[top : top + rows] = np.asarray(_rgb(strip))
    return out


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def prepare(
    path: str | os.PathLike,
    shape: Sequence[int | None],
    depth: int | None = None,
    max_pixels: int | None = None,
    notes: list[tuple[Path, str]] | None = None,
    crops: Grid | None = None,
) -> np.ndarray:
    """Read a picture file as an encoder takes it: `read`, which makes it grey if there is one channel, then `fit`.

    Args:
        path: a picture file.
        shape: (height, width, channels) of the encoder; sizes that are free leave the picture as it is, and channels
            of None are those of `read`.
        depth, max_pixels, notes: as of `read`.
        crops: crops of that shape instead of one picture, for an encoder of one size.

    Returns:
        uint8 array of that shape; (crops, ...) with `crops`.

    Raises:
        UserError: naming the file, if it cannot be read, or has other channels.
    """
    height, width, channels = shape
    try:
        with _decoded(Path(path), path, depth, max_pixels, notes, channels) as decoded:
            bring = fit if crops is None else crops.cut
            decoded = bands.with_channels(decoded, channels, f"{path}")
            image = decoded if height is None or width is None else bring(decoded, (height, width))
            del decoded  # before its share of the budget is given back
    except MemoryError as error:
        raise UserError(f"{path}: the memory does not suffice to resize it. Make it smaller first.") from error
    return image


def find(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    missing: list[tuple[Path, str]] | None = None,
    passed_over: dict[str, int] | None = None,
    channels: int | None = None,
) -> list[Path]:
    """List picture files: in the order of `paths`, sorted within a folder or pattern, each file once.

    Args:
        paths: files, with any suffix; folders, searched recursively for files with a suffix in `SUFFIXES` that are not
            hidden, and for .npy files with the axes of a picture (three, or two where `channels` is 1); glob patterns,
            `**` included, which also give files of other suffixes that begin as a picture. A name that exists is never
            taken for a pattern, and a `~` in front is the home folder where no such name exists.
        missing: list to which (path, reason) is appended for each argument that holds no picture, instead of raising,
            as long as another one does.
        passed_over: dict to which the files of folders and patterns that were left out are added by suffix: how many.
        channels: those that the pictures are read with, as of `read`.

    Returns:
        The files, as they were named.

    Raises:
        UserError: naming each argument that is not there or holds no picture.
    """
    return search.find(paths, missing, passed_over, SUFFIXES, "picture", _recogniser(channels), bands.ARRAYS)


def stream(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    missing: list[tuple[Path, str]],
    passed_over: Counter[str],
    channels: int | None = None,
) -> Iterator[Path]:
    """The files of `find` one by one, in the same order, without a list of all of them."""
    return search.stream(paths, missing, passed_over, SUFFIXES, "picture", _recogniser(channels), bands.ARRAYS)


def _recogniser(channels: int | None) -> Callable[[Path], bool]:
    """Whether a file without the suffix of a picture holds one: an array by its shape, another by its beginning."""
    return lambda path: bands.is_picture(path, channels) if path.suffix.lower() in bands.ARRAYS else _is_picture(path)


def _is_picture(file: Path | bytes) -> bool:
    """Whether a file, or its content, begins as a picture in one of `FORMATS`."""
    try:
        with bands.opened(file) as stream, Image.open(stream, formats=FORMATS):
            return True
    except Exception:  # see `read`
        return False
