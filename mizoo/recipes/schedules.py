"""Learning rates: the schedules that recipes name, and the one of them that Keras does not have."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("mizoo")
class Trapezoid(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, a constant rate, and a linear decay to zero at the end (Zhai et al. 2021, section 3.5).

    While the rate is constant nothing in a run depends on how long it will be, so its end can still be chosen.

    Args:
        learning_rate: the constant rate.
        steps: length of the run.
        warmup_steps: steps of the rise from zero.
        decay_steps: steps of the fall to zero, the last of the run.
    """

    def __init__(self, learning_rate: float, steps: int, warmup_steps: int = 0, decay_steps: int = 0) -> None:
        self.learning_rate = learning_rate
        self.steps = steps
        self.warmup_steps = warmup_steps
        self.decay_steps = decay_steps

    def __call__(self, step):
        """The rate of update number `step`, counted from 0."""
        step = ops.cast(step, "float32")
        rise = step / self.warmup_steps if self.warmup_steps else 1.0
        fall = (self.steps - step) / self.decay_steps if self.decay_steps else 1.0
        return self.learning_rate * ops.clip(ops.minimum(rise, fall), 0.0, 1.0)

    def get_config(self) -> dict:
        """The arguments of the constructor."""
        names = ("learning_rate", "steps", "warmup_steps", "decay_steps")
        return {name: getattr(self, name) for name in names}


def scheduled(kind: str, rate: float, steps: int, warmup_steps: int = 0, decay_steps: int = 0):
    """A learning rate as an optimiser of Keras takes it: a schedule, or the rate itself where it never changes.

    Args:
        kind: "constant", "cosine" (to zero over the whole run) or "trapezoid" (to zero over its last `decay_steps`).
        rate: the highest rate.
        steps: length of the run.
        warmup_steps: steps of a linear rise from zero.
        decay_steps: of "trapezoid" alone.
    """
    schedules = keras.optimizers.schedules
    if kind == "trapezoid":
        return Trapezoid(rate, steps, warmup_steps, decay_steps)
    if kind == "cosine":
        falling = max(steps - warmup_steps, 1)
        if not warmup_steps:
            return schedules.CosineDecay(rate, falling)
        return schedules.CosineDecay(0.0, falling, warmup_target=rate, warmup_steps=warmup_steps)
    return schedules.PolynomialDecay(0.0, warmup_steps, end_learning_rate=rate) if warmup_steps else rate
