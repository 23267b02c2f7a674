"""Sounds, from files and arrays to what an encoder takes: samples in -1..1. Reading files needs the `sound` extra."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mizoo._tools.arrays import check_whole, to_numpy
from mizoo.data import claimed_length, search
from mizoo.errors import UserError

SUFFIXES = frozenset(
    (".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64", ".wav")
)
"""Suffixes, in lower case, by which a sound is recognised in a folder: formats of libsndfile 1.1 and later."""

MAX_SECONDS = 600
"""The longest sound that is read, in seconds: the published encoder of 8 kHz takes 1.1 GB for one of that length."""

MAX_VALUES = 400_000_000
"""The most samples of a sound over all its channels: 1.6 GB of memory."""

MAX_RESAMPLING = 50
"""The largest ratio of two sampling rates between which sounds are resampled."""

_LOUDEST = 1.5  # a resampler overshoots a little
_UNKNOWN = 1 << 62  # frames that libsndfile gives where a file does not say its length


def check_samples(
    samples: Any, shape: tuple[int | None, ...] = (None,), argument: str = "samples", cast: bool = True
) -> np.ndarray:
    """Check a batch of sounds or of series and cast it to float32.

    Args:
        samples: array (B, T) of samples in -1..1, or (B, T, d) of a series, which may have any range, as vectors of a
            fixed length (B, n) may.
        shape: what the encoder takes, without the batch; None stands for any length.
        argument: what the error messages call `samples`.
        cast: False leaves the type as it is, for a caller that casts batch by batch.

    Returns:
        float32 array, not copied if it was that already.

    Raises:
        UserError: wrong rank or shape, an empty batch, numbers that are not real or not finite, masked values, or
            sounds outside -1..1 (whole numbers among them: divide 16-bit samples by 32768).
    """
    array = to_numpy(
        samples, argument, "the sounds differ in length or are nested unevenly. Encode them one by one, `sound[None]`."
    )
    wanted = "(" + ", ".join(["B", *("any" if size is None else str(size) for size in shape)]) + ")"
    fits = array.ndim == len(shape) + 1 and all(s in (None, n) for s, n in zip(shape, array.shape[1:]))
    if not fits or not array.shape[0]:
        remedy = " For one sound, add the batch axis: `samples[None]`." if array.ndim == len(shape) else ""
        raise UserError(f"`{argument}` must have the shape {wanted}, B >= 1. Received: shape {array.shape}.{remedy}")
    _check_values(array, argument, is_sound=tuple(shape) == (None,))
    return array.astype(np.float32, copy=False) if cast else array


def check_clips(clips: Sequence[Any], argument: str = "clips") -> tuple[np.ndarray, ...]:
    """Check sounds of different lengths, each (T,) with T >= 1, and cast them to float32.

    Raises:
        UserError: as of `check_samples`, naming the number of the clip.
    """
    checked = []
    for number, clip in enumerate(clips):
        name = f"{argument}[{number}]"
        array = to_numpy(clip, name)
        if array.ndim != 1 or not array.size:
            raise UserError(
                f"`{name}` must be one sound (T,), T >= 1, of one channel. Received: shape {array.shape}. Of several "
                "channels take the mean."
            )
        _check_values(array, name, is_sound=True)
        checked.append(array.astype(np.float32, copy=False))
    return tuple(checked)


def _check_values(array: np.ndarray, argument: str, is_sound: bool) -> None:
    if not np.issubdtype(array.dtype, np.floating):
        scale = " Divide 16-bit samples by 32768." if array.dtype.kind in "iu" else " Cast them: `.astype('float32')`."
        raise UserError(f"`{argument}` must hold floats; sounds lie in -1..1. Received: dtype {array.dtype}.{scale}")
    low, high = float(array.min(initial=0.0)), float(array.max(initial=0.0))  # NaN anywhere makes both NaN
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"`{argument}` holds NaN or infinite values. Repair or leave out these sounds.")
    if is_sound and (peak := max(-low, high)) > _LOUDEST:
        raise UserError(
            f"`{argument}` must lie in -1..1. Received: values up to {peak:g}. Divide by the full scale (16-bit "
            "samples by 32768). A series of other values has an axis of features, (B, T, d): `values[..., None]`."
        )


def read(path: str | os.PathLike, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Read a sound file as one channel.

    Args:
        path: WAV, FLAC, MP3 or another format of libsndfile, whatever its suffix.
        max_seconds: the longest sound that is read; `MAX_SECONDS` if None.

    Returns:
        float32 samples (T,) in -1..1, the mean of the channels where there are several, and the sampling rate in Hz.

    Raises:
        UserError: naming the file, if it is missing, empty, no sound, shorter than its header says (cut off), longer
            than the limits, or holds NaN; or if soundfile is not installed.
    """
    soundfile = _soundfile()
    path = Path(path)
    most = MAX_SECONDS if max_seconds is None else max_seconds
    if not most > 0:
        raise UserError(f"`max_seconds` is above 0. Received: max_seconds={max_seconds!r}")
    if not path.is_file():
        raise UserError(f"{path}: no such file." if not path.exists() else f"{path}: no file of sound.")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes).")
    try:
        with soundfile.SoundFile(path) as file:
            _check_limits(file.frames, file.samplerate, file.channels, most)
            samples = _samples(file, most)
            rate = int(file.samplerate)
            claimed_length.check(path, file, len(samples))
        values = samples.mean(axis=1)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except PermissionError as error:
        raise UserError(f"{path}: no permission to read the file.") from error
    except MemoryError as error:
        raise UserError(f"{path}: the memory does not suffice to read it. Cut it into shorter pieces.") from error
    except Exception as error:  # soundfile has its own class, and the decoders raise others
        raise UserError(f"{path}: no sound in a known format, or damaged ({error}).") from error
    if not len(samples):
        raise UserError(f"{path}: the sound is empty (0 samples).")
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: the sound holds NaN or infinite samples.")
    return values, rate


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package without its library
        raise UserError(
            'Sound files are read by soundfile, which is not installed: `pip install ".[sound]"` in a clone.'
        ) from error
    return soundfile


def _check_limits(frames: int, rate: int, channels: int, seconds: float) -> None:
    if frames >= _UNKNOWN:
        return  # `_samples` counts
    if frames > seconds * rate:
        raise UserError(
            f"{frames / rate:,.0f} seconds of sound are more than {seconds:g}. Cut it into pieces, or raise "
            "`max_seconds` (--max-seconds)."
        )
    if frames * channels > MAX_VALUES:
        raise UserError(
            f"{frames:,} samples in {channels} channels are more than {MAX_VALUES:,} "
            "(`mizoo.data.sound_files.MAX_VALUES`). Cut it into pieces."
        )


def _samples(file: Any, seconds: float) -> np.ndarray:
    """float32 (T, channels) of an opened file; in blocks where it does not say its length."""
    if file.frames < _UNKNOWN:
        return file.read(dtype="float32", always_2d=True)
    blocks, done = [], 0
    while len(block := file.read(1 << 20, dtype="float32", always_2d=True)):
        blocks.append(block)
        done += len(block)
        _check_limits(done, file.samplerate, file.channels, seconds)
    return np.concatenate(blocks) if blocks else np.empty((0, file.channels), np.float32)


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Bring samples (T,) from one sampling rate to another by scipy's polyphase filter.

    Args:
        samples: float32 (T,).
        rate: their rate, in Hz.
        wanted: the rate of the result, in Hz.

    Raises:
        UserError: if the rates differ and scipy is not installed, or by more than the factor `MAX_RESAMPLING`, or the
            memory does not suffice.
    """
    rate, wanted = check_whole(rate, "rate", 1), check_whole(wanted, "wanted", 1)
    if rate == wanted:
        return samples
    if max(rate, wanted) > MAX_RESAMPLING * min(rate, wanted):
        raise UserError(
            f"The sound has {rate} Hz and {wanted} Hz are wanted: that is more than a factor of {MAX_RESAMPLING} "
            "(`mizoo.data.sound_files.MAX_RESAMPLING`). Is the rate in its header right?"
        )
    try:
        from scipy.signal import resample_poly
    except ImportError as error:
        raise UserError(
            f"The sound has {rate} Hz and the encoder takes {wanted} Hz: scipy resamples it, and is not installed. "
            '`pip install ".[sound]"` in a clone, or convert the file.'
        ) from error
    factor = math.gcd(rate, wanted)
    try:
        return resample_poly(samples, wanted // factor, rate // factor).astype(np.float32)
    except MemoryError as error:
        raise UserError(f"The memory does not suffice to bring {len(samples)} samples to {wanted} Hz.") from error


def find(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    missing: list[tuple[Path, str]] | None = None,
    passed_over: dict[str, int] | None = None,
) -> list[Path]:
    """List sound files; otherwise as `mizoo.data.pictures.find`."""
    return search.find(paths, missing, passed_over, SUFFIXES, "sound", _is_sound)


def stream(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    missing: list[tuple[Path, str]],
    passed_over: Counter[str],
) -> Iterator[Path]:
    """The files of `find` one by one, in the same order, without a list of all of them."""
    return search.stream(paths, missing, passed_over, SUFFIXES, "sound", _is_sound)


def _is_sound(path: Path) -> bool:
    """Whether libsndfile recognises a file by its beginning."""
    try:
        _soundfile().info(path)
        return True
    except Exception:  # see `read`
        return False
