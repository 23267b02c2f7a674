"""One training step on TensorFlow: replicas, mixed precision, XLA."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from mizoo.errors import UserError


class TensorFlowStep:
    """Mixin of `Objective`: `train_step` with GradientTape, and what replicas need."""

    tracing_replicas = 0
    synchronised_before: Sequence[bool] = ()

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
        self._inner_loop(terms)
        return self.update_metrics(terms)

    def _inner_loop(self, terms: dict) -> None:
        optimizer, variables = self.inner_part()
        for _ in range(self.inner_steps - 1 if optimizer else 0):
            with tf.GradientTape() as tape:
                loss = self.inner_loss(terms) / _replicas()
            optimizer.apply(tape.gradient(loss, variables), variables)

    def gather(self, x):
        """All replicas' rows of `x`, in the order of the replicas, with gradients."""
        if _replicas() == 1:
            return x
        gathered = tf.distribute.get_replica_context().all_gather(x, axis=0)
        return tf.ensure_shape(gathered, (None, *x.shape[1:]))  # the collective forgets the shape

    def positives(self, rows):
        """The place of each of this replica's `rows` rows in the gathered batch, int32 (rows,)."""
        first = 0
        if _replicas() > 1:
            first = tf.distribute.get_replica_context().replica_id_in_sync_group * rows
        return tf.range(rows) + first

    def compile(self, *args, optimizer, steps_per_execution: int = 1, **kwargs) -> None:
        """As `keras.Model.compile`; refuses what fails late and darkly under a distribution strategy."""
        if _replicas() > 1:
            values = [variable.value for variable in self.trainable_variables]
            if not all(isinstance(value, tf.distribute.DistributedValues) for value in values):
                raise UserError("Create the encoder and the model, and compile it, inside `strategy.scope()`.")
            if steps_per_execution > 1:
                raise UserError("`steps_per_execution` above 1 does not work with several replicas: leave it at 1.")
            if any(part.gradient_accumulation_steps for part in _parts(optimizer)):
                raise UserError("`gradient_accumulation_steps` does not work with several replicas: raise the batch.")
        super().compile(*args, optimizer=optimizer, steps_per_execution=steps_per_execution, **kwargs)


def _parts(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """The optimisers inside a loss-scaling or a split one."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return getattr(optimizer, "optimizers", [optimizer])


def _replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync


@contextlib.contextmanager
def _synchronised_batch_norm(model: keras.Model) -> Iterator[None]:
    """Batch statistics over all replicas while the step is traced; the model itself keeps its configuration.

    The replicas are traced by threads that take turns, so the first to enter sets the layers and the last to leave
    puts them back.
    """
    if _replicas() == 1:
        yield
        return
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    if model.tracing_replicas == 0:
        model.synchronised_before = [norm.synchronized for norm in norms]
    model.tracing_replicas += 1
    for norm in norms:
        norm.synchronized = True
    try:
        yield
    finally:
        model.tracing_replicas -= 1
        if model.tracing_replicas == 0:
            for norm, value in zip(norms, model.synchronised_before):
                norm.synchronized = value
