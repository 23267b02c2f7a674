"""What a folder of pictures holds: how many, how large, in which modes and classes, and which files are broken."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mizoo._tools.checks import check_real
from mizoo._tools.files import user_path
from mizoo._tools.progress import bar
from mizoo.data import bands, pictures, splits
from mizoo.data import depth as depths
from mizoo.data import folder as folders
from mizoo.errors import UserError

_CHUNK = 64  # files that are opened between two looks at the clock
_SAMPLED = 8  # every eighth row and column tells whether a picture is grey
_CHANNELS = 3  # of the encoders that are chosen: files with others are named
FULL = 16
"""The bits of deep pictures that fill their range."""


@dataclass(frozen=True)
class Survey:
    """What was found in a folder.

    Attributes:
        folder: the folder.
        split: the subfolder that holds the training pictures, "train", or "" where there is no `train` beside a `test`.
        count: picture files that training would read.
        checked: how many of them were opened and decoded.
        widths, heights: int (M,), of those that could be.
        modes: mode of Pillow ("RGB", "L", "I;16", ...), or type and format of what Pillow does not read ("uint16
            array", "float32 tiff") -> how many of them.
        grey: whether none of them has a colour.
        depth: the bits of deep pictures, grey ones and those that Pillow does not read; `FULL` also where more files
            have colours of 16 bits; None without deep pictures.
        broken: (path below `folder`, reason) of files that cannot be read as RGB or grey, or not with that depth.
        classes: class folder -> pictures in it; {} without class folders.
        passed_over: suffix -> files that are no pictures, or are in formats that are not read.
        seconds_per_picture: of one core, to open and decode one.
    """

    folder: Path
    split: str
    count: int
    checked: int
    widths: np.ndarray
    heights: np.ndarray
    modes: dict[str, int]
    grey: bool
    depth: int | None
    broken: tuple[tuple[str, str], ...]
    classes: dict[str, int]
    passed_over: dict[str, int]
    seconds_per_picture: float

    @property
    def usable(self) -> int:
        """Pictures without those that are known to be broken."""
        return self.count - len(self.broken)

    @property
    def short_side(self) -> float:
        """Median of the shorter side, in pixels."""
        return float(np.median(np.minimum(self.widths, self.heights)))

    @property
    def elongation(self) -> float:
        """Median of the longer side over the shorter one."""
        return float(np.median(np.maximum(self.widths, self.heights) / np.minimum(self.widths, self.heights)))


@dataclass(frozen=True)
class _Seen:
    """One file: its size and mode, whether it is grey or of deep colours, and the largest value of another deep one."""

    file: Path
    width: int
    height: int
    mode: str
    deepest: float | None
    deep_colour: bool
    grey: bool
    seconds: float


def survey(path: str | os.PathLike, seconds: float = 120.0, progress: bool = True) -> Survey:
    """Look at the training pictures of a folder, in a random order, until all are seen or the time is up.

    Args:
        path: a folder of pictures; where it has the subfolders `train` and `test`, `train` is looked at.
        seconds: time to spend on opening files; 0 for all of them, however long it takes.
        progress: show a bar.

    Raises:
        UserError: for no folder, no picture in it, or no file that can be read.
    """
    check_real(seconds, "seconds", minimum=0)
    folder = user_path(path)
    if not folder.is_dir():
        raise UserError(f"Pictures of your own are a folder. Received: {folder}, which is none.")
    split = "train" if len(splits(folder)) > 1 else ""
    passed_over: dict[str, int] = {}
    files = pictures.find(folder / split, passed_over=passed_over)
    names = folders.classes(folder / split)
    classes = Counter(file.relative_to(folder / split).parts[0] for file in files) if names else Counter()
    seen, broken = _look(files, seconds, progress)
    if not seen:
        listed = "\n".join(f"  {file}: {reason}" for file, reason in broken[:10])
        raise UserError(f"None of the first {len(broken)} of {len(files)} files below {folder} can be read:\n{listed}")
    depth = _depth(seen)
    if depth is not None and depth < FULL:  # which is refused for them
        reason = f"it has colours of 16 bits, and the values of the other deep files have {depth}"
        broken += [(each.file, reason) for each in seen if each.deep_colour]
        seen = [each for each in seen if not each.deep_colour]
    return Survey(
        folder=folder,
        split=split,
        count=len(files),
        checked=len(seen) + len(broken),
        widths=np.array([each.width for each in seen]),
        heights=np.array([each.height for each in seen]),
        modes=dict(Counter(each.mode for each in seen).most_common()),
        grey=all(each.grey for each in seen),
        depth=depth,
        broken=tuple(sorted((file.relative_to(folder).as_posix(), reason) for file, reason in broken)),
        classes=dict(sorted(classes.items())),
        passed_over=passed_over,
        seconds_per_picture=float(np.mean([each.seconds for each in seen])),
    )


def _depth(seen: list[_Seen]) -> int | None:
    """`Survey.depth` of these files."""
    largest = [each.deepest for each in seen if each.deepest is not None]
    if max(largest, default=0) <= 0:
        return None
    return FULL if len(largest) < sum(each.deep_colour for each in seen) else depths.bits_of(max(largest))


def _look(files: list[Path], seconds: float, progress: bool) -> tuple[list[_Seen], list[tuple[Path, str]]]:
    """What is in the files, and which cannot be read and why."""
    order = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    seen: list[_Seen] = []
    broken: list[tuple[Path, str]] = []
    began = time.monotonic()
    with (
        bar("looking at pictures", len(order), progress, unit="files") as advance,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        for chunk in _chunks(order):
            for file, result in zip(chunk, pool.map(_open, chunk), strict=True):
                if isinstance(result, _Seen):
                    seen.append(result)
                else:
                    broken.append((file, result))
            advance(len(chunk))
            if seconds and time.monotonic() - began > seconds:
                break
    return seen, broken


def _chunks(files: list[Path]) -> Iterator[list[Path]]:
    rest = iter(files)
    while chunk := list(itertools.islice(rest, _CHUNK)):
        yield chunk


def _open(file: Path) -> _Seen | str:
    """What is in one file, or why it cannot be read."""
    began = time.thread_time()
    try:
        image = pictures.read(file, notes=[], channels=_CHANNELS)
    except UserError as error:
        return str(error).removeprefix(f"{file}: ")
    seconds = time.thread_time() - began
    sample = image[::_SAMPLED, ::_SAMPLED].astype(int)
    grey = not np.ptp(sample, axis=-1).any()
    return _Seen(file, image.shape[1], image.shape[0], *_mode(file), grey, seconds)


def _mode(file: Path) -> tuple[str, float | None, bool]:
    """The mode of a file that can be read, the largest value where it holds whole numbers of more than 8 bits, but of
    colours that Pillow reads, and whether it holds such colours.
    """
    try:
        with bands.opened(file) as stream, Image.open(stream, formats=pictures.FORMATS) as image:
            if not bands.is_scrambled(image):
                deep = image.mode.startswith("I") and depths.declared(image) is None
                deep_colour = depths.is_deep_colour(image)
                return image.mode, float(np.asarray(image).max()) if deep else None, deep_colour
    except Image.UnidentifiedImageError:
        pass
    kind = bands.format_of(file)
    values = (bands.open_array(file) if kind == "array" else bands.open_tiff(file, _CHANNELS)).read()
    deep = np.issubdtype(values.dtype, np.integer) and values.dtype.itemsize > 1
    return f"{values.dtype} {kind}", float(values.max()) if deep else None, False
