"""Files -> features, some at a time: read ahead, encoded in batches (sounds one by one), bad files listed."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from mizoo._tools.files import sha256
from mizoo.data import pictures, sound_files
from mizoo.errors import UserError
from mizoo.zoo import interface
from mizoo.zoo.loading import sampling_rate as rate_of

_AHEAD = 3  # batches that are read ahead of the one that is encoded


class _PictureFiles(NamedTuple):
    """`find` and `stream` of `mizoo.data.pictures` for encoders of so many channels."""

    channels: int

    def find(self, paths: Any, missing: list[tuple[Path, str]], passed_over: Counter[str]) -> list[Path]:
        """As of `mizoo.data.pictures`."""
        return pictures.find(paths, missing, passed_over, self.channels)

    def stream(self, paths: Any, missing: list[tuple[Path, str]], passed_over: Counter[str]) -> Iterator[Path]:
        """As of `mizoo.data.pictures`."""
        return pictures.stream(paths, missing, passed_over, self.channels)


class FileFeatures:
    """One call of `embed`: how files become features, and what came of them.

    Attributes:
        failed: (path, reason) of files that were skipped.
        notes: (path, remark) of deep files that come out almost black.
        resampled, passed_over: as of `EmbedReport`.
        hashes: SHA-256 of the files that were read and not written yet; None where they are not wanted.
        waited, not_listed: as of `EmbedReport`.
    """

    def __init__(
        self,
        shape,
        encode,
        batch_size,
        name,
        sampling_rate,
        depth,
        max_pixels,
        max_seconds,
        crops=None,
        each_crop=False,
    ) -> None:
        self.shape, self.encode, self.batch_size, self.name = shape, encode, batch_size, name
        self.sampling_rate, self.depth = sampling_rate, depth
        self.max_pixels, self.max_seconds = max_pixels, max_seconds
        self.crops, self.each_crop = crops, each_crop
        if crops is not None and self._of_sounds:
            raise UserError("`crops` are of pictures, and this encoder takes sounds.")
        self.failed: list[tuple[Path, str]] = []
        self.notes: list[tuple[Path, str]] = []
        self.resampled: dict[int, int] = {}
        self.passed_over: Counter[str] = Counter()
        self.hashes: dict[Path, str] | None = None
        self.waited, self.not_listed = 0.0, 0

    @property
    def source(self) -> Any:
        """What finds the files: the module of sounds, or of pictures with the encoder's channels."""
        return sound_files if self._of_sounds else _PictureFiles(self.shape[2])

    @property
    def _of_sounds(self) -> bool:
        return interface.kind_of(self.shape) == "sounds"

    def encoded(self, files: Iterable[Path]) -> Iterator[tuple[list[Path], dict[str, np.ndarray]]]:
        """Files with their features, some at a time."""
        if self._of_sounds:
            return _sounds(self, files, self.sampling_rate or rate_of(self.name))
        return _pictures(self, files)

    def note_hash(self, file: Path) -> None:
        """Record the hash of a file that is read, if it is wanted."""
        if self.hashes is not None:
            try:
                self.hashes[file] = sha256(file)
            except OSError as error:
                raise UserError(f"{file}: {error.strerror or error}.") from error


def _pictures(work: FileFeatures, files: Iterable[Path]) -> Iterator[tuple[list[Path], dict[str, np.ndarray]]]:
    """Batches of (files, features) of pictures."""
    for readable, images in _read(work, files):
        encode = work.encode if work.crops is None else partial(_encode_crops, work)
        yield readable, encode(images) if len(images) else {}


def _encode_crops(work: FileFeatures, images: np.ndarray) -> dict[str, np.ndarray]:
    """Features of pictures (N, crops, H, W, C): their mean over the crops, (N, ...), or (N, crops, ...) of each."""
    count, crops = images.shape[:2]
    rows = images.reshape(count * crops, *images.shape[2:])
    parts = [work.encode(rows[start : start + work.batch_size]) for start in range(0, len(rows), work.batch_size)]
    found = {}
    for key in parts[0]:
        values = np.concatenate([part[key] for part in parts])
        values = values.reshape(count, crops, *values.shape[1:])
        found[key] = values if work.each_crop else values.mean(axis=1, dtype="float32")
    return found


def _sounds(work: FileFeatures, files: Iterable[Path], rate: int) -> Iterator[tuple[list[Path], dict[str, np.ndarray]]]:
    """(file, features) of sounds, one at a time: each has its own length."""
    for file in files:
        try:
            work.note_hash(file)
            samples, file_rate = sound_files.read(file, work.max_seconds)
            values = _encode_sound(sound_files.resample(samples, file_rate, rate), work.encode)
        except (UserError, MemoryError) as error:
            work.failed.append((file, _reason(file, error)))
            yield [], {}
            continue
        if file_rate != rate:
            work.resampled[file_rate] = work.resampled.get(file_rate, 0) + 1
        frames = {len(value[0]) for value in values.values() if value.ndim == 3}
        features = {key: value[0] if value.ndim == 3 else value for key, value in values.items()}
        yield [file], features | ({"frames": np.array([frames.pop()], np.int64)} if frames else {})


def _encode_sound(samples: np.ndarray, encode: Callable) -> dict[str, np.ndarray]:
    samples = sound_files.check_samples(samples[None])
    try:
        values = encode(samples)
    except UserError:
        raise
    except Exception as error:  # of the backend: no memory, above all
        raise UserError(f"its {samples.shape[1]} samples could not be encoded ({type(error).__name__}).") from error
    if not all(np.isfinite(value).all() for value in values.values()):
        raise UserError(f"the features of its {samples.shape[1]} samples are not finite.")
    return values


def _read(work: FileFeatures, files: Iterable[Path]) -> Iterator[tuple[list[Path], np.ndarray]]:
    """Batches of (files, uint8 pictures); files that cannot be read go to `failed` with the reason.

    The next batches are read while one is encoded.
    """
    shape = cast("tuple[int, int, int]", work.shape)

    def attempt(file: Path) -> np.ndarray | UserError | MemoryError:
        """The picture of a file, or the error that gives the reason why there is none."""
        try:
            work.note_hash(file)
            return pictures.prepare(file, shape, work.depth, work.max_pixels, work.notes, work.crops)
        except (UserError, MemoryError) as error:
            return error

    size = work.batch_size if work.crops is None else max(1, work.batch_size // work.crops.count**2)
    files, ahead = iter(files), deque[tuple[list[Path], list[Future]]]()
    # Pillow decodes and resizes outside the interpreter's lock.
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        while True:
            while len(ahead) < _AHEAD and (chunk := list(itertools.islice(files, size))):
                ahead.append((chunk, [pool.submit(attempt, file) for file in chunk]))
            if not ahead:
                return
            began = time.perf_counter()
            chunk, futures = ahead.popleft()
            readable, images = [], []
            for file, future in zip(chunk, futures, strict=True):
                image = future.result()
                if isinstance(image, Exception):
                    work.failed.append((file, _reason(file, image)))
                else:
                    readable.append(file)
                    images.append(image)
            work.waited += time.perf_counter() - began
            yield readable, np.stack(images) if images else np.empty((0, *shape), np.uint8)
    finally:
        pool.shutdown(cancel_futures=True)


def _reason(file: Path, error: Exception) -> str:
    """Why a file has no features, in one line."""
    if isinstance(error, MemoryError):
        return "the memory does not suffice for it."
    return str(error).removeprefix(f"{file}: ")
