"""Augmentations of sounds, each against what it is by name, and in the training step."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

import mizoo
from mizoo import augment, recipes
from mizoo.errors import UserError

RATE = 8000
TIMES = np.arange(2000) / RATE


def tone(frequency: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * TIMES)).astype("float32")


def applied(operation, samples, noise) -> np.ndarray:
    return ops.convert_to_numpy(augment.Compose([operation])(samples, np.asarray(noise, "float32")))


def loudest(samples) -> float:
    """The frequency of the strongest tone."""
    return float(
        np.fft.rfftfreq(len(samples), 1 / RATE)[np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax()]
    )


def rms(samples):
    return np.sqrt(np.mean(np.square(samples), axis=-1))


def test_speed_moves_the_pitch_and_falls_silent_beyond_the_ends():
    samples = np.stack([tone(400)] * 3)
    slow, same, fast = applied(augment.Speed((0.5, 2.0)), samples, [[0.0], [0.5], [1.0]])
    assert [loudest(each) for each in (slow, same, fast)] == pytest.approx([200, 400, 800], abs=4)
    np.testing.assert_allclose(same, samples[0], atol=1e-3)
    assert not fast[:499].any() and not fast[-499:].any() and fast[505:-505].any()


def test_speed_interpolates_between_samples():
    ramp = np.arange(5, dtype="float32")[None] / 8
    found = applied(augment.Speed((0.5, 0.5)), ramp, [[0.3]])
    np.testing.assert_allclose(found[0] * 8, [1.0, 1.5, 2.0, 2.5, 3.0], atol=1e-6)


def test_timbre_is_a_filter_that_keeps_the_power(rng):
    samples = rng.normal(0, 0.1, (4, 500)).astype("float32")
    noise = rng.random((4, 3), dtype="float32")
    found = applied(augment.Timbre(taps=3, strength=0.8), samples, noise)
    for row in range(4):
        echoes = 0.8 * (2 * noise[row] - 1) / np.sqrt([1, 2, 3])
        expected = np.convolve(samples[row], [1, *echoes])[:500]
        np.testing.assert_allclose(found[row], expected * rms(samples[row]) / rms(expected), atol=1e-5)


def test_noise_is_as_loud_as_asked_and_of_the_colour_that_is_drawn():
    samples = np.stack([tone(1000)] * 3)
    white, brown, softer = (
        applied(augment.Noise((0.0, 20.0)), samples, [[0, 1, 0.2], [0, 0, 0.2], [1, 1, 0.2]]) - samples
    )
    assert rms(white) == pytest.approx(rms(samples[0]), rel=1e-3)
    assert rms(softer) == pytest.approx(rms(samples[0]) / 10, rel=1e-3)

    def treble(signal):
        """The share of the power above a quarter of the band."""
        power = np.square(np.abs(np.fft.rfft(signal)))
        return power[len(power) // 4 :].sum() / power.sum()

    assert treble(white) == pytest.approx(0.75, abs=0.05)
    assert treble(brown) < 0.1


def test_noise_differs_from_sound_to_sound_and_silence_stays_silent():
    silence, sound = np.zeros((1, 2000), "float32"), tone(300)[None]
    assert not applied(augment.Noise(), silence, [[0.5, 0.5, 0.5]]).any()
    one, other = (applied(augment.Noise((10, 10)), sound, [[0, 0.5, place]]) - sound for place in (0.1, 0.9))
    assert abs(np.corrcoef(one[0], other[0])[0, 1]) < 0.3


def test_level_is_in_decibels_and_clips():
    samples = np.stack([tone(300)] * 3)
    softer, louder, clipped = applied(augment.Level((-20.0, 20.0)), samples, [[0.0], [0.6], [1.0]])
    np.testing.assert_allclose(softer, samples[0] / 10, atol=1e-6)
    np.testing.assert_allclose(louder, samples[0] * 10 ** (4 / 20), atol=1e-5)
    assert np.abs(clipped).max() == 1.0


def test_sounds_do_not_depend_on_their_neighbours(rng):
    voice = augment.preset("voice")
    samples = rng.normal(0, 0.1, (5, 700)).astype("float32")
    noise = rng.random((5, voice.noise_size), dtype="float32")
    together = ops.convert_to_numpy(voice(samples, noise))
    assert together.shape == samples.shape and together.dtype == "float32"
    for row in range(5):
        alone = ops.convert_to_numpy(voice(samples[row : row + 1], noise[row : row + 1]))
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def test_the_preset_is_kept_by_its_configuration():
    voice = augment.preset("voice")
    assert voice.takes == "sounds" and augment.preset("dim").takes == "pictures"
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(voice))
    assert again == voice and again.noise_size == voice.noise_size


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: augment.Speed((0.0, 1.0)), "factor"),
        (lambda: augment.Speed((2.0, 1.0)), "factor"),
        (lambda: augment.Timbre(taps=0), "taps"),
        (lambda: augment.Timbre(strength=-1.0), "strength"),
        (lambda: augment.Noise((30.0, 10.0)), "decibels"),
        (lambda: augment.Compose([augment.Level(), augment.Flip()]), "do not go together"),
        (lambda: augment.preset("voice")(np.zeros((2, 8, 8, 3)), np.zeros((2, 13))), "of sounds"),
        (lambda: augment.preset("dim")(np.zeros((2, 800)), np.zeros((2, 3))), "of pictures"),
        (lambda: mizoo.CPC(mizoo.encoders.waveform(8000), augment=augment.preset("dim")), "pictures"),
        (lambda: mizoo.DeepInfoMax(mizoo.encoders.conv32(), augment=augment.preset("voice")), "works on sounds"),
        (lambda: recipes.load("cpc_spoken_digit", {"data.augment": "dim"}), "none or voice"),
        (lambda: recipes.load("dim_local_cifar10", {"data.augment": "voice"}), "data.augment"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("negatives", ["batch", "sequence"])
def test_cpc_learns_from_augmented_sounds(rng, negatives):
    keras.utils.set_random_seed(0)
    encoder = mizoo.encoders.waveform(8000, widths=8, context_size=8)
    model = mizoo.CPC(encoder, steps=3, negatives=negatives, augment=augment.preset("voice"))
    plain = mizoo.CPC(encoder, steps=3, negatives=negatives)
    plain.critics = model.critics
    model.compile(keras.optimizers.Adam(1e-3))
    samples = np.stack([tone(each) for each in rng.uniform(200, 2000, 16)])
    history = model.fit(samples, batch_size=8, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    noise = rng.random((8, model.noise_size), dtype="float32")
    heard = ops.convert_to_numpy(model.augment(samples[:8], noise))
    expected, _ = plain.compute_terms(ops.convert_to_tensor(heard), ops.zeros((8, 0)))
    found, _ = model.forward(ops.convert_to_tensor(samples[:8]), ops.convert_to_tensor(noise))
    assert float(found) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "simclr",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("information_maximization", "deep_co_training")),
    ],
)
def test_objectives_of_two_views_train_on_sounds(rng, tmp_path, name):
    soundfile = pytest.importorskip("soundfile")
    for i in range(8):
        soundfile.write(tmp_path / f"{i}.wav", rng.normal(0, 0.1, 900), RATE)
    changes = {
        "objective": {"name": name},
        "encoder.widths": [4, 4, 4, 8],
        "encoder.context_size": 8,
        "data": {"source": str(tmp_path), "window": 800, "augment": "voice"},
        "training": {"epochs": 2, "batch_size": 8, "precision": "float32", "jit_compile": False},
        "optimizer.warmup_epochs": 0,
    }
    with pytest.raises(UserError, match="two views take an augmentation"):
        recipes.load("cpc_spoken_digit", changes | {"data": changes["data"] | {"augment": "none"}})
    run = mizoo.pretrain.pretrain(recipes.load("cpc_spoken_digit", changes), tmp_path / "run")
    encoder = keras.saving.load_model(tmp_path / "run" / "encoder.keras", compile=False)
    assert encoder.predict(rng.normal(0, 0.1, (2, 900)), verbose=0)["global"].shape == (2, 8), run
