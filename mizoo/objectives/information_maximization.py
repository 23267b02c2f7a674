"""Information maximisation: the Gaussian mutual information between views, by log-determinants."""

from __future__ import annotations

import math

import keras
from keras import ops

from mizoo.objectives.base import COUNTS, Objective


@keras.saving.register_keras_serializable("mizoo")
class InformationMaximization(Objective):
    """Mutual information of Gaussian views, H(z) - H(z | z'), in closed form (Ozsoy et al. 2022, CorInfoMax).

    What deep co-training (McAllester 2018) maximises with fitted densities is taken here under the Gaussian of the
    batch's own moments: nothing is fitted, and nothing picks among candidates, so that no logarithm of the batch is its
    ceiling. The features z are `global` of V views of each picture, brought to the length sqrt(d) and read with
    Gaussian noise of the standard deviation `resolution` in each coordinate, without which a singular covariance would
    have no entropy. With their covariance S, noise included, and the covariance B of two views of one picture, both
    over the (gathered) batch,

        H(z) = 1/2 log det S,  H(z | z') = 1/2 log det(S + B) + 1/2 log det(S - B) - 1/2 log det S,

    up to the same constant. Terms, in nats: `feature_entropy` and `conditional_entropy`, counted from the entropy of
    the noise, and their difference `global_mi`, which is maximised. The moments are those of a batch, so the value is
    above that of the population, where the N pictures are many times d by at most about d^2 / (4 N) nats, which is for
    two views that share nothing and less with more views, and it is the information of the Gaussian with these moments:
    neither a lower nor an upper bound. With fewer pictures than coordinates it would be higher for views that disagree:
    such a batch is refused, and a last one has no gradient and counts in no logged mean.

    Args:
        encoder: pictures to a dict with the endpoint `global` (B, d).
        resolution: standard deviation of the noise; coordinates have about 1.
        views: V, views of each picture.
        augment: makes the views, such as `mizoo.augment.preset("views")`.
        seed: seed of noise that a batch does not bring.

    Raises:
        UserError: for a resolution that is not positive, fewer than two views, or an encoder without a vector
            `global`; in training, for batches of fewer pictures than `global` has coordinates.

    Example:

    ```python
    model = mizoo.InformationMaximization(mizoo.encoders.conv32(), augment=mizoo.augment.preset("views"))
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(mizoo.data.batches("cifar10", "train", batch_size=256), epochs=10)
    ```
    """

    term_names = ("feature_entropy", "conditional_entropy", "global_mi")
    settings = ("resolution", "views")
    fewest_views = 2
    fewest_because = (
        "the covariances are those of the batch, and with fewer pictures than `global` has coordinates views that "
        "disagree would be worth more; several times as many are better"
    )

    def __init__(
        self,
        encoder: keras.Model,
        resolution: float = 0.3,
        views: int = 2,
        augment=None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(encoder, augment=augment, views=views, seed=seed, name=name)
        self.resolution = resolution
        self.require_positive("resolution")
        self.require_vectors(["global"])
        self.size = self.fewest_rows = encoder.output["global"].shape[-1]
        self.track_terms()

    def ceilings(self, batch_size: int) -> dict[str, float]:
        """The largest information at this resolution, in nats: that of views that agree, spread over all directions."""
        noise = self.resolution**2
        return {"global_mi": 0.5 * self.size * math.log((1 + noise) ** 2 / (noise * (2 + noise)))}

    def compute_terms(self, images, noise):
        """Loss and terms of one batch; see `Objective.compute_terms`."""
        z = ops.cast(self.encoder(images, training=True)["global"], "float32")
        z = ops.normalize(z, axis=-1) * math.sqrt(self.size)
        views = ops.stack([self.gather(view) for view in ops.split(z, self.views)])  # (V, N, d)
        terms = gaussian_information(views, self.resolution**2)
        enough = ops.cast(ops.convert_to_tensor(ops.shape(views)[1] >= self.fewest_rows), "float32")
        return -enough * terms["global_mi"], terms | {COUNTS: enough}


def gaussian_information(views, noise: float) -> dict:
    """Entropy, conditional entropy and mutual information of two of several views with Gaussian noise, in nats.

    Args:
        views: (V, N, d), V views of each of N pictures; every pair of views counts, either way.
        noise: variance of the noise that is added to each coordinate of each view; entropies are counted from its own.

    Returns:
        Scalars `feature_entropy`, `conditional_entropy` and `global_mi`.
    """
    count, rows, size = views.shape[0], ops.cast(ops.shape(views)[1], "float32"), views.shape[2]
    views = views - ops.mean(views, axis=(0, 1))
    flat = ops.reshape(views, (-1, size))
    total = ops.matmul(ops.transpose(flat), flat) / (count * rows)
    sums = ops.sum(views, axis=0)
    # The sum over all pairs of views is that of the sums less that of each view with itself.
    pairs = (ops.matmul(ops.transpose(sums), sums) / rows - count * total) / (count * (count - 1))
    total = total + noise * ops.eye(size)
    floor = 0.5 * size * math.log(noise)
    entropy = 0.5 * _log_det(total)
    joint = 0.5 * (_log_det(total + pairs) + _log_det(total - pairs))
    return {
        "feature_entropy": entropy - floor,
        "conditional_entropy": joint - entropy - floor,
        "global_mi": 2.0 * entropy - joint,
    }


def _log_det(matrix):
    """Of a positive definite matrix."""
    return 2.0 * ops.sum(ops.log(ops.diagonal(ops.cholesky(matrix))))
