"""Strided convolutions and a GRU over the samples of a sound."""

from __future__ import annotations

import numbers
from collections.abc import Sequence

import keras
from keras import layers

from mizoo._tools.checks import check_each_size, check_name, check_sizes
from mizoo.encoders._layers import field_and_stride, named
from mizoo.errors import UserError

# Kernels and strides by sampling rate: one frame every 10 ms at either. Those of 16 kHz are the paper's.
KERNELS = {16000: (10, 8, 4, 4, 4), 8000: (10, 8, 4, 4)}
STRIDES = {16000: (5, 4, 2, 2, 2), 8000: (5, 4, 2, 2)}


def waveform(
    sampling_rate: int = 16000,
    kernels: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    widths: int | Sequence[int] = 512,
    context_size: int = 256,
    norm: bool = True,
    name: str = "waveform",
) -> keras.Model:
    """Encoder of Contrastive Predictive Coding for sound (van den Oord et al. 2018, section 3.1).

    Strided 1-d convolutions with ReLU give the frames z_t, a GRU over them the contexts c_t. No convolution is padded
    and nothing is averaged over time but `global`, so z_t depends on its own receptive field alone and c_t on nothing
    later.

    Args:
        sampling_rate: of the sounds, in Hz; it chooses kernels and strides where they are not given: those of the
            paper for 16000, four convolutions for 8000, one frame every 10 ms with either.
        kernels: kernel of each convolution, in frames of the layer before.
        strides: stride of each convolution; their product is the number of samples from frame to frame.
        widths: channels of each convolution, or one number for all (the paper: 512).
        context_size: units of the GRU.
        norm: normalise the channels of each frame by themselves after every convolution (Riviere et al. 2020). The
            paper has no normalisation; recordings of different loudness train more evenly with it.
        name: name of the model.

    Returns:
        A Functional `keras.Model` from float32 samples (B, T) in -1..1, T at least `receptive_field(encoder)`, to a
        dict of float32 endpoints: `local` (B, frames, widths[-1]), `context` (B, frames, context_size) and `global`
        (B, context_size), the mean of the contexts.

    Raises:
        UserError: for a sampling rate without kernels of its own, or kernels, strides and widths that do not match.
    """
    if (kernels is None or strides is None) and sampling_rate not in list(KERNELS):
        raise UserError(
            f"`sampling_rate` chooses the kernels for {' and '.join(map(str, KERNELS))} Hz. Received: {sampling_rate}. "
            "Give `kernels` and `strides` for another rate."
        )
    kernels = check_each_size(KERNELS[sampling_rate] if kernels is None else kernels, "kernels")
    strides = check_each_size(STRIDES[sampling_rate] if strides is None else strides, "strides")
    widths = check_each_size((widths,) * len(kernels) if isinstance(widths, numbers.Real) else widths, "widths")
    check_sizes(context_size=context_size)
    if not len(kernels) == len(strides) == len(widths):
        raise UserError(
            "`kernels`, `strides` and `widths` take one positive number for each convolution. Received: "
            f"kernels={kernels}, strides={strides}, widths={widths}"
        )

    samples = keras.Input((None,), name="samples", dtype="float32")
    x = layers.Reshape((-1, 1), name="channel")(samples)
    for i, (kernel, stride, width) in enumerate(zip(kernels, strides, widths), start=1):
        x = layers.Conv1D(width, kernel, strides=stride, kernel_initializer="he_normal", name=f"conv{i}")(x)
        if norm:
            x = layers.LayerNormalization(epsilon=1e-5, name=f"conv{i}_norm")(x)
        x = layers.ReLU(name=f"conv{i}_relu")(x)
    context = layers.GRU(context_size, return_sequences=True, name="gru")(x)
    mean = layers.GlobalAveragePooling1D(name="mean")(context)

    endpoints = named({"local": x, "context": context, "global": mean})
    return keras.Model(samples, endpoints, name=check_name(name))


def receptive_field(encoder: keras.Model) -> tuple[int, int]:
    """Samples that one frame sees, which is the shortest sound an encoder takes, and samples from frame to frame.

    Args:
        encoder: a chain of layers that are not padded over time, such as `waveform` and `log_mel` give.
    """
    return field_and_stride(encoder.layers, layers.Conv1D, layers.Conv2D, layers.STFTSpectrogram)
