"""Packed data: what is read equals what was packed, chunks keep their size, and damage is never passed on."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from mizoo._tools import files
from mizoo.data import Dataset, load, packed, splits
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


def test_no_chunk_is_larger_than_asked_and_their_order_is_kept(tmp_path, rng):
    dataset = _dataset(rng, 900)
    index = packed.write({"train": dataset, "test": _dataset(rng, 5)}, tmp_path / "p", chunk_mb=0.1)
    chunks = sorted((tmp_path / "p").glob("train-*.npz"))
    assert len(chunks) > 2
    assert all(chunk.stat().st_size <= 100_000 for chunk in chunks)
    assert [chunk["sha256"] for chunk in index["splits"]["train"]["chunks"]] == [files.sha256(path) for path in chunks]
    np.testing.assert_array_equal(packed.read(tmp_path / "p", "train").images, dataset.images)


def test_large_pictures_and_missing_labels(tmp_path, rng):
    dataset = _dataset(rng, 3, (500, 700, 3), labels=False)
    packed.write({"train": dataset}, tmp_path / "p", chunk_mb=1.3)
    assert len(list((tmp_path / "p").glob("*.npz"))) == 3
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
def test_a_missing_or_damaged_chunk_is_named(tmp_path, rng, damage):
    packed.write({"train": _dataset(rng, 300)}, tmp_path, chunk_mb=0.05)
    chunk = tmp_path / "train-00001.npz"
    content = bytearray(chunk.read_bytes())
    if damage == "missing":
        chunk.unlink()
    else:
        content[len(content) // 2] ^= 1
        chunk.write_bytes(content[:-9] if damage == "truncated" else content)
    with pytest.raises(UserError, match=f"{'missing' if damage == 'missing' else 'damaged'}.*train-00001.npz"):
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
    (tmp_path / "p/train-00000.npz").rename(tmp_path / "outside.npz")
    index = json.loads((tmp_path / "p/index.json").read_text())
    index["splits"]["train"]["chunks"][0]["file"] = "../outside.npz"
    (tmp_path / "p/index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="missing"):
        packed.read(tmp_path / "p", "train")


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
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size / 500 < 1750  # a PNG for each picture takes 2,250 bytes
    np.testing.assert_array_equal(packed.read(tmp_path, "test").images, part.images)
