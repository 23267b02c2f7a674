"""The encoder of log-mel spectra: its fixed part against numpy and Keras, and what a frame depends on."""

import keras
import numpy as np
import pytest

from mizoo import encoders
from mizoo.encoders.log_mel import mel_bands
from mizoo.encoders.waveform import receptive_field
from mizoo.errors import UserError
from mizoo.zoo.copies import random_copy, weighted_copy

RATE = 8000
SMALL = {"mels": 16, "widths": (3, 4), "frame_size": 8, "context_size": 5}


def log_mel(**arguments) -> keras.Model:
    keras.utils.set_random_seed(1)
    return encoders.log_mel(RATE, **{**SMALL, **arguments})


def part(encoder: keras.Model, layer: str) -> keras.Model:
    return keras.Model(encoder.input, encoder.get_layer(layer).output)


@pytest.mark.parametrize("rate, length, mels", [(8000, 256, 40), (16000, 512, 80), (8000, 256, 16)])
def test_the_bands_are_those_of_keras(rate, length, mels):
    library = keras.layers.MelSpectrogram(
        fft_length=length, num_mel_bins=mels, sampling_rate=rate, min_freq=60.0, max_freq=rate / 2
    )
    theirs = np.asarray(
        library.linear_to_mel_weight_matrix(
            num_mel_bins=mels,
            num_spectrogram_bins=length // 2 + 1,
            sampling_rate=rate,
            lower_edge_hertz=60.0,
            upper_edge_hertz=rate / 2,
        )
    )
    np.testing.assert_allclose(mel_bands(rate, length, mels), theirs, atol=1e-4)


def test_the_power_is_that_of_a_windowed_transform(rng):
    sounds = rng.uniform(-0.5, 0.5, (2, 1000)).astype("float32")
    power = part(log_mel(), "power").predict_on_batch(sounds)
    window = np.hanning(200)
    for t in range(power.shape[1]):
        spectrum = np.fft.rfft(sounds[:, 80 * t : 80 * t + 200] * window, 256)
        expected = np.abs(spectrum) ** 2
        expected[:, 1:-1] *= 2  # of both signs of the frequency
        np.testing.assert_allclose(power[:, t], expected, rtol=1e-3, atol=1e-3)
    assert power.shape == (2, 11, 129)


def test_a_tone_is_loudest_in_the_band_around_it():
    bands = part(log_mel(mels=40), "mel")
    corners = np.linspace(2595 * np.log10(1 + 60 / 700), 2595 * np.log10(1 + 4000 / 700), 42)
    middles = 700 * (10 ** (corners / 2595) - 1)
    for band in (10, 20, 30):
        tone = np.sin(2 * np.pi * middles[band + 1] * np.arange(1000) / RATE).astype("float32")
        assert set(bands.predict_on_batch(tone[None])[0].argmax(axis=-1)) == {band}


def test_loudness_is_gone_and_a_silent_sound_is_finite(rng):
    encoder = log_mel()
    sounds = rng.uniform(-0.5, 0.5, (2, 2000)).astype("float32")
    loud, soft = (encoder.predict_on_batch(sounds * factor)["local"] for factor in (1.0, 0.3))
    np.testing.assert_allclose(loud, soft, atol=1e-2)
    silent = encoder.predict_on_batch(np.zeros((1, 2000), "float32"))
    assert all(np.isfinite(value).all() for value in silent.values())


def test_a_frame_sees_its_receptive_field_and_a_context_nothing_later(rng):
    encoder = log_mel()
    assert receptive_field(encoder) == (200 + 2 * 2 * 80, 80)
    assert receptive_field(encoders.log_mel(16000)) == (400 + 3 * 2 * 160, 160)
    sounds = rng.uniform(-0.5, 0.5, (2, 3000)).astype("float32")
    before = encoder.predict_on_batch(sounds)
    frames = (3000 - 520) // 80 + 1
    assert before["local"].shape == (2, frames, 8) and before["context"].shape == (2, frames, 5)
    np.testing.assert_allclose(before["global"], before["context"].mean(axis=1), atol=1e-6)
    sounds[0, 1200:1240] += 0.4
    after = encoder.predict_on_batch(sounds)
    seeing = {t for t in range(frames) if t * 80 < 1240 and 1200 < t * 80 + 520}
    changed = {key: np.abs(after[key] - before[key]).max(axis=-1) > 1e-6 for key in ("local", "context")}
    found = set(np.flatnonzero(changed["local"][0]))
    assert found <= seeing and len(found) >= len(seeing) - 2  # the window is nearly 0 at its ends
    assert np.flatnonzero(changed["context"][0])[0] == min(found)
    assert not changed["local"][1].any() and not changed["context"][1].any()
    assert encoder.predict_on_batch(sounds[:, :520])["context"].shape == (2, 1, 5), "one frame is the shortest"


def test_new_weights_keep_the_spectrum_and_what_is_trained_changes(rng, tmp_path):
    encoder = log_mel()
    fixed = ("power", "mel")
    assert not any(encoder.get_layer(name).trainable_variables for name in fixed)
    renewed = random_copy(encoder)
    for name in fixed:
        for one, other in zip(encoder.get_layer(name).get_weights(), renewed.get_layer(name).get_weights()):
            np.testing.assert_array_equal(one, other)
    assert np.abs(encoder.get_layer("conv1").get_weights()[0] - renewed.get_layer("conv1").get_weights()[0]).max() > 0.1
    encoder.save(tmp_path / "encoder.keras")
    sounds = rng.uniform(-0.5, 0.5, (2, 2000)).astype("float32")
    expected = encoder.predict_on_batch(sounds)["global"]
    for again in (keras.saving.load_model(tmp_path / "encoder.keras"), weighted_copy(encoder, "float32")):
        np.testing.assert_allclose(again.predict_on_batch(sounds)["global"], expected, atol=1e-5)


@pytest.mark.parametrize(
    "arguments, words", [({"mels": 3}, "halved"), ({"mels": 200}, "resolves"), ({"sampling_rate": 500}, "1000")]
)
def test_what_makes_no_spectrum_is_named(arguments, words):
    with pytest.raises(UserError, match=words):
        encoders.log_mel(**{"sampling_rate": RATE, **SMALL, **arguments})
