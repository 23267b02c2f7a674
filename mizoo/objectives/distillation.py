"""Distillation: InfoNCE between the endpoints of an encoder and the vectors of a frozen teacher."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers, ops

from mizoo import bounds
from mizoo._tools.checks import check_names, check_size
from mizoo.objectives.base import Objective


@keras.saving.register_keras_serializable("mizoo")
class Distillation(Objective):
    """Information between the endpoints of an encoder and a frozen teacher (after Tian et al. 2020, section 3.2).

    Two encoders see a picture, as in co-training, and one of them is frozen: its vector of a picture, best its
    mean over several views (`mizoo.teachers.targets`), comes with the batch. Each endpoint of the encoder goes through
    a head of its own, and its output for one augmented view picks the vector of its picture among the N of the
    (gathered) batch, by their cosine over a temperature. The term of an endpoint is log N minus that cross-entropy, in
    nats: a lower bound of the information between the endpoint and the teacher's vector that never passes its ceiling
    log N. (The paper's critic tells pairs from a memory of others one by one and bounds the same information by that;
    InfoNCE over the batch takes its place here.)

    A teacher without labels leaves the encoder without labels.

    Args:
        encoder: pictures to a dict of endpoints.
        teacher_size: D, columns of the teacher's vectors.
        endpoints: those that learn from the teacher, or a single one; the loss is minus the mean of their terms.
        temperature: of the softmax.
        head_width: hidden units of each head: dense, batch normalisation, ReLU, dense.
        augment: augmentation applied in the step, such as `mizoo.augment.preset("views")`, or None.
        seed: seed of noise that a batch does not bring.

    Raises:
        UserError: for an endpoint that the encoder does not have, none at all or one named twice, or a size or a
            temperature that is not positive.

    Example:

    ```python
    pictures = mizoo.data.load("cifar10", "train").images
    targets = mizoo.teachers.targets([("simclr_cifar10", "fc")], pictures)
    model = mizoo.Distillation(
        mizoo.encoders.conv32(), targets.shape[1], augment=mizoo.augment.preset("views")
    )
    model.compile(keras.optimizers.Adam(1e-3))
    batches = mizoo.data.batches(pictures, batch_size=256, noise_size=model.noise_size, targets=targets)
    model.fit(batches, epochs=10)
    ```
    """

    targets_are = "the teacher's vectors"
    settings = ("teacher_size", "endpoints", "temperature", "head_width")

    def __init__(
        self,
        encoder: keras.Model,
        teacher_size: int,
        endpoints: Sequence[str] = ("conv", "fc", "global"),
        temperature: float = 0.1,
        head_width: int = 512,
        augment=None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(encoder, augment=augment, seed=seed, name=name)
        self.teacher_size = teacher_size
        self.endpoints = check_names(endpoints, "endpoints")
        self.temperature = temperature
        self.head_width = head_width
        self.require_endpoints(self.endpoints)
        self.require_positive("teacher_size", "temperature", "head_width")
        self.teacher_size = self.target_size = check_size(teacher_size, "teacher_size")
        self.head_width = check_size(head_width, "head_width")
        self.heads = {key: self._head(key) for key in self.endpoints}
        self.term_names = tuple(f"{key}_mi" for key in self.endpoints)
        self.track_terms()

    def _head(self, key: str) -> keras.Model:
        x = keras.Input(self.encoder.output[key].shape[1:], name=f"head_{key}_input")
        h = layers.Flatten(name=f"head_{key}_flatten")(x)
        h = layers.Dense(self.head_width, use_bias=False, name=f"head_{key}_hidden")(h)
        h = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"head_{key}_norm")(h)
        h = layers.ReLU(name=f"head_{key}_relu")(h)
        h = layers.Dense(self.teacher_size, dtype="float32", name=f"head_{key}_output")(h)
        return keras.Model(x, h, name=f"head_{key}")

    def ceilings(self, batch_size: int) -> dict[str, float]:
        """The largest value of each bound at a (gathered) batch of `batch_size` pictures, in nats."""
        return dict.fromkeys(self.term_names, bounds.infonce_ceiling(batch_size))

    def compute_terms(self, images, noise):
        """Loss and terms of one batch; see `Objective.compute_terms`. The columns left over are the teacher's."""
        teacher = ops.transpose(ops.normalize(self.gather(noise), axis=-1))
        positives = self.positives(ops.shape(images)[0])
        endpoints = self.encoder(images, training=True)
        terms = {}
        for key, head in self.heads.items():
            z = ops.normalize(ops.cast(head(endpoints[key], training=True), "float32"), axis=-1)
            scores = ops.matmul(z, teacher) / self.temperature
            terms[f"{key}_mi"] = bounds.infonce(scores[:, None], positives)
        return -sum(terms.values()) / len(terms), terms
