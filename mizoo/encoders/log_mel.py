"""Convolutions and a GRU over the log-mel spectrogram of a sound."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from mizoo._tools.checks import check_each_size, check_name, check_real, check_sizes
from mizoo.encoders._layers import named
from mizoo.errors import UserError

FRAME, HOP = 0.025, 0.01  # seconds
LOWEST = 60.0  # Hz, the lower edge of the first band
_QUIETEST = 1e-5  # added to the power of a band; a sine of amplitude 1 has some thousands


def log_mel(
    sampling_rate: int = 16000,
    mels: int = 40,
    widths: Sequence[int] = (32, 64, 128),
    frame_size: int = 256,
    context_size: int = 256,
    name: str = "log_mel",
) -> keras.Model:
    """Encoder of sounds that hears bands of frequency, as MFCC does, where `waveform` learns its filters from samples.

    Power spectra of 25 ms every 10 ms, summed in `mels` bands of equal width on the mel scale, whose logarithms are
    brought to mean 0 and variance 1 in each frame, so that loudness is gone; most bands are wider than the harmonics of
    a voice are apart, so most of its pitch is gone too (Davis and Mermelstein 1980, whose MFCC these are before their
    cosine transform). All this is fixed. Then, for each of `widths`, a convolution over 3 frames and 3 bands with batch
    normalisation and ReLU, and the larger of each two bands; a dense layer on each frame, and a GRU over the frames.
    Nothing is padded or averaged over time but `global`, so a frame of `local` depends on its own receptive field alone
    and a context on nothing later.

    Args:
        sampling_rate: of the sounds, in Hz.
        mels: bands of frequency, from 60 Hz to half the sampling rate.
        widths: channels of the convolutions.
        frame_size: channels of each frame of `local`.
        context_size: units of the GRU.
        name: name of the model.

    Returns:
        A Functional `keras.Model` from float32 samples (B, T) in -1..1, T at least `receptive_field(encoder)`, to a
        dict of float32 endpoints: `local` (B, frames, frame_size), `context` (B, frames, context_size) and `global`
        (B, context_size), the mean of the contexts.

    Raises:
        UserError: for sizes that are no whole numbers from 1 on, a sampling rate below 1000, more bands than the
            spectrum resolves, or fewer than are left after halving them for each of `widths`.
    """
    widths = check_each_size(widths, "widths")
    check_sizes(sampling_rate=sampling_rate, mels=mels, frame_size=frame_size, context_size=context_size)
    check_real(sampling_rate, "sampling_rate", minimum=1000)
    if mels < 2 ** len(widths):
        raise UserError(
            f"`mels` is halved for each of `widths`: {2 ** len(widths)} or more. Received: mels={mels}, widths={widths}"
        )
    length = round(FRAME * sampling_rate)
    bands = mel_bands(sampling_rate, _fft_length(length), mels)

    samples = keras.Input((None,), name="samples", dtype="float32")
    x = layers.Reshape((-1, 1), name="channel")(samples)
    fixed = {"trainable": False, "dtype": "float32"}
    x = layers.STFTSpectrogram(
        mode="psd",
        frame_length=length,
        frame_step=round(HOP * sampling_rate),
        fft_length=_fft_length(length),
        scaling=None,
        name="power",
        **fixed,
    )(x)
    of_bands = keras.initializers.Constant(bands)
    x = layers.Dense(mels, use_bias=False, kernel_initializer=of_bands, name="mel", **fixed)(x)
    x = ops.log(x + _QUIETEST)
    x = layers.LayerNormalization(center=False, scale=False, name="level", dtype="float32")(x)
    x = layers.Reshape((-1, mels, 1), name="bands")(x)
    for i, width in enumerate(widths, start=1):
        x = layers.ZeroPadding2D(((0, 0), (1, 1)), name=f"conv{i}_pad")(x)
        x = layers.Conv2D(width, 3, use_bias=False, kernel_initializer="he_normal", name=f"conv{i}")(x)
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"conv{i}_norm")(x)
        x = layers.ReLU(name=f"conv{i}_relu")(x)
        x = layers.MaxPooling2D((1, 2), name=f"conv{i}_pool")(x)
    x = layers.Reshape((-1, x.shape[2] * x.shape[3]), name="frames")(x)
    x = layers.Dense(frame_size, name="dense")(x)
    x = layers.LayerNormalization(epsilon=1e-5, name="dense_norm")(x)
    x = layers.ReLU(name="dense_relu")(x)
    context = layers.GRU(context_size, return_sequences=True, name="gru")(x)
    mean = layers.GlobalAveragePooling1D(name="mean")(context)

    endpoints = named({"local": x, "context": context, "global": mean})
    return keras.Model(samples, endpoints, name=check_name(name))


def mel_bands(sampling_rate: int, fft_length: int, mels: int) -> np.ndarray:
    """Weights (fft_length / 2 + 1, mels) of the bins of a spectrum in overlapping triangles of equal width in mel.

    A frequency of f Hz is 2595 log10(1 + f / 700) mel (O'Shaughnessy 1987). The first triangle begins at 60 Hz, the
    last ends at half the sampling rate, and each rises from the middle of the one before it to 1 and falls to the
    middle of the next.

    Args:
        sampling_rate: in Hz.
        fft_length: samples of the transform.
        mels: number of triangles.

    Raises:
        UserError: where a triangle lies between two bins.
    """
    bins = _mel(np.linspace(0.0, sampling_rate / 2, fft_length // 2 + 1))[:, None]
    corners = np.linspace(_mel(LOWEST), _mel(sampling_rate / 2), mels + 2)
    width = corners[1] - corners[0]
    weights = np.maximum(0.0, 1.0 - np.abs(bins - corners[1:-1]) / width).astype("float32")
    if not weights.any(axis=0).all():
        raise UserError(f"A spectrum of {fft_length // 2} bins resolves fewer bands. Received: mels={mels}")
    return weights


def _mel(hertz):
    return 2595.0 * np.log10(1.0 + hertz / 700.0)


def _fft_length(length: int) -> int:
    """The next power of two."""
    return 1 << (length - 1).bit_length()
