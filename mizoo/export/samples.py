"""What two forms of an encoder are compared on: real pictures, and made-up sounds and series of two lengths."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mizoo._tools.files import user_path
from mizoo.data import photographs, pictures
from mizoo.errors import UserError
from mizoo.zoo import interface

if TYPE_CHECKING:
    import keras

LENGTHS = {1: (8000, 2999), 2: (64, 17)}  # by axes of the input without the batch, where its length is free
_CUT = 96  # pixels on a side: small enough for hundreds of cuttings, large enough to show something
_STEPS = (_CUT, _CUT // 2, _CUT // 4)  # cuttings overlap where there are few photographs: scikit-learn alone has two


def sample_inputs(encoder: keras.Model, count: int) -> list[np.ndarray]:
    """Batches of up to `count` examples of what an encoder takes: pictures, or sounds or series of two lengths."""
    shape = interface.input_shape(encoder)
    if interface.kind(encoder) != "pictures":
        return sample_sequences(count, shape)
    if count == 1:
        return [np.zeros((1, *(size or 32 for size in shape)), np.float32)]
    return [sample_pictures(count, shape)]


def sample_pictures(count: int, shape: Sequence[int | None]) -> np.ndarray:
    """Pictures of any shape, always the same ones.

    Args:
        count: how many at most.
        shape: (H, W, C). A free size gives 32.

    Returns:
        uint8 array (count, H, W, C) from CIFAR-10's test split where TFDS holds it (nothing is fetched), otherwise from
        the photographs that scikit-image and scikit-learn install. One channel is the mean of RGB; of other numbers,
        the channels are red, green and blue of this picture, then of the next ones.

    Raises:
        UserError: for another shape, or if none of these is installed.
    """
    height, width, channels = (*shape, None, None)[:3] if len(shape) != 3 else shape
    if len(shape) != 3 or channels is None:
        raise UserError(
            f"There are no sample pictures for the input shape {tuple(shape)}: pass `images`, a batch of real inputs."
        )
    size = (height or 32, width or 32)
    images = np.stack([pictures.fit(picture, size) for picture in _cifar10(count) or _cuttings(count)])
    if channels == 1:
        return np.round(images.mean(axis=-1, keepdims=True)).astype(np.uint8)
    rolled = [np.roll(images, -step, axis=0) for step in range(-(-channels // 3))]
    return np.concatenate(rolled, axis=-1)[..., :channels]


def _cifar10(count: int) -> list[np.ndarray]:
    # Asking TFDS for data that are not prepared would start a download.
    folder = user_path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")) / "cifar10"
    if not folder.is_dir() or importlib.util.find_spec("tensorflow_datasets") is None:
        return []
    from mizoo import data

    return list(data.load("cifar10", f"test[:{count}]").images)


def _cuttings(count: int) -> list[np.ndarray]:
    whole = []
    for folder in photographs.folders():
        # The other suffixes are volumes and multi-page files.
        whole += [pictures.read(path) for path in pictures.find([folder]) if path.suffix in (".png", ".jpg")]
    for step in _STEPS:
        cuttings = [
            photograph[top : top + _CUT, left : left + _CUT]
            for photograph in whole
            for top in range(0, photograph.shape[0] - _CUT + 1, step)
            for left in range(0, photograph.shape[1] - _CUT + 1, step)
        ]
        if len(cuttings) >= count:
            # Evenly spread over all photographs.
            return [cuttings[i] for i in np.linspace(0, len(cuttings) - 1, count).astype(int)]
    raise UserError(
        "There are no pictures to compare on: set TFDS_DATA_DIR to a folder that holds CIFAR-10, install photographs "
        '(`pip install ".[demo]"` in a clone), or pass `images`.'
    )


def sample_sequences(count: int, shape: Sequence[int | None]) -> list[np.ndarray]:
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
            walk = rng.standard_normal((count, length, shape[1] or 1)).cumsum(axis=1)
            batches.append((walk / walk.std()).astype("float32"))
            continue
        t = np.arange(length) / length
        tones = rng.uniform(20, length / 8, (count, 3, 1)) * (1 + 0.2 * rng.uniform(-1, 1, (count, 3, 1)) * t)
        waves = np.sin(2 * np.pi * tones * t + rng.uniform(0, 6.28, (count, 3, 1))) * np.sin(np.pi * t) ** 2
        sounds = waves.mean(axis=1) * rng.uniform(0.05, 0.9, (count, 1)) + 0.002 * rng.standard_normal((count, length))
        batches.append(np.clip(sounds, -1, 1).astype("float32"))
    return batches
