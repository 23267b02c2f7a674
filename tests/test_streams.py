"""Streamed pictures are those in memory, in the same order, whoever decodes them; what goes wrong is named at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from support.records import Probing

from mizoo import data
from mizoo.data import choosing, packed, pictures, reading
from mizoo.data.order import BatchRows, rows_of_host
from mizoo.data.streams import Stream
from mizoo.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """60 pictures of three classes, of several sizes and formats."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for i in range(60):
        path = root / f"class{i % 3}" / f"{i:02d}.{('png', 'jpg', 'tif')[i % 7 % 3]}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + i % 4, 24, 3), dtype="uint8")).save(path)
    return root


def assert_same(streamed, loaded) -> None:
    """A streamed data set gives what the loaded one holds, however it is asked."""
    assert (streamed.name, streamed.classes, len(streamed)) == (loaded.name, loaded.classes, len(loaded))
    np.testing.assert_array_equal(streamed.labels, loaded.labels)
    assert streamed.images.shape == loaded.images.shape and streamed.images.nbytes == loaded.images.nbytes
    for index in (slice(None), 1, -1, slice(1, None, 9), np.array([1, 0, 0]), [0, 1]):
        np.testing.assert_array_equal(streamed.images[index], loaded.images[index])


def test_a_folder_streams_what_it_loads(folder):
    assert_same(data.stream(folder, size=16), data.load(folder, size=16))
    assert_same(data.stream(folder, "train[7:-20]", size=20), data.load(folder, "train[7:-20]", size=20))


def test_train_and_test_folders_stream_what_they_load(tmp_path, folder):
    for split in ("train", "test"):
        (tmp_path / split).symlink_to(folder)
    for split in ("train", "test[-9:]"):
        assert_same(data.stream(tmp_path, split, size=16), data.load(tmp_path, split, size=16))
    with pytest.raises(UserError, match="has the splits train, test. Received: split='val'"):
        data.stream(tmp_path, "val", size=16)


@pytest.mark.parametrize("size", [None, 18])
def test_a_packed_folder_gives_what_its_source_gives(tmp_path, folder, size):
    data.pack(folder, tmp_path / "p", size=size)
    loaded = data.load(folder, size=size or 16)
    assert_same(data.stream(tmp_path / "p", size=size or 16), loaded)
    assert_same(data.load(tmp_path / "p", size=size or 16), loaded)
    assert_same(data.stream(tmp_path / "p", "train[-11:]", size=12), data.load(tmp_path / "p", "train[-11:]", size=12))
    data.pack(tmp_path / "p", tmp_path / "again")
    assert_same(data.load(tmp_path / "again", size=size or 16), loaded)
    if size is None:
        for read in (data.load, data.stream):
            with pytest.raises(UserError, match="differ in size. Pass `size`"):
                read(tmp_path / "p")
    else:
        assert_same(data.stream(tmp_path / "p"), loaded)


def test_jpeg_files_are_packed_as_they_are_and_deep_files_as_they_are_read(tmp_path):
    source = tmp_path / "pictures"
    source.mkdir()
    rng = np.random.default_rng(6)
    Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype="uint8")).save(source / "a.jpg")
    Image.fromarray(rng.integers(0, 1 << 16, (20, 20), dtype="uint16")).save(source / "b.tif")
    data.pack(source, tmp_path / "p")
    assert_same(data.load(tmp_path / "p"), data.load(source))
    contents = [data.stream(tmp_path / "p").images.records.content(i) for i in range(2)]
    assert (source / "a.jpg").read_bytes() in contents and sum(each.startswith(b"RIFF") for each in contents) == 1


def test_grey_arrays_stay_grey_when_they_are_packed_and_streamed(tmp_path, rng):
    grey = data.Dataset("grey", rng.integers(0, 256, (9, 8, 8, 1), dtype="uint8"))
    packed.write({"train": grey}, tmp_path / "p")
    assert_same(data.stream(tmp_path / "p"), grey)
    data.pack(tmp_path / "p", tmp_path / "q")
    assert_same(data.stream(tmp_path / "q", size=6), data.load(grey, size=6))


def test_colours_are_grey_before_they_are_resized_whoever_reads_them(tmp_path, folder):
    loaded = data.load(folder, size=(9, 12), channels=1)
    assert_same(data.stream(folder, size=(9, 12), channels=1), loaded)
    data.pack(folder, tmp_path / "grey", channels=1)
    data.pack(folder, tmp_path / "colours")
    for packed_folder in ("grey", "colours"):
        again = data.load(tmp_path / packed_folder, size=(9, 12), channels=1)
        np.testing.assert_array_equal(again.images, loaded.images, err_msg=packed_folder)
    records = data.stream(folder, size=(9, 12)).images
    embedded = pictures.prepare(records.records.path(int(records.rows[0])), (9, 12, 1))
    np.testing.assert_array_equal(embedded, loaded.images[0])


@pytest.mark.parametrize("other", [{"size": 12}, {"channels": 1}, {"depth": 12}, {"without": ["class0/00.png"]}])
def test_a_stream_is_streamed_again_as_it_is_or_refused(folder, other):
    streamed = data.stream(folder, size=16)
    assert len(data.stream(streamed, "train[:5]", size=(16, 16, 3))) == 5
    with pytest.raises(UserError, match="A stream is streamed again as it is: 16 x 16 pixels, 3 channels, depth=None"):
        data.stream(streamed, **other)


def test_dark_deep_files_are_told_once_for_all_that_are_read(tmp_path):
    for i in range(4):
        Image.fromarray(np.full((8, 8), 900 + i, np.uint16)).save(tmp_path / f"{i}.png")
    streamed = data.stream(tmp_path, size=8).images
    with pytest.warns(UserWarning, match=r"0.png.*almost black.*3 more of 4 files") as caught:
        streamed[:]
        streamed.read(np.arange(4))
        streamed.read(np.arange(4))
    assert len(caught) == 2  # of all at once, and of the first batch


@pytest.mark.parametrize("channels", [2, 13])
def test_arrays_of_other_channels_stream_what_they_load(tmp_path, rng, channels):
    for i in range(4):
        np.save(tmp_path / f"{i}.npy", rng.integers(0, 256, (20, 22 + i, channels), dtype="uint8"))
    assert_same_pictures(data.stream(tmp_path, size=16), data.load(tmp_path, size=16))
    Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype="uint8")).save(tmp_path / "z.png")
    streamed = data.stream(tmp_path, size=16).images
    with pytest.raises(UserError, match=f"z.png: the picture has 3 channels and {channels} are wanted"):
        np.stack([streamed[i] for i in range(5)])
    with pytest.raises(UserError, match="differ in channels"):
        data.load(tmp_path, size=16)


def assert_same_pictures(streamed, loaded) -> None:
    """The same of pictures without classes."""
    assert streamed.images.shape == loaded.images.shape
    np.testing.assert_array_equal(streamed.images[:], loaded.images)


def test_a_jpeg_with_further_pictures_behind_it_is_packed_as_it_is(tmp_path, rng):
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype="uint8"))
    (tmp_path / "pictures").mkdir()
    path = tmp_path / "pictures" / "a.jpg"
    coarse.resize((80, 60)).save(path, format="MPO", save_all=True, append_images=[coarse])
    assert Image.open(path).format == "MPO"
    data.pack(tmp_path / "pictures", tmp_path / "p")
    assert data.stream(tmp_path / "p").images.records.content(0) == path.read_bytes()
    np.testing.assert_array_equal(data.load(tmp_path / "p").images, data.load(tmp_path / "pictures").images)


def test_every_file_that_cannot_be_packed_is_named_and_there_is_no_index(tmp_path, folder):
    source = tmp_path / "some"
    source.mkdir()
    for i, path in enumerate(sorted(folder.rglob("*.jpg"))[:5]):
        (source / path.name).write_bytes(path.read_bytes()[: 200 if i in (1, 3) else None])
    with pytest.raises(UserError, match="2 of 5 pictures cannot be read") as error:
        data.pack(source, tmp_path / "p")
    cut = sorted(path.name for path in source.iterdir())
    assert cut[1] in str(error.value) and cut[3] in str(error.value) and cut[0] not in str(error.value)
    assert not packed.is_packed(tmp_path / "p")
    for name in (cut[1], cut[3]):
        (source / name).unlink()
    data.pack(source, tmp_path / "p")
    assert_same(data.load(tmp_path / "p", size=16), data.load(source, size=16))


def test_a_stream_is_never_put_into_memory_by_itself(folder):
    streamed = data.stream(folder, size=16)
    with pytest.raises(UserError, match="60 pictures that are streamed are not put into memory"):
        np.asarray(streamed.images)
    assert_same(data.load(streamed, "train[:20]"), data.load(folder, "train[:20]", size=16))
    with pytest.raises(UserError, match="one `size`"):
        data.stream(folder)
    with pytest.raises(UserError, match="names files"):
        data.stream(np.zeros((2, 4, 4, 3), "uint8"))


@pytest.mark.parametrize(
    "workers", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_batches_are_those_in_memory_with_any_number_of_workers(folder, workers):
    settings = {"batch_size": 8, "seed": 3, "noise_size": 2, "start_epoch": 2, "targets": np.eye(60, dtype="float32")}
    memory = data.batches(data.load(folder, size=16), **settings)
    streamed = data.batches(data.stream(folder, size=16), workers=workers, **settings)
    assert streamed.steps_per_epoch == memory.steps_per_epoch == 7 and streamed.kind == "pictures"
    try:
        for index in [0, 1, 0, 1, 2, *range(3, 16), 5]:  # over the end of an epoch, and back
            for key, values in memory[index].items():
                np.testing.assert_array_equal(streamed[index][key], values)
    finally:
        streamed.close()
    with pytest.raises(UserError, match="closed"):
        streamed[30]


def test_hosts_together_have_the_batches_of_one(folder):
    settings = {"batch_size": 12, "noise_size": 3, "targets": np.eye(60, dtype="float32")}
    whole = data.batches(data.load(folder, size=16), **settings)
    streamed = data.stream(folder, size=16)
    for source in (data.load(folder, size=16), streamed):
        parts = [data.batches(source, shard=(host, 3), workers=0, **settings) for host in range(3)]
        for index in (0, 6):
            for key, values in whole[index].items():
                np.testing.assert_array_equal(np.concatenate([part[index][key] for part in parts]), values)
        for part in parts:
            part.close()
    for size, shard, message in (
        (12, (0, 5), "5 hosts share a batch equally"),
        (12, (3, 3), "below the count of hosts"),
    ):
        with pytest.raises(UserError, match=message):
            rows_of_host(size, *shard)


@pytest.mark.slow
def test_workers_import_neither_keras_nor_tensorflow():
    stream = Stream(Probing(os.getpid()), np.arange(64), (1, 1, 3))
    batches = data.batches(stream, batch_size=4, workers=1)
    heavy, here, number = batches[0]["images"][:, 0, 0].T
    batches.close()
    assert heavy.max() == 0 and here.max() == 0
    assert number.tolist() == BatchRows(64, 4, 0, 0, slice(None))[0].tolist()


SCRIPT = """
import sys, numpy as np
from mizoo.data import stream
from mizoo.data.order import BatchRows
from mizoo.data.reading import Reader
print("began")
images = stream(sys.argv[1], size=16).images
reader = Reader(images, BatchRows(60, 8, 0, 0, slice(None)), workers=2)
assert (reader[0] == images[BatchRows(60, 8, 0, 0, slice(None))[0]]).all()
print("read", "tensorflow" in sys.modules)
"""


def test_a_script_without_a_guard_streams_and_is_not_run_again(tmp_path, folder):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["began", "read", "False"], done.stderr[-2000:]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_file_that_vanishes_while_it_streams_is_named(tmp_path, folder, workers):
    for path in folder.rglob("*.jpg"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    batches = data.batches(data.stream(tmp_path, size=16), batch_size=4, workers=workers)
    batches[0]
    lost = data.stream(tmp_path, size=16).images
    epoch, step = 1, 2
    row = batches.rows[step + epoch * batches.steps_per_epoch][0]
    name = lost.records.name(int(lost.rows[row]))
    os.unlink(name)
    with pytest.raises(UserError, match=rf"{name}: no such file. Reading stopped at step \d of epoch [12]\."):
        for index in range(1, 3 * batches.steps_per_epoch):
            batches[index]
    assert name in str(batches.failure)
    batches.close()


def test_a_shard_that_vanishes_while_it_streams_is_named(tmp_path, folder):
    data.pack(folder, tmp_path / "p", size=16)
    batches = data.batches(data.stream(tmp_path / "p"), batch_size=4, workers=0)
    (tmp_path / "p" / "train-00000.array_record").unlink()
    with pytest.raises(UserError, match="train-00000.array_record: no such shard"):
        batches[0]
    batches.close()


@pytest.mark.slow
def test_a_worker_that_is_killed_is_an_error_and_no_hang(folder):
    batches = data.batches(data.stream(folder, size=16), batch_size=8, workers=1)
    batches[0]
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(UserError, match="process that decodes pictures ended.*Reading stopped at step"):
        for index in range(1, 9):
            batches[index]
    assert time.monotonic() - began < 60
    memory = data.batches(data.load(folder, size=16), batch_size=8)
    np.testing.assert_array_equal(batches[8]["images"], memory[8]["images"])  # by a new process
    batches.close()


def test_a_batch_that_does_not_come_is_an_error_after_the_stated_time(monkeypatch):
    monkeypatch.setattr(reading, "TIMEOUT", 0.5)
    stream = Stream(Probing(os.getpid(), slow_from=0, seconds=2.0), np.arange(64), (1, 1, 3))
    batches = data.batches(stream, batch_size=2, workers=0)
    began = time.monotonic()
    with pytest.raises(UserError, match="No batch came for 0.5 seconds.*Reading stopped at step 1 of epoch 1"):
        batches[0]
    assert time.monotonic() - began < 1.9
    batches.close()


@pytest.mark.slow
def test_small_shared_memory_is_gone_round(monkeypatch, folder):
    monkeypatch.setattr(reading.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    streamed = data.batches(data.stream(folder, size=16), batch_size=8, workers=1)
    memory = data.batches(data.load(folder, size=16), batch_size=8)
    np.testing.assert_array_equal(streamed[0]["images"], memory[0]["images"])
    streamed.close()


def test_what_would_take_too_much_of_the_memory_is_streamed(monkeypatch, folder, tmp_path, capfd):
    needed = choosing.decoded_bytes(folder, "train[:40]", 16)
    assert needed == 40 * 16 * 16 * 3
    for there, streamed in ((4 * needed, False), (4 * needed - 4, True), (None, False)):
        monkeypatch.setattr(choosing, "memory", lambda there=there: there)
        chosen = choosing.load_or_stream(folder, "train[:40]", 16)
        assert isinstance(chosen.images, Stream) == streamed
        np.testing.assert_array_equal(chosen.images[:], data.load(folder, "train[:40]", 16).images)
    assert "40 pictures of 16 x 16 pixels are streamed" in capfd.readouterr().err
    monkeypatch.setattr(choosing, "memory", lambda: 10)
    assert isinstance(choosing.load_or_stream(folder, "train", 16, streamed=False).images, np.ndarray)
    assert isinstance(choosing.load_or_stream(folder, "train", 16, streamed=True).images, Stream)
    data.pack(folder, tmp_path / "p")
    assert choosing.decoded_bytes(tmp_path / "p", "train", 16) == 60 * 16 * 16 * 3


def test_a_set_of_tfds_prepared_as_array_record_streams_and_others_are_to_be_packed(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    from mizoo.data import _tfds

    _tfds._read.cache_clear()
    made = {
        kind: tfds.testing.DummyMnist(data_dir=tmp_path / kind, file_format=kind)
        for kind in ("array_record", "tfrecord")
    }
    monkeypatch.setattr(tfds, "builder", lambda name: made[name])
    loaded = data.load("array_record", "test")
    assert loaded.images.shape == (20, 28, 28, 3) and loaded.images.max() > 0
    by_tensorflow = data.load("tfrecord", "test")
    np.testing.assert_array_equal(loaded.images, by_tensorflow.images)
    np.testing.assert_array_equal(loaded.labels, by_tensorflow.labels)
    assert_same(data.stream("array_record", "test", labelled=True), loaded)
    assert data.stream("array_record", "test").labels is None
    assert_same(
        data.stream("array_record", "test[3:]", size=10, labelled=True), data.load("array_record", "test[3:]", size=10)
    )
    with pytest.raises(UserError, match="prepared as tfrecord, which cannot be streamed.*mizoo data pack tfrecord"):
        data.stream("tfrecord", "test")
    monkeypatch.setattr(choosing, "memory", lambda: 10)
    with pytest.raises(UserError, match="mizoo data pack tfrecord.*`data.stream: false` loads them none the less"):
        choosing.load_or_stream("tfrecord", "test", 28)
    for kind in made:
        data.pack(kind, tmp_path / f"packed_{kind}")
        again = data.load(tmp_path / f"packed_{kind}", "test")
        np.testing.assert_array_equal(again.images, loaded.images)
        np.testing.assert_array_equal(again.labels, loaded.labels)
        assert again.classes == loaded.classes and data.splits(tmp_path / f"packed_{kind}") == ("train", "test")
    _tfds._read.cache_clear()


def test_the_command_packs_and_says_what_it_wrote(tmp_path, folder):
    from typer.testing import CliRunner

    from mizoo import cli

    result = CliRunner().invoke(cli.app, ["data", "pack", str(folder), "--out", str(tmp_path / "p"), "--size", "8"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["train: 60 pictures in 1 shards", str(tmp_path / "p")]
    assert_same(data.load(tmp_path / "p"), data.load(folder, size=8))
