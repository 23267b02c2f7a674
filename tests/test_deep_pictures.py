"""Deep pictures: values of 10 to 14 bits in files of 16 come out as bright as they are, or the user is told."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from support.deep import png_of_16_bit_colour

from mizoo import data
from mizoo.data import depth as depths
from mizoo.data import pictures
from mizoo.errors import UserError


def ramp(most: int) -> np.ndarray:
    """A grey ramp (16, 32) from 0 to `most`."""
    return np.tile(np.rint(np.linspace(0, most, 32)), (16, 1)).astype(np.uint16)


def save(path, values, **options):
    Image.fromarray(values).save(path, **options)
    return path


BRIGHT = np.rint(np.linspace(0, 255, 32))


@pytest.mark.parametrize("bits", [9, 10, 12, 14])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_values_of_fewer_bits_are_told_and_taken_by_depth(tmp_path, bits, suffix):
    path = save(tmp_path / f"x{suffix}", ramp(2**bits - 1))
    with pytest.warns(UserWarning, match=rf"x{suffix}.*almost black.*depth={bits + bits % 2} \(--depth"):
        dark = pictures.read(path)
    assert dark.max() <= 64
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bright = pictures.read(path, depth=bits)
    np.testing.assert_allclose(bright[0, :, 0], BRIGHT, atol=1)


def test_full_range_dark_bytes_and_black_pass_without_a_word(tmp_path):
    paths = [
        save(tmp_path / "full.png", ramp(65535)),
        save(tmp_path / "bytes.png", np.full((4, 4), 3, np.uint8)),
        save(tmp_path / "black.png", np.zeros((4, 4), np.uint16)),
        save(tmp_path / "float.tif", ramp(255).astype(np.float32)),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in paths:
            pictures.read(path)
        np.testing.assert_array_equal(pictures.read(paths[0])[0, :, 0], np.rint(ramp(65535)[0] / 257))
        np.testing.assert_array_equal(pictures.read(paths[1], depth=12), np.full((4, 4, 3), 3))
        assert pictures.read(save(tmp_path / "dark.png", ramp(4095)), depth=16).max() == 16  # said: it is dark


def test_a_float_file_takes_its_range_from_depth_too(tmp_path):
    path = save(tmp_path / "x.tif", ramp(4095).astype(np.float32))
    np.testing.assert_allclose(pictures.read(path, depth=12)[0, :, 0], BRIGHT, atol=1)
    with pytest.raises(UserError, match=r"x.tif.*`depth` \(--depth"):
        pictures.read(path)
    dark = save(tmp_path / "dark.tif", (ramp(4095) % 2).astype(np.float32))  # 0 and 1 of 4095
    assert pictures.read(dark, depth=12).max() == 0 and pictures.read(dark).max() == 255


@pytest.mark.parametrize("depth", [None, 12])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_floats_of_0_to_1_that_a_resize_has_overshot_are_clipped(tmp_path, suffix, depth):
    values = np.repeat(np.linspace(0, 1, 32, dtype="float32")[None], 16, axis=0)
    values[0, -3:] = 1.02, 1.0, 1.08
    path = tmp_path / f"x{suffix}"
    save(path, values) if suffix == ".tif" else np.save(path, np.repeat(values[..., None], 3, axis=-1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = pictures.read(path, depth=depth)
    np.testing.assert_allclose(out[1, :, 0], BRIGHT, atol=1)
    assert (out[0, -3:] == 255).all()


def test_floats_with_a_largest_value_between_both_ranges_are_told(tmp_path):
    values = ramp(100).astype(np.float32) / 50  # 0..2
    with pytest.warns(UserWarning, match=r"x.tif.*float picture is 2, .*almost black.*numpy.clip"):
        assert pictures.read(save(tmp_path / "x.tif", values)).max() == 2
    notes: list = []
    np.save(tmp_path / "x.npy", np.repeat(values[..., None], 13, axis=-1))
    pictures.read(tmp_path / "x.npy", notes=notes)
    assert len(notes) == 1


def test_the_tags_of_a_tiff_say_the_range(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = 4095
    path = save(tmp_path / "x.tif", ramp(4095), tiffinfo=tags)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(pictures.read(path)[0, :, 0], BRIGHT, atol=1)
    tags[281] = 3000  # a statistic of this picture, not a range
    with pytest.warns(UserWarning, match="almost black"):
        pictures.read(save(tmp_path / "y.tif", ramp(3000), tiffinfo=tags))


def test_a_tiff_of_packed_12_bits_is_as_bright_as_it_is(tmp_path):
    values = ramp(4095).astype(np.uint32)
    packed = np.empty((16, 48), np.uint8)  # two values in three bytes
    packed[:, 0::3] = values[:, 0::2] >> 4
    packed[:, 1::3] = (values[:, 0::2] & 15) << 4 | values[:, 1::2] >> 8
    packed[:, 2::3] = values[:, 1::2] & 255
    entries = [(256, 32), (257, 16), (258, 12), (259, 1), (262, 1), (273, 122), (277, 1), (278, 16), (279, 768)]
    header = b"II*\0" + (8).to_bytes(4, "little") + len(entries).to_bytes(2, "little")
    table = b"".join(
        tag.to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, value in entries
    )
    (tmp_path / "x.tif").write_bytes(header + table + bytes(4) + packed.tobytes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(pictures.read(tmp_path / "x.tif")[0, :, 0], BRIGHT, atol=1)


@pytest.mark.parametrize("depth", [0, 7, 33, 12.0, True, "12"])
def test_a_depth_that_is_none_is_refused(tmp_path, depth):
    with pytest.raises(UserError, match="`depth`"):
        pictures.read(save(tmp_path / "x.png", ramp(4095)), depth=depth)


def test_values_beyond_the_depth_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"x.png.*do not fit into the 10 bits"):
        pictures.read(save(tmp_path / "x.png", ramp(4095)), depth=10)


def test_dark_colours_of_16_bits_are_told_and_cannot_be_taken_by_depth(tmp_path):
    path = png_of_16_bit_colour(tmp_path / "x.png", np.repeat(ramp(4095)[..., None], 3, axis=-1))
    with pytest.warns(UserWarning, match=r"x.png.*colour.*almost black"):
        pictures.read(path)
    with pytest.raises(UserError, match=r"x.png.*upper 8"):
        pictures.read(path, depth=12)
    four = np.repeat(ramp(4095)[..., None], 4, axis=-1)
    four[..., -1] = 65535  # alpha, which says nothing
    path = png_of_16_bit_colour(tmp_path / "four.png", four)
    with pytest.warns(UserWarning, match=r"four.png.*colour.*almost black"):
        assert pictures.read(path, channels=4).shape == (16, 32, 4)
    with pytest.raises(UserError, match=r"four.png.*upper 8"):
        pictures.read(path, depth=12, channels=4)
    full = png_of_16_bit_colour(tmp_path / "y.png", np.repeat(ramp(65535)[..., None], 3, axis=-1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pictures.read(full).max() == 255


def test_a_folder_warns_once_and_takes_the_depth(tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.png", ramp(4095 - i))
    with pytest.warns(UserWarning, match=r"0.png.*2 more of 3") as caught:
        dark = data.load(tmp_path).images
    assert len(caught) == 1 and dark.max() <= 16
    assert data.load(tmp_path, depth=12).images.max() == 255
    with pytest.raises(UserError, match="`depth`"):
        data.load(np.zeros((2, 4, 4, 3), np.uint8), depth=12)


def test_large_pictures_are_converted_in_strips_of_the_same_content(tmp_path, monkeypatch, rng):
    paths = []
    for mode in ("L", "P", "RGBA", "CMYK", "RGB", "1"):
        image = Image.fromarray(rng.integers(0, 256, (37, 23, 3)).astype(np.uint8)).convert(mode)
        path = tmp_path / f"{mode}{'.tif' if mode == 'CMYK' else '.png'}"
        image.save(path, **({"transparency": 3} if mode == "P" else {}))
        paths.append(path)
    for number, values in enumerate((ramp(65535), ramp(200).astype(np.float32))):
        paths.append(save(tmp_path / f"{number}.tif", values))
    whole = [pictures.read(path) for path in paths]
    monkeypatch.setattr(pictures, "_STRIP", 50)
    monkeypatch.setattr(depths, "_BLOCK", 40)
    for path, wanted in zip(paths, whole):
        np.testing.assert_array_equal(pictures.read(path), wanted)
