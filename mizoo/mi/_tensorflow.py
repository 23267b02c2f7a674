"""Many training steps as one compiled call, on TensorFlow."""

from __future__ import annotations

import tensorflow as tf


def compile_steps(model, optimizer):
    """A function of batches x (S, B, d_x) and y (S, B, d_y): trains S steps and returns the terms' values (S,)."""
    variables = model.trainable_variables

    @tf.function(jit_compile=True)
    def run(xs, ys):
        """Train on the batches, one update each."""
        values = tf.TensorArray(tf.float32, size=xs.shape[0])
        for i in tf.range(xs.shape[0]):
            with tf.GradientTape() as tape:
                loss, value = model.terms(xs[i], ys[i])
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
            values = values.write(i, value)
        return values.stack()

    return run
