"""Augmentations as functions of their noise, each against a direct computation."""

from __future__ import annotations

import colorsys

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image
from scipy import ndimage

from mizoo import augment
from mizoo.errors import UserError

EVERY = augment.Compose(
    [
        augment.Translate(4),
        augment.RandomResizedCrop((0.2, 1.0)),
        augment.Flip(),
        augment.Blur(),
        augment.ColourJitter(),
        augment.Grey(),
        augment.Solarise(),
    ]
)


def pictures(rng, n: int = 6, height: int = 12, width: int = 10) -> np.ndarray:
    return rng.integers(0, 256, (n, height, width, 3), dtype="uint8")


def applied(operations, images, noise) -> np.ndarray:
    return ops.convert_to_numpy(augment.Compose(operations)(images, np.asarray(noise, "float32")))


def by_slicing(image, down: int, right: int, flip: bool) -> np.ndarray:
    """Translation by padding and slicing, then the flip."""
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    crop = padded[4 + down : 4 + down + image.shape[0], 4 + right : 4 + right + image.shape[1]]
    return crop[:, ::-1] if flip else crop


def test_translation_and_flip_against_padding_and_slicing(rng):
    images = pictures(rng, 9)
    moves = np.arange(9)
    noise = np.stack([(moves + 0.5) / 9, ((moves[::-1]) + 0.5) / 9, np.where(moves % 2, 0.1, 0.9)], axis=1)
    result = applied([augment.Translate(4), augment.Flip()], images, noise)
    for i in range(9):
        np.testing.assert_array_equal(result[i], by_slicing(images[i], i - 4, 4 - i, bool(i % 2)))


@pytest.mark.parametrize("height, width", [(5, 3), (2, 1)])
def test_a_translation_beyond_the_picture_reflects_the_reflection(rng, height, width):
    image = pictures(rng, 1, height, width)
    padded = np.pad(image[0], ((9, 9), (9, 9), (0, 0)), mode="reflect")
    moves = np.arange(-9, 10)
    noise = np.stack([(moves + 9.5) / 19, (9.5 - moves) / 19], axis=1)
    result = applied([augment.Translate(9)], np.repeat(image, 19, axis=0), noise)
    for move, found in zip(moves, result):
        np.testing.assert_array_equal(found, padded[9 + move :, 9 - move :][:height, :width])


def test_occlusion_against_slicing(rng):
    images = pictures(rng, 30)
    noise = rng.random((30, 2))
    result = applied([augment.Occlude(0.5)], images, noise)
    for image, (down, right), found in zip(images, noise, result):
        top, left = int(down * 7), int(right * 6)  # a square of 6 rows and 5 columns on 12 by 10 pixels
        expected = image.astype("float32")
        expected[top : top + 6, left : left + 5] = 127.5
        np.testing.assert_array_equal(found, expected)
    assert {int(value * 7) for value in noise[:, 0]} >= {0, 6}  # both borders were reached
    everything = applied([augment.Occlude(1.0)], images, noise)
    assert (everything == 127.5).all()
    one_pixel = applied([augment.Occlude(0.01)], images, noise)
    assert ((one_pixel == 127.5).all(axis=-1).sum(axis=(1, 2)) == 1).all()


@pytest.mark.parametrize("side", [0.0, -0.5, 1.5])
def test_an_impossible_square_is_refused(side):
    with pytest.raises(UserError, match="share of the picture's side"):
        augment.Occlude(side)


def test_every_shift_is_as_likely_as_any_other(rng):
    image = np.arange(64, dtype="float32").reshape(1, 8, 8, 1).repeat(9000, axis=0)
    moved = applied([augment.Translate(1)], image, rng.random((9000, 2)))
    values, counts = np.unique(moved[:, 4, 4, 0], return_counts=True)
    assert sorted(values) == [27, 28, 29, 35, 36, 37, 43, 44, 45]
    assert abs(counts - 1000).max() < 150


def test_resized_crop_against_interpolation_at_the_same_points(rng):
    images = pictures(rng, 20)
    noise = rng.random((20, 4))
    result = applied([augment.RandomResizedCrop((0.2, 1.0), (0.5, 2.0))], images, noise)
    for image, (a, r, y, x), found in zip(images, noise, result):
        area, aspect = 0.2 + 0.8 * a, np.exp(np.log(0.5) + r * np.log(4.0))
        height, width = min(np.sqrt(area / aspect), 1.0) * 12, min(np.sqrt(area * aspect), 1.0) * 10
        rows = y * (12 - height) + (np.arange(12) + 0.5) * height / 12 - 0.5
        columns = x * (10 - width) + (np.arange(10) + 0.5) * width / 10 - 0.5
        grid = np.meshgrid(rows, columns, indexing="ij")
        for c in range(3):
            expected = ndimage.map_coordinates(image[..., c].astype(float), grid, order=1, mode="nearest")
            np.testing.assert_allclose(found[..., c], expected, atol=2e-3)


def test_a_smaller_crop_is_what_pillow_resizes_it_to(rng):
    """Pillow's bilinear filter, which widens where a picture shrinks; crops of whole pixels, flipped and recoloured."""
    images = pictures(rng, 8, 16, 16)
    noise = np.concatenate([rng.random((8, 4)), np.full((8, 1), 0.1), np.zeros((8, 1))], axis=1)
    shares = np.array([16, 14, 12, 10, 8, 16, 12, 8]) / 16
    noise[:, 0] = (shares**2 - 0.1) / 0.9
    noise[:, 2:4] = 1.0  # the lower right corner
    operations = [augment.RandomResizedCrop((0.1, 1.0), (1.0, 1.0), side=8), augment.Flip(), augment.Grey(1.0)]
    result = applied(operations, images, noise)
    assert result.shape == (8, 8, 8, 3)
    for image, share, found in zip(images, shares, result):
        size = round(16 * share)
        planes = [Image.fromarray(image[..., c].astype("float32")) for c in range(3)]
        box = (16 - size, 16 - size, 16, 16)
        resized = np.stack([np.asarray(plane.resize((8, 8), Image.Resampling.BILINEAR, box)) for plane in planes], -1)
        grey = resized[:, ::-1] @ np.array([0.299, 0.587, 0.114])
        inner = slice(1, -1)  # at its border Pillow takes nothing from outside the box
        np.testing.assert_allclose(found[inner, inner, 0], grey[inner, inner], atol=0.05)
    assert augment.preset("views", 8).operations[0] == augment.RandomResizedCrop((0.3, 1.0), side=8)
    with pytest.raises(UserError, match="simclr, views. Received: 'dim'"):
        augment.preset("dim", 8)


def test_a_crop_of_everything_is_the_picture(rng):
    images = pictures(rng)
    result = applied([augment.RandomResizedCrop((1.0, 1.0), (1.0, 1.0))], images, rng.random((6, 4)))
    np.testing.assert_allclose(result, images, atol=1e-3)


def test_blur_against_a_gaussian_away_from_the_border(rng):
    images = pictures(rng, 4, 31, 31)
    noise = np.stack([np.array([0.0, 0.1, 0.2, 0.9]), np.array([0.2, 0.5, 0.9, 0.5])], axis=1)
    result = applied([augment.Blur((0.1, 2.0), 0.5)], images, noise)
    for image, (_, column), found in zip(images[:3], noise, result):
        sigma = 0.1 + 1.9 * column
        expected = ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), truncate=6.0)
        np.testing.assert_allclose(found[10:-10, 10:-10], expected[10:-10, 10:-10], atol=0.05)
    np.testing.assert_array_equal(result[3], images[3])
    flat = applied([augment.Blur((1.0, 2.0), 1.0)], np.full((2, 9, 9, 3), 77, "uint8"), rng.random((2, 2)))
    np.testing.assert_allclose(flat, 77, atol=1e-3)


def test_brightness_contrast_and_saturation_are_the_usual_ones(rng):
    images = rng.integers(100, 150, (5, 6, 6, 3)).astype("float32")  # nothing reaches the clip
    noise = rng.random((5, 5))
    noise[:, 0] = 0.0
    result = applied([augment.ColourJitter(0.3, 0.4, 0.5, 0.0)], images, noise)
    luma = np.array([0.299, 0.587, 0.114])
    for image, row, found in zip(images, noise, result):
        b, c, s = (1 + k * (2 * u - 1) for k, u in zip((0.3, 0.4, 0.5), row[1:4]))
        x = image * b
        x = c * x + (1 - c) * (x @ luma).mean()
        x = s * x + (1 - s) * (x @ luma)[..., None]
        np.testing.assert_allclose(found, x, atol=0.02)


def test_hue_keeps_the_luma_and_turns_the_colour(rng):
    """A turn of a half swaps a colour with its opposite; a turn forth and back is none."""
    images = np.array([180.0, 100, 110], "float32") * np.ones((3, 4, 4, 1), "float32")
    noise = np.zeros((3, 5))
    noise[:, 1:] = 0.5
    noise[:, 4] = (0.5, 1.0, 0.75)
    result = applied([augment.ColourJitter(0, 0, 0, 0.5, 1.0)], images, noise)
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(result[0], images[0], atol=0.05)
    np.testing.assert_allclose(result @ luma, images @ luma, atol=0.1)
    np.testing.assert_allclose(
        result[1] - (images[1] @ luma)[..., None], (images[1] @ luma)[..., None] - images[1], atol=0.2
    )
    before, after = (colorsys.rgb_to_hsv(*(v[0, 0] / 255))[0] for v in (images[2], result[2]))
    assert 0.1 < (after - before) % 1.0 < 0.9


def test_probabilities_decide_by_the_first_column(rng):
    images = pictures(rng, 2)
    noise = np.zeros((2, 1)) + [[0.1], [0.3]]
    grey = applied([augment.Grey(0.2)], images, noise)
    np.testing.assert_allclose(grey[0], (images[0] @ [0.299, 0.587, 0.114])[..., None].repeat(3, -1), atol=1e-2)
    np.testing.assert_array_equal(grey[1], images[1])
    solarised = applied([augment.Solarise(128, 0.2)], images, noise)
    np.testing.assert_array_equal(solarised[0], np.where(images[0] >= 128, 255 - images[0], images[0]))
    np.testing.assert_array_equal(solarised[1], images[1])


def test_together_is_one_after_the_other_and_stays_in_range(rng):
    images, noise = pictures(rng, 30), rng.random((30, EVERY.noise_size), dtype="float32")
    together = ops.convert_to_numpy(EVERY(images, noise))
    step, begin = images.astype("float32"), 0
    for operation in EVERY.operations:
        step = applied([operation], step, noise[:, begin : begin + operation.noise_size])
        begin += operation.noise_size
    # Alone, jitter and grey are clipped each; together once. Pictures that neither drives out of range are equal.
    same = np.isclose(together, step, atol=0.05).reshape(30, -1).all(axis=1)
    assert same.sum() >= 10
    assert together.min() >= 0 and together.max() <= 255 and together.dtype == np.float32


def test_each_picture_depends_on_its_own_noise_alone(rng):
    images, noise = pictures(rng, 4), rng.random((4, EVERY.noise_size), dtype="float32")
    other = noise.copy()
    other[2] = 1 - other[2]
    first, second = (ops.convert_to_numpy(EVERY(images, n)) for n in (noise, other))
    assert [np.array_equal(a, b) for a, b in zip(first, second)] == [True, True, False, True]
    alone = ops.convert_to_numpy(EVERY(images[2:3], noise[2:3]))
    np.testing.assert_allclose(alone[0], first[2], atol=1e-3)


@pytest.mark.parametrize("name", sorted(set(augment.PRESETS) - {"none", "voice"}))
def test_presets_change_pictures_and_keep_their_configuration(rng, name):
    preset = augment.preset(name)
    images = pictures(rng, 3, 32, 32)
    noise = rng.random((3, preset.noise_size), dtype="float32")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(preset))
    assert again == preset and hash(again) == hash(preset) and type(preset.operations[0]).__name__ in repr(preset)
    result = ops.convert_to_numpy(preset(images, noise))
    np.testing.assert_array_equal(result, ops.convert_to_numpy(again(images, noise)))
    assert result.shape == images.shape and not np.allclose(result, images)


def test_what_is_no_augmentation_is_named():
    assert augment.preset("none") is None
    with pytest.raises(UserError, match="'dmi'"):
        augment.preset("dmi")
    with pytest.raises(UserError, match="operations of mizoo.augment"):
        augment.Compose([keras.layers.RandomFlip()])
    with pytest.raises(UserError, match="3 channels"):
        augment.Compose([augment.Grey()])(np.zeros((1, 4, 4, 1), "uint8"), np.zeros((1, 1), "float32"))
