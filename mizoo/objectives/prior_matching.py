"""Prior matching: an adversary between the representation and samples of a prior (Hjelm et al. 2018, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers, ops

from mizoo.objectives.base import ADVERSARY


def discriminator(size: int, widths: Sequence[int] = (1000, 200)) -> keras.Model:
    """The discriminator of the prior: (B, size) in [0, 1] to one logit (B, 1), ReLU between (appendix A.2)."""
    x = keras.Input((size,), name=f"{ADVERSARY}_input")
    h = x
    for i, width in enumerate(widths, start=1):
        h = layers.Dense(width, activation="relu", name=f"{ADVERSARY}_hidden{i}")(h)
    logit = layers.Dense(1, dtype="float32", name=f"{ADVERSARY}_logit")(h)
    return keras.Model(x, logit, name=f"{ADVERSARY}_discriminator")


def prior_losses(model: keras.Model, y, uniform):
    """The two sides of prior matching against the uniform distribution on [0, 1]^d, all in logits.

    Neither gradient reaches the other side: the discriminator sees a representation cut off from its encoder, and the
    encoder sees the discriminator through weights held constant.

    Args:
        model: the discriminator.
        y: (N, d), the global representation before the sigmoid.
        uniform: (N, d), samples of the prior.

    Returns:
        Two scalars: the encoder's non-saturating loss, -log D(sigmoid(y)), and the discriminator's cross-entropy,
        -log D(u) - log(1 - D(sigmoid(y))) (eq. 7, with the discriminator's two means).
    """
    representation = ops.sigmoid(ops.cast(y, "float32"))
    real = model(uniform)
    fake = model(ops.stop_gradient(representation))
    adversary_loss = ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))

    frozen = [ops.stop_gradient(ops.convert_to_tensor(v)) for v in model.trainable_variables]
    logits, _ = model.stateless_call(
        frozen, [ops.convert_to_tensor(v) for v in model.non_trainable_variables], representation
    )
    return ops.mean(ops.softplus(-logits)), adversary_loss
