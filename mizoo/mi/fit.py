"""Fit a model on training rows, evaluate it on validation rows, and keep the best weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from mizoo._tools.keras_backend import training_backend
from mizoo.mi.scoring import blocks

if training_backend("A critic is fitted", otherwise=", or use bound='ksg'") == "tensorflow":
    from mizoo.mi import _tensorflow as backend
else:
    from mizoo.mi import _jax as backend


@dataclass(frozen=True)
class FitSchedule:
    """How a critic is fitted.

    Attributes:
        batch_size: rows in a step.
        learning_rate: of Adam.
        max_steps: steps at most.
        check_every: steps between two evaluations of the validation rows.
        patience: evaluations without a better value before fitting ends.
    """

    batch_size: int = 256
    learning_rate: float = 2e-3
    max_steps: int = 4000
    check_every: int = 50
    patience: int = 5


class Fitter:
    """A model with its optimiser, compiled once and fitted to one split of the rows after another.

    Args:
        model: has `terms`, `criterion` and `scores` (`mizoo.mi.models`).
        schedule: how to fit.
        batch_size: rows in a step: those of the schedule, or fewer where there are not so many.
    """

    def __init__(self, model, schedule: FitSchedule, batch_size: int) -> None:
        self.model, self.schedule, self.batch_size = model, schedule, batch_size
        self.optimizer = keras.optimizers.Adam(schedule.learning_rate)
        self.optimizer.build(model.trainable_variables)
        self._start = [keras.ops.convert_to_numpy(v) for v in self._state()]
        self._run = backend.compile_steps(model, self.optimizer)

    def _validate(self, validation) -> tuple[float, float]:
        """Criterion and value in nats of the validation rows."""
        # Not compiled: it is called rarely, and each compilation costs as much as many calls.
        weighted = []
        for rows in blocks(len(validation[0])):
            both = self.model.criterion(*(keras.ops.convert_to_tensor(v[rows]) for v in validation))
            weighted.append([float(each) * (rows.stop - rows.start) for each in both])
        criterion, value = np.sum(weighted, axis=0) / len(validation[0])
        return float(criterion), float(value)

    def _state(self) -> list:
        return [*self.model.variables, *self.optimizer.variables]

    def restart(self) -> None:
        """Back to the initial weights."""
        for variable, value in zip(self._state(), self._start):
            variable.assign(value)

    def start_from(self, model) -> None:
        """Take the weights of a model of the same shape as the initial ones, and go back to them."""
        weights = [keras.ops.convert_to_numpy(v) for v in model.variables]
        self._start = weights + self._start[len(weights) :]
        self.restart()

    def weights(self) -> list[np.ndarray]:
        """A copy of what is trained."""
        return _copy(self.model.trainable_variables)

    def take(self, weights: list[np.ndarray]) -> None:
        """Put a copy of `weights` back."""
        for variable, value in zip(self.model.trainable_variables, weights):
            variable.assign(value)

    def fit(
        self,
        train: tuple[np.ndarray, np.ndarray],
        validation: tuple[np.ndarray, np.ndarray],
        rng: np.random.Generator,
        advance: Callable[[int], None],
    ) -> list[tuple[int, float | None, float]]:
        """Fit to `train` until the validation rows gain nothing more; the model keeps its best weights.

        Args:
            train, validation: pairs x (N, d_x), y (N, d_y), float32.
            rng: order of the rows.
            advance: called with the number of steps done.

        Returns:
            The curve: (step, value on training batches, value on validation rows), in nats; None before any batch.
        """
        schedule, weights = self.schedule, self.model.trainable_variables
        loss, value = self._validate(validation)
        best, best_weights, waited = loss, _copy(weights), 0
        curve: list[tuple[int, float | None, float]] = [(0, None, value)]
        order = _batches(len(train[0]), self.batch_size, rng)
        step = 0
        while step < schedule.max_steps:
            steps = min(schedule.check_every, schedule.max_steps - step)
            rows = np.stack([next(order) for _ in range(steps)])
            values = keras.ops.convert_to_numpy(self._run(train[0][rows], train[1][rows]))
            loss, value = self._validate(validation)
            step += steps
            curve.append((step, float(values.mean()), value))
            advance(steps)
            if loss < best:
                best, best_weights, waited = loss, _copy(weights), 0
            else:
                waited += 1
            if waited >= schedule.patience or not np.isfinite(loss):
                break
        self.take(best_weights)
        return curve


def _copy(variables) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(v)) for v in variables]


def _batches(rows: int, size: int, rng: np.random.Generator):
    """Row numbers (size,), without end; every row once before any comes again."""
    left = rng.permutation(rows)
    while True:
        if len(left) < size:
            left = rng.permutation(rows)
        yield left[:size]
        left = left[size:]
