"""Operations on sounds: speed with pitch, timbre, noise and level, each drawn for a whole sound."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from mizoo._tools.checks import check_real, check_size, check_span
from mizoo.augment.operations import Operation

_NOISE_SAMPLES = 2**16  # of the noise that `Noise` takes pieces of


class Sound(Operation):
    """An operation on sounds: `apply(noise, samples)` takes and returns float32 samples (N, T) in -1..1."""


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class Speed(Sound):
    """The sound played faster or slower about its middle, pitch and formants along with it; noise: how much.

    Samples are interpolated linearly; what lies beyond the ends is silence.

    Attributes:
        factor: range of the speed, drawn log-uniformly: 2 is twice as fast and an octave higher.
    """

    factor: tuple[float, float] = (0.8, 1.25)

    noise_size = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", check_span(self.factor, "factor", above=0))

    def apply(self, noise, samples):
        """Each sample of the result lies between two of the sound."""
        low, high = np.log(self.factor[0]), np.log(self.factor[1])
        count = ops.shape(samples)[1]
        middle = (ops.cast(count, "float32") - 1.0) / 2.0
        times = ops.cast(ops.arange(count), "float32")[None] - middle
        position = middle + times * ops.exp(low + noise * (high - low))
        before = ops.floor(position)
        return _at(samples, before) * (1.0 - (position - before)) + _at(samples, before + 1.0) * (position - before)


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class Timbre(Sound):
    """A random filter, as of another room, microphone or throat; noise: one tap each.

    The filter passes the sound and adds `taps` echoes of it, a sample apart, each times a factor within `strength` of 0
    that falls with the delay; the sound keeps its power.

    Attributes:
        taps: how many samples back the filter reaches.
        strength: largest factor of the first echo, that of echo i is strength / sqrt(i).
    """

    taps: int = 8
    strength: float = 0.5

    def __post_init__(self) -> None:
        check_size(self.taps, "taps")
        check_real(self.strength, "strength", minimum=0)

    @property
    def noise_size(self) -> int:  # type: ignore[override]
        """One column for each tap."""
        return self.taps

    def apply(self, noise, samples):
        """The sound and its echoes, as loud as the sound."""
        factors = self.strength * (2.0 * noise - 1.0) / np.sqrt(np.arange(1, self.taps + 1, dtype="float32"))
        count = ops.shape(samples)[1]
        padded = ops.pad(samples, ((0, 0), (self.taps, 0)))
        filtered = samples
        for i in range(self.taps):
            first = self.taps - 1 - i
            filtered = filtered + factors[:, i : i + 1] * padded[:, first : first + count]
        return filtered * _power(samples) / ops.maximum(_power(filtered), 1e-6)


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class Noise(Sound):
    """Noise between white and brown in the background; noise: how loud, which colour, which piece of it.

    Attributes:
        decibels: range of the ratio of sound to noise, in dB of power.
    """

    decibels: tuple[float, float] = (10.0, 40.0)

    noise_size = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "decibels", check_span(self.decibels, "decibels"))

    def apply(self, noise, samples):
        """The sound and a piece of noise, from a fixed second or more of it, at a random place."""
        white, brown = (ops.convert_to_tensor(each) for each in _noises())
        start = ops.cast(ops.floor(noise[:, 2:3] * _NOISE_SAMPLES), "int32")
        places = (start + ops.arange(ops.shape(samples)[1], dtype="int32")[None]) % _NOISE_SAMPLES
        mixed = noise[:, 1:2] * ops.take(white, places) + (1.0 - noise[:, 1:2]) * ops.take(brown, places)
        ratio = self.decibels[0] + noise[:, 0:1] * (self.decibels[1] - self.decibels[0])
        loudness = _power(samples) * 10.0 ** (-ratio / 20.0)
        return samples + mixed * loudness / ops.maximum(_power(mixed), 1e-6)


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class Level(Sound):
    """The sound louder or softer; noise: how much.

    Attributes:
        decibels: range of the change, in dB; samples beyond -1..1 are clipped.
    """

    decibels: tuple[float, float] = (-10.0, 6.0)

    noise_size = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "decibels", check_span(self.decibels, "decibels"))

    def apply(self, noise, samples):
        """The samples times a factor."""
        change = self.decibels[0] + noise * (self.decibels[1] - self.decibels[0])
        return ops.clip(samples * 10.0 ** (change / 20.0), -1.0, 1.0)


def _at(samples, index):
    """Samples (N, T) at whole positions (N, T), 0 where there are none."""
    last = ops.cast(ops.shape(samples)[1], "float32") - 1.0
    inside = ops.logical_and(index >= 0.0, index <= last)
    values = ops.take_along_axis(samples, ops.cast(ops.clip(index, 0.0, last), "int32"), axis=1)
    return ops.where(inside, values, 0.0)


def _power(samples):
    """Root mean square (N, 1)."""
    return ops.sqrt(ops.mean(ops.square(samples), axis=1, keepdims=True))


@functools.cache
def _noises() -> tuple[np.ndarray, np.ndarray]:
    """White and brown noise of standard deviation 1, which begin again where they end: float32 (_NOISE_SAMPLES,)."""
    white = np.random.default_rng(0).standard_normal(_NOISE_SAMPLES)
    spectrum = np.fft.rfft(white)
    brown = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 64), _NOISE_SAMPLES)  # flat below 1/1024
    return tuple((each / each.std()).astype("float32") for each in (white, brown - brown.mean()))
