"""Finding pictures: exactly, by a graph of neighbours, near-duplicates, and as a sheet; without Keras."""

from __future__ import annotations

import builtins
import errno
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.encoders import publish

from mizoo import search
from mizoo._tools.arrays import unit_rows
from mizoo.errors import UserError
from mizoo.search import index as indexing
from mizoo.zoo import OnnxEncoder


def scene(seed: int, size=(40, 48)) -> np.ndarray:
    """A smooth picture of its own: three waves of colour."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] / 12.0
    waves = [np.sin(a * x + b * y + c) for a, b, c in rng.uniform(-2, 2, (3, 3))]
    return np.clip(127 + 90 * np.stack(waves, axis=-1), 0, 255).astype("uint8")


@pytest.fixture(scope="module")
def encoder():
    return publish().onnx_file


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """40 scenes; two of them again, one re-encoded and one byte for byte."""
    folder = tmp_path_factory.mktemp("album") / "photos"
    folder.mkdir()
    for i in range(40):
        Image.fromarray(scene(i)).save(folder / f"{i:02d}.png")
    Image.fromarray(scene(7)).save(folder / "again.jpg", quality=90)
    (folder / "same.png").write_bytes((folder / "21.png").read_bytes())
    (folder / "broken.png").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    return folder


@pytest.fixture(scope="module")
def made(encoder, photos):
    return search.build(photos, photos.parent / "photos.index", encoder, progress=False)


@pytest.fixture(scope="module")
def index(made):
    return search.read(made[0].file)


def vectors(encoder, index):
    """Centred unit vectors, computed here."""
    from mizoo.data import pictures

    images = np.stack([pictures.square(pictures.read(path), 32) for path in index.paths])
    features = OnnxEncoder(encoder, "fc")(images)
    return unit_rows(features - features.sum(axis=0) / (len(features) + 8))


def test_an_index_names_what_it_left_out_and_reads_back(made, index):
    built, report = made
    assert len(index) == 42 and index.endpoint == "fc" and index.graph is None
    assert [path.name for path, _ in report.failed] == ["broken.png"] and report.passed_over == {".txt": 1}
    assert index.paths == tuple(path.absolute() for path in built.paths) or index.paths == built.paths
    np.testing.assert_array_equal(index.vectors, built.vectors)


def test_the_nearest_are_those_of_the_cosines(encoder, index):
    expected = vectors(encoder, index)
    scores = expected @ expected.T
    rows, cosines = index.nearest(index.vectors, 5)
    np.testing.assert_allclose(cosines, -np.sort(-scores, axis=1)[:, :5], atol=2e-3)
    np.testing.assert_allclose(np.take_along_axis(scores, rows, axis=1), cosines, atol=2e-3)


def test_a_picture_finds_itself_and_its_copy_first(index, photos):
    ((query, hits),) = index.search(photos / "07.png", 3)
    assert query.name == "07.png" and {hit.path.name for hit in hits[:2]} == {"07.png", "again.jpg"}
    assert hits[0].similarity == pytest.approx(1, abs=2e-3) and hits[1].similarity > hits[2].similarity
    two = index.search([photos / "21.png", photos / "03.png"], 1000)
    assert [query.name for query, _ in two] == ["21.png", "03.png"] and len(two[0][1]) == 42


def test_the_index_and_its_pictures_can_be_moved_together(index, photos, tmp_path):
    moved = tmp_path / "elsewhere"
    (moved / "photos").mkdir(parents=True)
    for path in photos.iterdir():
        (moved / "photos" / path.name).write_bytes(path.read_bytes())
    (moved / "photos.index").write_bytes(index.file.read_bytes())
    ((_, hits),) = search.read(moved / "photos.index").search(photos / "05.png", 1)
    assert hits[0].path == moved / "photos/05.png"


def test_near_duplicates_are_groups(index):
    groups = search.near_duplicates(index, progress=False, threshold=0.995)
    assert {frozenset(path.name for path in group) for group in groups} == {
        frozenset(("07.png", "again.jpg")),
        frozenset(("21.png", "same.png")),
    }
    everything = search.near_duplicates(index, threshold=1e-3, progress=False)
    assert len(everything[0]) > 20
    for wrong in (0, 1.5):
        with pytest.raises(UserError, match="threshold"):
            search.near_duplicates(index, threshold=wrong, progress=False)


@pytest.mark.parametrize("count", [2, 5])
def test_near_duplicates_are_found_where_there_is_nothing_else(encoder, tmp_path, count):
    (tmp_path / "photos").mkdir()
    for i in range(count):
        Image.fromarray(scene(7)).save(tmp_path / f"photos/{i}.jpg", quality=60 + 9 * i)
    index, _ = search.build(tmp_path / "photos", tmp_path / "alike.index", encoder, progress=False)
    assert [len(group) for group in search.near_duplicates(index, progress=False)] == [count]


def test_a_graph_finds_nearly_what_all_comparisons_find(encoder, photos, tmp_path, monkeypatch):
    pytest.importorskip("usearch")
    monkeypatch.setattr(indexing, "EXACT", 30)
    search.build(photos, tmp_path / "graph.index", encoder, progress=False)
    index = search.read(tmp_path / "graph.index")
    assert index.graph is not None
    by_graph, cosines = index.nearest(index.vectors, 5)
    exactly, others = index.nearest(index.vectors, 5, exact=True)
    found = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(by_graph, exactly)])
    assert found > 0.95
    np.testing.assert_allclose(cosines[:, 0], others[:, 0], atol=5e-3)
    assert search.near_duplicates(index, 0.995, progress=False) == search.near_duplicates(
        index, 0.995, exact=True, progress=False
    )
    known = builtins.__import__

    def without_usearch(name, *arguments, **settings):
        """As where the extra is not installed."""
        if name.startswith("usearch"):
            raise ModuleNotFoundError("No module named 'usearch'", name="usearch")
        return known(name, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", without_usearch)
    with monkeypatch.context() as patched:  # before hours of encoding
        patched.setattr(indexing, "embed", None)
        with pytest.raises(UserError, match="search.*--exact"):
            search.build(photos, tmp_path / "other.index", encoder, progress=False)
    assert search.build(photos, tmp_path / "exact.index", encoder, exact=True, progress=False)[0].graph is None


def test_a_sheet_shows_the_query_and_the_hits(index, photos, tmp_path):
    found = index.search([photos / "07.png", photos / "08.png"], 3)
    gone = [(found[0][0], [*found[0][1][:2], search.Hit(photos / "gone.png", 0.5)]), found[1]]
    sheet = np.asarray(Image.open(search.draw(gone, tmp_path / "hits.png")))
    assert sheet.shape[0] == 2 * (128 + 32 + 8) + 8 and sheet.shape[1] == 4 * 136 + 24
    tiles = [sheet[8 : 8 + 128, left : left + 128] for left in (8, 160, 296, 432)]
    assert (
        np.array_equal(tiles[0], tiles[1]) or np.abs(tiles[0].astype(int) - tiles[1]).mean() < 8
    )  # or its re-encoding
    assert (tiles[3] == 0xDD).all() and not (tiles[2] == 0xDD).all()
    with pytest.raises(UserError, match="png"):
        search.draw(found, tmp_path / "hits.gif")


def test_what_has_no_rgb_is_a_grey_tile_and_a_sheet_too_wide_for_its_format_is_refused(photos, tmp_path, monkeypatch):
    np.save(tmp_path / "many.npy", np.zeros((40, 40, 13), "uint8"))
    np.save(tmp_path / "one.npy", np.zeros((40, 40), "uint8"))
    hits = [search.Hit(tmp_path / name, 1.0) for name in ("many.npy", "one.npy")]
    sheet = np.asarray(Image.open(search.draw([(photos / "07.png", hits)], tmp_path / "hits.png")))
    assert (sheet[8 : 8 + 128, 160 : 160 + 128] == 0xDD).all() and not sheet[8 : 8 + 128, 296 : 296 + 128].any()
    with pytest.raises(UserError, match=r"too large.*Name a \.png file"):
        search.draw([(photos / "07.png", hits[1:] * 130)], tmp_path / "hits.webp")
    assert not (tmp_path / "hits.webp").exists()
    with monkeypatch.context() as patched, pytest.raises(UserError, match="No space left"):
        patched.setattr(Image.Image, "save", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        search.draw([(photos / "07.png", hits)], tmp_path / "hits.png")


@pytest.mark.filterwarnings("error::UserWarning")
def test_an_index_of_12_bit_scans_is_searched_and_drawn_by_their_bits(encoder, tmp_path):
    for i in range(6):
        grey = scene(i)[..., 0]
        Image.fromarray(grey).save(tmp_path / f"{i}.jpg", quality=95)
        Image.fromarray(grey.astype("uint16") * 16).save(tmp_path / f"{i}.png")
    made, report = search.build(tmp_path / "*.png", tmp_path / "x.index", encoder, depth=12, max_pixels=1920)
    index = search.read(made.file)
    assert (report.count, index.depth, index.max_pixels) == (6, 12, 1920)
    for kind in ("jpg", "png"):
        found = index.search([tmp_path / f"{i}.{kind}" for i in range(6)], 1)
        assert [hits[0].path.name for _, hits in found] == [f"{i}.png" for i in range(6)]
    sheet = np.asarray(Image.open(search.draw(found, tmp_path / "hits.png", index.depth))).astype(int)
    assert np.abs(sheet[8 : 8 + 128, 8 : 8 + 128] - sheet[8 : 8 + 128, 160 : 160 + 128]).max() == 0
    assert sheet[8 : 8 + 128, 8 : 8 + 128].max() > 180
    with pytest.raises(UserError, match="more than 1,919"):
        search.build(tmp_path / "*.png", tmp_path / "y.index", encoder, max_pixels=1919)


@pytest.mark.parametrize("runtime", ["onnx", "keras"])
def test_an_endpoint_too_wide_to_compare_is_refused_before_anything_is_encoded(runtime, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(indexing, "_WIDEST", 100)
    monkeypatch.setattr(indexing, "embed", None)
    encoder = publish().onnx_file if runtime == "onnx" else publish().keras_file
    with pytest.raises(UserError, match="'conv' has 128 numbers a picture, more than 100"):
        search.build(photos, tmp_path / "wide.index", encoder, endpoint="conv", runtime=runtime)


def test_an_encoder_in_the_home_folder_is_found_again(encoder, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.onnx").write_bytes(encoder.read_bytes())
    search.build(photos / "07.png", tmp_path / "my.index", "~/mine.onnx", progress=False)
    ((_, hits),) = search.read(tmp_path / "my.index").search(photos / "07.png")
    assert hits[0].path == photos / "07.png"


def test_what_is_no_index_and_another_encoder_are_refused(index, encoder, photos, tmp_path):
    with pytest.raises(UserError, match="There is no index"):
        search.read(tmp_path / "none.index")
    (tmp_path / "bad.index").write_bytes(b"nothing")
    with pytest.raises(UserError, match="no index of pictures"):
        search.read(tmp_path / "bad.index")
    whole = index.file.read_bytes()
    middle = len(whole) // 2
    for content in (
        b"",
        whole[:100],
        whole[:-30],
        whole[:middle] + bytes(99) + whole[middle + 99 :],
        b"PK\x03\x04" * 99,
    ):
        (tmp_path / "cut.index").write_bytes(content)
        with pytest.raises(UserError, match="cut.index is no index of pictures, or is damaged"):
            search.read(tmp_path / "cut.index")
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: np.zeros(99) for name in ("meta", "paths", "vectors", "mean")})
    packed = stream.getvalue()
    (tmp_path / "cut.index").write_bytes(packed[:60] + b"\xff" * 20 + packed[80:])
    with pytest.raises(UserError, match="damaged"):
        search.read(tmp_path / "cut.index")
    np.savez(open(tmp_path / "other.index", "wb"), vectors=np.zeros((2, 2)))
    with pytest.raises(UserError, match="no index of pictures"):
        search.read(tmp_path / "other.index")
    with pytest.raises(UserError, match="folder"):
        search.build(photos, tmp_path, encoder)
    with pytest.raises(UserError, match="broken.png"):
        index.search([photos / "broken.png", photos / "01.png"])
    copy = tmp_path / "encoder.onnx"
    copy.write_bytes(encoder.read_bytes())
    search.build(photos, tmp_path / "own.index", copy, progress=False)
    copy.write_bytes(encoder.read_bytes() + b"\x00\x00")
    with pytest.raises(UserError, match="made with another file|cannot be opened|damaged"):
        search.read(tmp_path / "own.index").search(photos / "01.png")


def test_the_command_needs_no_keras(encoder, photos, tmp_path):
    code = (
        "import sys; from mizoo import cli; sys.argv = ['mizoo', *sys.argv[1:]]\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    code = end.code\n"
        "assert not {'keras', 'tensorflow', 'jax'} & set(sys.modules)\nsys.exit(code)"
    )

    def mizoo(*arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    done = mizoo("search", "index", photos, "-o", "my.index", "--encoder", encoder, "--depth", 12, "--max-pixels", 9999)
    assert done.returncode == 1 and "42 pictures by fc" in done.stdout and "skipped" in done.stderr, done.stderr
    done = mizoo("search", "my.index", photos / "07.png", "-k", 2, "--picture", "hits.png", "--json")
    (answer,) = json.loads(done.stdout)
    assert search.read(tmp_path / "my.index").depth == 12 and search.read(tmp_path / "my.index").max_pixels == 9999
    assert len(answer["hits"]) == 2 and (tmp_path / "hits.png").is_file(), done.stderr
    done = mizoo("search", "my.index", "--duplicates", "--threshold", 0.995)
    assert "again.jpg" in done.stdout and "2 groups, 2 pictures more" in done.stderr
    assert "Name a picture" in mizoo("search", "my.index").stderr
