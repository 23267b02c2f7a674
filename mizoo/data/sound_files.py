"""Sounds, from files and arrays to what an encoder takes: samples in -1..1. Reading files needs the `sound` extra."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mizoo.data import pictures
from mizoo.errors import UserError

SUFFIXES = frozenset((".wav", ".flac", ".ogg", ".aif", ".aiff"))
"""Suffixes, in lower case, by which a sound is recognised in a folder."""


def check_samples(
    samples: Any, shape: tuple[int | None, ...] = (None,), argument: str = "samples", cast: bool = True
) -> np.ndarray:
    """Check a batch of sounds or of series and cast it to float32.

    Args:
        samples: array (B, T) of samples in -1..1, or (B, T, d) of a series, which may have any range.
        shape: what the encoder takes, without the batch; None stands for any length.
        argument: what the error messages call `samples`.
        cast: False leaves the type as it is, for a caller that casts batch by batch.

    Returns:
        float32 array, not copied if it was that already.

    Raises:
        UserError: wrong rank or shape, an empty batch, numbers that are not real or not finite, or sounds outside
            -1..1 (whole numbers among them: divide 16-bit samples by 32768).
    """
    try:
        array = np.asarray(samples)
    except ValueError as error:
        raise UserError(
            f"`{argument}` must be one array: the sounds differ in length. Encode them one by one, `sound[None]`."
        ) from error
    wanted = "(" + ", ".join(["B", *("any" if size is None else str(size) for size in shape)]) + ")"
    fits = array.ndim == len(shape) + 1 and all(s in (None, n) for s, n in zip(shape, array.shape[1:]))
    if not fits or not array.shape[0]:
        remedy = " For one sound, add the batch axis: `samples[None]`." if array.ndim == len(shape) else ""
        raise UserError(f"`{argument}` must have the shape {wanted}, B >= 1. Received: shape {array.shape}.{remedy}")
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(
            f"`{argument}` must hold floats; sounds lie in -1..1. Received: dtype {array.dtype}. Divide 16-bit samples "
            "by 32768."
        )
    if array.size and not np.isfinite(array).all():
        raise UserError(f"`{argument}` holds NaN or infinite values. Repair or leave out these sounds.")
    peak = float(np.abs(array).max(initial=0.0))
    if len(shape) == 1 and peak > 1.5:  # a resampler overshoots a little
        raise UserError(f"`{argument}` must lie in -1..1. Received: values up to {peak:g}. Divide by the full scale.")
    return array.astype(np.float32, copy=False) if cast else array


def read(path: str | os.PathLike) -> tuple[np.ndarray, int]:
    """Read a sound file as one channel.

    Args:
        path: WAV, FLAC or another format of libsndfile.

    Returns:
        float32 samples (T,) in -1..1, the mean of the channels where there are several, and the sampling rate in Hz.

    Raises:
        UserError: naming the file, if it is missing, empty, no sound, or holds NaN; or if soundfile is not installed.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package without its library
        raise UserError(
            'Sound files are read by soundfile, which is not installed: `pip install ".[sound]"` in a clone.'
        ) from error
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file.")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes).")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except Exception as error:  # soundfile has its own class, and the decoders raise others
        raise UserError(f"{path}: no sound in a known format, or damaged ({error}).") from error
    if not len(samples):
        raise UserError(f"{path}: the sound is empty (0 samples).")
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: the sound holds NaN or infinite samples.")
    return samples.mean(axis=1), int(rate)


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Bring samples (T,) from one sampling rate to another by scipy's polyphase filter.

    Args:
        samples: float32 (T,).
        rate: their rate, in Hz.
        wanted: the rate of the result, in Hz.

    Raises:
        UserError: if scipy is not installed, and the rates differ.
    """
    if rate == wanted:
        return samples
    try:
        from scipy.signal import resample_poly
    except ImportError as error:
        raise UserError(
            f"The sound has {rate} Hz and the encoder takes {wanted} Hz: scipy resamples it, and is not installed. "
            '`pip install ".[sound]"` in a clone, or convert the file.'
        ) from error
    factor = math.gcd(rate, wanted)
    return resample_poly(samples, wanted // factor, rate // factor).astype(np.float32)


def find(
    paths: str | os.PathLike | Iterable[str | os.PathLike], missing: list[tuple[Path, str]] | None = None
) -> list[Path]:
    """List sound files; otherwise as `mizoo.data.pictures.find`."""
    return pictures.find(paths, missing, suffixes=SUFFIXES, what="sound")
