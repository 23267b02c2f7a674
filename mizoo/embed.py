"""Picture or sound files in, one .npz of features out; a file that cannot be read is skipped."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from mizoo._tools.arrays import check_whole
from mizoo._tools.files import atomic, user_path
from mizoo._tools.progress import Progress
from mizoo.data import pictures, search, sound_files
from mizoo.errors import UserError
from mizoo.zoo import entries, hub, interface
from mizoo.zoo.loading import load
from mizoo.zoo.loading import sampling_rate as rate_of

RUNTIMES = ("auto", "keras", "onnx")


@dataclass(frozen=True)
class EmbedReport:
    """What `embed` did.

    Attributes:
        written: the .npz file.
        count: number of pictures in it.
        shapes: endpoint -> shape of one picture's features.
        failed: (path, reason) of each file that was skipped.
        seconds: time taken, in seconds.
        resampled: sampling rate in Hz -> how many sound files of that rate were brought to the encoder's.
        passed_over: suffix in lower case ("" for none) -> how many files of folders and patterns were left out as no
            pictures (or sounds).
        runtime: "onnx" or "keras": what the encoder ran on.
    """

    written: Path
    count: int
    shapes: dict[str, tuple[int, ...]]
    failed: list[tuple[Path, str]]
    seconds: float
    resampled: dict[int, int] = field(default_factory=dict)
    passed_over: dict[str, int] = field(default_factory=dict)
    runtime: str = "onnx"

    def passed_over_in_words(self) -> str:
        """Such as "3 .heic, 2 without suffix"; "" if nothing was passed over."""
        return search.count(self.passed_over)


def embed(
    name: str | os.PathLike,
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    output: str | os.PathLike,
    endpoint: str | None = None,
    runtime: str = "auto",
    batch_size: int = 256,
    progress: bool = True,
    sampling_rate: int | None = None,
    depth: int | None = None,
    max_pixels: int | None = None,
    max_seconds: float | None = None,
) -> EmbedReport:
    """Encode picture or sound files and write their features to one .npz file.

    Each picture is brought to the encoder's size by `mizoo.data.pictures.square` (shorter side resized with
    antialiasing, centre crop). The output holds a float32 array (N, ...) for each endpoint and `paths` (N,), in the
    same order; read it with `numpy.load`. Pictures and features pass through memory a batch at a time.

    An encoder of sounds takes files of any length, each by itself and whole: several channels are averaged, another
    sampling rate is resampled (and reported). Its endpoints of frames, such as `context`, hold the frames of all files
    one after the other, (sum of frames, C), and `frames`, int64 (N,), says how many belong to each.

    Args:
        name: a published encoder or the path of one, as for `mizoo.load`.
        paths: picture or sound files, folders, glob patterns: see `mizoo.data.pictures.find`.
        output: the .npz file; its folder is created. Written under another name and renamed when complete.
        endpoint: write this endpoint only; all of them if None.
        runtime: "onnx" (ready at once), "keras", or "auto": ONNX Runtime where there is an ONNX form, otherwise Keras,
            with a line on standard error.
        batch_size: pictures read and encoded at a time.
        progress: show a progress bar if the error stream is a terminal.
        sampling_rate: in Hz, that an encoder of sounds takes; needed only where its folder does not give it.
        depth: bits of the values of 16-bit and 32-bit grey files that do not fill their range: see
            `mizoo.data.pictures.read`.
        max_pixels: the most pixels of a picture, `mizoo.data.pictures.MAX_PIXELS` if None.
        max_seconds: the longest sound, `mizoo.data.sound_files.MAX_SECONDS` if None.

    Returns:
        An `EmbedReport`. A file that cannot be read, is cut off or above the limits, or a sound too short for one
        frame, is skipped and listed there. Files of folders and patterns that are no pictures (sounds) are counted
        there.

    Raises:
        UserError: unknown encoder or endpoint, nothing found, an output that cannot be written; or no picture could
            be read. Nothing is written then, and an older file at `output` is kept.

    Warns:
        UserWarning: naming the first file, if deep files come out almost black.
    """
    began = time.perf_counter()
    output = _check_output(output)
    if check_whole(batch_size, "batch_size") < 1:
        raise UserError(f"`batch_size` must be at least 1. Received: {batch_size}")
    failed: list[tuple[Path, str]] = []
    notes: list[tuple[Path, str]] = []
    runtime = _choose_runtime(name, runtime)
    shape, encode = _load_encoder(name, endpoint, runtime)
    resampled: dict[int, int] = {}
    passed_over: dict[str, int] = {}
    if interface.kind_of(shape) == "sounds":
        files = sound_files.find(paths, failed, passed_over)
        rate = sampling_rate or rate_of(name)
        encoded = _sounds(files, rate, encode, failed, resampled, max_seconds)
    else:
        files = pictures.find(paths, failed, passed_over)
        picture = cast("tuple[int, int, int]", shape)

        def prepare(file: Path) -> np.ndarray:
            """The picture of a file, as the encoder takes it."""
            return pictures.prepare(file, picture, depth, max_pixels, notes)

        encoded = _pictures(files, picture, batch_size, prepare, encode, failed)

    done: list[str] = []
    spools: dict[str, _Spool] = {}
    try:
        with contextlib.ExitStack() as stack:
            display = stack.enter_context(Progress(progress and sys.stderr.isatty()))
            line = display.start("embedding", len(files) + len(failed), "files")
            line.advance(len(failed))
            for encoded_files, features in encoded:
                before = len(done) + len(failed)
                done += map(str, encoded_files)
                for key, values in features.items():
                    if key not in spools:
                        spools[key] = stack.enter_context(_spool(output.parent))
                    spools[key].add(values)
                line.advance(len(done) + len(failed) - before, f"{len(failed)} skipped" if failed else "")
            if not done:
                raise UserError(
                    f"None of {len(failed)} files could be read. Nothing was written.\n{_failure_list(failed)}"
                )
            _write(output, spools, done)
    except OSError as error:  # no permission, a full disk; files that cannot be read are in `failed`
        raise UserError(f"Cannot write {output}: {error.strerror or error}. Nothing was written.") from error
    if notes:
        notes.sort()  # the threads finish in any order
        warnings.warn(pictures.summary(notes, len(files)), UserWarning, stacklevel=2)
    shapes = {key: spool.shape for key, spool in spools.items()}
    seconds = time.perf_counter() - began
    return EmbedReport(output, len(done), shapes, failed, seconds, resampled, passed_over, runtime)


def _check_output(output: str | os.PathLike) -> Path:
    output = user_path(output)
    if output.suffix != ".npz":
        raise UserError(f"The output must be a .npz file. Received: {output}")
    if output.is_dir():
        raise UserError(f"The output {output} is a folder. Name a .npz file.")
    return output


def _choose_runtime(name: str | os.PathLike, runtime: str) -> str:
    """The runtime that is meant; "auto" is Keras, said on standard error, where there is the Keras form alone."""
    if runtime not in RUNTIMES:
        raise UserError(f"`runtime` must be one of {', '.join(map(repr, RUNTIMES))}. Received: {runtime!r}")
    if runtime != "auto":
        return runtime
    if not isinstance(name, (str, os.PathLike)) or entries.is_entry(name):
        return "onnx"
    path = hub.fetch(name, *interface.FILES.values()) if hub.is_address(name) else user_path(name)
    onnx, keras = (path / interface.FILES[each] if path.is_dir() else path for each in ("onnx", "keras"))
    if keras.suffix.lower() != ".keras" or not keras.is_file() or (onnx != keras and onnx.is_file()):
        return "onnx"
    print(
        f"{name} has no ONNX form: {keras.name} is run on Keras, which takes longer to start. `mizoo export` makes the "
        "ONNX form.",
        file=sys.stderr,
    )
    return "keras"


def _load_encoder(
    name: str | os.PathLike, endpoint: str | None, runtime: str
) -> tuple[tuple[int | None, ...], Callable]:
    """The shape that an encoder takes, (H, W, C) or (None,), and a function from a batch to a dict of arrays."""
    encoder = load(name, endpoint, runtime)
    shape = interface.input_shape(encoder)
    sounds = shape == (None,)
    if not sounds and (len(shape) != 3 or None in shape or shape[0] != shape[1] or shape[2] not in (1, 3)):
        raise UserError(
            "`embed` needs an encoder of square pictures of one size, grey or RGB, or of sounds of any length. "
            f"{name} takes {shape}."
        )
    endpoints = interface.endpoint_names(encoder) or tuple(interface.outputs(encoder))
    # A compiled call would be traced again for every length of a sound.
    call = encoder if runtime == "onnx" or sounds else encoder.predict_on_batch

    shortest = 1
    if runtime == "keras" and sounds:
        from mizoo.encoders.waveform import receptive_field

        shortest = receptive_field(encoder)[0]

    def encode(inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The features of one batch."""
        if sounds and inputs.shape[1] < shortest:
            raise UserError(f"too short: {inputs.shape[1]} samples, where one frame takes {shortest}.")
        values = call(inputs)
        values = values if isinstance(values, dict) else {endpoint or endpoints[0]: values}
        return {key: np.asarray(value) for key, value in values.items()}

    return shape, encode


def _pictures(
    files: list[Path],
    shape: Sequence[int],
    batch_size: int,
    prepare: Callable[[Path], np.ndarray],
    encode: Callable,
    failed: list[tuple[Path, str]],
) -> Iterator[tuple[list[Path], dict[str, np.ndarray]]]:
    """Batches of (files, features) of pictures."""
    for readable, images in _read(files, shape, batch_size, prepare, failed):
        yield readable, encode(images) if len(images) else {}


def _sounds(
    files: list[Path],
    rate: int,
    encode: Callable,
    failed: list[tuple[Path, str]],
    resampled: dict[int, int],
    max_seconds: float | None,
) -> Iterator[tuple[list[Path], dict[str, np.ndarray]]]:
    """(file, features) of sounds, one at a time: each has its own length."""
    for file in files:
        try:
            samples, file_rate = sound_files.read(file, max_seconds)
            values = _encode_sound(sound_files.resample(samples, file_rate, rate), encode)
        except (UserError, MemoryError) as error:
            failed.append((file, _reason(file, error)))
            yield [], {}
            continue
        if file_rate != rate:
            resampled[file_rate] = resampled.get(file_rate, 0) + 1
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


def _read(
    files: list[Path],
    shape: Sequence[int],
    batch_size: int,
    prepare: Callable[[Path], np.ndarray],
    failed: list[tuple[Path, str]],
) -> Iterator[tuple[list[Path], np.ndarray]]:
    """Batches of (files, uint8 pictures); files that cannot be read go to `failed` with the reason."""

    def attempt(file: Path) -> np.ndarray | UserError | MemoryError:
        """The picture of a file, or the error that gives the reason why there is none."""
        try:
            return prepare(file)
        except (UserError, MemoryError) as error:
            return error

    # Pillow decodes and resizes outside the interpreter's lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(files), batch_size):
            readable, images = [], []
            chunk = files[start : start + batch_size]
            for file, image in zip(chunk, pool.map(attempt, chunk), strict=True):
                if isinstance(image, Exception):
                    failed.append((file, _reason(file, image)))
                else:
                    readable.append(file)
                    images.append(image)
            yield readable, np.stack(images) if images else np.empty((0, *shape), np.uint8)


def _reason(file: Path, error: Exception) -> str:
    """Why a file has no features, in one line."""
    if isinstance(error, MemoryError):
        return "the memory does not suffice for it."
    return str(error).removeprefix(f"{file}: ")


class _Spool:
    """Rows of one endpoint on disk, because all of them together may not fit in memory."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.count, self.dtype = stream, 0, np.dtype("<f4")
        self.shape: tuple[int, ...] = ()

    def add(self, values: np.ndarray) -> None:
        """Append rows to the file: counts stay int64, features are float32."""
        self.dtype = np.dtype("<i8" if np.issubdtype(values.dtype, np.integer) else "<f4")
        values = np.ascontiguousarray(values, self.dtype)
        self.stream.write(values)
        self.count += len(values)
        self.shape = values.shape[1:]


@contextlib.contextmanager
def _spool(folder: Path) -> Iterator[_Spool]:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as stream:
        yield _Spool(stream)


def _write(output: Path, spools: dict[str, _Spool], done: list[str]) -> None:
    with atomic(output) as temporary, zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
        for key, spool in spools.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as stream:
                header = {"descr": spool.dtype.str, "fortran_order": False, "shape": (spool.count, *spool.shape)}
                np.lib.format.write_array_header_1_0(stream, header)
                spool.stream.seek(0)
                shutil.copyfileobj(spool.stream, stream, 1 << 20)
        with archive.open("paths.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array(stream, np.array(done), allow_pickle=False)


def _failure_list(failed: list[tuple[Path, str]]) -> str:
    lines = [f"  {path}: {reason}" for path, reason in failed[:10]]
    return "\n".join(lines + ([f"  and {len(failed) - 10} more"] if len(failed) > 10 else []))
