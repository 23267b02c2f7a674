"""Sounds of different lengths -> their frozen features, in padded batches that change nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np

from mizoo.encoders.waveform import receptive_field
from mizoo.errors import UserError

_STEP = 2000  # batches are padded to a multiple of this many samples, so that few lengths are traced


def clip_features(
    encoder: keras.Model,
    clips: Sequence[np.ndarray],
    batch_size: int = 64,
    advance: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Mean of the frames and of the contexts of every clip.

    Clips are padded with zeros at their end, and the frames that saw any of that are left out: as nothing in an
    encoder of `mizoo.encoders.waveform` depends on what comes later, the rest are those of the clip alone.

    Args:
        encoder: as `mizoo.encoders.waveform` builds, with the endpoints `local` and `context`.
        clips: float32 arrays (T,) in -1..1, each long enough for one frame.
        batch_size: clips in a batch.
        advance: called with the number of clips done.

    Returns:
        `local` (N, C) and `global` (N, D), float32; `global` equals the encoder's endpoint on the clip alone.

    Raises:
        UserError: for a clip shorter than one frame.
    """
    field, jump = receptive_field(encoder)
    lengths = np.array([len(clip) for clip in clips])
    if lengths.min() < field:
        short = int(lengths.argmin())
        raise UserError(f"A clip has at least {field} samples. Received: clip {short} of {lengths[short]}.")
    found: dict[str, np.ndarray] = {}
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(clips), batch_size):
        rows = order[start : start + batch_size]
        longest = -(-lengths[rows].max() // _STEP) * _STEP
        batch = np.stack([np.pad(clips[row], (0, longest - lengths[row])) for row in rows])
        values = encoder.predict_on_batch(batch)
        for name, endpoint in (("local", "local"), ("global", "context")):
            frames = np.asarray(values[endpoint])
            means = [frames[i, : (lengths[row] - field) // jump + 1].mean(axis=0) for i, row in enumerate(rows)]
            found.setdefault(name, np.empty((len(clips), frames.shape[-1]), np.float32))[rows] = means
        if advance is not None:
            advance(len(rows))
    return found
