"""One training step on JAX, and a whole epoch as one compiled scan over it."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import keras
import numpy as np

from mizoo.data.batching import epoch_order, step_noise
from mizoo.errors import UserError
from mizoo.objectives import inputs


class JaxStep:
    """Mixin of `Objective`: a stateless `train_step` over the same terms."""

    replicas = 1
    _scan = None

    def compile(self, *args, **kwargs) -> None:
        """As `keras.Model.compile`; the compiled epoch, which holds the optimiser, is traced again."""
        self._scan = None
        super().compile(*args, **kwargs)

    def train_step(self, state, data):
        """One update: (state, batch) to (running means of the terms, new state).

        The state is what Keras keeps on JAX: trainable, non-trainable, optimiser and metric variables.
        """
        trainable, other, optimizer, metrics = state

        def loss_of(trainable):
            """The scaled loss, and with it the terms and the other variables."""
            mapping = list(zip(self.trainable_variables, trainable)) + list(zip(self.non_trainable_variables, other))
            with keras.StatelessScope(state_mapping=mapping) as scope:
                images, noise = self.unpack(data)
                loss, terms = self.forward(images, noise)
            updated = [_current(scope, v, old) for v, old in zip(self.non_trainable_variables, other)]
            with keras.StatelessScope(state_mapping=list(zip(self.optimizer.variables, optimizer))):
                scaled = self.optimizer.scale_loss(loss)
            return scaled, (terms, updated, jnp.float32(noise.shape[0]))

        gradients, (terms, other, rows) = jax.grad(loss_of, has_aux=True)(trainable)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        trainable, optimizer = self._inner_loop(terms, trainable, optimizer)
        with keras.StatelessScope(state_mapping=list(zip(self.metrics_variables, metrics))) as scope:
            logs = self.update_metrics(terms, rows)
        metrics = [_current(scope, v, old) for v, old in zip(self.metrics_variables, metrics)]
        return logs, (trainable, other, optimizer, metrics)

    def _inner_loop(self, terms: dict, trainable: list, state: list) -> tuple[list, list]:
        """The further steps of the second optimiser: new values of the trainable and of the optimiser's variables."""
        optimizer, variables = self.inner_optimizer()
        if optimizer is None:
            return trainable, state
        indices = _indices(variables, self.trainable_variables)
        slots = _indices(optimizer.variables, self.optimizer.variables)
        values, inner = [trainable[i] for i in indices], [state[i] for i in slots]

        def loss_of(values):
            """The inner loss under these values of its variables."""
            with keras.StatelessScope(state_mapping=list(zip(variables, values))):
                return self.inner_loss(terms)

        for _ in range(self.inner_steps - 1):
            values, inner = optimizer.stateless_apply(inner, jax.grad(loss_of)(values), values)
        return _replaced(trainable, indices, values), _replaced(state, slots, inner)

    def gather(self, x):
        """The rows of the whole batch: JAX trains on one device here."""
        return x

    def positives(self, rows):
        """The column of each row, int32 (rows,)."""
        return jnp.arange(rows, dtype="int32")

    def draw_noise(self, shape):
        """Uniform noise in [0, 1) from the model's own generator."""
        return keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)

    def scan_epoch(self, images, batch_size: int, seed: int, epoch: int, targets=None) -> dict[str, float]:
        """Train one epoch as one compiled scan, with the data set on the device.

        The same pictures in the same order with the same noise as `mizoo.data.batches` gives `fit`.

        Args:
            images: uint8 (N, H, W, C), best put on the device once with `jax.device_put`.
            batch_size, seed: as in `mizoo.data.batches`.
            epoch: the epoch's number.
            targets: (N, D), put there likewise, as in `mizoo.data.batches`; or None.

        Returns:
            The means of the terms over the epoch.

        Raises:
            UserError: before `compile`, for a batch of one, or one larger than the data.
        """
        if not self.compiled:
            raise UserError("An epoch takes an optimizer: call `compile` before `scan_epoch`.")
        inputs.check_batch_size(self, batch_size)
        if len(images) < batch_size:
            raise UserError(f"One batch takes {batch_size} inputs and there are {len(images)}: lower `batch_size`.")
        steps = len(images) // batch_size
        order = epoch_order(seed, epoch, len(images))[: steps * batch_size].reshape(steps, batch_size)
        noise = np.stack([step_noise(seed, epoch, i, (batch_size, self.noise_size)) for i in range(steps)])
        if self._scan is None:
            self._scan = jax.jit(functools.partial(_scan, self.train_step), donate_argnums=0)
        self.reset_metrics()
        groups = (
            self.trainable_variables,
            self.non_trainable_variables,
            self.optimizer.variables,
            self.metrics_variables,
        )
        state = tuple([v.value for v in group] for group in groups)
        # A donated buffer may back one variable only.
        state = jax.tree.map(lambda v: jnp.array(v, copy=True), state)
        arrays = {"images": images} if targets is None else {"images": images, "targets": targets}
        state = self._scan(state, arrays, jnp.asarray(order), jnp.asarray(noise))
        for group, values in zip(groups, state):
            for variable, value in zip(group, values):
                variable.assign(value)
        return {name: float(metric.result()) for name, metric in self.term_metrics.items()}


def _scan(train_step, state, arrays, order, noise):
    def step(state, batch):
        """One update: (state, batch) to (new state, nothing)."""
        rows, uniform = batch
        _, state = train_step(state, {key: values[rows] for key, values in arrays.items()} | {"noise": uniform})
        return state, None

    return jax.lax.scan(step, state, (order, noise))[0]


def _indices(some: list, every: list) -> list[int]:
    """The indices of the variables `some` among `every`."""
    order = {id(variable): i for i, variable in enumerate(every)}
    return [order[id(variable)] for variable in some]


def _replaced(values: list, indices: list[int], new: list) -> list:
    values = list(values)
    for index, value in zip(indices, new):
        values[index] = value
    return values


def _current(scope, variable, old):
    value = scope.get_current_value(variable)
    return old if value is None else value
