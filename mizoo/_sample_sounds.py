"""Sounds and series to compare two forms of an encoder on: made up, always the same, of two lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LENGTHS = {1: (8000, 2999), 2: (64, 17)}  # by axes of the input without the batch, where its length is free


def sample_inputs(count: int, shape: Sequence[int | None]) -> list[np.ndarray]:
    """Batches of made-up inputs, one for each length where the length is free.

    Args:
        count: sounds or series in a batch.
        shape: (T,) of sounds or (T, d) of series; a T of None is free.

    Returns:
        float32 arrays (count, T) of harmonics that fade in and out over faint noise, in -1..1; or (count, T, d), of
        random walks brought to unit scale.
    """
    batches = []
    for length in LENGTHS[len(shape)] if shape[0] is None else (shape[0],):
        rng = np.random.default_rng(0)
        if len(shape) == 2:
            walk = rng.standard_normal((count, length, shape[1])).cumsum(axis=1)
            batches.append((walk / walk.std()).astype("float32"))
            continue
        t = np.arange(length) / length
        tones = rng.uniform(20, length / 8, (count, 3, 1)) * (1 + 0.2 * rng.uniform(-1, 1, (count, 3, 1)) * t)
        waves = np.sin(2 * np.pi * tones * t + rng.uniform(0, 6.28, (count, 3, 1))) * np.sin(np.pi * t) ** 2
        sounds = waves.mean(axis=1) * rng.uniform(0.05, 0.9, (count, 1)) + 0.002 * rng.standard_normal((count, length))
        batches.append(np.clip(sounds, -1, 1).astype("float32"))
    return batches
