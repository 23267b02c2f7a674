"""Packed data: what is read equals what was packed, shards keep their size, and damage is never passed on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mizoo._tools import files
from mizoo.data import Dataset, load, pack, packed, splits, stream
from mizoo.errors import UserError


def _dataset(rng, count, shape=(12, 9, 3), labels=True):
    images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return Dataset("noise", images, rng.integers(0, 3, count) if labels else None, ("a", "b", "c") if labels else ())


@pytest.mark.parametrize("count", [1, 99, 100, 101, 357])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_and_labels_survive_exactly(tmp_path, rng, count, channels):
    dataset = _dataset(rng, count, (12, 9, channels))
    packed.write({"train": dataset}, tmp_path / "p")
    read = packed.read(tmp_path / "p", "train")
    np.testing.assert_array_equal(read.images, dataset.images)
    np.testing.assert_array_equal(read.labels, dataset.labels)
    assert read.labels.dtype == np.int64
    assert (read.name, read.classes) == (dataset.name, dataset.classes)


@pytest.mark.parametrize(("shape", "megabytes"), [((12, 9, 3), 0.4), ((200, 200, 3), 0.7), ((2, 2, 1), 0.3)])
def test_no_shard_is_larger_than_asked_and_their_order_is_kept(tmp_path, rng, shape, megabytes):
    dataset = _dataset(rng, 2500 if shape[0] < 200 else 12, shape)
    index = packed.write({"train": dataset, "test": _dataset(rng, 5, shape)}, tmp_path / "p", chunk_mb=megabytes)
    shards = sorted((tmp_path / "p").glob("train-*.array_record"))
    assert len(shards) > 1
    assert all(shard.stat().st_size <= 1e6 * megabytes for shard in shards)
    assert [shard["sha256"] for shard in index["splits"]["train"]["shards"]] == [files.sha256(path) for path in shards]
    np.testing.assert_array_equal(packed.read(tmp_path / "p", "train").images, dataset.images)


def test_large_pictures_and_missing_labels(tmp_path, rng):
    dataset = _dataset(rng, 3, (500, 700, 3), labels=False)
    packed.write({"train": dataset}, tmp_path / "p", chunk_mb=1.5)
    assert len(list((tmp_path / "p").glob("*.array_record"))) == 3
    read = packed.read(tmp_path / "p", "train")
    np.testing.assert_array_equal(read.images, dataset.images)
    assert read.labels is None


def test_packing_twice_gives_the_same_files(tmp_path, rng):
    dataset = _dataset(rng, 250)
    assert packed.write({"train": dataset}, tmp_path / "p") == packed.write({"train": dataset}, tmp_path / "q")


def test_slices_work_as_for_any_source(tmp_path, rng):
    dataset = _dataset(rng, 120)
    packed.write({"train": dataset}, tmp_path / "p")
    assert splits(tmp_path / "p") == ("train",) and splits(dataset) == ("train",)
    np.testing.assert_array_equal(load(tmp_path / "p", "train[-20:]").images, dataset.images[-20:])
    with pytest.raises(UserError, match="has the splits train. Received: split='test'"):
        load(tmp_path / "p", "test")


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_a_missing_or_damaged_shard_is_named(tmp_path, rng, damage):
    packed.write({"train": _dataset(rng, 1000)}, tmp_path, chunk_mb=0.4)
    shard = tmp_path / "train-00001.array_record"
    content = bytearray(shard.read_bytes())
    if damage == "missing":
        shard.unlink()
    else:
        content[len(content) // 4] ^= 1
        shard.write_bytes(content[:-9] if damage == "truncated" else content)
    named = f"{'missing' if damage == 'missing' else 'damaged'}.*train-00001.array_record"
    with pytest.raises(UserError, match=named):
        packed.read(tmp_path, "train")
    if damage != "flipped":  # of which the size says nothing
        with pytest.raises(UserError, match=named):
            packed.stream(tmp_path, "train")
        return
    streamed = packed.stream(tmp_path, "train").images
    with pytest.raises(UserError, match="train-00001.array_record: the shard is damaged"):
        for row in range(len(streamed)):
            streamed[row]


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_missing_or_damaged_labels_are_named(tmp_path, rng, damage):
    packed.write({"train": _dataset(rng, 10)}, tmp_path)
    file = tmp_path / "train-labels.npy"
    content = bytearray(file.read_bytes())
    content[-8] ^= 1
    file.unlink() if damage == "missing" else file.write_bytes(content)
    with pytest.raises(UserError, match="damaged and was not opened.*train-labels|missing.*train-labels"):
        packed.read(tmp_path, "train")


def test_a_damaged_index_is_named_and_a_folder_of_pictures_is_not_packed(tmp_path, rng):
    packed.write({"train": _dataset(rng, 10)}, tmp_path / "p")
    (tmp_path / "p/index.json").write_text('{"format": "mizoo pa')
    assert packed.is_packed(tmp_path / "p")
    with pytest.raises(UserError, match="index of the packed data is damaged"):
        packed.read(tmp_path / "p", "train")
    (tmp_path / "index.json").write_text(json.dumps({"made by": "something else"}))
    assert not packed.is_packed(tmp_path)
    assert not packed.is_packed(tmp_path / "absent")


def test_an_index_cannot_lead_out_of_its_folder(tmp_path, rng):
    packed.write({"train": _dataset(rng, 10)}, tmp_path / "p")
    (tmp_path / "p/train-00000.array_record").rename(tmp_path / "outside.array_record")
    index = json.loads((tmp_path / "p/index.json").read_text())
    index["splits"]["train"]["shards"][0]["file"] = "../outside.array_record"
    (tmp_path / "p/index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="missing"):
        packed.read(tmp_path / "p", "train")


def test_what_version_0_1_0_packed_is_read_and_is_to_be_packed_again(tmp_path):
    old = Path(__file__).parent / "fixtures" / "version_0_1_0" / "packed"
    y, x, shift = np.mgrid[:12, :9][0][..., None], np.mgrid[:12, :9][1][..., None], 40 * np.arange(3)
    stripes = np.stack([(7 * i + 3 * y + 5 * x + shift) % 256 for i in range(105)]).astype("uint8")
    with pytest.warns(DeprecationWarning, match="next release.*mizoo data pack"):
        read = load(old, "train")
    np.testing.assert_array_equal(read.images, stripes)
    assert read.labels.tolist() == [i % 3 for i in range(105)] and read.classes == ("a", "b", "c")
    with pytest.raises(UserError, match="version 0.1.0, whose files cannot be streamed. Pack it again"):
        stream(old, "train")
    with pytest.warns(DeprecationWarning):
        pack(old, tmp_path / "new")
    again = load(tmp_path / "new", "train")
    np.testing.assert_array_equal(again.images, stripes)
    assert again.labels.tolist() == read.labels.tolist() and load(tmp_path / "new", "test").labels is None


def test_packed_data_are_not_overwritten(tmp_path, rng):
    dataset = _dataset(rng, 10)
    packed.write({"train": dataset}, tmp_path)
    with pytest.raises(UserError, match="packed data already"):
        packed.write({"train": _dataset(rng, 20)}, tmp_path)
    np.testing.assert_array_equal(packed.read(tmp_path, "train").images, dataset.images)


def test_what_cannot_be_packed_is_refused(tmp_path, rng):
    with pytest.raises(UserError, match="uint8"):
        packed.write({"train": Dataset("x", np.zeros((2, 8, 8, 3), np.float32), None, ())}, tmp_path / "p")
    with pytest.raises(UserError, match="raise `chunk_mb`"):
        packed.write({"train": _dataset(rng, 2, (500, 500, 3))}, tmp_path / "p", chunk_mb=0.5)
    with pytest.raises(UserError, match="nothing to pack"):
        packed.write({}, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_reading_needs_neither_keras_nor_tensorflow(tmp_path, rng):
    packed.write({"train": _dataset(rng, 10)}, tmp_path)
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'tensorflow_datasets', 'keras', 'jax'): sys.modules[name] = None\n"
        "from mizoo import data\n"
        f"print(len(data.load({str(tmp_path)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "10", done.stderr


def test_cifar10_packs_to_less_than_png(tmp_path, cifar10):
    part = Dataset("cifar10", cifar10.images[:500], cifar10.labels[:500], cifar10.classes)
    packed.write({"test": part}, tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.iterdir()) - 131_072  # of any shard, however small
    assert size / 500 < 1850  # a PNG for each picture takes 2,250 bytes
    np.testing.assert_array_equal(packed.read(tmp_path, "test").images, part.images)


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_pictures_of_any_channels_are_packed_from_files_and_arrays_alike(tmp_path, rng, channels):
    tifffile = pytest.importorskip("tifffile")
    tiles = rng.integers(0, 4096, (6, 4, 20, channels), dtype=np.uint16)  # flatter than they are deep, at 13
    for i, tile in enumerate(tiles):
        file = tmp_path / "tiles" / f"{'ab'[i % 2]}" / f"{i}"
        file.parent.mkdir(parents=True, exist_ok=True)
        if i < 3:
            tifffile.imwrite(file.with_suffix(".tif"), tile, photometric="minisblack", planarconfig="contig")
        else:
            np.save(file.with_suffix(".npy"), tile)
    wanted = load(tmp_path / "tiles", depth=12, channels=channels)
    index = pack(tmp_path / "tiles", tmp_path / "p", depth=12, channels=channels)
    assert index["splits"]["train"]["channels"] == channels and index["splits"]["train"]["size"] == [4, 20]
    pack(wanted, tmp_path / "q")
    pack(tmp_path / "p", tmp_path / "again")
    for folder in ("p", "q", "again"):
        read = load(tmp_path / folder)
        np.testing.assert_array_equal(read.images, wanted.images)
        np.testing.assert_array_equal(read.labels, wanted.labels)
        np.testing.assert_array_equal(stream(tmp_path / folder).images[:], wanted.images)
    pack(tmp_path / "tiles", tmp_path / "small", size=8, depth=12, channels=channels)
    np.testing.assert_array_equal(
        load(tmp_path / "small").images, load(tmp_path / "tiles", size=8, depth=12, channels=channels).images
    )
    with pytest.raises(UserError, match=f"pictures of {channels} channels, and 3 are wanted"):
        load(tmp_path / "p", channels=3)


def test_four_bands_of_png_are_kept_and_grey_is_asked_for(tmp_path, rng):
    colours = rng.integers(0, 256, (5, 9, 8, 4), dtype=np.uint8)
    (tmp_path / "x").mkdir()
    for i, each in enumerate(colours):
        Image.fromarray(each, "RGBA").save(tmp_path / f"x/{i}.png")
    for channels in (None, 1, 3, 4):
        pack(tmp_path / "x", tmp_path / f"p{channels}", channels=channels)
        wanted = load(tmp_path / "x", channels=channels).images
        np.testing.assert_array_equal(load(tmp_path / f"p{channels}").images, wanted)
        assert wanted.shape[-1] == (channels or 3)
    np.testing.assert_array_equal(np.sort(load(tmp_path / "p4").images, axis=0), np.sort(colours, axis=0))


def test_other_channels_than_wanted_and_mixed_ones_are_named(tmp_path, rng):
    (tmp_path / "x").mkdir()
    np.save(tmp_path / "x/a.npy", rng.integers(0, 256, (8, 8, 4), dtype=np.uint8))
    Image.new("RGB", (8, 8)).save(tmp_path / "x/b.png")
    with pytest.raises(UserError, match=r"differ in channels: 3, 4\. .*--channels"):
        pack(tmp_path / "x", tmp_path / "p")
    with pytest.raises(UserError, match=r"1 of 2 pictures cannot be read.*\n.*b\.png: it has 3 channels"):
        pack(tmp_path / "x", tmp_path / "p", channels=4)
    assert not (tmp_path / "p/index.json").exists()
