"""The adversarial autoencoder, a baseline of Deep InfoMax."""

from __future__ import annotations

import math

import keras
from keras import ops

from mizoo._tools.checks import check_choice
from mizoo.objectives.base import Objective
from mizoo.objectives.prior_matching import PRIORS, discriminator, matched, prior_losses
from mizoo.objectives.reconstruction import decoder_for, squared_errors


@keras.saving.register_keras_serializable("mizoo")
class AAE(Objective):
    """Adversarial autoencoder (Makhzani et al. 2015, arXiv 1511.05644), as a baseline for Deep InfoMax.

    An autoencoder by the mean squared error of values from -1 to 1, whose code is matched to a prior by the adversary
    of Deep InfoMax. The code is sigmoid(`global`) for the uniform prior and `global` itself for the Gaussian one.
    Terms: `reconstruction`, that error; `prior` and `adversary`, the losses of the two sides of the matching.

    Args:
        encoder: pictures to a dict with the endpoint `global` (B, d).
        prior_weight: weight of the encoder's side of the matching beside the error.
        prior: "uniform" on [0, 1]^d or "gaussian", as of `mizoo.DeepInfoMax`.
        decoder: vectors (B, d) to pictures; where it is None the mirror of `conv32`, `mizoo.encoders.decoder`.
        augment: augmentation applied in the step, or None.
        seed: seed of noise that a batch does not bring.

    Raises:
        UserError: for an encoder of pictures of any size or without `global` as a vector, a weight that is not
            positive, an unknown prior, or a decoder that does not fit.

    Example:

    ```python
    model = mizoo.AAE(mizoo.encoders.conv32())
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(mizoo.data.batches("cifar10", "train", batch_size=128), epochs=10)
    ```
    """

    term_names = ("reconstruction", "prior", "adversary")
    settings = ("prior_weight", "prior")
    serialised = ("encoder", "augment", "decoder")
    fewest_rows = 1

    def __init__(
        self,
        encoder: keras.Model,
        prior_weight: float = 0.1,
        prior: str = "uniform",
        decoder: keras.Model | None = None,
        augment=None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(encoder, augment=augment, seed=seed, name=name)
        self.prior_weight = prior_weight
        self.prior = check_choice(prior, "prior", PRIORS)
        self.require_positive("prior_weight")
        self.require_vectors(["global"])
        self.size = encoder.output["global"].shape[-1]
        self.decoder = decoder_for(encoder, decoder)
        self.discriminator = discriminator(self.size)
        self.track_terms()

    @property
    def own_noise_size(self) -> int:
        """Columns of noise: a sample of the prior."""
        return self.size

    def compute_terms(self, images, noise):
        """Loss and terms of one batch; see `Objective.compute_terms`."""
        y = self.encoder(images, training=True)["global"]
        decoded = self.decoder(matched(y, self.prior), training=True)
        error = ops.mean(squared_errors(decoded, images)) / math.prod(self.decoder.output_shape[1:])
        prior, adversary = prior_losses(self.discriminator, y, noise, self.prior)
        terms = {"reconstruction": error, "prior": prior, "adversary": adversary}
        return error + self.prior_weight * prior + adversary, terms
