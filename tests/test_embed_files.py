"""Which files `embed` takes and which it passes over, names that begin with `~`, and the runtime that it chooses."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mizoo import embed as module
from mizoo._tools.files import sha256
from mizoo.cli import app
from mizoo.data import folder, load, pictures, sound_files, sounds, splits
from mizoo.embed import embed
from mizoo.errors import UserError
from mizoo.zoo.loading import encoder_file


def picture(path, value: int = 90):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 40, 3), value, np.uint8)).save(path, format="PNG")
    return path


@pytest.fixture
def encoder(monkeypatch):
    """An encoder of pictures whose one endpoint is a mean; the list holds the runtimes that it was loaded on."""
    runtimes = []

    def load_encoder(name, endpoint, runtime):
        runtimes.append(runtime)
        return (32, 32, 3), lambda batch: {"fc": batch.mean(axis=(1, 2), dtype=np.float32)}

    monkeypatch.setattr(module, "_load_encoder", load_encoder)
    return runtimes


@pytest.fixture
def album(tmp_path):
    """Two pictures that are found, and others of four suffixes."""
    album = tmp_path / "album"
    picture(album / "a.png")
    picture(album / "sub/b.JPG")
    picture(album / "no_suffix")
    for name in ("1.heic", "2.HEIC", "sub/3.heic", "notes.txt", "plain", ".hidden.txt"):
        (album / name).write_text("no picture that is read here")
    return album


# --- what is taken


def test_files_of_a_folder_that_are_passed_over_are_counted(album, tmp_path, encoder):
    report = embed("x.onnx", album, tmp_path / "f.npz")
    assert report.count == 2 and not report.failed
    assert report.passed_over == {".heic": 3, ".txt": 1, "": 2}
    assert report.passed_over_in_words() == "3 .heic, 2 without suffix, 1 .txt"
    again = embed("x.onnx", [album, album], tmp_path / "f.npz")
    assert again.passed_over == report.passed_over
    named = embed("x.onnx", [album, album / "no_suffix"], tmp_path / "f.npz")  # it was read after all
    assert named.count == 3 and named.passed_over[""] == 1
    assert embed("x.onnx", album / "a.png", tmp_path / "f.npz").passed_over == {}


def test_the_command_prints_what_it_passed_over(album, tmp_path, encoder, monkeypatch):
    done = CliRunner().invoke(app, ["embed", "x.onnx", str(album), "-o", str(tmp_path / "f.npz")])
    assert done.exit_code == 0, done.output
    assert "passed over: 3 .heic, 2 without suffix, 1 .txt" in done.stderr


def test_a_pattern_gives_what_can_be_read_whatever_its_suffix(album, tmp_path, encoder):
    report = embed("x.onnx", str(album / "*"), tmp_path / "f.npz")
    with np.load(report.written) as saved:
        assert [path.rsplit("/", 1)[1] for path in saved["paths"]] == ["a.png", "no_suffix", "b.JPG"]
    assert not report.failed and report.passed_over == {".heic": 3, ".txt": 1, "": 1}
    (album / "cut.png").write_bytes((album / "a.png").read_bytes()[:60])
    report = embed("x.onnx", str(album / "**"), tmp_path / "f.npz")
    assert report.count == 3 and [path.name for path, _ in report.failed] == ["cut.png"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("*.gif", "the pattern matches no file"),
        ("*.heic", "the pattern matches no picture in a known format, but 1 .heic"),
        ("raw", r"no file with the suffix of a picture .*\.png.*, but 2 .heic"),
        ("nothing", "no such file or folder"),
    ],
)
def test_nothing_found_says_what_there_was(album, given, says):
    (album / "raw").mkdir()
    (album / "2.HEIC").rename(album / "raw/2.HEIC")
    (album / "sub/3.heic").rename(album / "raw/3.heic")
    with pytest.raises(UserError, match=f"No picture was found at:\n  .*: {says}"):
        pictures.find(album / given)


def test_sounds_are_found_by_the_formats_that_are_read(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    samples = 0.1 * np.sin(np.arange(4000) * 0.3).astype(np.float32)
    known = {"a.wav": "WAV", "b.mp3": "MP3", "c.ogg": "OGG", "d.flac": "FLAC", "e.aiff": "AIFF", "f.caf": "CAF"}
    known = {name: kind for name, kind in known.items() if kind in soundfile.available_formats()}
    for name, kind in known.items():
        soundfile.write(tmp_path / name, samples, 8000, format=kind)
    soundfile.write(tmp_path / "g.opus", samples, 8000, format="OGG", subtype="OPUS")
    shutil.copy(tmp_path / "a.wav", tmp_path / "h.take1")
    for name in ("x.m4a", "y.wma", "z"):
        (tmp_path / name).write_text("no sound")
    passed_over = {}
    found = sound_files.find(tmp_path, passed_over=passed_over)
    assert [path.name for path in found] == [*sorted(known), "g.opus"]
    assert passed_over == {".m4a": 1, ".wma": 1, ".take1": 1, "": 1}
    assert (tmp_path / "h.take1") in sound_files.find(str(tmp_path / "*"))
    with pytest.raises(UserError, match="matches no sound in a known format, but 1 .m4a"):
        sound_files.find(str(tmp_path / "*.m4a"))
    for path in found:
        assert sound_files.read(path)[1] == 8000


def test_a_data_set_of_a_folder_tells_of_pictures_that_it_leaves_out(album):
    with pytest.warns(UserWarning, match="Passed over below .*: 3 .heic, which are not read") as caught:
        assert len(folder.read(album)) == 2
    assert len(caught) == 1


# --- names that begin with ~


def test_an_existing_name_is_taken_as_it_is(tmp_path, monkeypatch, encoder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("good.png", "~backup.png", "~/mine.png", "~shots/a.png", "home/at_home.png"):
        picture(tmp_path / name)
    report = embed("x.onnx", ["good.png", "~backup.png", "~shots", "~shots/*.png", "~/mine.png"], "out.npz")
    assert report.count == 4 and not report.failed
    report = embed("x.onnx", ["~backup.png", "~nobody_of_this_name.png"], "~out.npz")
    assert report.written.resolve() == (tmp_path / "~out.npz").resolve() and report.written.exists()
    assert [(str(path), reason) for path, reason in report.failed] == [
        ("~nobody_of_this_name.png", "no such file or folder")
    ]
    assert embed("x.onnx", "~/at_home.png", "~/new.npz").written == tmp_path / "home/new.npz"


def test_a_data_set_may_have_such_a_name_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("~set/train/a/1.png", "~set/train/b/2.png", "~set/test/a/3.png"):
        picture(tmp_path / name)
    assert splits("~set") == ("train", "test") and load("~set").classes == ("a", "b")
    with pytest.raises(UserError, match="no folder '~nobody_here'"):
        load("~nobody_here")
    soundfile = pytest.importorskip("soundfile")
    (tmp_path / "~sounds").mkdir()
    soundfile.write("~sounds/a.wav", np.zeros(100, np.float32), 8000)
    assert len(sounds.load("~sounds")) == 1


# --- the runtime


@pytest.mark.parametrize(
    ("files", "given", "wanted"),
    [
        (["encoder.keras"], "", "keras"),
        (["encoder.keras", "encoder.onnx"], "", "onnx"),
        (["encoder.onnx"], "", "onnx"),
        (["mine.keras"], "mine.keras", "keras"),
        (["mine.onnx"], "mine.onnx", "onnx"),
    ],
)
def test_a_folder_or_file_without_the_onnx_form_falls_back_to_keras_and_says_so(
    tmp_path, encoder, capsys, files, given, wanted
):
    run = tmp_path / "runs/mine"
    run.mkdir(parents=True)
    for name in files:
        (run / name).touch()
    report = embed(run / given, picture(tmp_path / "a.png"), tmp_path / "f.npz")
    assert encoder == [wanted] and report.runtime == wanted
    assert ("has no ONNX form" in capsys.readouterr().err) == (wanted == "keras")
    embed(run / given, tmp_path / "a.png", tmp_path / "f.npz", runtime="onnx")
    assert encoder[-1] == "onnx"


def test_an_onnx_form_of_older_weights_is_passed_over_and_said(tmp_path, encoder, capsys):
    run, form = tmp_path / "run", tmp_path / "run/encoder.onnx"
    run.mkdir()
    (run / "encoder.keras").write_text("trained")
    form.touch()
    picture(tmp_path / "a.png")
    source = {"source": {"sha256": sha256(run / "encoder.keras")}}
    for known in ({}, source):  # a manifest that does not say it is trusted
        (run / "manifest.json").write_text(json.dumps(known))
        assert embed(run, tmp_path / "a.png", tmp_path / "f.npz").runtime == "onnx"
    (run / "encoder.keras").write_text("trained again")
    assert embed(run, tmp_path / "a.png", tmp_path / "f.npz").runtime == "keras"
    assert f"{form} was made of another encoder.keras" in capsys.readouterr().err
    with pytest.raises(UserError, match="mizoo export .* --out"):
        encoder_file(run, "onnx")
    assert encoder_file(form, "onnx") == form


def test_a_run_folder_is_embedded_without_an_option(tmp_path):
    import keras

    inputs = keras.Input((8, 8, 3))
    outputs = {"fc": keras.layers.Flatten(name="fc")(inputs)}
    (tmp_path / "run").mkdir()
    keras.Model(inputs, outputs).save(tmp_path / "run/encoder.keras")
    report = embed(tmp_path / "run", picture(tmp_path / "a.png"), tmp_path / "f.npz")
    assert report.count == 1 and report.runtime == "keras" and report.shapes == {"fc": (192,)}


def test_deep_files_warn_once_and_take_the_depth(tmp_path, encoder):
    for i in range(3):
        Image.fromarray(np.full((40, 40), 4000 + i, np.uint16)).save(tmp_path / f"{i}.png")
    with pytest.warns(UserWarning, match=r"0.png.*depth=12 \(--depth;.*2 more of 3") as caught:
        embed("x.onnx", tmp_path, tmp_path / "f.npz")
    assert len(caught) == 1
    options = ["--depth", "12", "-o", str(tmp_path / "bright.npz")]
    done = CliRunner().invoke(app, ["embed", "x.onnx", str(tmp_path), *options])
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "bright.npz") as bright:
        np.testing.assert_allclose(bright["fc"], 249, atol=1)


def test_limits_are_options_of_the_command(tmp_path, encoder):
    picture(tmp_path / "a.png")
    options = ["--max-pixels", "1599", "-o", str(tmp_path / "f.npz")]
    done = CliRunner().invoke(app, ["embed", "x.onnx", str(tmp_path), *options])
    assert isinstance(done.exception, UserError) and "more than 1,599" in str(done.exception)
