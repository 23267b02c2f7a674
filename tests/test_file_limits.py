"""One file's failure is that file's alone: limits on what a file may cost, and files that are shorter than they say."""

from __future__ import annotations

import io
import struct
import subprocess
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from mizoo.data import mosaics, pictures, sound_files
from mizoo.embed import embed
from mizoo.errors import UserError
from mizoo.zoo import file_features

soundfile = pytest.importorskip("soundfile")
RATE = 8000


def png(path, width: int, height: int):
    """A small file that claims to be a picture of this size, and is one of zeros."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(-(-width // 8) + 1) * height, 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def tone(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(np.arange(round(seconds * rate)) * 0.2)).astype(np.float32)


def sound(path, samples=None, rate: int = RATE, **options):
    soundfile.write(path, tone() if samples is None else samples, rate, **options)
    return path


@pytest.fixture
def picture_encoder(monkeypatch):
    """An encoder of pictures whose one endpoint is a mean: `embed` runs on it without a file."""
    from mizoo import embed as module

    def encode(batch):
        return {"fc": batch.mean(axis=(1, 2))}

    monkeypatch.setattr(module, "_load_encoder", lambda name, endpoint, runtime: ((32, 32, 3), encode))
    return "pictures.onnx"


@pytest.fixture
def sound_encoder(monkeypatch):
    """An encoder of sounds whose two frames are means: `embed` runs on it without a file."""
    from mizoo import embed as module

    def encode(batch):
        return {"local": np.stack([batch.mean(axis=1), batch.std(axis=1)], axis=1)[..., None]}

    monkeypatch.setattr(module, "_load_encoder", lambda name, endpoint, runtime: ((None,), encode))
    return "sounds.onnx"


# --- pictures


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    path = png(tmp_path / "bomb.png", 12_000, 12_000)
    began = time.perf_counter()
    with pytest.raises(UserError, match=r"bomb.png.*12000 x 12000.*128,000,000.*--max-pixels"):
        pictures.read(path)
    assert time.perf_counter() - began < 0.2
    small = png(tmp_path / "small.png", 30, 20)
    with pytest.raises(UserError, match="max_pixels"):
        pictures.read(small, max_pixels=599)
    assert pictures.read(small, max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(UserError, match="`max_pixels`"):
        pictures.read(small, max_pixels=0)


def test_a_picture_file_of_too_many_bytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 50)
    with pytest.raises(UserError, match=r"x.png.*more than the 50"):
        pictures.read(png(tmp_path / "x.png", 30, 20))


def test_threads_share_one_limit_of_pixels(tmp_path, monkeypatch):
    path = png(tmp_path / "x.png", 60, 50)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 2 * 3000 + 100)
    now, most, lock = [0], [0], threading.Lock()
    fit = pictures.fit

    def slow(image, size):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return fit(image, size)

    monkeypatch.setattr(pictures, "fit", slow)
    threads = [threading.Thread(target=pictures.prepare, args=(path, (8, 8, 3))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most[0] == 2
    assert pictures.prepare(path, (8, 8, 3), max_pixels=9999).shape == (8, 8, 3)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 10)
    assert pictures.prepare(path, (8, 8, 3), max_pixels=9999).shape == (8, 8, 3)  # alone, above the shared limit


@pytest.mark.parametrize("where", ["load", "resize"])
def test_no_memory_for_one_file_costs_that_file_alone(tmp_path, monkeypatch, picture_encoder, where):
    for i in range(4):
        png(tmp_path / f"{i}.png", 40, 40 + i)
    big = png(tmp_path / "big.png", 77, 40)

    name = {"load": "_upright", "resize": "fit"}[where]
    function = getattr(pictures, name)

    def fail(image, *arguments):
        if 77 in np.shape(image):
            raise MemoryError
        return function(image, *arguments)

    monkeypatch.setattr(pictures, name, fail)
    report = embed(picture_encoder, tmp_path, tmp_path / "f.npz")
    assert report.count == 4 and [path for path, _ in report.failed] == [big]
    assert "memory" in report.failed[0][1]


def test_no_program_is_started_for_a_file_of_another_format(tmp_path, monkeypatch):
    def start(*arguments, **settings):
        raise AssertionError(f"started {arguments}")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(subprocess, "check_call", start)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n0 0 40 40 rectfill\nshowpage\n%%EOF\n"
    (tmp_path / "x.jpg").write_bytes(eps)
    with pytest.raises(UserError, match=r"x.jpg: not a picture in a known format \(JPEG, PNG"):
        pictures.read(tmp_path / "x.jpg")
    assert not {"EPS", "PDF", "PSD", "WMF", "FITS", "HDF5", "MPEG", "ICNS"} & set(pictures.FORMATS)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "PCX", "TGA", "SGI", "MPO"])
def test_the_formats_that_are_read_are_read_whatever_the_suffix(tmp_path, format):
    image = Image.fromarray(np.tile(np.arange(0, 240, 8, np.uint8)[None, :, None], (20, 1, 3)))
    image.save(tmp_path / "x.dat", format=format)
    out = pictures.read(tmp_path / "x.dat")
    assert out.shape == (20, 30, 3) and np.abs(out.astype(int) - np.asarray(image)).mean() < 3


def test_a_mosaic_of_another_size_than_the_index_says_is_not_decoded():
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "WEBP", lossless=True)
    with pytest.raises(UserError, match="64 x 64 where the index says 20 x 10"):
        mosaics._decode(stream.getvalue(), (2, 10, 10, 3), 2)


# --- sounds


def test_a_wrong_rate_or_too_long_a_sound_costs_that_file_alone(tmp_path, sound_encoder):
    good = sound(tmp_path / "a.wav")
    sound(tmp_path / "rate1.wav", rate=1)  # 8,000 seconds
    sound(tmp_path / "rate1short.wav", tone()[:300], rate=1)  # a factor of 8,000
    sound(tmp_path / "long.flac", np.zeros(RATE * 700, np.float32))
    sound(tmp_path / "z.wav", tone(rate=16000), rate=16000)
    report = embed(sound_encoder, tmp_path, tmp_path / "f.npz", sampling_rate=RATE)
    assert report.count == 2 and report.resampled == {16000: 1}
    reasons = {path.name: reason for path, reason in report.failed}
    assert set(reasons) == {"rate1.wav", "rate1short.wav", "long.flac"}
    assert "--max-seconds" in reasons["rate1.wav"] and "700 seconds" in reasons["long.flac"]
    assert "a factor of 50" in reasons["rate1short.wav"]
    report = embed(
        sound_encoder, [good, tmp_path / "long.flac"], tmp_path / "f.npz", sampling_rate=RATE, max_seconds=701
    )
    assert report.count == 2 and not report.failed


def test_limits_of_sounds_can_be_set(tmp_path, monkeypatch):
    path = sound(tmp_path / "a.wav", np.stack([tone(), tone()], axis=1))
    with pytest.raises(UserError, match="a.wav: 1 seconds"):
        sound_files.read(path, max_seconds=0.5)
    with pytest.raises(UserError, match="`max_seconds`"):
        sound_files.read(path, max_seconds=0)
    monkeypatch.setattr(sound_files, "MAX_VALUES", 15_999)
    with pytest.raises(UserError, match="8,000 samples in 2 channels"):
        sound_files.read(path)
    monkeypatch.setattr(sound_files, "MAX_RESAMPLING", 2)
    with pytest.raises(UserError, match="a factor of 2"):
        sound_files.resample(tone(), RATE, 3 * RATE)


@pytest.mark.parametrize("where", ["read", "resample", "encode"])
def test_no_memory_for_one_sound_costs_that_sound_alone(tmp_path, monkeypatch, sound_encoder, where):
    sound(tmp_path / "a.wav")
    sound(tmp_path / "b.wav", tone()[:7777], rate=16000)

    def fail(samples, *_):
        if len(samples[0] if where == "encode" else samples) in (7777, 3889):
            raise MemoryError
        return samples

    if where == "read":
        samples = sound_files._samples
        monkeypatch.setattr(sound_files, "_samples", lambda file, most: fail(samples(file, most)))
    elif where == "resample":
        import scipy.signal

        monkeypatch.setattr(scipy.signal, "resample_poly", fail)
    else:
        encode = file_features._encode_sound
        monkeypatch.setattr(file_features, "_encode_sound", lambda samples, call: encode(fail(samples[None])[0], call))
    report = embed(sound_encoder, tmp_path, tmp_path / "f.npz", sampling_rate=RATE)
    assert report.count == 1 and "memory" in report.failed[0][1].lower()


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "w64", "rf64", "flac", "ogg", "opus", "mp3"])
def test_a_sound_that_was_cut_is_refused_and_a_whole_one_is_read(tmp_path, suffix):
    options = {"opus": {"format": "OGG", "subtype": "OPUS"}, "rf64": {"format": "RF64"}}.get(suffix, {})
    needed = {"mp3": "MP3", "rf64": "RF64"}.get(suffix, "WAV")
    if needed not in soundfile.available_formats():
        pytest.skip(f"this libsndfile has no {needed}")
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 48000).astype(np.float32)
    whole = sound(tmp_path / f"whole.{suffix}", noise, 16000, **options)
    samples, rate = sound_files.read(whole)
    assert (len(samples), rate) == (48000, 16000)
    np.testing.assert_allclose(samples, soundfile.read(whole, dtype="float32")[0], atol=1e-6)
    content = whole.read_bytes()
    for part in (0.3, 0.5, 0.9):
        (tmp_path / f"cut.{suffix}").write_bytes(content[: int(part * len(content))])
        with pytest.raises(UserError, match=f"cut.{suffix}: .*(cut off|damaged)"):
            sound_files.read(tmp_path / f"cut.{suffix}")


def test_a_wav_from_a_pipe_does_not_say_its_length_and_is_read(tmp_path):
    content = bytearray(sound(tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "pipe.wav").write_bytes(content)
    assert len(sound_files.read(tmp_path / "pipe.wav")[0]) == RATE
    content += b"junk after the end"
    content[4:8], content[40:44] = struct.pack("<I", 36 + 2 * RATE), struct.pack("<I", 2 * RATE)
    (tmp_path / "tail.wav").write_bytes(content)
    assert len(sound_files.read(tmp_path / "tail.wav")[0]) == RATE


def test_an_mp3_without_a_length_is_read(tmp_path):
    if "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile has no MP3")
    content = sound(tmp_path / "a.mp3", tone(3, 16000), 16000).read_bytes()
    frame = content.index(b"\xff" + content[1:2], 4)
    (tmp_path / "b.mp3").write_bytes(content[frame:])
    assert len(sound_files.read(tmp_path / "b.mp3")[0])
