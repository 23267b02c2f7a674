"""Deep co-training: information between the features of two views, by difference of entropies or by CPC."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
from keras import ops

from mizoo import bounds, critics, densities
from mizoo._tools.arrays import check_whole
from mizoo._tools.checks import check_choice, check_real, check_widths
from mizoo.errors import UserError
from mizoo.objectives.base import ADVERSARY, INNER_INPUT, Objective

FORMS = ("doe", "cpc")


@keras.saving.register_keras_serializable("mizoo")
class DeepCoTraining(Objective):
    """Information-theoretic co-training (McAllester 2018): I(z_x; z_y) - beta H(z) of the features of two views.

    The form "doe" states it as a difference of entropies, (1 - beta) H_phi(z) - H_psi(z_y | z_x), both cross-entropies
    under fitted densities of the features, never of pictures, and both the mean over the two views. The encoder raises
    the entropy that the marginal density phi lowers. So the densities are fitted by an optimiser of their own, in an
    inner loop of `inner_steps` for each update, on features cut off from the encoder, and the encoder's gradient goes
    through the features with the densities held constant.

    A difference of entropies is the same on any scale, but a single entropy grows with the scale of the features and
    falls without end where they lie on fewer dimensions. So each coordinate is standardised over the (gathered) batch
    of both views and gets uniform noise of width `resolution`, and entropies are counted from that of the noise: the
    logged ones are those of features read to that resolution, 0 or a little above if nothing is left of them.
    The densities are those of what a running covariance leaves of them (`mizoo.densities.PairMoments` and `whitened`),
    its volume put back: fitted to correlated coordinates as they are, they fall behind an encoder that moves, and the
    conditional entropy comes out above the marginal one. (All of this happens in the objective; the encoder's endpoint
    stays as it is.)

    The form "cpc" (van den Oord et al. 2018, with inner products) lets each z_x pick its z_y among the N of the
    (gathered) batch by z_x . z_y / sqrt(d), of the features as they are, and the other way round: InfoNCE, never above
    its ceiling log N. It has no densities.

    Terms of "doe", in nats: `feature_entropy` H_phi(z), `conditional_entropy` H_psi(z_y | z_x) and their difference
    `global_mi`, which is neither a lower nor an upper bound. `loss` is minus the objective plus the densities' own
    loss, their cross-entropies of the whitened features. "cpc" has `global_mi` alone, a lower bound.

    Args:
        encoder: pictures to a dict with the endpoint `global` (B, d).
        beta: weight of the entropy penalty of "doe", 0 up to 1 (without 1). In other words, H(z) - 1 / (1 - beta)
            H(z_y | z_x) is maximised.
        form: "doe" or "cpc".
        family: "logistic" or "gaussian", of both densities.
        hidden: widths of the hidden layers of the conditional density's network.
        scale_range: how far the other view may move the logarithm of a coordinate's scale, either way; 0: not at all.
        resolution: width of the noise, in standard deviations of a coordinate.
        inner_steps: steps of the densities for each update.
        density_rate: their rate of Adam, unless `compile` is given an optimiser for it.
        augment: makes the two views, such as `mizoo.augment.preset("views")`.
        seed: seed of noise that a batch does not bring, and of the density's first weights.

    Raises:
        UserError: for an unknown form or family, a number out of its range, beta with "cpc", an encoder without
            a vector `global`, or no augmentation.

    Example:

    ```python
    model = mizoo.DeepCoTraining(mizoo.encoders.conv32(), augment=mizoo.augment.preset("views"))
    model.compile(keras.optimizers.Adam(3e-4))
    model.fit(mizoo.data.batches("cifar10", "train", batch_size=256), epochs=10)
    ```
    """

    settings = ("beta", "form", "family", "hidden", "scale_range", "resolution", "inner_steps", "density_rate")

    def __init__(
        self,
        encoder: keras.Model,
        beta: float = 0.0,
        form: str = "doe",
        family: str = "gaussian",
        hidden: Sequence[int] = (256,),
        scale_range: float = 0.0,
        resolution: float = 0.25,
        inner_steps: int = 4,
        density_rate: float = 2e-3,
        augment=None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(encoder, augment=augment, views=2, seed=seed, name=name)
        self.beta = beta
        self.form = form
        self.family = family
        self.hidden = check_widths(hidden, "hidden")
        self.scale_range = scale_range
        self.resolution = resolution
        self.inner_steps = inner_steps
        self.density_rate = density_rate
        self._check_arguments()
        self.size = encoder.output["global"].shape[-1]
        self.moments, self.marginal, self.conditional = None, None, None
        if form == "doe":
            self.moments = densities.PairMoments(self.size, name="moments")
            with keras.name_scope(ADVERSARY):  # for the layers inside them as well
                self.marginal = densities.Marginal(self.size, family, name="marginal")
                self.conditional = densities.Conditional(
                    self.size, self.size, family, self.hidden, seed, "conditional", scale_range
                )
        self.track_terms()

    @property
    def term_names(self) -> tuple[str, ...]:
        """Names of the logged terms, all in nats."""
        return ("feature_entropy", "conditional_entropy", "global_mi") if self.form == "doe" else ("global_mi",)

    @property
    def own_noise_size(self) -> int:
        """Columns of noise: one for each coordinate of each view."""
        return self.views * self.size if self.form == "doe" else 0

    def ceilings(self, batch_size: int) -> dict[str, float]:
        """The largest value of the CPC form's bound at a (gathered) batch of `batch_size` pictures, in nats."""
        return {"global_mi": bounds.infonce_ceiling(batch_size)} if self.form == "cpc" else {}

    def compile(self, optimizer="adam", density_optimizer=None, **kwargs) -> None:
        """Configure training.

        Args:
            optimizer: trains the encoder.
            density_optimizer: trains the densities; by default Adam with the rate `density_rate`.
            **kwargs: as in `keras.Model.compile`.

        Raises:
            UserError: for settings that cannot work with this step, or a second optimiser for "cpc".
        """
        if self.form == "cpc" and density_optimizer is not None:
            raise UserError("`density_optimizer` trains densities, and form='cpc' has none.")
        if self.form == "doe" and density_optimizer is None:
            density_optimizer = keras.optimizers.Adam(self.density_rate)
        super().compile(optimizer, density_optimizer, **kwargs)

    def compute_terms(self, images, noise):
        """Loss and terms of one batch; see `Objective.compute_terms`."""
        z = ops.cast(self.encoder(images, training=True)["global"], "float32")
        rows = ops.shape(z)[0] // 2
        if self.form == "cpc":
            return self._cpc(z[:rows], z[rows:])
        z = self._standardised(z)
        z = z + self.resolution * (ops.concatenate([noise[:, : self.size], noise[:, self.size :]]) - 0.5)
        factor, slope, residual_factor = self.moments.update(self.gather(z[:rows]), self.gather(z[rows:]))
        features, volume = densities.whitened(z, factor)
        residuals, residual_volume = densities.whitened(z - ops.matmul(_other_view(z), slope), residual_factor)
        white = ops.concatenate([features, residuals], axis=-1)
        log_marginal, log_conditional = self._log_densities(white, frozen=True)
        log_marginal, log_conditional = log_marginal + volume, log_conditional + residual_volume
        floor = self.size * math.log(self.resolution)  # entropy of the noise
        entropy, conditional = -ops.mean(log_marginal) - floor, -ops.mean(log_conditional) - floor
        terms = {
            "feature_entropy": entropy,
            "conditional_entropy": conditional,
            "global_mi": densities.difference_of_entropies(log_marginal, log_conditional),
            INNER_INPUT: ops.stop_gradient(white),
        }
        return conditional - (1.0 - self.beta) * entropy + self.inner_loss(terms), terms

    def inner_loss(self, terms):
        """Cross-entropies under both densities of the whitened features, cut off from the encoder: their sum."""
        log_marginal, log_conditional = self._log_densities(terms[INNER_INPUT])
        return -ops.mean(log_marginal) - ops.mean(log_conditional)

    def _log_densities(self, white, frozen: bool = False):
        """Log densities (2N,) of whitened features, and of whitened residuals given the features of the other view.

        Args:
            white: (2N, 2d), features and then residuals; the rows of the first view first.
            frozen: whether no gradient reaches the densities.
        """
        marginal, conditional = self.marginal, self.conditional
        if frozen:
            marginal, conditional = _frozen(marginal), _frozen(conditional)
        features, residuals = white[:, : self.size], white[:, self.size :]
        return marginal(features), conditional(_other_view(features), residuals)

    def _standardised(self, z):
        """z (2N, d) with the mean 0 and the variance 1 of each coordinate over both views of the gathered batch."""
        every = self.gather(z)
        mean = ops.mean(every, axis=0)
        variance = ops.mean(ops.square(every - mean), axis=0)
        return (z - mean) / ops.sqrt(variance + 1e-6)

    def _cpc(self, x, y):
        """Loss and terms from the features of both views, each (N, d)."""
        positives = self.positives(ops.shape(x)[0])
        values = [
            bounds.infonce(critics.dot_scores(one[:, None], self.gather(other)), positives)
            for one, other in ((x, y), (y, x))
        ]
        value = (values[0] + values[1]) / 2.0
        return -value, {"global_mi": value}

    def _check_arguments(self) -> None:
        check_choice(self.form, "form", FORMS)
        check_choice(self.family, "family", densities.FAMILIES)
        check_real(self.beta, "beta", minimum=0, below=1)
        if self.beta and self.form == "cpc":
            raise UserError(f"`beta` weighs an entropy, and form='cpc' has none: leave it at 0. Received: {self.beta}")
        self.require_positive("resolution", "density_rate")
        check_real(self.scale_range, "scale_range", minimum=0)
        self.inner_steps = check_whole(self.inner_steps, "inner_steps", 1)
        self.require_vectors(["global"])


def _other_view(z):
    """The rows of the second view before those of the first."""
    rows = ops.shape(z)[0] // 2
    return ops.concatenate([z[rows:], z[:rows]])


def _frozen(layer):
    """A call of `layer` that passes gradients to what goes in, and none to its weights."""
    values = [ops.stop_gradient(ops.convert_to_tensor(v)) for v in layer.trainable_variables]
    return lambda *inputs: layer.stateless_call(values, [], *inputs)[0]
