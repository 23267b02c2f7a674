"""Data by name, from arrays, and the order of training batches."""

from __future__ import annotations

import functools
import re
import socket
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from mizoo import data
from mizoo.data import bands
from mizoo.data.batching import Batches, epoch_order
from mizoo.data.resizing import fit
from mizoo.errors import UserError


def numbered(count: int) -> np.ndarray:
    """Pictures that carry their own number."""
    return np.arange(count, dtype="uint8")[:, None, None, None] * np.ones((1, 4, 4, 3), "uint8")


def numbers(batches, epoch: int) -> list[int]:
    steps = batches.steps_per_epoch
    return [int(n) for i in range(steps) for n in batches[epoch * steps + i]["images"][:, 0, 0, 0]]


def test_an_epoch_visits_every_picture_once_and_the_next_in_another_order():
    batches = data.batches(numbered(60), batch_size=10, seed=3)
    assert batches.steps_per_epoch == 6
    first, second = numbers(batches, 0), numbers(batches, 1)
    assert sorted(first) == sorted(second) == list(range(60))
    assert first != second
    assert first == list(epoch_order(3, 0, 60))


def test_order_and_noise_depend_on_seed_epoch_and_step_alone():
    one = data.batches(numbered(40), batch_size=8, seed=5, noise_size=3)
    later = data.batches(numbered(40), batch_size=8, seed=5, noise_size=3, start_epoch=2)
    for step in (3, 0, 4):  # out of order: nothing may depend on what was asked before
        for key in ("images", "noise"):
            np.testing.assert_array_equal(one[2 * 5 + step][key], later[step][key])
    other = data.batches(numbered(40), batch_size=8, seed=6, noise_size=3)
    assert not np.array_equal(one[0]["images"], other[0]["images"])
    assert not np.array_equal(one[0]["noise"], other[0]["noise"])
    assert not np.array_equal(one[0]["noise"], one[1]["noise"])


def test_slices_follow_tfds(rng):
    images = numbered(20)
    source = data.Dataset("toy", images, np.arange(20))
    part = data.load(source, "train[:-5]")
    rest = data.load(source, "train[-5:]")
    assert part.labels.tolist() == list(range(15)) and rest.labels.tolist() == list(range(15, 20))
    np.testing.assert_array_equal(rest.images, images[15:])


def test_pictures_of_another_size_are_brought_to_the_wanted_one(photos):
    images = np.stack([photos[0], photos[0][::-1]])
    resized = data.load(images, size=16).images
    assert resized.shape == (2, 16, 16, 3) and resized.dtype == np.uint8
    assert resized[0].mean() == pytest.approx(photos[0][:, 8:56].mean(), abs=2.0)
    assert data.load(images[:, :, :48], size=48).images.tolist() == images[:, :, :48].tolist()


@pytest.mark.parametrize("split", ["train[", "train[5]", "train[a:]", "", "test"])
def test_a_split_that_is_none_is_refused(split):
    with pytest.raises(UserError, match="split"):
        data.load(numbered(4), split)


def test_wrong_arrays_are_refused():
    with pytest.raises(UserError, match="float32"):
        data.load(numbered(4).astype("float32"))
    with pytest.raises(UserError, match="no picture"):
        data.load(numbered(0))
    with pytest.raises(UserError, match="selects no picture"):
        data.load(numbered(4), "train[4:]")
    with pytest.raises(UserError, match="lower `batch_size`"):
        data.batches(numbered(4), batch_size=8)
    with pytest.raises(UserError, match="2 or more"):
        Batches(numbered(4), 1)


def test_a_source_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        data.load(tmp_path / "nowhere")
    for name in ("./nowhere", "~/nowhere", "nowhere/", "up\\nowhere"):
        with pytest.raises(UserError, match="no folder"):
            data.splits(name)
    pytest.importorskip("tensorflow_datasets")
    for name in ("ciphar10", "ciphar/ten"):
        with pytest.raises(UserError, match=f"{name}.*neither a folder"):
            data.load(name)


def test_a_named_data_set_may_have_a_config_and_has_its_own_splits(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    made, asked = tfds.testing.DummyMnist(data_dir=tmp_path), []
    monkeypatch.setattr(tfds, "builder", lambda name: asked.append(name) or made)
    assert data.splits("written/by_hand") == ("train", "test")
    found = data.load("written/by_hand", "test[:3]")
    assert found.images.shape == (3, 28, 28, 3) and len(found.classes) == 10 and set(asked) == {"written/by_hand"}


def test_a_data_set_that_tensorflow_reads_says_so_where_it_is_not_there(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    made = tfds.testing.DummyMnist(data_dir=tmp_path)
    made.download_and_prepare()
    monkeypatch.setattr(tfds, "builder", lambda name: made)
    from mizoo.data import _tfds

    monkeypatch.setitem(sys.modules, "tensorflow", None)
    for read in (data.load, _tfds.items):
        with pytest.raises(UserError, match="dummy_mnist.*TensorFlow reads.*mizoo data pack"):
            read("without/tensorflow", "train")


def test_pictures_of_several_sizes_are_brought_to_one(monkeypatch, rng):
    tfds = pytest.importorskip("tensorflow_datasets")
    from mizoo.data import _tfds

    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names="ab")}
    )
    pictures = [rng.integers(0, 256, (40, side, 3), dtype="uint8") for side in (30, 50, 70)]
    monkeypatch.setattr(_tfds, "_prepared", lambda *_: SimpleNamespace(info=SimpleNamespace(features=features)))
    monkeypatch.setattr(_tfds, "_arrays", lambda *_: [{"image": picture, "label": 1} for picture in pictures])
    with pytest.raises(UserError, match="differ in size.*`size`"):
        data.load("any_sizes", "train")
    loaded = data.load("any_sizes", "train", size=24)
    assert loaded.images.shape == (3, 24, 24, 3)
    loaded.labels[:] = 0  # of this data set alone
    with pytest.raises(ValueError, match="read-only"):
        loaded.images[:] = 0
    assert data.load("any_sizes", "train", size=24).labels.tolist() == [1, 1, 1]
    grey = data.load("any_sizes", "train", size=(24, 24, 1)).images  # before they are resized, as everywhere
    assert all((a == fit(bands.grey(picture), (24, 24))).all() for a, picture in zip(grey, pictures, strict=True))


def test_a_decoder_that_is_missing_is_named(monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    from mizoo.data import _tfds

    def fail(self, **options):
        raise ImportError("no pydub here")

    # undone inside: what `mock_data` puts in its place must not be put back behind it
    with tfds.testing.mock_data(num_examples=1), monkeypatch.context() as patched:
        patched.setattr(_tfds, "any_reachable", lambda urls: True)
        patched.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
        with pytest.raises(UserError, match="no pydub here.*`sound` what sounds"):
            list(_tfds.examples("spoken_digit", "train", "audio"))


def test_data_that_are_nowhere_and_no_network_are_said_at_once(monkeypatch, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    from mizoo.data import _tfds

    nowhere = tmp_path / "nowhere"
    monkeypatch.setenv("TFDS_DATA_DIR", str(nowhere))
    monkeypatch.setattr(tfds, "builder", functools.partial(tfds.builder, data_dir=nowhere))
    monkeypatch.setattr(_tfds, "any_reachable", lambda urls: False)
    with pytest.raises(
        UserError, match=r"not prepared in .*nowhere \(TFDS_DATA_DIR\), a folder.*not there.*no network.*TFDS_DATA_DIR"
    ):
        _tfds._prepared("mnist", "train", "image")


def test_a_download_is_announced_with_its_place_and_size(monkeypatch, tmp_path, capsys):
    tfds = pytest.importorskip("tensorflow_datasets")
    from mizoo.data import _tfds

    monkeypatch.setattr(tfds, "builder", functools.partial(tfds.builder, data_dir=tmp_path))
    monkeypatch.setattr(_tfds, "any_reachable", lambda urls: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda self: None)
    _tfds._prepared("cifar10", None, "image")
    assert re.search(rf"{tmp_path}.*downloaded there.*\(170 MB\)", capsys.readouterr().err)


def test_a_host_that_refuses_or_is_silent_is_not_reachable(monkeypatch):
    from mizoo.data import _network

    monkeypatch.setattr(_network, "getproxies", lambda: {})

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        here = f"http://127.0.0.1:{listening.getsockname()[1]}/data"
        assert _network.any_reachable([here])
    begun = time.monotonic()
    assert not _network.any_reachable([here]) and not _network.any_reachable(["http://nowhere.invalid"], seconds=1.0)
    assert time.monotonic() - begun < 5.0
    assert _network.any_reachable(["file:///data"])


def test_cifar10_is_the_real_one(cifar10):
    assert cifar10.images.shape == (10000, 32, 32, 3)
    assert np.bincount(cifar10.labels).tolist() == [1000] * 10
    assert cifar10.classes[:2] == ("airplane", "automobile")
    assert cifar10.images.mean() == pytest.approx(121.5, abs=0.5)
