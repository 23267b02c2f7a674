"""A disk that fills, places where nothing can be written, processes killed while they wrote: nothing is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.encoders import TOY, publish

from mizoo import recipes, search
from mizoo._tools import files
from mizoo.embed import embed
from mizoo.errors import UserError
from mizoo.runs.folder import CHECKPOINT, ENCODER, LOG, read_log, saved_state

resource = pytest.importorskip("resource")


@contextlib.contextmanager
def room_for(size: int):
    """No file of this process grows beyond a size in bytes: a write that would is refused as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """48 small pictures."""
    folder = tmp_path_factory.mktemp("album")
    rng = np.random.default_rng(4)
    for i in range(48):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype="uint8")).save(folder / f"{i:02d}.png")
    return folder


def scraps(folder):
    """Temporary files and folders anywhere in a folder."""
    return [path.name for path in folder.rglob(".writing-*")]


def test_a_file_that_finds_no_room_is_named_and_the_old_one_kept(tmp_path):
    path = tmp_path / "table.txt"
    files.write_text(path, "old")
    with room_for(1000), pytest.raises(UserError, match=r"table\.txt cannot be written: File too large\..*make room"):
        files.write_text(path, "x" * 2000)
    assert path.read_text() == "old" and not scraps(tmp_path)
    files.write_text(path, "x" * 2000)
    assert path.read_text() == "x" * 2000


def test_no_room_is_told_also_where_a_library_wraps_the_error(tmp_path):
    def write(error):
        with files.atomic(tmp_path / "file.bin"):
            raise RuntimeError("it did not work") from error

    for error in (OSError(errno.ENOSPC, "full"), ValueError("flush: No space left on device (28)")):
        with pytest.raises(UserError, match=r"file\.bin cannot be written: No space left on device"):
            write(error)
    with pytest.raises(RuntimeError, match="it did not work"):
        write(OSError(errno.EACCES, "not yours"))


def test_a_folder_of_forms_that_finds_no_room_is_named_and_left_as_it_was(tmp_path):
    for out in (tmp_path / "exported", tmp_path):
        with pytest.raises(UserError, match=rf"{out.name} cannot be written: No space left"):
            with files.temporary_folder(out) as folder:
                (folder / "half").write_text("x")
                raise OSError(errno.ENOSPC, "No space left on device")
    assert tmp_path.is_dir() and not list(tmp_path.iterdir())


def test_room_is_reserved_before_a_library_writes(tmp_path):
    path = tmp_path / "file.h5"
    with room_for(10_000):
        with pytest.raises(OSError) as raised:
            files.reserve(path, 20_000)
        assert raised.value.errno == errno.EFBIG
        files.reserve(path, 9_000)
    assert path.stat().st_size == 0


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f"{files._temporary_prefix(gone.pid)}abc.npz"
    forms = tmp_path / f"{files._temporary_prefix(gone.pid)}forms"
    forms.mkdir()
    others = [
        tmp_path / f"{files._temporary_prefix()}abc.npz",  # of a process that is there
        tmp_path / f".writing-00000000-{gone.pid}-abc.npz",  # of another machine
        tmp_path / ".writing-fc.npy",
        tmp_path / "photo.png",
    ]
    for each in (left, forms / "encoder.onnx", *others):
        each.write_text("x")
    files.write_text(tmp_path / "new.txt", "x")
    assert not left.exists() and not forms.exists()
    assert all(each.exists() for each in others)


def test_what_a_process_in_another_container_writes_stays(tmp_path, monkeypatch):
    """One with the same host name, whose number is that of no process here."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stat = os.stat

    def there(path, *rest, **more):
        """In the place of `os.stat`: numbers of processes mean something else."""
        return stat("/proc/self/ns/net" if path == "/proc/self/ns/pid" else path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "stat", there)
        theirs = tmp_path / f"{files._temporary_prefix(gone.pid)}abc.npz"
    theirs.write_text("x")
    files.write_text(tmp_path / "new.txt", "x")
    assert theirs.exists()


def test_a_file_where_a_folder_is_needed_is_named(tmp_path, album):
    (tmp_path / "afile").touch()
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for path in (tmp_path / "afile/x.txt", tmp_path / "afile/a/x.txt"):
        with pytest.raises(UserError, match=r"x\.txt cannot be written: .*afile is a file, and a folder is needed"):
            files.write_text(path, "x")
    with pytest.raises(UserError, match=r"folder cannot be written: it is a folder"):
        files.write_text(tmp_path / "folder", "x")
    with pytest.raises(UserError, match=r"afile cannot be written: .*afile is a file, and a folder is needed"):
        with files.temporary_folder(tmp_path / "afile"):
            pass
    assert sorted(os.listdir(tmp_path)) == ["afile", "folder"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_may_not_be_written_is_named_and_other_errors_are_not_taken_for_it(tmp_path, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), str(tmp_path))

    with pytest.raises(OSError) as raised, files.atomic(tmp_path / "x.txt"):
        refuse()  # what the block reads, say
    assert not isinstance(raised.value, UserError)
    says = rf"x\.txt cannot be written: {os.strerror(number)} \(.*\)\. Choose another"
    for module, name in ((files.tempfile, "mkstemp"), (files.os, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, refuse)
            with pytest.raises(UserError, match=says) as caught:
                files.write_text(tmp_path / "x.txt", "x")
        assert isinstance(caught.value, OSError) and caught.value.errno == number  # for those who go on without
    with monkeypatch.context() as patch:
        patch.setattr(files.tempfile, "mkdtemp", refuse)
        with pytest.raises(UserError, match="out cannot be written"), files.temporary_folder(tmp_path / "out"):
            pass
    assert not scraps(tmp_path)


@pytest.fixture(scope="module")
def recipe(album):
    return recipes.validate(
        {
            "name": "toy",
            "encoder": TOY,
            "objective": {"critic_width": 12, "prior_weight": 0.0},
            "data": {"source": str(album)},
            "optimizer": {"learning_rate": 0.003, "schedule": "constant", "decay_epochs": 0.0},
            "training": {"epochs": 2, "batch_size": 16, "precision": "float32"},
        }
    )


@pytest.mark.parametrize("file", [ENCODER, CHECKPOINT])
def test_a_run_on_a_full_disk_keeps_its_checkpoint_and_goes_on(recipe, tmp_path, eager, file, monkeypatch):
    from mizoo.pretrain import pretrain

    reserved: list[int] = []
    reserve = files.reserve
    monkeypatch.setattr(files, "reserve", lambda path, size: (reserved.append(size), reserve(path, size)))
    run = pretrain(recipe, tmp_path / "run", stop_after=1)
    assert reserved[0] >= (run / CHECKPOINT).stat().st_size, "HDF5 would find no room"
    kept = files.sha256(run / CHECKPOINT)
    with room_for((run / file).stat().st_size - 1), pytest.raises(UserError, match=rf"{file} cannot be written: File"):
        pretrain(recipe, run)
    assert files.sha256(run / CHECKPOINT) == kept and saved_state(run, recipe).epochs == 1
    assert not scraps(run)
    pretrain(recipe, run)
    assert [line["epoch"] for line in read_log(run)] == [1, 2] and saved_state(run, recipe).epochs == 2


def test_a_first_epoch_on_a_full_disk_leaves_nothing_that_stands_in_the_way(recipe, tmp_path, eager):
    from mizoo.pretrain import pretrain

    run = tmp_path / "run"
    with room_for(300), pytest.raises(UserError, match=r"cannot be written: File too large"):
        pretrain(recipe, run, stop_after=1)
    assert not (run / LOG).exists() and not (run / CHECKPOINT).exists() and not scraps(run)
    assert len(read_log(pretrain(recipe, run, stop_after=1))) == 1


def test_features_and_an_index_on_a_full_disk(album, tmp_path):
    published = publish()
    model = published.onnx_file.parent
    with room_for(10_000):
        with pytest.raises(UserError, match=r"Cannot write .*f\.npz: File too large"):
            embed(model, album, tmp_path / "f.npz")
        with pytest.raises(UserError, match=r"[Cc]annot (be )?writ.*File too large"):
            search.build(album, tmp_path / "photos.index", model, "conv", progress=False)
        shards = tmp_path / "shards"
        with pytest.raises(UserError, match="same command goes on"):
            embed(model, album, shards, "conv", batch_size=16, shard_size=48)
    assert os.listdir(tmp_path) in ([], ["shards"])
    assert embed(model, album, shards, "conv", batch_size=16, shard_size=48).count == 48
    index, _ = search.build(album, tmp_path / "photos.index", model, "conv", progress=False)
    assert len(set(index.paths)) == 48
