"""Pictures of any number of channels and of sides that are not equal: files, augmentations, runs, features."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import mizoo
from mizoo import augment, data, encoders, recipes
from mizoo.data import choosing, duplicates, pictures
from mizoo.embed import embed
from mizoo.errors import UserError
from mizoo.pretrain import pretrain
from mizoo.runs import checks, listing

tifffile = pytest.importorskip("tifffile")


@pytest.fixture
def many(rng) -> np.ndarray:
    """A smooth picture of 13 channels, uint8 (20, 30, 13)."""
    coarse = rng.integers(0, 256, (4, 6, 13), dtype="uint8")
    return np.stack([np.array(Image.fromarray(band).resize((30, 20))) for band in np.moveaxis(coarse, -1, 0)], axis=-1)


def test_a_file_of_many_channels_is_read_as_it_was_stored_whatever_their_place(many, tmp_path):
    np.save(tmp_path / "last.npy", many)
    np.save(tmp_path / "first.npy", np.moveaxis(many, -1, 0))
    tifffile.imwrite(tmp_path / "samples.tif", many, planarconfig="contig", photometric="minisblack")
    planes = np.ascontiguousarray(np.moveaxis(many, -1, 0))
    tifffile.imwrite(tmp_path / "planes.tif", planes, planarconfig="separate", photometric="minisblack")
    tifffile.imwrite(tmp_path / "pages.tiff", planes, photometric="minisblack", compression="zlib")
    (tmp_path / "pages.tiff").rename(tmp_path / "odd.suffix")
    with tifffile.TiffWriter(tmp_path / "one by one.tif") as writer:
        for page in planes:
            writer.write(page, photometric="minisblack")
    Image.fromarray(planes[0]).save(
        tmp_path / "frames.tif", save_all=True, append_images=[Image.fromarray(page) for page in planes[1:]]
    )
    for file in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(pictures.read(file, channels=13), many, err_msg=file.name)
        if file.suffix != ".npy":  # what Pillow does not read has the channels that it has
            continue
        np.testing.assert_array_equal(pictures.read(file), many, err_msg=file.name)


DEEP = {
    "16-bit planes": lambda values: values.astype("uint16") * 257,
    "floats": lambda values: values.astype("float32") / 255,
}


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize(("kind", "alpha"), [("16-bit planes", False), ("16-bit planes", True), ("floats", False)])
def test_colours_of_a_deep_tiff_are_those_of_its_8_bits_and_upright(kind, alpha, orientation, rng, tmp_path):
    colours = rng.integers(0, 256, (20, 30, 3 + alpha), dtype="uint8")
    extra: dict = {"extratags": [(274, "H", 1, orientation, True)], "extrasamples": ["unassalpha"] if alpha else []}
    planes = kind == "16-bit planes"  # uncompressed, of which Pillow would take each value for two of 8 bits
    written = np.moveaxis(DEEP[kind](colours), -1, 0) if planes else DEEP[kind](colours)
    plan = "separate" if planes else "contig"
    tifffile.imwrite(tmp_path / "deep.tif", written, photometric="rgb", planarconfig=plan, **extra)
    tifffile.imwrite(tmp_path / "usual.tif", colours, photometric="rgb", **extra)
    wanted = pictures.read(tmp_path / "usual.tif")
    np.testing.assert_array_equal(pictures.read(tmp_path / "deep.tif"), wanted)
    np.testing.assert_array_equal(pictures.decode((tmp_path / "deep.tif").read_bytes(), "deep"), wanted)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("shape", [(20, 30), (1, 30), (20, 1)])
def test_of_several_frames_in_16_bit_planes_the_first_is_read_also_of_one_row(shape, orientation, rng, tmp_path):
    frames = rng.integers(0, 256, (2, *shape, 3), dtype="uint8")
    tags = {"photometric": "rgb", "extratags": [(274, "H", 1, orientation, True)]}
    planes = np.moveaxis(frames.astype("uint16") * 257, -1, 1)
    with tifffile.TiffWriter(tmp_path / "one by one.tif") as writer:
        for frame in planes:
            writer.write(frame, planarconfig="separate", **tags)
    tifffile.imwrite(tmp_path / "stack.tif", planes, planarconfig="separate", **tags)
    wanted = np.rot90(frames[0], -1) if orientation == 6 else frames[0]
    for file in tmp_path.iterdir():
        np.testing.assert_array_equal(pictures.read(file), wanted, err_msg=file.name)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("stored", ["uint8", "uint16", "uint32", "float32"])
def test_a_grey_tiff_that_counts_from_white_is_as_bright_as_it_is(stored, orientation, rng, tmp_path):
    grey = rng.integers(0, 256, (20, 30), dtype="uint8")
    ranges = {"uint8": 1, "uint16": 257, "uint32": 257, "float32": 1 / 255}
    written = ((255 - grey.astype("float64")) * ranges[stored]).astype(stored)
    tags = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "x.tif", written, photometric="miniswhite", extratags=tags)
    wanted = np.rot90(grey, -1) if orientation == 6 else grey
    for channels in (None, 1, 3):
        read = pictures.read(tmp_path / "x.tif", channels=channels)
        np.testing.assert_array_equal(read, np.broadcast_to(wanted[..., None], read.shape))


def test_deep_values_are_scaled_by_their_depth_in_every_channel_alike(tmp_path):
    values = np.arange(4 * 5 * 4, dtype="uint16").reshape(4, 5, 4) * 50
    np.save(tmp_path / "deep.npy", values)
    tifffile.imwrite(tmp_path / "deep.tif", values, photometric="minisblack", planarconfig="contig")
    for file in tmp_path.iterdir():
        expected = np.rint(values * (255 / 4095)).astype("uint8")
        np.testing.assert_array_equal(pictures.read(file, depth=12, channels=4), expected)
        with pytest.raises(UserError, match="0 to 3950 do not fit into the 11 bits"):
            pictures.read(file, depth=11, channels=4)
        with pytest.warns(UserWarning, match="almost black.*depth=12"):
            sixteen = pictures.read(file, channels=4)
        np.testing.assert_array_equal(sixteen, np.rint(values / 257).astype("uint8"))
    np.save(tmp_path / "grey.npy", values[..., 0])
    assert pictures.read(tmp_path / "grey.npy", depth=12, channels=1).shape == (4, 5, 1)
    rgb = pictures.read(tmp_path / "grey.npy", depth=12, channels=3)
    np.testing.assert_array_equal(rgb, np.repeat(rgb[..., :1], 3, axis=-1))


def test_ordinary_files_are_grey_for_one_channel_and_give_their_bands_for_four(tmp_path, rng):
    colours = rng.integers(0, 256, (6, 7, 4), dtype="uint8")
    Image.fromarray(colours, "RGBA").save(tmp_path / "four.png")
    Image.fromarray(colours[..., :3]).save(tmp_path / "three.png")
    np.testing.assert_array_equal(pictures.read(tmp_path / "four.png", channels=4), colours)
    assert pictures.read(tmp_path / "four.png").shape == (6, 7, 3)  # laid on white, as ever
    grey = np.array(Image.fromarray(colours[..., :3]).convert("L"))[..., None]
    np.testing.assert_array_equal(pictures.read(tmp_path / "three.png", channels=1), grey)
    with pytest.raises(UserError, match=r"three.png: it has 3 channels .* 4 are wanted"):
        pictures.read(tmp_path / "three.png", channels=4)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.zeros((4, 5, 6), "uint8"), r"shape \(4, 5, 6\), and 13 channels are wanted"),
        (np.zeros((2, 4, 5, 13), "uint8"), r"a picture is \(H, W\)"),
        (np.zeros((4, 5, 13), bool), "whole numbers or floats"),
        (np.full((4, 5, 13), np.nan), "NaN or infinity"),
        (np.full((4, 5, 13), -1, "int16"), "values from -1 to -1"),
        (np.array([{}] * 3), "Python objects"),
    ],
)
def test_an_array_that_is_no_picture_is_refused_with_its_file(values, says, tmp_path):
    np.save(tmp_path / "bad.npy", values)
    with pytest.raises(UserError, match=f"bad.npy: .*({says})"):
        pictures.read(tmp_path / "bad.npy", channels=13)


def test_an_array_above_the_limit_is_refused_before_it_is_read(tmp_path):
    np.save(tmp_path / "large.npy", np.zeros((30, 40, 13), "uint8"))
    with pytest.raises(UserError, match="too many pixels.*15,600 values are more than 6,000"):
        pictures.read(tmp_path / "large.npy", max_pixels=2000, channels=13)
    assert pictures.read(tmp_path / "large.npy", max_pixels=5200, channels=13).shape == (30, 40, 13)


def test_arrays_in_a_folder_count_as_pictures_by_their_axes(many, tmp_path):
    np.save(tmp_path / "picture.npy", many)
    np.save(tmp_path / "labels.npy", np.arange(5))
    np.save(tmp_path / "features.npy", np.zeros((5, 7), "float32"))
    passed_over: dict[str, int] = {}
    assert [file.name for file in pictures.find(tmp_path, passed_over=passed_over)] == ["picture.npy"]
    assert passed_over == {".npy": 2}
    assert len(pictures.find(tmp_path, channels=1)) == 2  # two axes are a picture of one channel
    with pytest.raises(UserError, match=r"features.npy: .*shape \(5, 7\)|shape \(20, 30, 13\)"):
        data.load(tmp_path, channels=1, size=8)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (1, 20, 30), (20, 30, 3), (3, 20, 30)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_array_of_one_or_three_channels_is_grey_or_rgb_as_a_file_is(shape, channels, rng, tmp_path):
    (tmp_path / "train").mkdir()
    np.save(tmp_path / "train/0.npy", rng.integers(0, 256, shape, dtype="uint8"))
    if len(shape) == 2 and channels == 3:  # which may be anything
        with pytest.raises(UserError, match="No picture was found"):
            data.load(tmp_path, channels=channels)
        return
    image = pictures.read(tmp_path / "train/0.npy", channels=channels)
    assert image.shape == (20, 30, channels)
    np.testing.assert_array_equal(data.load(tmp_path, channels=channels).images[0], image)


def test_grey_arrays_of_two_axes_are_counted_listed_and_compared_as_they_are_loaded(rng, tmp_path):
    for name in ("a/0", "a/1", "b/2", "b/3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / f"{name}.npy", rng.integers(0, 256, (40, 40), dtype="uint8"))
    shutil.copy(tmp_path / "a/0.npy", tmp_path / "a/again.npy")
    recipe = recipes.validate(
        {"name": "grey", "encoder": {"name": "three_stage", "side": 32, "channels": 1}}
        | {"data": {"source": str(tmp_path)}, "training": {"batch_size": 5}}
    )
    assert checks.count(recipe) == 5
    listing.write_listing(recipe, tmp_path / "run")
    assert "b/3.npy" in json.loads((tmp_path / "run" / listing.LISTING).read_text())
    assert len(choosing.load_or_stream(tmp_path, size=(32, 32, 1))) == 5
    assert duplicates.copies(tmp_path, channels=1).without == ("a/again.npy",)


def test_a_folder_is_loaded_with_its_channels_and_brought_to_sides_that_differ(many, tmp_path):
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", many[i:])
    loaded = data.load(tmp_path, size=(8, 16), channels=13).images
    assert loaded.shape == (3, 8, 16, 13)
    np.testing.assert_array_equal(loaded, data.load(tmp_path, size=(8, 16, 13)).images)
    by_hand = {pictures.fit(many[i:], (8, 16)).tobytes() for i in range(3)}
    assert {image.tobytes() for image in loaded} == by_hand
    with pytest.raises(UserError, match=r"(?s)3 of 3 files.*4 channels are wanted"):
        data.load(tmp_path, size=8, channels=4)
    Image.fromarray(many[..., :3]).save(tmp_path / "rgb.png")
    with pytest.raises(UserError, match="differ in channels"):
        data.load(tmp_path, size=8)


def test_each_channel_is_resized_as_a_grey_picture_and_the_middle_is_kept(many):
    fitted = pictures.fit(many, (8, 10))
    for band in range(13):
        np.testing.assert_array_equal(fitted[..., band], pictures.fit(many[..., band], (8, 10)))
    wide = np.zeros((20, 80), "uint8")
    wide[:, 20:60] = 200  # just the middle half, which twice as wide as tall is left
    assert (pictures.fit(wide, (10, 20))[:, 2:-2] == 200).all() and (pictures.fit(wide, (10, 40))[:, 0] == 0).all()
    with pytest.raises(UserError, match="`size`"):
        pictures.fit(wide, (0, 5))


def test_presets_for_other_channels_leave_colour_out(rng):
    images = rng.integers(0, 256, (4, 16, 12, 13)).astype("float32")
    for name in set(augment.PRESETS) - {"none", "voice"}:
        made = augment.preset(name, channels=13)
        views = np.asarray(made(images, rng.random((4, made.noise_size), dtype="float32")))
        assert views.shape == images.shape and views.min() >= 0 and views.max() <= 255
        assert any(isinstance(each, augment.Intensity) for each in made.operations) == (name != "dim")
    assert augment.preset("views", channels=3) is augment.PRESETS["views"]
    assert augment.preset("none", channels=4) is None
    with pytest.raises(UserError, match="ColourJitter takes pictures of 3 channels.*Intensity"):
        augment.preset("views")(images, rng.random((4, 12), dtype="float32"))


def test_intensity_is_a_factor_and_keeps_the_mean_of_each_channel(rng):
    images = rng.uniform(60, 120, (2, 5, 5, 4)).astype("float32")
    operation = augment.Intensity(0.5, 0.5, probability=0.9)
    noise = np.array([[0.5, 1.0, 0.5], [0.95, 1.0, 1.0]], "float32")  # brighter by half; one that is left alone
    np.testing.assert_allclose(operation.apply(noise, images), images * [[[[1.5]]], [[[1.0]]]], rtol=1e-5)
    noise = np.array([[0.0, 0.5, 0.0]] * 2, "float32")  # half the contrast
    mean = images.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(operation.apply(noise, images), mean + 0.5 * (images - mean), rtol=1e-5)


ENCODERS = {
    "conv64": {"name": "conv64", "widths": [4, 4, 6, 6, 4], "fc_sizes": [8], "global_size": 5},
    "large stem, 1 channel": {
        **{"name": "resnet18", "width": 0.0625, "head_size": 6, "global_size": 5},
        **{"stem": "large", "side": [32, 64], "channels": 1},
    },
    "13 channels": {
        **{"name": "three_stage", "widths": [4, 4, 6], "head_size": 6, "global_size": 5},
        **{"side": [20, 28], "channels": 13},
    },
    "4 channels": {"name": "patch_grid", "side": [16, 24], "width": 4, "size": 6, "blocks": 1, "channels": 4},
}
OBJECTIVES = {
    "conv64": {"critic_width": 4},
    "large stem, 1 channel": {"name": "simclr"},
    "13 channels": {"name": "simclr"},
    "4 channels": {"name": "cpc", "steps": 1, "context_size": 4, "context_blocks": 1, "patch_augment": "patches"},
}
AUGMENTS = {"conv64": "amdim", "large stem, 1 channel": "views", "13 channels": "simclr", "4 channels": "dim"}


def write_pictures(kind: str, folder, rng) -> None:
    """Eight pictures of the kind that its encoder takes, of other sizes, in two folders of classes."""
    for i in range(8):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        path = folder / "ab"[i % 2] / f"{i}"
        if kind == "conv64":
            Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype="uint8")).save(path.with_suffix(".png"))
        elif kind == "4 channels":
            values = rng.integers(0, 256, (20, 25, 4), dtype="uint8")
            tifffile.imwrite(path.with_suffix(".tif"), values, photometric="rgb", extrasamples=["unspecified"])
        elif kind == "13 channels":
            np.save(path.with_suffix(".npy"), rng.integers(0, 4096, (24, 30, 13), dtype="uint16"))
        else:
            tifffile.imwrite(path.with_suffix(".tif"), rng.integers(0, 4096, (40, 50), dtype="uint16"))


SLOW = ("large stem, 1 channel", "4 channels")
KINDS = [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in ENCODERS]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_on_a_folder_of_each_kind_gives_an_encoder_that_embeds_it(kind, tmp_path, rng):
    write_pictures(kind, tmp_path / "pictures", rng)
    deep = 12 if kind in ("13 channels", "large stem, 1 channel") else None
    source = {"source": str(tmp_path / "pictures"), "augment": AUGMENTS[kind], "depth": deep}
    recipe = recipes.validate(
        {
            "name": "own",
            "encoder": ENCODERS[kind],
            "objective": OBJECTIVES[kind],
            "data": source,
            "training": {"epochs": 1, "batch_size": 4, "precision": "float32"},
        }
    )
    run = pretrain(recipe, tmp_path / "run")
    assert recipes.load(run / "recipe.yaml") == recipe
    report = embed(run, tmp_path / "pictures", tmp_path / "features.npz", depth=deep, progress=False)
    assert report.count == 8 and not report.failed
    encoder = mizoo.load(run)
    shape = encoder.input_shape[1:]
    assert shape[2] == ENCODERS[kind].get("channels", 3)
    with np.load(tmp_path / "features.npz") as made:
        images = np.stack([pictures.prepare(path, shape, deep) for path in made["paths"]])
        np.testing.assert_allclose(made["global"], encoder.predict(images, verbose=0)["global"], atol=1e-5)
    loaded = data.load(tmp_path / "pictures", size=shape, depth=deep).images
    assert {image.tobytes() for image in loaded} == {image.tobytes() for image in images}


@pytest.mark.parametrize("channels", [1, 2, 13])
def test_pictures_of_other_channels_are_evaluated_without_labels_and_shown_by_three(channels, rng):
    import keras

    from mizoo.evaluate import evaluate
    from mizoo.report.page.study import _thumbnails

    images = rng.integers(0, 256, (6, 12, 10, channels), dtype="uint8")
    inputs = keras.Input((12, 10, channels))
    encoder = keras.Model(inputs, {"global": keras.layers.Flatten()(keras.layers.AveragePooling2D(5)(inputs))})
    rows = evaluate(encoder, images, protocols=("effective_rank",), progress=False)
    assert [row.protocol for row in rows] == ["effective_rank"]
    with pytest.raises(UserError, match=f"`alignment` .* have {channels} channels?, not 3"):
        evaluate(encoder, images, protocols=("alignment",), progress=False)
    shown = _thumbnails(images)
    assert shown.shape[-1] == 3 and shown.dtype == np.uint8
    if channels == 2:
        assert (shown[..., 0] == shown[..., 2]).all()


def test_what_does_not_fit_is_refused_by_the_recipe():
    def refused(encoder: dict, **source) -> str:
        """What is said about a recipe."""
        with pytest.raises(UserError) as caught:
            recipes.validate({"name": "own", "encoder": encoder, "data": {"source": "x", **source}})
        return str(caught.value)

    large = {"name": "resnet18", "stem": "large", "side": 48}
    assert "`side` is a multiple of 32 with `stem: large`" in refused(large)
    assert "`encoder.side`: the side of pictures is a whole number" in refused({"name": "three_stage", "side": [8]})
    assert "`encoder.channels`" in refused({"channels": 0})
    tall = {"name": "three_stage", "side": [32, 40]}
    assert "`encoder.side` is not square" in refused(tall, augment="views", view_side=16)
    assert "multiple of 32" in refused({**large, "side": 64}, augment="views", view_side=48)
    assert "`data.depth`" in refused({}, depth=4)


@pytest.mark.parametrize(
    ("build", "arguments", "says"),
    [
        ("resnet18", {"side": 48, "stem": "large"}, "multiple of 32"),
        ("resnet18", {"stem": "tiny"}, "small, large"),
        ("resnet18", {"side": (32, 32, 3)}, "one number, or two"),
        ("three_stage", {"side": (7, 20)}, "8 or more"),
        ("three_stage", {"side": (12, 20), "padding": "valid"}, "below 16"),
        ("conv64", {"widths": (4, 4)}, "5 whole numbers"),
        ("conv64", {"fc_sizes": ()}, "`fc_sizes`"),
    ],
)
def test_encoders_refuse_sides_and_sizes_by_name(build, arguments, says):
    with pytest.raises(UserError, match=says):
        getattr(encoders, build)(**arguments)


def test_the_encoder_of_the_paper_for_64_pixels_has_its_maps_and_its_weights():
    encoder = encoders.conv64()
    shapes = {key: tuple(value.shape[1:]) for key, value in encoder.output.items()}
    assert shapes == {"local": (15, 15, 384), "conv": (7, 7, 192), "fc": (4096,), "global": (64,)}
    kernels = [3 * 3 * a * b for a, b in zip((3, 96, 192, 384, 384), (96, 192, 384, 384, 192))]
    norms = [4 * width for width in (96, 192, 384, 384, 192, 4096, 4096)]
    dense = [7 * 7 * 192 * 4096, 4096 * 4096, 4096 * 64 + 64]
    assert encoder.count_params() == sum(kernels) + sum(norms) + sum(dense)


def test_the_large_stem_is_that_of_the_paper_and_both_sides_may_differ():
    encoder = encoders.resnet18(width=0.125, side=(64, 96), stem="large", channels=2)
    assert {key: tuple(value.shape[1:3]) for key, value in encoder.output.items() if len(value.shape) == 4} == {
        "local": (4, 6),
        "conv": (2, 3),
    }
    small = encoders.resnet18(width=0.125, side=64, channels=2)
    assert encoder.get_layer("stem").kernel.shape == (7, 7, 2, 8) and small.get_layer("stem").kernel.shape[:2] == (3, 3)
    assert small.count_params() - encoder.count_params() == 2 * 8 * (9 - 49)
