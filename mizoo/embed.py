"""Picture or sound files in, features out, as one .npz or as shards; a file that cannot be read is skipped."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mizoo._tools.arrays import check_whole
from mizoo._tools.files import atomic, sha256, user_path
from mizoo._tools.locks import lock_folder
from mizoo._tools.progress import Progress
from mizoo.data import pictures, search
from mizoo.data.crops import parse as crop_grid
from mizoo.data.feature_shards import ShardWriter
from mizoo.errors import UserError
from mizoo.zoo import entries, hub, interface, manifests
from mizoo.zoo.file_features import FileFeatures
from mizoo.zoo.loading import encoder_file, load

RUNTIMES = ("auto", "keras", "onnx")

_LISTED = 1000  # failures of shards that a report lists; the shards list all


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
        resumed: files of shards that were there already; they are among `count` or `failed`.
        waited: seconds that the encoder waited for files to be read, out of `seconds`.
        not_listed: files that were skipped in addition to `failed`, which holds the first thousand of shards.
    """

    written: Path
    count: int
    shapes: dict[str, tuple[int, ...]]
    failed: list[tuple[Path, str]]
    seconds: float
    resampled: dict[int, int] = field(default_factory=dict)
    passed_over: dict[str, int] = field(default_factory=dict)
    runtime: str = "onnx"
    resumed: int = 0
    waited: float = 0.0
    not_listed: int = 0

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
    shard_size: int = 4096,
    crops: str | None = None,
    each_crop: bool = False,
) -> EmbedReport:
    """Encode picture or sound files and write their features to one .npz file, or to a folder of shards.

    Each picture is brought to the encoder's size by `mizoo.data.pictures.fit` (resized with antialiasing to just cover
    it, centre crop), and read with its channels (`mizoo.data.pictures.read`). The output holds a float32 array (N, ...)
    for each endpoint and `paths` (N,), in the same order; read it with `numpy.load`. Pictures and features pass through
    memory a batch at a time.

    An `output` without a suffix is a folder of shards, for as many files as a disk holds: .npy files of `shard_size`
    files each, with a list of paths, hashes and errors (see `mizoo.data.feature_shards`, and read them with
    `mizoo.data.feature_shards.read_shards`). They are written as they are made. A run that was interrupted or killed
    is resumed by the same command: shards that are there stay, and no row is lost or doubled.

    An encoder of sounds takes files of any length, each by itself and whole: several channels are averaged, another
    sampling rate is resampled (and reported). Its endpoints of frames, such as `context`, hold the frames of all files
    one after the other, (sum of frames, C), and `frames`, int64 (N,), says how many belong to each.

    Args:
        name: a published encoder or the path of one, as for `mizoo.load`.
        paths: picture or sound files, folders, glob patterns: see `mizoo.data.pictures.find`.
        output: the .npz file; its folder is created. Written under another name and renamed when complete. Or a folder
            of shards, a name without a suffix.
        endpoint: write this endpoint only; all of them if None.
        runtime: "onnx" (ready at once), "keras", or "auto": ONNX Runtime where there is an ONNX form that was not made
            of an older Keras file than the one beside it, otherwise Keras, with a line on standard error.
        batch_size: pictures read and encoded at a time.
        progress: show a progress bar if the error stream is a terminal.
        sampling_rate: in Hz, that an encoder of sounds takes; needed only where its folder does not give it.
        depth: bits of the values of 16-bit and 32-bit grey files that do not fill their range: see
            `mizoo.data.pictures.read`.
        max_pixels: the most pixels of a picture, `mizoo.data.pictures.MAX_PIXELS` if None.
        max_seconds: the longest sound, `mizoo.data.sound_files.MAX_SECONDS` if None.
        shard_size: files in a shard, rounded up to whole batches.
        crops: "grid:3" encodes 3 x 3 overlapping crops of each picture (see `mizoo.data.crops.Grid`) in place of its
            middle, for pictures much larger than the encoder sees; the features of a picture are the mean over them.
        each_crop: keep the features of every crop, (N, crops, ...), in place of their mean.

    Returns:
        An `EmbedReport`. A file that cannot be read, is cut off or above the limits, or a sound too short for one
        frame, is skipped and listed there. Files of folders and patterns that are no pictures (sounds) are counted
        there.

    Raises:
        UserError: unknown encoder or endpoint, nothing found, an output that cannot be written; or no picture could
            be read. Nothing is written then, and an older file at `output` is kept. For shards also if their folder
            holds those of another run, or other files are found now than when it began.

    Warns:
        UserWarning: naming the first file, if deep files come out almost black.
    """
    began = time.perf_counter()
    output = _check_output(output)
    if check_whole(batch_size, "batch_size") < 1:
        raise UserError(f"`batch_size` must be at least 1. Received: {batch_size}")
    if check_whole(shard_size, "shard_size") < 1:
        raise UserError(f"`shard_size` must be at least 1. Received: {shard_size}")
    grid = crop_grid(crops)
    if each_crop and grid is None:
        raise UserError('`each_crop` keeps the rows of crops: say which, such as crops="grid:3" (--crops grid:3).')
    runtime = choose_runtime(name, runtime)
    shape, encode = _load_encoder(name, endpoint, runtime)
    work = FileFeatures(shape, encode, batch_size, name, sampling_rate, depth, max_pixels, max_seconds, grid, each_crop)
    shown = progress and sys.stderr.isatty()
    try:
        if output.suffix:
            count, shapes = _to_file(work, paths, output, shown)
            resumed = 0
        else:
            settings: dict[str, Any] = {"depth": depth, "max_pixels": max_pixels, "max_seconds": max_seconds}
            settings |= {"rate": sampling_rate, "crops": crops, "each_crop": each_crop or None}
            identity = {"encoder": sha256(encoder_file(name, runtime)), "endpoint": endpoint, **settings}
            size = -(-shard_size // batch_size) * batch_size
            count, shapes, resumed = _to_shards(work, paths, output, identity, size, shown)
    except OSError as error:  # no permission, a full disk; files that cannot be read are in `failed`
        raise UserError(
            f"Cannot write {output}: {error.strerror or error}. "
            + ("Nothing was written." if output.suffix else "The shards so far are kept; the same command goes on.")
        ) from error
    if work.notes:
        work.notes.sort()  # the threads finish in any order
        warnings.warn(pictures.summary(work.notes, count), UserWarning, stacklevel=2)
    return EmbedReport(
        output,
        count,
        shapes,
        work.failed,
        time.perf_counter() - began,
        work.resampled,
        dict(work.passed_over),
        runtime,
        resumed,
        work.waited,
        work.not_listed,
    )


def _to_file(work: FileFeatures, paths: Any, output: Path, shown: bool) -> tuple[int, dict[str, tuple[int, ...]]]:
    """Write one .npz; the number of its rows, and their shapes."""
    files = work.source.find(paths, work.failed, work.passed_over)
    done: list[str] = []
    spools: dict[str, _Spool] = {}
    with contextlib.ExitStack() as stack:
        display = stack.enter_context(Progress(shown))
        line = display.start("embedding", len(files) + len(work.failed), "files")
        line.advance(len(work.failed))
        for encoded_files, features in work.encoded(files):
            before = len(done) + len(work.failed)
            done += map(str, encoded_files)
            for key, values in features.items():
                if key not in spools:
                    spools[key] = stack.enter_context(_spool(output.parent))
                spools[key].add(values)
            line.advance(len(done) + len(work.failed) - before, _skipped(len(work.failed)))
        if not done:
            raise UserError(
                f"None of {len(work.failed)} files could be read. Nothing was written.\n{_failure_list(work.failed)}"
            )
        _write(output, spools, done)
    return len(done), {key: spool.shape for key, spool in spools.items()}


def _to_shards(
    work: FileFeatures, paths: Any, folder: Path, identity: dict[str, Any], size: int, shown: bool
) -> tuple[int, dict[str, tuple[int, ...]], int]:
    """Write the shards that are not there yet: the number of rows in all, their shapes, and files that were there."""
    busy = f"Another process writes shards into {folder}. Wait until it ends, or name another folder."
    work.hashes = {}
    missing: list[tuple[Path, str]] = []
    listing = work.source.stream(paths, missing, work.passed_over)
    count, shapes = 0, {}
    with lock_folder(folder, busy), Progress(shown) as display:
        writer = ShardWriter(folder, identity, size)
        line = display.start("embedding", None, "files")
        failures = resumed = 0
        for shard in range(writer.count):
            known = writer.paths(shard)
            found = {str(file) for file in itertools.islice(listing, len(known))}
            if found != known:
                path = min(found ^ known)
                raise UserError(
                    f"{folder} was begun with other files: {path} is {'new' if path in found else 'gone'}. Embed what "
                    "is there now into another folder."
                )
            bad = writer.failures(shard)
            failures, resumed, count = failures + len(bad), resumed + len(known), count + len(known) - len(bad)
            _list_failures(work, bad)
            line.advance(len(known))
        if writer.complete and (extra := next(listing, None)) is not None:
            raise UserError(
                f"{folder} is complete and was begun with other files: {extra} is new. Embed what is there now into "
                "another folder."
            )
        listed, work.failed = work.failed, []
        try:
            for encoded_files, features in work.encoded(listing):
                entries = [{"path": str(file), "sha256": work.hashes.pop(file)} for file in encoded_files]
                entries += [{"path": str(file), "error": reason} for file, reason in work.failed]
                failures, count = failures + len(work.failed), count + len(encoded_files)
                writer.add(entries, features)
                shapes.update({key: values.shape[1:] for key, values in features.items()})
                bad, work.failed = work.failed, listed
                _list_failures(work, bad)
                listed, work.failed = work.failed, []
                for file, _ in bad:
                    work.hashes.pop(file, None)
                del work.notes[_LISTED:]
                line.advance(len(entries), _skipped(failures))
            work.failed = listed
            if not count:
                raise UserError(f"None of {failures} files could be read.\n{_failure_list(work.failed)}")
            writer.finish()
        finally:
            writer.close()  # an empty folder goes with its lock
    _list_failures(work, missing)
    return count, shapes, resumed


def _list_failures(work: FileFeatures, bad: list[tuple[Path, str]]) -> None:
    """Add to the failures of the report, as long as they are few."""
    room = _LISTED - len(work.failed)
    work.failed.extend(bad[:room])
    work.not_listed += len(bad[room:]) if room > 0 else len(bad)


def _skipped(number: int) -> str:
    return f"{number} skipped" if number else ""


def _check_output(output: str | os.PathLike) -> Path:
    output = user_path(output)
    if output.suffix not in (".npz", ""):
        raise UserError(f"The output must be a .npz file, or a folder of shards, without suffix. Received: {output}")
    if output.suffix and output.is_dir():
        raise UserError(f"The output {output} is a folder. Name a .npz file.")
    if not output.suffix and output.is_file():
        raise UserError(f"The output {output} is a file. Name a .npz file, or a folder of shards.")
    return output


def choose_runtime(name: str | os.PathLike, runtime: str) -> str:
    """The runtime that is meant; "auto" is Keras, said on standard error, where there is no ONNX form of that file."""
    if runtime not in RUNTIMES:
        raise UserError(f"`runtime` must be one of {', '.join(map(repr, RUNTIMES))}. Received: {runtime!r}")
    if runtime != "auto":
        return runtime
    if not isinstance(name, (str, os.PathLike)) or entries.is_entry(name):
        return "onnx"
    path = hub.fetch(name, *interface.FILES.values()) if hub.is_address(name) else user_path(name)
    onnx, keras = (path / interface.FILES[each] if path.is_dir() else path for each in ("onnx", "keras"))
    if keras.suffix.lower() != ".keras" or not keras.is_file():
        return "onnx"
    stale = manifests.why_stale(path)
    if onnx != keras and onnx.is_file() and stale is None:
        return "onnx"
    print(
        f"{stale or f'{name} has no ONNX form'}: {keras.name} is run on Keras, which takes longer to start. `mizoo "
        "export` makes the ONNX form.",
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
    if not sounds and (len(shape) != 3 or None in shape):
        raise UserError(
            f"`embed` needs an encoder of pictures of one size, or of sounds of any length. {name} takes {shape}."
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
