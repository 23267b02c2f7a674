"""One training step on TensorFlow: replicas, mixed precision, XLA."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf
from keras.layers import BatchNormalization

from mizoo._tools import keras_private
from mizoo.errors import UserError
from mizoo.objectives import _tf_data
from mizoo.objectives._cpu import cpu_kernels, cpu_update


class TensorFlowStep:
    """Mixin of `Objective`: `train_step` with GradientTape, and what replicas need."""

    tracing_replicas = 0
    synchronised_before: Sequence[bool] = ()

    def train_step(self, data) -> dict:
        """One update from one batch (of one replica); returns the running means of the terms."""
        images, noise = self.unpack(data)
        with tf.GradientTape() as tape:
            with _layer_context(self):
                loss, terms = self.forward(images, noise)
            # Keras optimisers add up the gradients of the replicas; the loss here is a mean over one replica's rows.
            share = _share(images)
            scaled = self.optimizer.scale_loss(loss * share)
        variables = self.trainable_variables
        with _update_context(self.optimizer):
            self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables))
        self._inner_loop(terms, share)
        return self.update_metrics(terms, tf.shape(images)[0])

    def _inner_loop(self, terms: dict, share) -> None:
        optimizer, variables = self.inner_optimizer()
        for _ in range(self.inner_steps - 1 if optimizer else 0):
            with tf.GradientTape() as tape:
                loss = self.inner_loss(terms) * share
            with _update_context(optimizer):
                optimizer.apply(tape.gradient(loss, variables), variables)

    def require(self, condition, message: str) -> None:
        """Stop `fit` with a `UserError` where a batch does not meet a condition that its shape did not tell before."""
        tf.debugging.Assert(condition, [_tf_data.refusal(message)])

    def gather(self, x):
        """All replicas' rows of `x`, in the order of the replicas, with gradients."""
        if _replicas() == 1:
            return x
        gathered = tf.distribute.get_replica_context().all_gather(x, axis=0)
        return tf.ensure_shape(gathered, (None, *x.shape[1:]))  # the collective loses the shape

    def positives(self, rows):
        """The position of each of this replica's `rows` rows in the gathered batch, int32 (rows,)."""
        if _replicas() == 1:
            return tf.range(rows)
        before = _rows_of_all(rows)[: tf.distribute.get_replica_context().replica_id_in_sync_group]
        return tf.range(rows) + tf.cast(tf.reduce_sum(before), "int32")

    @property
    def replicas(self) -> int:
        """How many devices share a batch."""
        return self.distribute_strategy.num_replicas_in_sync

    def draw_noise(self, shape):
        """Uniform noise in [0, 1) from the model's own generator, other noise on every replica."""
        if _replicas() == 1:
            return keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        # The second number counts the steps: the replica goes to the first, or it would see the noise of a later step.
        seed = tf.cast(self.seed_generator.next(), "int32") + tf.stack([replica, 0])
        return tf.random.stateless_uniform(shape, seed)

    def compile(self, *args, optimizer, steps_per_execution: int = 1, **kwargs) -> None:
        """As `keras.Model.compile`; refuses what fails later and obscurely under a distribution strategy."""
        if _replicas() > 1:
            values = [variable.value for variable in self.trainable_variables]
            if not all(isinstance(value, tf.distribute.DistributedValues) for value in values):
                raise UserError("Create the encoder and the model, and compile it, inside `strategy.scope()`.")
            if steps_per_execution > 1:
                raise UserError("`steps_per_execution` above 1 does not work with several replicas: leave it at 1.")
            if any(each.gradient_accumulation_steps for each in _inner_optimizers(optimizer)):
                raise UserError("`gradient_accumulation_steps` does not work with several replicas: raise the batch.")
        super().compile(*args, optimizer=optimizer, steps_per_execution=steps_per_execution, **kwargs)


def _inner_optimizers(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """The optimisers inside a loss-scaling or a split one."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return getattr(optimizer, "optimizers", [optimizer])


def _replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync


def _rows_of_all(rows):
    """How many rows each replica holds, float32 (replicas,); the last has fewer where a batch does not divide."""
    local = tf.reshape(tf.cast(rows, "float32"), (1,))
    return tf.ensure_shape(tf.distribute.get_replica_context().all_gather(local, axis=0), (_replicas(),))


def _share(images):
    """This replica's share of the pictures of the whole batch."""
    if _replicas() == 1:
        return 1.0
    rows = tf.shape(images)[0]
    return tf.cast(rows, "float32") / tf.reduce_sum(_rows_of_all(rows))


def _layer_context(model: keras.Model) -> contextlib.AbstractContextManager:
    """How layers are traced in the step; they keep their configuration."""
    layers = keras_private.all_layers(model)
    if _replicas() > 1:
        return _synchronised_batch_norm(model, [each for each in layers if isinstance(each, BatchNormalization)])
    return contextlib.nullcontext() if tf.config.list_logical_devices("GPU") else cpu_kernels(layers)


def _update_context(optimizer: keras.optimizers.Optimizer) -> contextlib.AbstractContextManager:
    """How optimisers are traced in the step."""
    if tf.distribute.has_strategy() or tf.config.list_logical_devices("GPU"):
        return contextlib.nullcontext()
    return cpu_update(_inner_optimizers(optimizer))


@contextlib.contextmanager
def _synchronised_batch_norm(model: keras.Model, norms: Sequence[BatchNormalization]) -> Iterator[None]:
    """Batch statistics over all replicas while the step is traced.

    The replicas are traced by threads that take turns, so the first to enter sets the layers and the last to leave
    restores them.
    """
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
