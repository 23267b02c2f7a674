"""Pictures: what a user passes or points at becomes RGB in 0..255, or an error that says what to mend."""

from __future__ import annotations

import io
import os
import time
import warnings
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mizoo.data import pictures
from mizoo.errors import UserError

SHAPE = (32, 32, 3)


@pytest.fixture
def colours() -> np.ndarray:
    """A picture (20, 30, 3) whose every pixel differs, so that a turned or swapped one cannot pass."""
    return (np.arange(20 * 30 * 3).reshape(20, 30, 3) * 7 % 256).astype(np.uint8)


# --- check_images


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32", "float64"])
def test_decoded_pictures_of_any_numeric_type_pass_unchanged(dtype):
    images = np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype(dtype)
    checked = pictures.check_images(images, SHAPE)
    assert checked.dtype == np.float32
    np.testing.assert_array_equal(checked, images.astype(np.float32))


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.zeros(SHAPE, np.uint8), r"images\[None\]"),
        (np.zeros((2, 3, 32, 32), np.uint8), "moveaxis"),
        (np.zeros((2, 32, 32), np.uint8), "repeat"),
        (np.zeros((2, 32, 32, 4), np.uint8), "channels must be 3, not 4"),
        (np.zeros((2, 28, 28, 3), np.uint8), r"\(2, 28, 28, 3\).*square"),
        (np.zeros((0, *SHAPE), np.uint8), "no picture"),
        (np.zeros((), np.uint8), "shape"),
        ([], "shape"),
        ([np.zeros((4, 4, 3)), np.zeros((5, 4, 3))], "differ in size"),
        (np.zeros((2, *SHAPE), bool), "bool"),
        (np.zeros((2, *SHAPE), complex), "complex"),
        (np.full((1, *SHAPE), "a"), "real numbers"),
        ("cat.jpg", "pictures.read"),
        (None, "real numbers"),
    ],
)
def test_a_wrong_array_is_refused_with_its_remedy(images, says):
    with pytest.raises(UserError, match=says):
        pictures.check_images(images, SHAPE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_and_counted(value):
    images = np.full((5, *SHAPE), 100.0)
    images[2, 3, 4, 1] = images[4, 0, 0, 0] = value
    with pytest.raises(UserError, match="in 2 of 5 pictures .the first is number 2"):
        pictures.check_images(images, SHAPE)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-2.1, 2.6), (-0.4, 0.4), (0, 300), (0, 65535), (-9, 255)])
def test_values_that_are_no_decoded_pixels_are_refused(low, high):
    images = np.linspace(low, high, 2 * 32 * 32 * 3).reshape(2, *SHAPE)
    with pytest.raises(UserError, match="0..255"):
        pictures.check_images(images, SHAPE)


def test_floats_within_0_and_1_give_a_warning_but_dark_bytes_and_black_do_not():
    for high in (0.5, 1.02, 1.7):  # a resize has overshot
        with pytest.warns(UserWarning, match="multiply them by 255"):
            pictures.check_images(np.full((1, *SHAPE), high), SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures.check_images(np.ones((1, *SHAPE), np.uint8), SHAPE)
        pictures.check_images(np.zeros((1, *SHAPE), np.float32), SHAPE)


def test_free_sizes_take_any_picture():
    assert pictures.check_images(np.zeros((1, 7, 9, 3), np.uint8), (None, None, 3)).shape == (1, 7, 9, 3)


# --- read


def save(path, image: Image.Image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_mode_comes_out_as_rgb_of_the_same_content(tmp_path, mode):
    ramp = np.tile(np.linspace(0, 255, 30).astype(np.uint8), (20, 1))
    grey = Image.fromarray(ramp)
    if mode == "I;16":
        image = Image.fromarray(ramp.astype(np.uint16) * 257)
    else:
        image = (grey if mode == "P" else grey.convert("RGB")).convert(mode, dither=Image.Dither.NONE)
    path = save(tmp_path / ("x.tif" if mode == "CMYK" else "x.png"), image)
    out = pictures.read(path)
    assert out.dtype == np.uint8
    assert out.shape == (20, 30, 3)
    wanted = np.where(ramp > 127, 255, 0) if mode == "1" else ramp
    assert np.abs(out.astype(int) - wanted[..., None]).max() <= 1


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:, 2:, 3] = 255  # left half clear, right half black
    paths = [save(tmp_path / "rgba.png", Image.fromarray(rgba))]
    palette = Image.fromarray(np.repeat(np.array([[0, 0, 1, 1]], np.uint8), 4, axis=0), "L").convert("P")
    palette.putpalette([9, 9, 9, 0, 0, 0])
    paths.append(save(tmp_path / "p.png", palette, transparency=0))
    for path in paths:
        out = pictures.read(path)
        assert (out[:, :2] == 255).all()
        assert (out[:, 2:] == 0).all()


@pytest.mark.parametrize(("orientation", "turn"), [(3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1))])
def test_the_orientation_of_a_camera_is_honoured(tmp_path, colours, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "x.png", Image.fromarray(colours), exif=exif)
    np.testing.assert_array_equal(pictures.read(path), turn(colours))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "I;16", "RGBA", "CMYK", "RGB"])
def test_the_orientation_of_an_uncompressed_tiff_is_honoured_for_files_and_bytes(tmp_path, colours, mode, orientation):
    grey = colours[..., 0]
    image = Image.fromarray(grey.astype("uint16") * 257) if mode == "I;16" else Image.fromarray(colours).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = pictures.read(save(tmp_path / "upright.tif", image))
    path = save(tmp_path / "turned.tif", image, exif=exif)
    turns = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
        8: np.rot90,
    }
    np.testing.assert_array_equal(pictures.read(path), turns[orientation](upright))
    np.testing.assert_array_equal(pictures.decode(path.read_bytes(), "x"), turns[orientation](upright))


def broken(kind: str, path):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(buffer, "PNG" if kind == "cut.png" else "JPEG")
    data = buffer.getvalue()
    if kind == "empty.jpg":
        data = b""
    elif kind == "text.jpg":
        data = b"this is no picture"
    elif kind.startswith("cut"):
        data = data[: len(data) // 2]
    (path / kind).write_bytes(data)
    return path / kind


@pytest.mark.parametrize(
    ("kind", "says"),
    [("empty.jpg", "empty"), ("text.jpg", "not a picture"), ("cut.jpg", "truncated"), ("cut.png", "truncated")],
)
def test_a_bad_file_is_named(tmp_path, kind, says):
    path = broken(kind, tmp_path)
    with pytest.raises(UserError, match=f"{kind}.*{says}"):
        pictures.read(path)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.png: no such file"):
        pictures.read(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match="folder"):
        pictures.read(tmp_path)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, colours):
    path = save(tmp_path / "bomb.png", Image.fromarray(colours))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match="bomb.png.*too many pixels"):
        pictures.read(path)


def test_grey_values_without_a_known_range_are_refused(tmp_path):
    path = save(tmp_path / "x.tif", Image.fromarray(np.full((4, 4), -5.0, np.float32)))
    with pytest.raises(UserError, match="x.tif.*8 or 16 bits"):
        pictures.read(path)


# --- square


@pytest.mark.parametrize("size", [(200, 320), (320, 200), (31, 57), (32, 32), (5, 9)])
def test_square_keeps_the_centre(size):
    height, width = size
    side = min(size)
    image = np.zeros((height, width, 3), np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    image[top : top + side, left : left + side] = 200  # only the centre square is bright
    out = pictures.square(image, 32)
    assert out.shape == (32, 32, 3)
    assert out[10:-10, 10:-10].min() == out[10:-10, 10:-10].max() == 200


def test_square_antialiases():
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the result can show: grey, not stripes
    out = pictures.square(stripes, 32).astype(int)
    assert np.abs(out - 127.5).max() < 8


def test_square_leaves_a_fitting_picture_alone_and_does_not_share_memory(colours):
    image = np.ascontiguousarray(colours[:20, :20])
    out = pictures.square(image, 20)
    np.testing.assert_array_equal(out, image)
    assert not np.shares_memory(out, image)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3)), np.zeros((1, 4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_square_refuses_what_is_no_picture(image):
    with pytest.raises(UserError, match="uint8 array"):
        pictures.square(image, 8)


def test_prepare_gives_one_channel_to_a_grey_encoder(tmp_path, colours):
    path = save(tmp_path / "x.png", Image.fromarray(colours))
    assert pictures.prepare(path, (16, 16, 3)).shape == (16, 16, 3)
    assert pictures.prepare(path, (16, 16, 1)).shape == (16, 16, 1)


# --- find


@pytest.fixture
def tree(tmp_path):
    for name in (
        "b.PNG",
        "a.jpg",
        "notes.txt",
        ".hidden.png",
        "sub/c.jpeg",
        "sub/deep/d.webp",
        ".cache/e.png",
        "x.dat",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(found, root):
    return [path.relative_to(root).as_posix() for path in found]


def test_a_folder_is_searched_in_a_stable_order(tree):
    assert names(pictures.find(tree), tree) == ["a.jpg", "b.PNG", "sub/c.jpeg", "sub/deep/d.webp"]


def test_files_folders_and_patterns_keep_the_order_given_without_duplicates(tree):
    found = pictures.find(
        [str(tree / "x.dat"), tree / "sub", tree / "sub/../a.jpg", str(tree / "*.*"), str(tree / "**")]
    )
    assert [path.name for path in found] == ["x.dat", "c.jpeg", "d.webp", "a.jpg", "b.PNG"]


def test_a_file_with_brackets_in_its_name_is_no_pattern(tree):
    (tree / "photo [1].jpg").write_bytes(b"x")
    assert names(pictures.find(str(tree / "photo [1].jpg")), tree) == ["photo [1].jpg"]


@pytest.mark.parametrize(
    ("given", "says"),
    [("nowhere", "no such file"), ("*.gif", "no file"), ("empty", "suffix of a picture"), (None, "No path was given")],
)
def test_nothing_found_is_an_error(tree, given, says):
    (tree / "empty").mkdir()
    with pytest.raises(UserError, match=says):
        pictures.find([] if given is None else tree / given)


def test_what_is_missing_is_collected_only_if_something_else_was_found(tree):
    missing = []
    found = pictures.find([tree / "nowhere.jpg", tree / "a.jpg"], missing)
    assert names(found, tree) == ["a.jpg"]
    assert [path.name for path, _ in missing] == ["nowhere.jpg"]
    with pytest.raises(UserError, match="nowhere.jpg"):
        pictures.find([tree / "nowhere.jpg", tree / "a.jpg"])
    with pytest.raises(UserError, match="nowhere.jpg"):
        pictures.find([tree / "nowhere.jpg"], [])


def test_a_link_that_leads_back_up_does_not_loop(tree):
    os.symlink(tree, tree / "sub/up", target_is_directory=True)
    assert len(pictures.find(tree)) == 4


def test_a_link_to_itself_is_a_file_that_cannot_be_read(tree):
    os.symlink("loop.png", tree / "loop.png")
    found = pictures.find(tree)
    assert names(found, tree)[2] == "loop.png"
    with pytest.raises(UserError, match="loop.png"):
        pictures.read(found[2])


def test_files_stream_once_in_the_order_given_in_time_that_grows_with_their_number(tree):
    def stream(given):
        return list(pictures.stream(given, [], Counter()))

    for given in (
        [tree / "sub", tree / "a.jpg", tree / "sub/c.jpeg", tree, tree / "a.jpg"],
        [tree / "a.jpg", tree / "a.jpg", str(tree / "*.jpg"), str(tree / "**"), tree / "sub"],
        [str(tree / "*"), tree / "sub/deep/d.webp", tree / "sub/deep"],
    ):
        assert stream(given) == pictures.find(given)
    (tree / "many").mkdir()
    files = [tree / "many" / f"{i}.png" for i in range(8000)]
    for file in files:
        file.touch()
    seconds = []
    for some in (files[:1000], files):
        began = time.process_time()
        assert stream(some) == some
        seconds.append(time.process_time() - began)
    assert seconds[1] < 24 * max(seconds[0], 0.02)  # 64 times as long if each is compared with all before it
