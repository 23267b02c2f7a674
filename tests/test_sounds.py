"""Sounds and series: arrays, files, windows, recipes, embedding, and the page on one's own sequences."""

from __future__ import annotations

import os
from pathlib import Path

import keras
import numpy as np
import pytest
from support import pages

from mizoo import data, encoders, recipes, zoo
from mizoo.data import sound_files as sounds
from mizoo.data import sounds as sets
from mizoo.data.batching import Windows
from mizoo.embed import embed
from mizoo.errors import UserError
from mizoo.evaluate.features import clip_features
from mizoo.pretrain import pretrain
from mizoo.runs.folder import read_log

RATE = 8000


def clip(rng, length: int) -> np.ndarray:
    return rng.uniform(-0.5, 0.5, length).astype("float32")


@pytest.fixture
def clips(rng):
    return sets.Sounds("toy", tuple(clip(rng, 300 + 40 * i) for i in range(12)), RATE, {"digit": np.arange(12)})


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(5)
    return encoders.waveform(RATE, widths=(4, 6, 8, 8), context_size=5)


# Arrays, windows and recipes.


def test_batches_of_sequences_come_from_plain_arrays(rng):
    for shape in ((20, 50), (20, 9, 3)):
        x = rng.uniform(-1, 1, shape).astype("float32")  # of (N, T), which are sounds, the range is checked
        batches = data.batches(x, batch_size=5, seed=1)
        seen = np.concatenate([batches[i]["sequences"] for i in range(4)])
        assert sorted(map(float, seen.sum(axis=tuple(range(1, x.ndim))))) == pytest.approx(
            sorted(map(float, x.sum(axis=tuple(range(1, x.ndim))))), abs=1e-5
        )
    with pytest.raises(UserError, match="NaN"):
        data.batches(np.full((4, 5), np.nan), batch_size=2)
    with pytest.raises(UserError, match="sequences"):
        data.batches(np.zeros((4, 5), "float32"), batch_size=8)
    with pytest.raises(UserError, match="float32"):
        data.load(np.zeros((4, 5), "int16"))


def test_windows_depend_on_seed_epoch_and_step_alone(clips):
    one, later = (Windows(clips.clips, 320, 4, seed=2, start_epoch=epoch) for epoch in (0, 1))
    np.testing.assert_array_equal(one[3 + 2]["sequences"], later[2]["sequences"])
    assert one[0]["sequences"].shape == (4, 320) and one.steps_per_epoch == 3
    assert not np.array_equal(one[0]["sequences"], Windows(clips.clips, 320, 4, seed=3)[0]["sequences"])


def test_a_window_is_a_piece_of_a_long_clip_or_a_short_one_among_zeros(rng):
    long = clip(rng, 100)
    for place, first in ((0.0, 0), (0.5, 35), (0.999, 70)):
        np.testing.assert_array_equal(sets.cut(long, 30, place), long[first : first + 30])
    padded = sets.cut(long, 130, 0.999)
    assert not padded[:30].any()
    np.testing.assert_array_equal(padded[30:], long)


def test_a_set_of_sounds_is_sliced_with_its_labels(clips):
    part = sets.load(clips, "train[-3:]")
    assert part.labels["digit"].tolist() == [9, 10, 11] and len(part.clips[2]) == 740
    for arguments, words in [((clips, "test"), "train"), ((clips, "train[20:]"), "no sound"), (("nowhere",), "folder")]:
        with pytest.raises(UserError, match=words):
            sets.load(*arguments)


def test_spoken_digits_are_split_by_takes():
    if not os.path.isdir(os.path.join(os.environ.get("TFDS_DATA_DIR", "-"), "spoken_digit")):
        pytest.skip("TFDS_DATA_DIR names no folder with spoken_digit")
    train, test = sets.load("spoken_digit", "train"), sets.load("spoken_digit", "test")
    assert (len(train), len(test), train.sampling_rate) == (2250, 250, 8000)
    assert np.bincount(test.labels["digit"]).tolist() == [25] * 10
    assert np.bincount(train.labels["speaker"]).tolist() == [450] * 5
    assert set(test.labels["take"]) == set(range(5))
    peaks = [float(np.abs(sound).max()) for sound in test.clips]
    assert max(peaks) <= 1 and np.median(peaks) > 0.02
    left = sets.load("spoken_digit", "fit", without_speakers=["theo"])
    assert len(left) == 1600 and train.classes["speaker"].index("theo") not in left.labels["speaker"]
    with pytest.raises(UserError, match="george"):
        sets.load("spoken_digit", "train", without_speakers=["nobody"])
    with pytest.raises(ValueError, match="read-only"):
        test.clips[0][:] = 0  # what the next `load` gives


RECIPE = {
    "name": "toy",
    "encoder": {"name": "waveform", "sampling_rate": RATE, "widths": [4, 6, 8, 8], "context_size": 5},
    "objective": {"name": "cpc", "steps": 2, "negatives": "both"},
    "data": {"source": "spoken_digit", "augment": "none", "window": 640},
    "training": {"epochs": 2, "batch_size": 4, "precision": "float32"},
}


def test_a_run_on_sounds_resumes_and_logs_every_step(clips, tmp_path, monkeypatch, eager):
    labels = {key: np.arange(12) + 5 for key in ("digit", "speaker", "take")}
    whole = sets.Sounds("spoken_digit", clips.clips, RATE, labels)
    monkeypatch.setattr(sets, "_spoken_digit", lambda: whole)
    recipe = recipes.validate(RECIPE)
    run = pretrain(recipe, tmp_path / "run", stop_after=1)
    first = keras.saving.load_model(run / "encoder.keras", compile=False).get_weights()
    pretrain(recipe, run)
    last = keras.saving.load_model(run / "encoder.keras", compile=False).get_weights()
    assert any(np.abs(one - other).max() > 1e-6 for one, other in zip(first, last))
    assert [line["epoch"] for line in read_log(run)] == [1, 2]
    line = read_log(run)[-1]
    assert {"mi_1", "mi_2", "accuracy_1", "accuracy_2", "sequences_per_second", "effective_rank"} <= set(line)
    assert line["mi_1_ceiling"] == pytest.approx(np.log(6 + 4 - 1), abs=1e-4)  # frames, and rows of the batch
    assert zoo.sampling_rate(run) == RATE
    wrong = recipes.validate(RECIPE | {"encoder": {"name": "waveform", "widths": 4}})
    with pytest.raises(UserError, match="16000 Hz"):
        pretrain(wrong, tmp_path / "wrong")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"data": {"source": "x", "augment": "none"}}, "data.window"),
        ({"data": {"source": "x", "augment": "dim", "window": 100}}, "data.augment"),
        ({"objective": {"name": "deep_infomax"}}, "objective.name"),
        ({"objective": {"name": "cpc", "steps": 2, "first_step": 3}}, "first_step"),
        ({"objective": {"name": "cpc", "stpes": 2}}, "did you mean `steps`"),
        ({"encoder": {"name": "wave"}}, "waveform"),
        ({"encoder": {"name": "waveform", "widths": [4, -1]}}, "widths"),
    ],
)
def test_recipes_of_sounds_are_checked(changes, words):
    with pytest.raises(UserError, match=words):
        recipes.validate(RECIPE | changes)


@pytest.mark.parametrize("name", ["cpc_spoken_digit", "cpc_cifar10"])
def test_the_recipes_that_come_along_can_be_built(name):
    recipe = recipes.load(Path(__file__).parents[1] / "models" / name / "recipe.yaml")
    model = recipe.objective.build(recipe.encoder.build(), None, 0)
    assert set(model.ceilings(8)) == {f"mi_{k}" for k in range(recipe.objective.first_step, recipe.objective.steps + 1)}


# Features of clips and of files.


def test_padded_batches_give_the_features_of_each_clip_alone(encoder, clips):
    found = clip_features(encoder, clips.clips, batch_size=5)
    for i in (0, 7, 11):
        alone = encoder(clips.clips[i][None])
        np.testing.assert_allclose(found["global"][i], np.asarray(alone["global"])[0], atol=1e-5)
        np.testing.assert_allclose(found["local"][i], np.asarray(alone["local"])[0].mean(axis=0), atol=1e-5)
    with pytest.raises(UserError, match="225"):
        clip_features(encoder, [np.zeros(224, "float32")])


@pytest.mark.parametrize(
    "wrong, words",
    [
        (np.zeros(300, "float32"), "batch axis"),
        (np.zeros((0, 300), "float32"), "B >= 1"),
        (np.zeros((1, 300), "int16"), "32768"),
        (np.full((1, 300), np.nan, "float32"), "NaN"),
        (np.full((1, 300), 900.0, "float32"), "-1..1"),
        ([np.zeros(3), np.zeros(4)], "one by one"),
    ],
)
def test_what_are_no_samples_is_named(wrong, words):
    with pytest.raises(UserError, match=words):
        sounds.check_samples(wrong)


def test_resampling_keeps_a_tone():
    t = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 440 * t).astype("float32")
    found = sounds.resample(tone, 16000, 8000)
    assert found.dtype == np.float32 and len(found) == 8000
    np.testing.assert_allclose(found[500:-500], tone[::2][500:-500], atol=5e-3)
    assert sounds.resample(tone, 16000, 16000) is tone


@pytest.fixture
def tape(tmp_path, rng):
    """A folder of sounds, good and bad ones, and an encoder beside the recipe that says its rate."""
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("scipy")
    folder = tmp_path / "tape"
    folder.mkdir()
    soundfile.write(folder / "a.wav", clip(rng, 900), RATE, subtype="FLOAT")
    soundfile.write(folder / "b.flac", clip(rng, 700), RATE)
    soundfile.write(folder / "stereo.wav", rng.uniform(-0.5, 0.5, (800, 2)), RATE, subtype="FLOAT")
    soundfile.write(folder / "fast.wav", clip(rng, 2000), 2 * RATE, subtype="FLOAT")
    soundfile.write(folder / "short.wav", clip(rng, 200), RATE)
    soundfile.write(folder / "nothing.wav", clip(rng, 0), RATE)
    (folder / "zero.wav").write_bytes(b"")
    (folder / "text.wav").write_text("no sound")
    return folder


def test_sound_files_are_embedded_one_by_one_and_bad_ones_named(encoder, tape, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    encoder.save(run / "encoder.keras")
    (run / "recipe.yaml").write_text("encoder:\n  sampling_rate: 8000\n")
    report = embed(run, [tape], tmp_path / "f.npz", runtime="keras")
    reasons = {path.name: reason for path, reason in report.failed}
    assert set(reasons) == {"short.wav", "nothing.wav", "zero.wav", "text.wav"}
    assert "too short" in reasons["short.wav"] and "empty" in reasons["nothing.wav"]
    assert "empty" in reasons["zero.wav"] and "no sound" in reasons["text.wav"]
    assert report.count == 4 and report.resampled == {2 * RATE: 1}
    with np.load(report.written) as saved:
        names = [Path(path).name for path in saved["paths"]]
        assert names == ["a.wav", "b.flac", "fast.wav", "stereo.wav"]
        assert saved["global"].shape == (4, 5) and saved["frames"].tolist() == [9, 6, 10, 8]
        assert saved["context"].shape == (33, 5) and saved["local"].shape == (33, 8)
        each = np.split(saved["context"], np.cumsum(saved["frames"])[:-1])
        assert [len(frames) for frames in each] == [9, 6, 10, 8]
        np.testing.assert_allclose(saved["context"][:9].mean(axis=0), saved["global"][0], atol=1e-6)
        stereo, rate = sounds.read(tape / "stereo.wav")
        alone = np.asarray(encoder(stereo[None])["global"])[0]
        np.testing.assert_allclose(saved["global"][3], alone, atol=1e-5)
    (run / "recipe.yaml").unlink()
    with pytest.raises(UserError, match="--sampling-rate"):
        embed(run, [tape], tmp_path / "f.npz", runtime="keras")
    only = embed(run, [tape / "a.wav"], tmp_path / "g.npz", "global", "keras", sampling_rate=RATE)
    assert only.shapes == {"global": (5,)}
    with pytest.raises(UserError, match="No sound"):
        embed(run, [run], tmp_path / "h.npz", runtime="keras", sampling_rate=RATE)


def test_a_folder_of_sounds_is_a_set_of_one_rate(tape):
    for name in ("nothing.wav", "zero.wav", "text.wav"):
        (tape / name).unlink()
    with pytest.raises(UserError, match="differ in sampling rate"):
        sets.load(tape)
    (tape / "fast.wav").unlink()
    found = sets.load(tape)
    assert [len(each) for each in found.clips] == [900, 700, 200, 800] and found.sampling_rate == RATE


def test_the_page_on_own_sequences_does_what_it_says(rng):
    (code,) = pages.blocks("docs/sequences.md")
    series = rng.standard_normal((128, 12, 3)).cumsum(axis=1).astype("float32") / 4
    names = pages.run(code, "docs/sequences.md", {"series": series}, ("epochs=20", "epochs=20, verbose=0"))
    assert names["whole"].shape == (128, 32) and names["each_step"].shape == (128, 12, 32)
    terms = names["history"].history
    assert terms["mi_1"][-1] > terms["mi_1"][0] + 0.1
    assert terms["mi_1"][-1] > terms["mi_4"][-1]
