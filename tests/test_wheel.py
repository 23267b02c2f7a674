"""What a wheel carries: each Keras file as a patch of the ONNX file, all in less than 60 MB."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import mizoo
from mizoo import zoo
from mizoo.errors import UserError
from mizoo.zoo import entries, patches

ROOT = Path(__file__).resolve().parents[1]
SMALL = "cpc_spoken_digit"


@pytest.mark.parametrize("name", zoo.list_models())
def test_the_patch_of_every_entry_makes_its_published_file(name):
    keras_file, onnx_file = (zoo.path(name, f"encoder.{form}").read_bytes() for form in ("keras", "onnx"))
    patch = zoo.locate(f"models/{name}/encoder.keras.patch").read_bytes()
    assert len(patch) < 30_000
    assert patches.apply(patch, onnx_file) == keras_file


def test_a_patch_holds_what_is_in_one_file_alone(rng):
    shared = [rng.bytes(size) for size in (1000, 70, 5000)]
    source = b"head" + shared[2] + b"between" + shared[0] + shared[1]
    wanted = shared[0] + b"first" + shared[1] + shared[2] + shared[0] + b"last"
    patch = patches.make(wanted, source, [*shared, b"first", b"nowhere" * 20])
    assert patches.apply(patch, source) == wanted
    assert len(patch) < 1400  # the second copy of the first piece is written out
    for nothing in (patches.make(b"", source, shared), patches.make(wanted, b"", shared)):
        assert patches.apply(nothing, source) in (b"", wanted)


@pytest.mark.parametrize("damage", [b"", b"mizoo-patch-1\n", b"else", b"mizoo-patch-1\n\xff\xff\xff\xffrest"])
def test_a_damaged_patch_is_said(damage):
    with pytest.raises(UserError, match="damaged"):
        patches.apply(damage, b"source")


@pytest.fixture
def as_installed(fake_zoo, monkeypatch, tmp_path):
    """A zoo that holds what a wheel holds of one entry, and an empty cache."""
    with monkeypatch.context() as published:
        published.setattr(entries, "_root", None)
        registry = zoo.registry()
        kept = [zoo.locate(f"models/{SMALL}/encoder.keras.patch"), zoo.path(SMALL, "encoder.onnx")]
    for file in kept:
        target = fake_zoo.root / file.relative_to(ROOT)
        target.parent.mkdir(parents=True)
        shutil.copy(file, target)
    fake_zoo.register({SMALL: registry[SMALL]})
    monkeypatch.setenv("MIZOO_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MIZOO_URL", raising=False)
    return fake_zoo.root


def test_the_keras_file_is_made_in_memory_and_kept_only_where_a_path_is_asked_for(as_installed, tmp_path):
    found = entries.read(SMALL, "encoder.keras")
    assert len(found.content) == zoo.info(SMALL)["files"]["encoder.keras"]["bytes"]
    assert not (tmp_path / "cache").exists()
    assert zoo.path(SMALL, "encoder.keras").read_bytes() == found.content
    assert (tmp_path / "cache").exists()


def test_it_loads_in_keras_under_the_name_of_the_entry(as_installed):
    pytest.importorskip("keras")
    sound = np.zeros((1, 4000), "float32")
    model = zoo.load(SMALL)
    assert model.name == SMALL
    wanted = zoo.load(SMALL, runtime="onnx")(sound)["global"]
    np.testing.assert_allclose(model(sound)["global"], wanted, atol=1e-4)


def test_a_patch_of_another_version_is_not_used(as_installed):
    file = as_installed / f"models/{SMALL}/encoder.keras.patch"
    file.write_bytes(patches.make(b"something else", b"", []))
    with pytest.raises(UserError, match="does not make the published file"):
        entries.read(SMALL, "encoder.keras")


IN_A_WHEEL = """
import sys, numpy as np, mizoo
assert "site" in mizoo.__file__, mizoo.__file__
assert mizoo.zoo.clone() is None
one, other = (mizoo.load("cpc_cifar10", "fc", runtime) for runtime in ("onnx", "keras"))
images = np.zeros((1, 32, 32, 3), "uint8")
print(float(np.abs(one(images) - np.asarray(other(images))).max()))
"""


@pytest.mark.slow
def test_a_wheel_is_below_60_mb_and_loads_every_form(tmp_path):
    copy = tmp_path / "clone"
    made_here = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.egg-info")

    def ignore(folder: str, names: list[str]) -> set[str]:
        """What is no part of a clone: names below it are those of packages."""
        return made_here(folder, names) if Path(folder) == ROOT else set()

    shutil.copytree(ROOT, copy, ignore=ignore)
    build = [sys.executable, "-m", "pip", "wheel", str(copy), "--no-deps", "-q", "-w", str(tmp_path)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 60e6
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        assert not [name for name in archive.namelist() if name.endswith("encoder.keras")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "MIZOO_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", IN_A_WHEEL]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) < 1e-4
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, mizoo {mizoo.__version__}")
