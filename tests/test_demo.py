"""The demo: real photographs, no network, a picture, and numbers that mean what the text says."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from PIL import Image
from support.encoders import publish

from mizoo import demo
from mizoo.data import photographs
from mizoo.errors import UserError

pytest.importorskip("matplotlib", reason="the demo draws with matplotlib")


@pytest.fixture(scope="session")
def published():
    return publish()


@pytest.fixture
def two_photos():
    """A red and a blue photograph, so that neighbours are known beforehand."""
    rng = np.random.default_rng(2)
    photos = [rng.integers(0, 40, (120, 180, 3)), rng.integers(0, 40, (150, 120, 3))]
    photos[0][..., 0] += 180
    photos[1][..., 2] += 180
    return [photo.astype(np.uint8) for photo in photos]


def test_the_demo_runs_without_a_network_and_writes_a_picture(published, tmp_path, monkeypatch):
    pytest.importorskip("skimage", reason="the photographs come with scikit-image")

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    out = tmp_path / "new" / "demo.png"
    report = str(demo.run(out, published.onnx_file))
    assert str(out) in report
    assert "raw pixels" in report
    with Image.open(out) as picture:
        assert picture.width > 1000
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    green = (np.abs(pixels - (0x2E, 0x9E, 0x5B)).sum(axis=-1) < 12).mean()
    assert green > 0.001  # some neighbours are framed as being of the same photograph
    assert [path.name for path in out.parent.iterdir()] == ["demo.png"]


def test_the_photographs_are_real_and_coloured():
    pytest.importorskip("skimage", reason="the photographs come with scikit-image")
    photos = demo.photographs()
    assert len(photos) >= demo.QUERIES
    for photo in photos.values():
        assert photo.dtype == np.uint8
        assert min(photo.shape[:2]) >= 96


def test_crops_lie_inside_cover_the_photograph_and_show_what_their_box_says(two_photos):
    crops = demo.cut(two_photos, 40)
    for index, photo in enumerate(two_photos):
        boxes = crops.box[crops.photo == index]
        covered = np.zeros(photo.shape[:2], bool)
        for left, top, right, bottom in boxes:
            assert right - left == bottom - top == min(photo.shape[:2]) // 3
            covered[top:bottom, left:right] = True
        assert covered.all()
    left, top, right, bottom = crops.box[7]  # 40 pixels wide: not resized
    np.testing.assert_array_equal(crops.images[7], two_photos[crops.photo[7]][top:bottom, left:right])


def test_overlapping_crops_are_never_neighbours(two_photos):
    crops = demo.cut(two_photos, 8)
    scores = demo.similarities(crops.images, crops)
    for i, (left, top, right, bottom) in enumerate(crops.box):
        for j, (left2, top2, right2, bottom2) in enumerate(crops.box):
            shared = max(0, min(right, right2) - max(left, left2)) * max(0, min(bottom, bottom2) - max(top, top2))
            assert np.isneginf(scores[i, j]) == (crops.photo[i] == crops.photo[j] and shared > 0)


def test_the_shares_are_right_where_the_answer_is_known(two_photos):
    crops = demo.cut(two_photos, 8)
    told_apart, chance = demo.share_of_same(demo.similarities(crops.images, crops), crops)
    assert told_apart == 1.0  # red beside red, blue beside blue
    assert 0 < chance < 0.6
    rng = np.random.default_rng(0)
    guesses = [
        demo.share_of_same(demo.similarities(rng.normal(size=(len(crops.photo), 200)), crops), crops)[0]
        for _ in range(60)
    ]
    assert np.mean(guesses) == pytest.approx(chance, abs=0.04)


def test_the_query_is_the_middle_of_its_photograph(two_photos):
    crops = demo.cut(two_photos, 8)
    for query, photo in zip(demo.queries(crops), two_photos, strict=True):
        left, top, right, bottom = crops.box[query]
        height, width = photo.shape[:2]
        assert left < width / 2 < right
        assert top < height / 2 < bottom


def test_mistakes_are_named_and_leave_nothing_behind(published, tmp_path):
    for arguments, message in [
        ((tmp_path / "x.png", "no_such_encoder"), "no_such_encoder"),
        ((tmp_path / "x.png", published.onnx_file, "fcc"), "no endpoint 'fcc'"),
        ((tmp_path / "x.jpx", published.onnx_file), ".png, .pdf or .svg"),
    ]:
        with pytest.raises(UserError, match=message):
            demo.run(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_without_photographs_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(photographs, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install scikit-image scikit-learn"):
        demo.photographs()
