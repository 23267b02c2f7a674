"""One training step on TensorFlow: replicas, mixed precision, XLA."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from mizoo.errors import UserError


class TensorFlowStep:
    """Mixin of `Objective`: `train_step` with GradientTape, and what replicas need."""

    def train_step(self, data) -> dict:
        """One update from one batch (of one replica); returns the running means of the terms."""
        images, noise = self.unpack(data)
        with tf.GradientTape() as tape:
            with _synchronised_batch_norm(self):
                loss, terms = self.forward(images, noise)
            # Keras optimisers add up the gradients of the replicas; the loss here is a mean over one replica's rows.
            scaled = self.optimizer.scale_loss(loss / _replicas())
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables))
        return self.update_metrics(terms)

    def gather(self, x):
        """All replicas' rows of `x`, in the order of the replicas, with gradients."""
        if _replicas() == 1:
            return x
        return tf.distribute.get_replica_context().all_gather(x, axis=0)

    def positives(self, rows):
        """The place of each of this replica's `rows` rows in the gathered batch, int32 (rows,)."""
        first = 0
        if _replicas() > 1:
            first = tf.distribute.get_replica_context().replica_id_in_sync_group * rows
        return tf.range(rows) + first

    def check_compile(self, kwargs: dict) -> None:
        """Refuse what fails late and darkly under a distribution strategy."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if self.distribute_strategy.num_replicas_in_sync != replicas:
            raise UserError("Create the model and compile it inside the same `strategy.scope()`.")
        if replicas > 1 and kwargs.get("steps_per_execution", 1) > 1:
            raise UserError("`steps_per_execution` above 1 does not work with several replicas: leave it at 1.")


def _replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync


@contextlib.contextmanager
def _synchronised_batch_norm(model: keras.Model) -> Iterator[None]:
    """Batch statistics over all replicas while the step is traced; the model itself keeps its configuration."""
    norms = (
        []
        if _replicas() == 1
        else [m for m in model._flatten_layers() if isinstance(m, keras.layers.BatchNormalization)]
    )
    before = [norm.synchronized for norm in norms]
    for norm in norms:
        norm.synchronized = True
    try:
        yield
    finally:
        for norm, value in zip(norms, before):
            norm.synchronized = value
