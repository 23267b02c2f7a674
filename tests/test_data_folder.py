"""A folder of pictures as training data: classes from subfolders, clear words for what cannot be read."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from mizoo._tools.files import write_json
from mizoo.data import folder, load, splits, stream
from mizoo.errors import UserError


def _save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def test_subfolders_are_classes_in_a_fixed_order(tmp_path, photos):
    for label, picture in (("dog/b.png", photos[0]), ("cat/deep/er.png", photos[1]), ("dog/a.png", photos[2])):
        _save(tmp_path / "pets" / label, picture)
    read = folder.read(tmp_path / "pets", size=24)
    assert read.name == "pets"
    assert read.classes == ("cat", "dog")
    assert read.labels.tolist() == [0, 1, 1]
    assert read.labels.dtype == np.int64
    assert read.images.shape == (3, 24, 24, 3)
    assert read.images.dtype == np.uint8


def test_class_folders_whose_names_are_no_utf8_have_names_that_can_be_written(tmp_path, photos):
    try:
        for name in (b"caf\xe8", b"caf\xe9"):
            (tmp_path / "pets" / os.fsdecode(name)).mkdir(parents=True)
    except OSError:
        pytest.skip("the file system takes UTF-8 alone")
    for i, below in enumerate(sorted((tmp_path / "pets").iterdir())):
        Image.fromarray(photos[i]).save(below / "a.png")
    for read in (folder.read(tmp_path / "pets", size=24), folder.stream(tmp_path / "pets", size=24)):
        assert read.classes == ("caf\\xe8", "caf\\xe9") and read.labels.tolist() == [0, 1]
    write_json(tmp_path / "paths.json", {"path": os.fsdecode(b"caf\xe9")})
    assert json.loads((tmp_path / "paths.json").read_text(encoding="utf-8")) == {"path": os.fsdecode(b"caf\xe9")}


def test_pictures_come_back_as_they_were_saved(tmp_path, photos):
    _save(tmp_path / "x.png", photos[0])
    _save(tmp_path / "y.png", 255 - photos[0])
    read = folder.read(tmp_path)
    np.testing.assert_array_equal(read.images, np.stack([photos[0], 255 - photos[0]]))
    np.testing.assert_array_equal(load(tmp_path).images, read.images)


def test_one_picture_outside_a_subfolder_means_no_labels(tmp_path, photos):
    _save(tmp_path / "cat/a.png", photos[0])
    _save(tmp_path / "stray.png", photos[0])
    read = folder.read(tmp_path)
    assert read.labels is None
    assert read.classes == ()


def test_pictures_of_several_sizes_need_a_size(tmp_path, photos):
    _save(tmp_path / "a.png", photos[0])
    _save(tmp_path / "b.png", photos[1])
    with pytest.raises(UserError, match=r"differ in size.*a\.png is 64x48.*b\.png is 70x100.*`size`"):
        folder.read(tmp_path)


def test_every_unreadable_file_is_named_up_to_ten(tmp_path, photos):
    _save(tmp_path / "good.png", photos[0])
    (tmp_path / "empty.png").touch()
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="2 of 3") as error:
        folder.read(tmp_path, size=16)
    assert "empty.png" in str(error.value)
    assert "cut.png" in str(error.value)
    assert "good.png" not in str(error.value)
    for i in range(12):
        (tmp_path / f"more{i:02d}.png").touch()
    with pytest.raises(UserError, match="and 4 more"):
        folder.read(tmp_path, size=16)


def test_a_folder_with_train_and_test_has_both_splits_and_one_count_of_classes(tmp_path, photos):
    for i, file in enumerate(("train/dog/a.png", "train/emu/b.png", "test/cat/c.png", "test/dog/d.png")):
        _save(tmp_path / "pets" / file, photos[0] // (i + 1))
    assert splits(tmp_path / "pets") == ("train", "test") and splits(tmp_path / "pets/train") == ("train",)
    train, test = load(tmp_path / "pets", "train"), load(tmp_path / "pets", "test[-1:]")
    assert train.classes == test.classes == ("cat", "dog", "emu") and train.name == test.name == "pets"
    assert sorted(train.labels.tolist()) == [1, 2] and len(test) == 1
    np.testing.assert_array_equal(test.images, photos[0][None] // {0: 3, 1: 4}[int(test.labels[0])])
    with pytest.raises(UserError, match="has the splits train, test. Received: split='val'"):
        load(tmp_path / "pets", "val")

    shutil.move(tmp_path / "pets/test/cat/c.png", tmp_path / "pets/test/c.png")  # as a test part without labels
    assert load(tmp_path / "pets", "test").labels is None
    assert sorted(load(tmp_path / "pets").labels.tolist()) == [0, 1]
    with pytest.raises(UserError, match="the subfolders `train` and `test` has one split"):
        load(tmp_path / "pets/train", "test")


def test_any_slice_of_a_folder_holds_all_classes_and_slices_agree(tmp_path, photos):
    for label in range(4):
        for i in range(25):
            picture = np.full((2, 2, 3), 25 * label + i, np.uint8)
            _save(tmp_path / "pets" / f"class{label}" / f"{i:02d}.png", picture)
    whole, first, last = (load(tmp_path / "pets", split) for split in ("train", "train[:-20]", "train[-20:]"))
    np.testing.assert_array_equal(whole.images[:, 0, 0, 0] // 25, whole.labels)
    np.testing.assert_array_equal(np.concatenate([first.images, last.images]), whole.images)
    assert set(last.labels.tolist()) == {0, 1, 2, 3} and len(np.unique(whole.images[:, 0, 0, 0])) == 100
    np.testing.assert_array_equal(load(tmp_path / "pets").images, whole.images)


def test_files_can_be_left_out_by_their_paths(tmp_path, photos):
    for name in ("a/1", "a/2", "b/1"):
        _save(tmp_path / "plain" / f"{name}.png", photos[1])
        _save(tmp_path / "both/train" / f"{name}.png", photos[1])
        _save(tmp_path / "both/test" / f"{name}.png", photos[1])
    (tmp_path / "plain/b/broken.png").write_bytes(b"x")
    rest = load(tmp_path / "plain", size=8, without=["b/broken.png", "a/1.png"])
    assert len(rest) == 2 and sorted(rest.labels) == [0, 1]
    both = tmp_path / "both"
    sizes = {split: len(load(both, split, 8, without=["train/a/2.png", "test/b/1.png"])) for split in ("train", "test")}
    assert sizes == {"train": 2, "test": 2}
    (both / "train/stray.png").write_bytes(b"x")
    for file in both.glob("test/*/*.png"):  # a test part without labels
        shutil.move(file, both / "test" / f"{file.parent.name}{file.name}")
    for read in (load, stream):
        assert sorted(read(both, "train", 8, without=["train/stray.png"]).labels) == [0, 0, 1]
    with pytest.raises(UserError, match="none is left"):
        load(both, "train", 8, without=[f"train/{name}.png" for name in ("a/1", "a/2", "b/1", "stray")])
    with pytest.raises(UserError, match="files of a folder"):
        load(rest, without=["a/1.png"])


def test_a_folder_without_pictures_and_no_folder_are_errors(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match="No picture"):
        folder.read(tmp_path)
    with pytest.raises(UserError, match="which is none"):
        folder.read(tmp_path / "absent")
