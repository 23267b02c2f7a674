"""Training with the labels, the baseline of all that does without."""

from __future__ import annotations

import keras
from keras import layers, ops

from mizoo._tools.checks import check_size
from mizoo.errors import UserError
from mizoo.objectives.base import Objective


@keras.saving.register_keras_serializable("mizoo")
class Supervised(Objective):
    """The same encoder trained with the labels, by cross-entropy: what every objective here does without.

    A dense layer on `global` classifies. Terms: `cross_entropy`, in nats, and `accuracy`, the share of the pictures of
    a batch, augmented, whose class is right. The entropy of the labels less the cross-entropy is a lower bound of the
    information between features and labels.

    Args:
        encoder: pictures to a dict with the endpoint `global` (B, d).
        classes: how many there are. A batch brings the classes as `targets`, (N, classes), rows that add up to 1.
        augment: augmentation applied in the step, or None.
        seed: seed of noise that a batch does not bring.

    Raises:
        UserError: for an encoder without a vector `global`, fewer than two classes, or batches without targets.

    Example:

    ```python
    train = mizoo.data.load("cifar10", "train")
    model = mizoo.Supervised(mizoo.encoders.conv32(), classes=10)
    model.compile(keras.optimizers.Adam(1e-3))
    targets = np.eye(10, dtype="float32")[train.labels]
    batches = mizoo.data.batches(train.images, batch_size=128, noise_size=model.noise_size, targets=targets)
    model.fit(batches, epochs=10)
    ```
    """

    term_names = ("cross_entropy", "accuracy")
    targets_are = "the classes"
    settings = ("classes",)
    fewest_rows = 1

    def __init__(
        self, encoder: keras.Model, classes: int, augment=None, seed: int = 0, name: str | None = None
    ) -> None:
        super().__init__(encoder, augment=augment, seed=seed, name=name)
        self.classes = self.target_size = classes = check_size(classes, "classes")
        if classes < 2:
            raise UserError(f"`classes` is 2 or more. Received: classes={classes!r}")
        self.require_vectors(["global"])
        x = keras.Input(encoder.output["global"].shape[1:], name="classes_input")
        self.head = keras.Model(x, layers.Dense(classes, dtype="float32", name="classes_logits")(x), name="classes")
        self.track_terms()

    def compute_terms(self, images, noise):
        """Loss and terms of one batch; see `Objective.compute_terms`. The columns of noise are the targets."""
        logits = self.head(self.encoder(images, training=True)["global"])
        own = ops.sum(logits * noise, axis=-1)
        loss = ops.mean(ops.logsumexp(logits, axis=-1) - own)
        right = ops.argmax(logits, axis=-1) == ops.argmax(noise, axis=-1)
        return loss, {"cross_entropy": loss, "accuracy": ops.mean(ops.cast(right, "float32"))}
