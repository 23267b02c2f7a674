"""Prior matching: an adversary between the representation and samples of a prior (Hjelm et al. 2018, section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
from keras import layers, ops

from mizoo.objectives.base import ADVERSARY

PRIORS = ("uniform", "gaussian")
_LEAST = 2.0**-25  # half the step of uniform float32 noise, so that no sample is infinite


def discriminator(size: int, widths: Sequence[int] = (1000, 200)) -> keras.Model:
    """The discriminator of the prior: (B, size) to one logit (B, 1), ReLU between (appendix A.2)."""
    x = keras.Input((size,), name=f"{ADVERSARY}_input")
    h = x
    for i, width in enumerate(widths, start=1):
        h = layers.Dense(width, activation="relu", name=f"{ADVERSARY}_hidden{i}")(h)
    logit = layers.Dense(1, dtype="float32", name=f"{ADVERSARY}_logit")(h)
    return keras.Model(x, logit, name=f"{ADVERSARY}_discriminator")


def gaussian_samples(uniform):
    """Standard Gaussian samples from uniform ones in [0, 1) of the same shape, by the inverse distribution function."""
    centred = ops.clip(2.0 * uniform - 1.0, 2.0 * _LEAST - 1.0, 1.0 - 2.0 * _LEAST)
    return math.sqrt(2.0) * ops.erfinv(centred)


def matched(y, prior: str):
    """What the prior is matched to, float32: sigmoid(y) for the uniform one on [0, 1]^d, y itself for the Gaussian."""
    y = ops.cast(y, "float32")
    return ops.sigmoid(y) if prior == "uniform" else y


def prior_losses(model: keras.Model, y, uniform, prior: str = "uniform"):
    """The two sides of prior matching, all in logits.

    Neither gradient reaches the other side: the discriminator sees a representation cut off from its encoder, and the
    encoder sees the discriminator through weights held constant.

    Args:
        model: the discriminator.
        y: (N, d), the global representation.
        uniform: (N, d), uniform in [0, 1), from which the samples of the prior are made.
        prior: "uniform", on [0, 1]^d and against sigmoid(y), or "gaussian", standard and against y itself.

    Returns:
        Two scalars: the encoder's non-saturating loss, -log D(y'), and the discriminator's cross-entropy,
        -log D(v) - log(1 - D(y')) (eq. 7, with the discriminator's two means), for the representation y' and samples v.
    """
    representation = matched(y, prior)
    real = model(uniform if prior == "uniform" else gaussian_samples(uniform))
    fake = model(ops.stop_gradient(representation))
    adversary_loss = ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))

    frozen = [ops.stop_gradient(ops.convert_to_tensor(v)) for v in model.trainable_variables]
    logits, _ = model.stateless_call(
        frozen, [ops.convert_to_tensor(v) for v in model.non_trainable_variables], representation
    )
    return ops.mean(ops.softplus(-logits)), adversary_loss
