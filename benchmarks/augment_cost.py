"""What a training step costs: its median CPU time, with Keras's own kernels too, and that of its augmentation.

    taskset -c 0 python benchmarks/augment_cost.py

Steps of each recipe on random pictures, the first ones left out, without XLA; the augmentation is compiled alone and
called on the same batch, in turns with the steps. On TensorFlow the same steps are taken with what Keras makes of the
layers and of Adam, instead of the kernels of mizoo/objectives/_cpu.py. Give it one core: times are CPU seconds. Writes
benchmarks/augment_cost.json. About ten minutes.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import keras
import numpy as np

from mizoo import augment, data, recipes
from mizoo._tools import files
from mizoo._tools.hardware import hardware
from mizoo.pretrain.inputs import view_encoder

HERE = Path(__file__).parent
CASES = (  # entries, and what is changed in their recipes
    ("dim_local_cifar10", {}),
    ("dim_views_cifar10", {}),
    ("simclr_cifar10", {}),
    ("paper_cifar10/dim_local_infonce", {}),
    ("paper_cifar10/supervised", {}),
)
ROUNDS, STEPS = 3, 10


class _StepTimes(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.seconds = []

    def on_train_batch_begin(self, batch: int, logs=None) -> None:
        self.began = time.process_time()

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        self.seconds.append(time.process_time() - self.began)


def _compiled(function):
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function)


@contextlib.contextmanager
def _kernels_of_keras() -> Iterator[None]:
    """Steps traced within are what Keras makes of them."""
    from mizoo.objectives import _tensorflow

    nothing = {name: lambda _: contextlib.nullcontext() for name in ("cpu_kernels", "cpu_update")}
    with mock.patch.multiple(_tensorflow, **nothing):
        yield


def measure(entry: str, changes: dict) -> dict:
    """Median CPU seconds of a step and of its augmentation, for one recipe."""
    recipe = recipes.load(entry, changes)
    size = recipe.training.batch_size
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (size * STEPS, 32, 32, 3), dtype="uint8")
    preset = augment.preset(recipe.data.augment, recipe.data.view_side)
    noise = rng.random((size, preset.noise_size), dtype="float32")
    alone = _compiled(lambda x, u: preset(x, u))
    contexts = {"step": contextlib.nullcontext}
    if keras.backend.backend() == "tensorflow":
        contexts["keras"] = _kernels_of_keras
    models = {name: _compiled_model(recipe, preset) for name in contexts}
    targets = None
    if recipe.objective.takes_labels:
        targets = np.eye(10, dtype="float16")[rng.integers(0, 10, len(images))]
    batches = data.batches(images, batch_size=size, noise_size=models["step"].noise_size, targets=targets)
    times, views = {"augment": [], **{name: [] for name in models}}, recipe.objective.views
    for turn in range(ROUNDS + 1):  # the first turn compiles
        for name, model in models.items():
            steps = _StepTimes()
            with contexts[name]():
                model.fit(batches, epochs=1, verbose=0, callbacks=[steps])
            times[name] += steps.seconds if turn else []
        for _ in range(STEPS):
            began = time.process_time()
            for _ in range(views):
                keras.ops.convert_to_numpy(alone(images[:size], noise))
            times["augment"] += [time.process_time() - began] if turn else []
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    return {
        "entry": entry,
        "changes": changes,
        "augment": recipe.data.augment,
        "views": views,
        "batch_size": size,
        **{f"{name}_ms": round(1e3 * seconds, 1) for name, seconds in medians.items()},
        "share": round(medians["augment"] / medians["step"], 4),
    }


def _compiled_model(recipe: recipes.Recipe, preset) -> keras.Model:
    keras.config.set_dtype_policy(recipe.training.precision)
    encoder = view_encoder(recipe, recipe.encoder.build(), recipe.data.view_side)
    model = recipe.objective.build(encoder, preset, 0, 10 if recipe.objective.takes_labels else None)
    model.compile(recipe.optimizer.build(STEPS, recipe.training.epochs), jit_compile=False)
    keras.config.set_dtype_policy("float32")
    return model


def main() -> None:
    """Measure every entry and write the result."""
    rows = []
    for case in CASES:
        rows.append(measure(*case))
        print(rows[-1], flush=True)
    files.write_json(
        HERE / "augment_cost.json", {"hardware": hardware(), "backend": keras.backend.backend(), "rows": rows}
    )


if __name__ == "__main__":
    main()
