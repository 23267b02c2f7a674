"""Crops of a picture: where they lie, and what `embed` makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from support.encoders import ENDPOINTS, publish

from mizoo.data import pictures
from mizoo.data.crops import MOST, Grid
from mizoo.data.feature_shards import read_shards
from mizoo.embed import embed
from mizoo.errors import UserError
from mizoo.zoo import file_features


@pytest.fixture(scope="session")
def published():
    return publish()


@pytest.fixture
def album(tmp_path, rng):
    """A wide, a tall, a square and a tiny picture."""
    folder = tmp_path / "album"
    folder.mkdir()
    for i, (height, width) in enumerate([(90, 200), (300, 70), (64, 64), (5, 9)]):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype="uint8")).save(folder / f"{i}.png")
    return folder


def test_crops_of_a_picture_of_twice_the_size_are_its_parts(rng):
    image = rng.integers(0, 256, (64, 64, 3), dtype="uint8")
    crops = Grid(3).cut(image, 32)
    assert crops.shape == (9, 32, 32, 3)
    for i, crop in enumerate(crops):
        top, left = 16 * (i // 3), 16 * (i % 3)
        np.testing.assert_array_equal(crop, image[top : top + 32, left : left + 32])


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("shape", [(40, 100), (211, 33), (12, 20), (96, 96)])
def test_they_are_spread_over_the_whole_picture(count, shape):
    """Of a picture whose value is where it is, the first begins and the last ends at its edges."""
    height, width = shape
    across = np.broadcast_to(np.linspace(0, 255, width), shape)
    down = np.broadcast_to(np.linspace(0, 255, height)[:, None], shape)
    image = np.stack([across, down, across], axis=-1).round().astype("uint8")
    crops = Grid(count).cut(image, (16, 24)).reshape(count, count, 16, 24, 3).astype(float)
    assert crops[0, 0, 0, 0, :2].max() < 40 and crops[-1, -1, -1, -1, :2].min() > 215
    centres = crops[..., 0].mean(axis=(0, 2, 3)), crops[..., 1].mean(axis=(1, 2, 3))
    for each in centres:
        steps = np.diff(each)
        assert (steps > 0).all() and np.ptp(steps) < 12, "evenly spread"


def test_one_crop_is_the_middle(rng):
    image = rng.integers(0, 256, (50, 80, 3), dtype="uint8")
    np.testing.assert_array_equal(Grid(1).cut(image, 32), pictures.square(image, 32)[None])


@pytest.mark.parametrize("text", ["grid", "grid:0", "grid:x", f"grid:{MOST + 1}", "3", "grid:-1", 3])
def test_another_word_is_refused(text, published, album, tmp_path):
    with pytest.raises(UserError, match='"grid:N".*N from 1 to 16'):
        embed(published.onnx_file.parent, album, tmp_path / "f.npz", crops=text)
    assert not (tmp_path / "f.npz").exists()


def test_features_are_the_mean_over_the_crops_or_those_of_each(published, album, tmp_path):
    model = published.onnx_file.parent
    mean = embed(model, album, tmp_path / "mean.npz", crops="grid:3", batch_size=3)
    each = embed(model, album, tmp_path / "each.npz", crops="grid:3", each_crop=True)
    assert mean.count == 4 and mean.shapes == {key: tuple(shape) for key, shape in ENDPOINTS.items()}
    with np.load(mean.written) as averaged, np.load(each.written) as rows:
        assert list(averaged["paths"]) == list(rows["paths"]) == [str(path) for path in pictures.find(album)]
        for i, path in enumerate(averaged["paths"]):
            for key, wanted in published.model(Grid(3).cut(pictures.read(path), 32)).items():
                np.testing.assert_allclose(rows[key][i], wanted, atol=1e-4)
                np.testing.assert_allclose(averaged[key][i], np.asarray(wanted).mean(axis=0), atol=1e-4)


def test_shards_know_their_crops(published, album, tmp_path):
    model, folder = published.onnx_file.parent, tmp_path / "shards"
    embed(model, album, folder, crops="grid:2", each_crop=True, batch_size=2, shard_size=2, endpoint="global")
    embed(model, album, tmp_path / "one.npz", crops="grid:2", each_crop=True, endpoint="global")
    shards = list(read_shards(folder))
    with np.load(tmp_path / "one.npz") as saved:
        rows = np.concatenate([features["global"] for _, features in shards])
        np.testing.assert_allclose(rows, saved["global"], atol=1e-5)
        assert rows.shape[1] == 4 and [path for paths, _ in shards for path in paths] == list(saved["paths"])
    assert embed(model, album, folder, crops="grid:2", each_crop=True, batch_size=2, shard_size=2, endpoint="global")
    with pytest.raises(UserError, match="crops was 'grid:2'"):
        embed(model, album, folder, batch_size=2, shard_size=2, endpoint="global")


def test_rows_of_crops_without_crops_and_crops_of_sounds_are_refused(published, album, tmp_path):
    with pytest.raises(UserError, match="say which, such as crops="):
        embed(published.onnx_file.parent, album, tmp_path / "f.npz", each_crop=True)
    with pytest.raises(UserError, match="takes sounds"):
        embed("cpc_spoken_digit", album, tmp_path / "f.npz", crops="grid:3")


def test_no_more_crops_than_a_batch_are_held_at_a_time(published, album, tmp_path, monkeypatch):
    encode, held = file_features._encode_crops, []

    def noting(work, images):
        """Encode, and note how many crops there are."""
        held.append(images.shape[:2])
        return encode(work, images)

    monkeypatch.setattr(file_features, "_encode_crops", noting)
    for batch_size, wanted in ((256, [(4, 9)]), (20, [(2, 9), (2, 9)]), (2, 4 * [(1, 9)])):
        held.clear()
        embed(published.onnx_file.parent, album, tmp_path / "f.npz", crops="grid:3", batch_size=batch_size)
        assert held == wanted


def test_a_picture_that_would_fill_the_memory_is_skipped_by_name(published, album, tmp_path):
    Image.new("RGB", (9_000_000, 2)).save(album / "thread.png")
    report = embed(published.onnx_file.parent, album, tmp_path / "f.npz", crops="grid:3", progress=False)
    ((path, reason),) = report.failed
    assert path.name == "thread.png" and reason.startswith("9000000 x 2 pixels are too long for grid:3")
    assert report.count == 4
