"""The variational autoencoder, a baseline of Deep InfoMax."""

from __future__ import annotations

import math

import keras
from keras import layers, ops

from mizoo.objectives.base import Objective
from mizoo.objectives.prior_matching import gaussian_samples
from mizoo.objectives.reconstruction import decoder_for, squared_errors


@keras.saving.register_keras_serializable("mizoo")
class VAE(Objective):
    """Variational autoencoder (Kingma and Welling 2013, arXiv 1312.6114), as a baseline for Deep InfoMax.

    `global` is the mean of q(z | x), and a layer on `fc` gives the logarithm of its variance. The decoder gives the
    mean of p(x | z), a Gaussian of one standard deviation for all values, which is learned (Rybkin et al. 2020, arXiv
    2006.13202, section 3.1), so that nothing weighs the two sides of the bound. Terms: `elbo`, the evidence lower bound
    on log p(x), and `kl`, KL(q(z | x) || N(0, I)), both in nats a picture (values from -1 to 1); `reconstruction`, the
    mean squared error of a value. `kl` is an upper bound of the information I(x; z) that the code holds, over by the
    divergence of the codes of all pictures from the prior.

    Args:
        encoder: pictures to a dict with the endpoints `fc` and `global`, both vectors.
        decoder: vectors (B, d) to pictures; where it is None the mirror of `conv32`, `mizoo.encoders.decoder`.
        augment: augmentation applied in the step, or None.
        seed: seed of noise that a batch does not bring.

    Raises:
        UserError: for an encoder of pictures of any size or without the endpoints as vectors, or a decoder that does
            not fit it.

    Example:

    ```python
    model = mizoo.VAE(mizoo.encoders.conv32())
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(mizoo.data.batches("cifar10", "train", batch_size=128), epochs=10)
    ```
    """

    term_names = ("elbo", "kl", "reconstruction")
    serialised = ("encoder", "augment", "decoder")
    fewest_rows = 1

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model | None = None,
        augment=None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(encoder, augment=augment, seed=seed, name=name)
        self.require_vectors(["fc", "global"])
        self.size = encoder.output["global"].shape[-1]
        self.decoder = decoder_for(encoder, decoder)
        h = keras.Input(encoder.output["fc"].shape[1:], name="log_variance_input")
        layer = layers.Dense(self.size, dtype="float32", kernel_initializer="zeros", name="log_variance_output")
        self.log_variance = keras.Model(h, layer(h), name="log_variance")
        self.log_deviation = self.add_weight(name="log_deviation", shape=(), initializer="zeros", dtype="float32")
        self.track_terms()

    @property
    def own_noise_size(self) -> int:
        """Columns of noise: one for each coordinate of z."""
        return self.size

    def compute_terms(self, images, noise):
        """Loss and terms of one batch; see `Objective.compute_terms`."""
        endpoints = self.encoder(images, training=True)
        mean, log_variance = ops.cast(endpoints["global"], "float32"), self.log_variance(endpoints["fc"])
        z = mean + ops.exp(0.5 * log_variance) * gaussian_samples(noise)
        errors = squared_errors(self.decoder(z, training=True), images)
        count = math.prod(self.decoder.output_shape[1:])
        log_deviation = ops.convert_to_tensor(self.log_deviation)
        log_likelihood = -0.5 * errors * ops.exp(-2.0 * log_deviation)
        log_likelihood = log_likelihood - count * (log_deviation + 0.5 * math.log(2.0 * math.pi))
        kl = 0.5 * ops.sum(ops.square(mean) + ops.exp(log_variance) - 1.0 - log_variance, axis=-1)
        elbo = ops.mean(log_likelihood - kl)
        terms = {"elbo": elbo, "kl": ops.mean(kl), "reconstruction": ops.mean(errors) / count}
        return -elbo / count, terms
