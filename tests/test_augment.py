"""Augmentations as functions of their noise."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from mizoo import augment
from mizoo.errors import UserError


def shifted(image, down: int, right: int, flip: bool) -> np.ndarray:
    """The same augmentation by padding and slicing."""
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    crop = padded[4 + down : 4 + down + image.shape[0], 4 + right : 4 + right + image.shape[1]]
    return crop[:, ::-1] if flip else crop


def test_crop_and_flip_against_padding_and_slicing(rng):
    images = rng.integers(0, 256, (9, 12, 10, 3), dtype="uint8")
    moves = np.arange(9)
    noise = np.stack([(moves + 0.5) / 9, ((moves[::-1]) + 0.5) / 9, np.where(moves % 2, 0.9, 0.1)], axis=1)
    result = ops.convert_to_numpy(augment.CropFlip()(images, noise.astype("float32")))
    for i in range(9):
        np.testing.assert_array_equal(result[i], shifted(images[i], i - 4, 4 - i, bool(i % 2)))


def test_each_picture_depends_on_its_own_noise_alone(rng):
    images = rng.integers(0, 256, (4, 8, 8, 3), dtype="uint8")
    noise = rng.random((4, 3), dtype="float32")
    other = noise.copy()
    other[2] = 1 - other[2]
    first, second = (ops.convert_to_numpy(augment.CropFlip(shift=2)(images, n)) for n in (noise, other))
    assert [np.array_equal(a, b) for a, b in zip(first, second)] == [True, True, False, True]


def test_every_shift_is_as_likely_as_any_other(rng):
    image = np.arange(64, dtype="int32").reshape(1, 8, 8, 1).repeat(9000, axis=0)
    moved = ops.convert_to_numpy(augment.CropFlip(shift=1, flip=False)(image, rng.random((9000, 3), dtype="float32")))
    values, counts = np.unique(moved[:, 4, 4, 0], return_counts=True)
    assert sorted(values) == [27, 28, 29, 35, 36, 37, 43, 44, 45]
    assert abs(counts - 1000).max() < 150


def test_an_unknown_preset_is_named():
    assert augment.preset("none") is None
    with pytest.raises(UserError, match="'dmi'"):
        augment.preset("dmi")
