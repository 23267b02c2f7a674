"""What an augmentation costs: the median time of a training step with it, and of the augmentation alone.

    python benchmarks/augment_cost.py

Steps of each entry's recipe on random pictures, the first ones left out; the augmentation is compiled alone and called
on the same batch, in turns with the steps. Writes benchmarks/augment_cost.json. A few minutes on 2 cores.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import keras
import numpy as np

from mizoo import augment, data, files, recipes
from mizoo.machine import hardware

HERE = Path(__file__).parent
ENTRIES = ("dim_local_cifar10", "dim_views_cifar10", "simclr_cifar10")
ROUNDS, STEPS = 4, 10


class _StepTimes(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.seconds = []

    def on_train_batch_begin(self, batch: int, logs=None) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        self.seconds.append(time.perf_counter() - self.began)


def _compiled(function):
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function)


def measure(entry: str) -> dict:
    """Median seconds of a step and of its augmentation, for one entry's recipe."""
    recipe = recipes.load(HERE.parent / "models" / entry / "recipe.yaml")
    size = recipe.training.batch_size
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (size * STEPS, 32, 32, 3), dtype="uint8")
    preset = augment.preset(recipe.data.augment)
    keras.config.set_dtype_policy(recipe.training.precision)
    model = recipe.objective.build(recipe.encoder.build(), preset, 0)
    model.compile(recipe.optimizer.build(STEPS, recipe.training.epochs))
    keras.config.set_dtype_policy("float32")
    batches = data.batches(images, batch_size=size, noise_size=model.noise_size)
    noise = rng.random((size, preset.noise_size), dtype="float32")
    alone = _compiled(lambda x, u: preset(x, u))
    times, views = {"step": [], "augment": []}, recipe.objective.views
    for turn in range(ROUNDS + 1):
        steps = _StepTimes()
        model.fit(batches, epochs=1, verbose=0, callbacks=[steps])
        seconds = []
        for _ in range(STEPS):
            began = time.perf_counter()
            for _ in range(views):
                keras.ops.convert_to_numpy(alone(images[:size], noise))
            seconds.append(time.perf_counter() - began)
        if turn:  # the first turn compiles
            times["step"] += steps.seconds
            times["augment"] += seconds
    step, augmentation = (statistics.median(times[key]) for key in ("step", "augment"))
    return {
        "entry": entry,
        "augment": recipe.data.augment,
        "views": views,
        "batch_size": size,
        "step_ms": round(1e3 * step, 1),
        "augment_ms": round(1e3 * augmentation, 1),
        "share": round(augmentation / step, 4),
    }


def main() -> None:
    """Measure every entry and write the result."""
    rows = []
    for entry in ENTRIES:
        rows.append(measure(entry))
        print(rows[-1], flush=True)
    files.write_json(
        HERE / "augment_cost.json", {"hardware": hardware(), "backend": keras.backend.backend(), "rows": rows}
    )


if __name__ == "__main__":
    main()
