"""SimCLR: InfoNCE between the projections of views."""

from __future__ import annotations

import keras
from keras import layers, ops

from mizoo import bounds
from mizoo._tools.checks import check_size
from mizoo.objectives.base import Objective


@keras.saving.register_keras_serializable("mizoo")
class SimCLR(Objective):
    """SimCLR (Chen et al. 2020): the NT-Xent loss, stated as the InfoNCE value that it is.

    Each of the 2N views of a batch picks the other view of its picture among the 2N - 1 other views, by the cosine of
    the projections over a temperature. `global_mi` is log(2N - 1) minus that cross-entropy, in nats: a lower bound of
    the information between the projections of two views that never passes its ceiling log(2N - 1), as far as the two
    views of another picture count as independent draws (thousandths of a nat at N = 256). NT-Xent (eq. 1) is the
    difference from the ceiling.

    With V `views` it is the mean of that over all ordered pairs of views of a picture, each against the V (N - 1) views
    of the other pictures (`mizoo.bounds.infonce_views`): more pairs of each picture for the cost of its views.

    Args:
        encoder: pictures or sounds to a dict with the endpoint `global` (B, d): the projection. The encoder's own head
            is the projection head; what comes before it (`fc`) is the representation that probes read.
        temperature: of the softmax (the paper: 0.5 on CIFAR-10).
        views: V, how many views of each picture are compared.
        projection: for an encoder whose `global` is a representation already, as that of `mizoo.encoders.waveform`:
            the size of a projection of it that the objective trains and leaves behind (dense of the size of `global`,
            batch normalisation, ReLU, dense). None: `global` itself is compared.
        augment: makes the views, such as `mizoo.augment.preset("simclr")`.
        seed: seed of noise that a batch does not bring.

    Raises:
        UserError: for a temperature or a projection that is not positive, fewer than two views, or an encoder without
            a vector `global`.

    Example:

    ```python
    model = mizoo.SimCLR(mizoo.encoders.resnet18(width=0.25), augment=mizoo.augment.preset("simclr"))
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(mizoo.data.batches("cifar10", "train", batch_size=256), epochs=10)
    ```
    """

    term_names = ("global_mi",)
    settings = ("temperature", "views", "projection")
    fewest_views = 2

    def __init__(
        self,
        encoder: keras.Model,
        temperature: float = 0.5,
        views: int = 2,
        projection: int | None = None,
        augment=None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(encoder, augment=augment, views=views, seed=seed, name=name)
        self.temperature = temperature
        self.require_positive("temperature")
        self.require_vectors(["global"])
        self.projection = projection if projection is None else check_size(projection, "projection")
        self.head = None if projection is None else _head(encoder.output["global"].shape[-1], self.projection)
        self.track_terms()

    def ceilings(self, batch_size: int) -> dict[str, float]:
        """The largest value of the bound at a (gathered) batch of `batch_size` pictures, in nats."""
        return {"global_mi": bounds.infonce_ceiling(1 + self.views * (batch_size - 1))}

    def compute_terms(self, images, noise):
        """Loss and terms of one batch; see `Objective.compute_terms`."""
        z = self.encoder(images, training=True)["global"]
        z = z if self.head is None else self.head(z, training=True)
        z = ops.normalize(ops.cast(z, "float32"), axis=-1)
        rows = ops.shape(z)[0]
        columns = self.positives(rows)  # replica by replica, each with its first views, then its second, and so on
        siblings = ops.stack([ops.roll(columns, i * (rows // self.views)) for i in range(self.views)], axis=1)
        scores = ops.matmul(z, ops.transpose(self.gather(z))) / self.temperature
        value = bounds.infonce_views(scores, siblings)
        return -value, {"global_mi": value}


def _head(size: int, projection: int) -> keras.Model:
    """The projection head of the objective (Chen et al. 2020, section 4.2)."""
    x = keras.Input((size,), name="projection_input")
    h = layers.Dense(size, use_bias=False, name="projection_hidden")(x)
    h = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="projection_norm")(h)
    h = layers.ReLU(name="projection_relu")(h)
    return keras.Model(x, layers.Dense(projection, name="projection_output")(h), name="projection")
