"""`mizoo.beam.Embed` gives the rows of `mizoo embed`. Run by `make slow-beam`, in an environment of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

beam = pytest.importorskip("apache_beam")
pq = pytest.importorskip("pyarrow.parquet")

import mizoo  # noqa: E402
from mizoo.data import pictures  # noqa: E402
from mizoo.embed import embed  # noqa: E402
from mizoo.errors import UserError  # noqa: E402
from mizoo.zoo import interface  # noqa: E402

ENTRY = "dim_local_cifar10"
ENDPOINTS = ("local", "conv", "fc", "global")


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    folder = tmp_path_factory.mktemp("album")
    rng = np.random.default_rng(4)
    for index in range(9):
        pixels = rng.integers(0, 256, (40 + index, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.{'png' if index % 2 else 'jpg'}")
    (folder / "cut.png").write_bytes((folder / "1.png").read_bytes()[:60])
    (folder / "text.jpg").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def local(album, tmp_path_factory):
    output = tmp_path_factory.mktemp("local") / "f.npz"
    embed(ENTRY, album, output)
    with np.load(output) as saved:
        return dict(saved)


def run(album, out, embedding, runner="DirectRunner", between=None) -> tuple[dict[str, dict], list[dict]]:
    """Rows by path, in the order of nothing, and dead letters."""
    paths = [*map(str, pictures.find(album)), str(album / "gone.png")]
    with beam.Pipeline(runner) as pipeline:
        source = pipeline | beam.Create(paths)
        rows = (source | beam.Map(between) if between else source) | embedding
        rows["features"] | embedding.write(str(out / "part"))
        rows["failed"] | beam.Map(json.dumps) | beam.io.WriteToText(str(out / "failed"))
    found: list[dict] = [row for file in sorted(out.glob("part*.parquet")) for row in pq.read_table(file).to_pylist()]
    letters = [json.loads(line) for file in sorted(out.glob("failed*")) for line in file.read_text().splitlines()]
    by_path = {row["path"]: row for row in found}
    assert len(by_path) == len(found), "a row is doubled"
    return by_path, letters


def assert_same(by_path, letters, local, endpoints=ENDPOINTS) -> None:
    assert sorted(by_path) == sorted(local["paths"])
    for index, path in enumerate(local["paths"]):
        assert set(by_path[path]) == {"path", "sha256", *endpoints}
        assert by_path[path]["sha256"] == mizoo_hash(path)
        for key in endpoints:
            np.testing.assert_allclose(by_path[path][key], local[key][index].ravel(), atol=2e-4)
    assert sorted(Path(letter["path"]).name for letter in letters) == ["cut.png", "gone.png", "text.jpg"]
    assert all(letter["error"] and "/tmp" not in letter["error"] for letter in letters)


def mizoo_hash(path) -> str:
    from mizoo._tools.files import sha256

    return sha256(path)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_rows_are_those_of_the_local_command(album, local, tmp_path, batch_size):
    assert interface.endpoint_names(mizoo.load(ENTRY, runtime="onnx")) == ENDPOINTS
    assert_same(*run(album, tmp_path, mizoo.beam.Embed(ENTRY, batch_size=batch_size)), local)


def test_one_endpoint_that_is_not_the_first_output(album, local, tmp_path):
    assert_same(*run(album, tmp_path, mizoo.beam.Embed(ENTRY, "fc")), local, ("fc",))


def test_a_bundle_that_fails_once_is_retried(album, local, tmp_path):
    marker = tmp_path / "failed once"

    def fails_once(path: str) -> str:
        if path.endswith("3.png") and not marker.exists():
            marker.touch()
            raise OSError("the file system does not answer")
        return path

    out = tmp_path / "out"
    assert_same(*run(album, out, mizoo.beam.Embed(ENTRY), "BundleBasedDirectRunner", fails_once), local)
    assert marker.exists()


def test_what_cannot_be_is_refused_before_the_pipeline_runs():
    with pytest.raises(UserError, match="no endpoint 'fcc'"):
        mizoo.beam.Embed(ENTRY, "fcc")
    with pytest.raises(UserError, match="No .*encoder"):
        mizoo.beam.Embed("no_such_encoder")
