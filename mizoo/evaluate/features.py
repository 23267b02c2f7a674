"""Pictures or clips -> the frozen features of every endpoint, extracted once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mizoo._tools.arrays import to_numpy
from mizoo.errors import UserError
from mizoo.zoo import interface
from mizoo.zoo.copies import random_copy

__all__ = ["clip_features", "extract", "features", "pixels", "random_copy"]

_STEP = 2000  # batches of clips are padded to a multiple of this many samples, so that few lengths are traced
_HALF_MAX = float(np.finfo(np.float16).max)


def features(
    encoder: Any,
    images: np.ndarray,
    batch_size: int = 500,
    endpoints: Sequence[str] | None = None,
    advance: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Flattened features of each endpoint, in inference mode.

    Args:
        encoder: a Keras model or any callable from pictures to a dict of endpoints (or to a single array, which is
            then called as the one endpoint that the encoder names, or `features`).
        images: pictures (N, H, W, C), 0..255.
        batch_size: pictures a call.
        endpoints: names to keep; all of them by default.
        advance: called with the number of pictures done after each batch.

    Returns:
        Endpoint -> array (N, D), float16, or float32 for an endpoint whose values float16 cannot hold.

    Raises:
        UserError: for no pictures, an unknown endpoint, features that are not finite, or another number of rows.
    """
    images = _real(images)
    if images.ndim == 0 or len(images) == 0:
        raise UserError("Features need at least one picture. Received: an empty array")
    call = encoder.predict_on_batch if hasattr(encoder, "predict_on_batch") else encoder
    names = interface.endpoint_names(encoder)
    if endpoints is None:
        # JAX sorts the keys of a dict that passes through a compiled function: the order comes from the model.
        endpoints = names or None
    alone = names[0] if len(names) == 1 else "features"  # an encoder may name what it returns as an array
    out: dict[str, np.ndarray] = {}
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size], dtype="float32")
        values = call(batch)
        if not isinstance(values, dict):
            values = {alone: values}
        for name in _choose(values, endpoints):
            if len(values[name]) != len(batch):
                raise UserError(
                    f"The encoder gave {len(values[name])} rows of `{name}` for {len(batch)} pictures. A Keras model "
                    "that was loaded inside `strategy.scope()` repeats them on each replica: load it outside."
                )
            value = np.asarray(values[name], dtype="float32").reshape(len(batch), -1)
            _store(out, name, value, start, len(images))
        if advance is not None:
            advance(len(batch))
    return out


def pixels(images: np.ndarray) -> dict[str, np.ndarray]:
    """The pictures themselves as features: (N, H*W*C) float16 in -1..1, as an encoder scales them.

    Args:
        images: pictures (N, H, W, C), 0..255.

    Returns:
        A dict with the one endpoint `pixels`.
    """
    flat = _real(images).reshape(len(images), -1)
    return {"pixels": (flat.astype("float32") / 127.5 - 1).astype("float16")}


def _real(images: Any) -> np.ndarray:
    """An array of real numbers, not copied if it is one."""
    array = to_numpy(images, "images")
    if array.dtype.kind not in "fiu":
        raise UserError(f"`images` holds real numbers in 0..255. Received: dtype {array.dtype}")
    return array


def extract(
    encoder: Any, images: np.ndarray, endpoints: Sequence[str] | None, advance: Callable[[int], None] | None = None
) -> dict[str, np.ndarray]:
    """The features of an encoder, or raw pixels where it is None; arguments and errors as of `features`."""
    if encoder is not None:
        return features(encoder, images, endpoints=endpoints, advance=advance)
    if endpoints is not None and list(endpoints) != ["pixels"]:
        raise UserError(f"Raw pixels have the one endpoint `pixels`. Received: {', '.join(endpoints)}")
    return pixels(images)


def clip_features(
    encoder: Any,
    clips: Sequence[np.ndarray],
    batch_size: int = 64,
    advance: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Mean of the frames and of the contexts of every clip.

    Clips are padded with zeros at their end, and the frames that see any of that are left out: as nothing in an
    encoder of `mizoo.encoders.waveform` depends on what comes later, the rest are those of the clip alone.

    Args:
        encoder: as `mizoo.encoders.waveform` builds, with the endpoints `local` and `context`.
        clips: float32 arrays (T,) in -1..1, each long enough for one frame.
        batch_size: clips in a batch.
        advance: called with the number of clips done.

    Returns:
        `local` (N, C) and `global` (N, D), float32; `global` equals the encoder's endpoint on the clip alone.

    Raises:
        UserError: for a clip shorter than one frame, or that is no floats (T,) in -1..1.
    """
    from mizoo.data import sound_files
    from mizoo.encoders.waveform import receptive_field

    field, jump = receptive_field(encoder)
    lengths = np.array([len(clip) for clip in clips])
    if lengths.min() < field:
        short = int(lengths.argmin())
        raise UserError(f"A clip has at least {field} samples. Received: clip {short} of {lengths[short]}.")
    clips = sound_files.check_clips(clips)
    means: dict[str, np.ndarray] = {}
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(clips), batch_size):
        rows = order[start : start + batch_size]
        longest = -(-lengths[rows].max() // _STEP) * _STEP
        batch = np.stack([np.pad(clips[row], (0, longest - lengths[row])) for row in rows])
        values = encoder.predict_on_batch(batch)
        for name, endpoint in (("local", "local"), ("global", "context")):
            frames = np.asarray(values[endpoint])
            batch_means = [frames[i, : (lengths[row] - field) // jump + 1].mean(axis=0) for i, row in enumerate(rows)]
            means.setdefault(name, np.empty((len(clips), frames.shape[-1]), np.float32))[rows] = batch_means
        if advance is not None:
            advance(len(rows))
    return means


def _choose(values: dict[str, Any], endpoints: Sequence[str] | None) -> list[str]:
    if endpoints is None:
        return list(values)
    unknown = [name for name in endpoints if name not in values]
    if unknown:
        raise UserError(f"No such endpoint: {', '.join(unknown)}. This encoder has: {', '.join(values)}")
    return list(endpoints)


def _store(out: dict[str, np.ndarray], name: str, value: np.ndarray, start: int, count: int) -> None:
    peak = float(np.abs(value).max())
    if not np.isfinite(peak):
        raise UserError(
            f"Features of endpoint `{name}` are not finite (pictures {start} to {start + len(value) - 1}). "
            "Check the encoder's weights and the pictures"
        )
    if name not in out:
        out[name] = np.empty((count, value.shape[1]), dtype="float16")
    if out[name].dtype == np.float16 and peak > _HALF_MAX:
        out[name] = out[name].astype("float32")
    out[name][start : start + len(value)] = value
