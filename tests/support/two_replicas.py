"""Prints the errors of what cannot work with two replicas, and their noise; run by test_objectives.py."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from mizoo import data
from mizoo.encoders import conv32
from mizoo.errors import UserError
from mizoo.objectives import DeepInfoMax

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def build() -> DeepInfoMax:
    return DeepInfoMax(conv32(widths=(4, 4, 4), fc_size=8, global_size=4), critic_width=4)


def attempt(model: DeepInfoMax, accumulate: int | None = None, **settings) -> None:
    try:
        model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=accumulate), **settings)
        print("compiled")
    except UserError as error:
        print(error)


outside = build()
with strategy.scope():
    attempt(outside)
    attempt(build(), steps_per_execution=4)
    attempt(build(), accumulate=2)
    attempt(build())
    model = build()
    model.compile("sgd")
    pictures = np.zeros((15, 32, 32, 3), np.uint8)
    for arguments in ((data.batches(pictures, batch_size=15),), (pictures, None, 20), (pictures,), (pictures, None, 2)):
        try:
            model.fit(*arguments)
        except UserError as error:
            print(error)


@tf.function
def drawn():
    return strategy.run(lambda: model.draw_noise((2, 3)))


parts = [part.numpy() for _ in range(3) for part in strategy.experimental_local_results(drawn())]
print(len(parts), len({part.tobytes() for part in parts}))
