"""Entries that are not installed come from the cache or, once, from `MIZOO_URL`, whatever goes wrong on the way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.web import serve

from mizoo import zoo
from mizoo.cli import app
from mizoo.errors import UserError
from mizoo.zoo import bundling, entries, fetching

NAME, FILE = "far_away", "encoder.onnx"
CONTENT = np.random.default_rng(0).bytes(400_000)


def pinned(content: bytes, path: str) -> dict:
    return {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


@pytest.fixture
def clone(fake_zoo, monkeypatch, tmp_path):
    """A zoo with one entry of one file, whose content is any bytes, and a cache of the test's own."""
    path = f"export/{NAME}/{FILE}"
    fake_zoo.register({NAME: {"license": "CC-BY-4.0", "files": {FILE: pinned(CONTENT, path)}}})
    (fake_zoo.root / path).parent.mkdir()
    (fake_zoo.root / path).write_bytes(CONTENT)
    monkeypatch.setenv("MIZOO_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MIZOO_URL", raising=False)
    return fake_zoo


@pytest.fixture
def server(clone, monkeypatch, tmp_path):
    """The bundle of that zoo on a server, and the zoo without its file: an installation that does not hold it."""
    folder = bundling.bundle(tmp_path / "bundle", progress=False)
    (clone.root / f"export/{NAME}/{FILE}").unlink()
    with serve(folder) as running:
        monkeypatch.setenv("MIZOO_URL", running.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield running


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Retries without the seconds between them."""
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)


def test_what_downloads_is_named_with_its_extra_where_it_is_missing(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(UserError, match=r"pooch.*\[fetch\]"):
        entries.read(NAME, FILE)
    assert not server.requests


def left(folder: Path) -> list[str]:
    """The files below a folder, but for locks."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))


def test_a_file_is_downloaded_once_and_then_found(server, tmp_path):
    first = entries.read(NAME, FILE)
    assert first.content == CONTENT
    assert first.path.is_relative_to(tmp_path / "cache")
    assert first.path == zoo.path(NAME, FILE)
    assert len(server.requests) == 1
    assert left(tmp_path / "cache") == [FILE]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o666 & ~umask  # as readable as any other file


def test_what_is_installed_is_neither_looked_up_nor_downloaded(clone, monkeypatch):
    monkeypatch.setenv("MIZOO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("MIZOO_HOME", "/proc/nowhere")
    assert entries.read(NAME, FILE).content == CONTENT


def test_without_an_address_the_error_names_the_three_ways(server, monkeypatch):
    monkeypatch.delenv("MIZOO_URL")
    with pytest.raises(UserError) as error:
        entries.read(NAME, FILE)
    for way in ("clone", "MIZOO_HOME", "MIZOO_URL", "mizoo bundle"):
        assert way in str(error.value)


def test_a_bundle_that_is_copied_to_the_cache_needs_no_network(server, monkeypatch, tmp_path):
    monkeypatch.delenv("MIZOO_URL")
    shutil.copytree(tmp_path / "bundle", tmp_path / "cache")
    assert entries.read(NAME, FILE).content == CONTENT
    assert not server.requests


def test_a_connection_that_is_cut_is_tried_again(server, tmp_path):
    server.cut = fetching.RETRIES
    assert entries.read(NAME, FILE).content == CONTENT
    assert len(server.requests) == fetching.RETRIES + 1


def test_one_that_is_cut_every_time_leaves_nothing_behind(server, tmp_path):
    server.cut = 99
    with pytest.raises(UserError, match="could not be downloaded"):
        entries.read(NAME, FILE)
    assert left(tmp_path / "cache") == []
    server.cut = 0
    assert entries.read(NAME, FILE).content == CONTENT


def test_other_bytes_are_refused_and_not_kept(server, tmp_path):
    server.wrong = True
    with pytest.raises(UserError, match=r"not the published file.*hash"):
        entries.read(NAME, FILE)
    assert left(tmp_path / "cache") == []


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://127.0.0.1:9/deeper/"])
def test_offline_is_said_with_the_ways_that_are_left(server, monkeypatch, address):
    monkeypatch.setenv("MIZOO_URL", address)
    with pytest.raises(UserError, match=r"(?s)could not be downloaded.*MIZOO_HOME"):
        entries.read(NAME, FILE)


def test_a_server_without_the_file_says_so(server, tmp_path):
    shutil.rmtree(tmp_path / "bundle")
    with pytest.raises(UserError, match="404"):
        entries.read(NAME, FILE)


def test_an_address_of_another_kind_is_refused(server, monkeypatch):
    monkeypatch.setenv("MIZOO_URL", "ftp://example.org")
    with pytest.raises(UserError, match="Received: ftp"):
        entries.read(NAME, FILE)


def test_a_damaged_file_in_the_cache_is_replaced_or_named(server, monkeypatch):
    file = zoo.path(NAME, FILE)
    file.write_bytes(CONTENT[:-1] + b"?")
    assert entries.read(NAME, FILE).content == CONTENT
    file.write_bytes(CONTENT[:1000])
    monkeypatch.delenv("MIZOO_URL")
    with pytest.raises(UserError, match="is damaged"):
        entries.read(NAME, FILE)


READ = """
import sys
from pathlib import Path
from mizoo.zoo import entries
entries._root = Path(sys.argv[1])
print(len(entries.read(sys.argv[2], sys.argv[3]).content))
"""


def test_two_processes_at_once_download_it_once(server, clone):
    server.delay = 0.5
    command = [sys.executable, "-c", READ, str(clone.root), NAME, FILE]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in running] == [str(len(CONTENT))] * 2
    assert len(server.requests) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("only root mounts file systems")
    yield folder
    subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_named_and_nothing_is_left_on_it(server, small_disk, monkeypatch):
    monkeypatch.setenv("MIZOO_HOME", str(small_disk))
    with pytest.raises(UserError, match=r"No space left.*MIZOO_HOME"):
        entries.read(NAME, FILE)
    assert left(small_disk) == []


def test_a_cache_that_cannot_be_written_serves_what_it_holds(server, clone, small_disk, monkeypatch):
    monkeypatch.setenv("MIZOO_HOME", str(small_disk))
    small = CONTENT[:1000]
    file = small_disk / f"{hashlib.sha256(small).hexdigest()[:16]}/small/{FILE}"
    file.parent.mkdir(parents=True)
    file.write_bytes(small)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    clone.register(zoo.registry() | {"small": {"files": {FILE: pinned(small, f"export/small/{FILE}")}}})
    assert entries.read("small", FILE).content == small
    with pytest.raises(UserError, match=r"cannot be written to.*Read-only.*MIZOO_HOME"):
        entries.read(NAME, FILE)


def test_a_bundle_grows_and_is_written_again_only_where_it_is_damaged(clone, tmp_path):
    folder = bundling.bundle(tmp_path / "bundle", progress=False)
    older = folder / "0123/older/encoder.onnx"
    older.parent.mkdir(parents=True)
    older.write_bytes(b"of an earlier version")
    (listed,) = json.loads((folder / "index.json").read_text())[NAME]["files"].values()
    before = (folder / listed["path"]).stat().st_mtime_ns
    bundling.bundle(folder, progress=False)
    assert (folder / listed["path"]).stat().st_mtime_ns == before
    (folder / listed["path"]).write_bytes(b"damaged")
    bundling.bundle(folder, [NAME], progress=False)
    assert (folder / listed["path"]).read_bytes() == CONTENT
    assert older.is_file()


def test_from_the_command_line_to_a_loaded_encoder(fake_zoo, tmp_path, monkeypatch):
    """`mizoo bundle` of a real entry, and `mizoo.load` in an installation without files."""
    from typer.testing import CliRunner

    name, out = "cpc_spoken_digit", tmp_path / "served"
    with monkeypatch.context() as published:
        published.setattr(entries, "_root", None)
        done = CliRunner().invoke(app, ["bundle", name, "--out", str(out)])
        assert done.exit_code == 0, done.output
        expected = zoo.load(name, runtime="onnx")(sound := np.zeros((1, 4000), np.float32))["global"]
        fake_zoo.register(zoo.registry())
    monkeypatch.setenv("MIZOO_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(out) as server:
        monkeypatch.setenv("MIZOO_URL", server.url)
        encoder = zoo.load(name, runtime="onnx")
    assert encoder.name == name
    np.testing.assert_array_equal(encoder(sound)["global"], expected)


@pytest.fixture
def versions(clone):
    """A zoo whose entry was published twice; the first file lies where `mizoo publish --new-version` moves it."""
    first, second = CONTENT[:1000], CONTENT[1000:3000]
    newest = {"files": {FILE: pinned(second, f"export/{NAME}/{FILE}")}, "version": 2, "license": "CC-BY-4.0"}
    old = {"files": {FILE: pinned(first, f"export/{NAME}/v1/{FILE}")}, "license": "CC-BY-4.0"}
    clone.register({NAME: {**newest, "earlier": {"1": old}}})
    (clone.root / f"export/{NAME}/v1").mkdir()
    (clone.root / f"export/{NAME}/v1/{FILE}").write_bytes(first)
    (clone.root / f"export/{NAME}/{FILE}").write_bytes(second)
    return first, second


def test_an_earlier_version_stays_what_it_was_and_the_name_is_the_newest(versions, clone, tmp_path):
    first, second = versions
    assert entries.read(f"{NAME}@1", FILE).content == first
    assert entries.read(f"{NAME}@2", FILE).content == entries.read(NAME, FILE).content == second
    with pytest.raises(UserError, match=f"no version '3'.*{NAME}@1, {NAME}@2"):
        entries.read(f"{NAME}@3", FILE)
    assert zoo.list_models() == [NAME]
    folder = bundling.bundle(tmp_path / "bundle", progress=False)
    (clone.root / f"export/{NAME}/v1/{FILE}").unlink()
    shutil.copytree(folder, tmp_path / "cache")
    assert entries.read(f"{NAME}@1", FILE).content == first


def test_an_entry_that_was_published_once_is_its_version_1(clone):
    assert entries.read(f"{NAME}@1", FILE).content == CONTENT
    assert zoo.info(f"{NAME}@1")["name"] == f"{NAME}@1"
    with pytest.raises(UserError, match="no version 'x'"):
        zoo.info(f"{NAME}@x")
