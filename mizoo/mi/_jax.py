"""Many training steps as one compiled call, on JAX."""

from __future__ import annotations

import jax
import keras


def compile_steps(model, optimizer):
    """A function of batches x (S, B, d_x) and y (S, B, d_y): trains S steps and returns the terms' values (S,)."""

    def step(state, batch):
        """One update: (state, batch) to (new state, value)."""
        trainable, other, slots = state

        def loss_of(trainable):
            """The loss, and with it the value and the other variables."""
            mapping = list(zip(model.trainable_variables, trainable)) + list(zip(model.non_trainable_variables, other))
            with keras.StatelessScope(state_mapping=mapping) as scope:
                loss, value = model.terms(*batch)
            updated = [scope.get_current_value(v) for v in model.non_trainable_variables]
            return loss, (value, [old if new is None else new for new, old in zip(updated, other)])

        gradients, (value, other) = jax.grad(loss_of, has_aux=True)(trainable)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return (trainable, other, slots), value

    @jax.jit
    def scan(state, xs, ys):
        """All updates, one after the other."""
        return jax.lax.scan(step, state, (xs, ys))

    def run(xs, ys):
        """Train on the batches and write the new values into the variables."""
        groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
        state, values = scan(tuple([v.value for v in group] for group in groups), xs, ys)
        for group, new in zip(groups, state):
            for variable, value in zip(group, new):
                variable.assign(value)
        return values

    return run
