"""Pretraining: a recipe in, a run folder out, resumable at every checkpoint."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from mizoo import __version__, augment, data, files, machine, measures, recipes, teachers
from mizoo.errors import UserError
from mizoo.portable import to_float32

CHECKPOINT, LOG, ENCODER, RECIPE = "checkpoint.weights.h5", "log.csv", "encoder.keras", "recipe.yaml"
MACHINE = "machine.json"


def pretrain(
    recipe: recipes.Recipe,
    out: str | os.PathLike | None = None,
    scan: bool | None = None,
    jit_compile: bool | str = "auto",
    stop_after: int | None = None,
) -> Path:
    """Train an encoder, or go on with a run where its last checkpoint left it.

    The order of the pictures, the augmentation and the noise are functions of the seed, the epoch and the step, so a
    run that was interrupted ends with the weights of one that was not.

    Args:
        recipe: what to train.
        out: the run folder; by default runs/<name of the recipe>.
        scan: on JAX, train each epoch as one compiled scan with the data on the device; by default where JAX has an
            accelerator. Not for TensorFlow.
        jit_compile: as in `keras.Model.compile`.
        stop_after: leave after this many epochs of the recipe (its schedules stay those of the whole length).

    Returns:
        The run folder: recipe.yaml, machine.json, log.csv (a line an epoch), checkpoint.weights.h5 and encoder.keras
        (float32); with teachers also targets.npz, what they said of the pictures.

    Raises:
        UserError: if the folder holds the run of another recipe, or a checkpoint that cannot be read. (A recipe with a
            trapezoid schedule may be given another length, and an occlusion that begins later, as long as the rate is
            constant.)
    """
    out = Path(out or Path("runs") / recipe.name)
    start, taught_by = _check_run(out, recipe)
    scan = _choose_scan(scan)
    last = min(recipe.training.epochs, stop_after or recipe.training.epochs)
    if start >= last:
        print(f"{out} is already trained for {start} epochs.", file=sys.stderr)
        return out
    inputs = _load(recipe)
    if getattr(recipe.objective, "teachers", ()):  # they take their time: what would be refused after them is tried now
        _batches(recipe, inputs, 0, start, None)
        if recipe.init_from and not start:
            _copy_weights(recipe, recipe.encoder.build())
    taught = teachers.of_run(recipe, inputs, out, taught_by)
    for phase in _phases(recipe, start, last):
        _train(recipe, *phase, out, inputs, taught, scan, jit_compile)
    return out


def _phases(recipe: recipes.Recipe, start: int, last: int) -> list[tuple[Any, int, int]]:
    """The objectives that the epochs from `start` to `last` maximise, each with its own first epoch and last."""
    objective = recipe.objective
    turn = getattr(objective, "occlusion_from", 0)
    before = objective.model_copy(update={"occlusion": 0.0})
    phases = [(before, start, min(turn, last))] if min(turn, last) > start else []
    return [*phases, (objective, max(turn, start), last)] if last > max(turn, start) else phases


def _train(
    recipe: recipes.Recipe,
    objective: Any,
    start: int,
    last: int,
    out: Path,
    inputs: Any,
    taught: tuple[np.ndarray | None, str | None],
    scan: bool,
    jit_compile: bool | str,
) -> None:
    """Train from epoch `start` to `last` for this objective, from the checkpoint in `out` unless `start` is 0."""
    training = recipe.training
    keras.utils.set_random_seed(training.seed)
    with _precision(training.precision), _strategy().scope():
        encoder = recipe.encoder.build()
        if recipe.init_from and not start:
            _copy_weights(recipe, encoder)
        targets, taught_by = taught
        extra = {} if targets is None else {"teacher_size": targets.shape[1]}
        trained, side = for_views(recipe, encoder), recipe.data.view_side
        model = objective.build(trained, augment.preset(recipe.data.augment, side), training.seed, **extra)
        batches, sample = _batches(recipe, inputs, model.noise_size, start, targets)
        model.compile(recipe.optimizer.build(batches.steps_per_epoch, training.epochs), jit_compile=jit_compile)
    if start:
        _restore(model, out / CHECKPOINT)
    out.mkdir(parents=True, exist_ok=True)
    files.write_text(out / RECIPE, recipe.dump())
    facts = {"hardware": machine.hardware(), "backend": keras.backend.backend()}
    files.write_json(out / MACHINE, facts | teachers.facts(recipe))
    callbacks = [_Record(recipe, encoder, out, sample, start, last, taught_by), _Progress(recipe, batches, last)]
    if scan and isinstance(batches.images, np.ndarray):
        _fit_by_scan(model, batches, start, last, callbacks)
    else:
        model.fit(batches, initial_epoch=start, epochs=last, verbose=0, callbacks=callbacks)


def for_views(recipe: recipes.Recipe, encoder: keras.Model) -> keras.Model:
    """The encoder that is trained: a copy for smaller views, if the recipe says so, which has the same weights."""
    if recipe.data.view_side is None:
        return encoder
    copy = recipe.encoder.model_copy(update={"side": recipe.data.view_side}).build()
    copy.set_weights(encoder.get_weights())
    return copy


def _load(recipe: recipes.Recipe):
    """The pictures, uint8 (N, H, W, C), or the sounds that the recipe names."""
    if recipe.data.window is None:
        return data.load(recipe.data.source, recipe.data.split, size=recipe.encoder.build().input_shape[1]).images
    from mizoo.data import sounds

    found = sounds.load(recipe.data.source, recipe.data.split, recipe.data.without_speakers)
    if found.sampling_rate != recipe.encoder.sampling_rate:
        raise UserError(
            f"`encoder.sampling_rate` is {recipe.encoder.sampling_rate} Hz and {found.name!r} has "
            f"{found.sampling_rate} Hz. Change the one, or resample the other."
        )
    return found


def _batches(recipe: recipes.Recipe, inputs, noise_size: int, start: int, targets: np.ndarray | None):
    """Training batches, and up to 1,000 inputs on which the state of the embedding is measured."""
    training, window = recipe.training, recipe.data.window
    if window is None:
        batches = data.batches(inputs, "train", training.batch_size, training.seed, noise_size, start, targets)
        return batches, inputs[:1000]
    from mizoo.data.batching import Windows
    from mizoo.data.sounds import cut

    settings = {"seed": training.seed, "noise_size": noise_size, "start_epoch": start}
    step = -(-len(inputs) // 1000)
    sample = np.stack([cut(clip, window, 0.5) for clip in inputs.clips[::step]])
    return Windows(inputs.clips, window, training.batch_size, **settings), sample


def read_log(run: str | os.PathLike) -> list[dict[str, float]]:
    """The lines of a run's log.csv, one dict an epoch."""
    with open(Path(run) / LOG, newline="", encoding="utf-8") as stream:
        return [{key: float(value) for key, value in line.items()} for line in csv.DictReader(stream)]


def _check_run(out: Path, recipe: recipes.Recipe) -> tuple[int, str | None]:
    """The epoch to start with and what the run was taught by; refuses a folder that holds something else."""
    path = out / CHECKPOINT
    if not path.exists():
        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file; a run folder is wanted.")
        return 0, None
    try:
        with h5py.File(path) as file:
            state = json.loads(file.attrs["mizoo"])
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} is no checkpoint of mizoo or is damaged. Move it away to start anew.") from error
    kept = _kept(state["recipe"])
    if kept is None or not recipe.goes_on(kept, state["epochs"]):
        raise UserError(
            f"{out} holds the run of another recipe (see {out / RECIPE}). Choose another folder with --out, or remove "
            "that one."
        )
    return state["epochs"], state.get("taught_by")


def _kept(content: object) -> recipes.Recipe | None:
    """A checkpoint's recipe as it reads today: keys that came later take their defaults. None if it is refused."""
    try:
        return recipes.validate({"name": "kept", **content})
    except (UserError, TypeError):
        return None


def _restore(model, path: Path) -> None:
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} does not fit this recipe or is damaged. Move it away to start anew.") from error


def _copy_weights(recipe: recipes.Recipe, encoder: keras.Model) -> None:
    """Give `encoder` the weights that `init_from` names: of a published entry or of a file of one's own."""
    from mizoo import zoo

    source = recipe.init_from
    earlier = zoo.earlier_recipes(source)
    if earlier and not Path(source).exists():
        raise UserError(
            f"`init_from`: {recipe.name} goes on from the run {source}, which is not here. Train that first: "
            f"`mizoo pretrain {earlier[-1]}`"
        )
    given = zoo.load(source)
    shapes = [[tuple(variable.shape) for variable in model.variables] for model in (given, encoder)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"`init_from`: the weights of {source} do not fit the recipe's encoder. Give the recipe the `encoder` that "
            "they were trained with."
        )
    encoder.set_weights(given.get_weights())


def _choose_scan(scan: bool | None) -> bool:
    if keras.backend.backend() != "jax":
        if scan:
            raise UserError("`scan` trains an epoch as one compiled scan on JAX: set KERAS_BACKEND=jax.")
        return False
    import jax

    return jax.default_backend() != "cpu" if scan is None else scan


def _strategy():
    """MirroredStrategy where TensorFlow sees several GPUs, else no strategy."""
    if keras.backend.backend() != "tensorflow":
        return _NoStrategy()
    import tensorflow as tf

    several = len(tf.config.list_logical_devices("GPU")) > 1
    return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()


class _NoStrategy:
    def scope(self):
        """A scope that does nothing."""
        return contextlib.nullcontext()


@contextlib.contextmanager
def _precision(policy: str):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _fit_by_scan(model, batches, start: int, last: int, callbacks: list) -> None:
    import jax

    images = jax.device_put(batches.images)
    targets = None if batches.targets is None else jax.device_put(batches.targets)
    calls = keras.callbacks.CallbackList(callbacks, model=model, epochs=last, steps=batches.steps_per_epoch)
    calls.on_train_begin()
    for epoch in range(start, last):
        calls.on_epoch_begin(epoch)
        calls.on_epoch_end(epoch, model.scan_epoch(images, batches.batch_size, batches.seed, epoch, targets))
    calls.on_train_end()


class _Record(keras.callbacks.Callback):
    """Writes the log and the checkpoint at the end of an epoch."""

    def __init__(
        self,
        recipe: recipes.Recipe,
        whole: keras.Model,
        out: Path,
        sample: np.ndarray,
        start: int,
        last: int,
        taught_by: str | None,
    ) -> None:
        super().__init__()
        self.taught_by = taught_by
        self.recipe, self.whole, self.out, self.sample, self.last = recipe, whole, out, sample, last
        self.kind = "pictures" if recipe.data.window is None else "sequences"
        self.lines = [line for line in read_log(out) if line["epoch"] <= start] if (out / LOG).exists() else []
        self.seconds = self.lines[-1]["seconds"] if self.lines else 0.0

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Log the terms, the ceilings and the collapse measures; save."""
        elapsed = time.perf_counter() - self.began
        self.seconds += elapsed
        training = self.recipe.training
        if not np.isfinite(logs["loss"]):
            raise UserError(
                f"The loss of epoch {epoch + 1} is {logs['loss']}: the run stopped before its checkpoint was replaced. "
                "Lower `optimizer.learning_rate`, add `optimizer.warmup_epochs`, or raise `training.batch_size`."
            )
        features = self._on_pictures().predict(self.sample, batch_size=250, verbose=0)["global"]
        rate = self.model.optimizer
        rate = rate.optimizers[-1].learning_rate if hasattr(rate, "optimizers") else rate.learning_rate
        line = {"epoch": epoch + 1, **{key: float(logs[key]) for key in self.model.term_metrics}}
        line |= {f"{key}_ceiling": value for key, value in self.model.ceilings(training.batch_size).items()}
        line |= {"spread": measures.spread(features), "effective_rank": measures.effective_rank(features)}
        done = self.params["steps"] * training.batch_size
        line |= {
            "learning_rate": float(keras.ops.convert_to_numpy(rate)),
            f"{self.kind}_per_second": done / elapsed,
            "seconds": self.seconds,
        }
        self.lines.append({key: float(f"{value:.6g}") for key, value in line.items()})
        if (epoch + 1) % training.checkpoint_epochs == 0 or epoch + 1 == self.last:
            self.save(epoch + 1)

    def _on_pictures(self) -> keras.Model:
        """The encoder for whole pictures, with the weights as they are now."""
        if self.whole is not self.model.encoder:
            self.whole.set_weights(self.model.encoder.get_weights())
        return self.whole

    def _encoder(self) -> keras.Model:
        """The encoder in float32, with the averages of its weights if the optimiser keeps them."""
        encoder, optimizer = to_float32(self._on_pictures()), self.model.optimizer
        if self.recipe.optimizer.ema:
            optimizer = getattr(optimizer, "inner_optimizer", optimizer)
            averages = dict(
                zip((v.path for v in self.model.trainable_variables), optimizer._model_variables_moving_average)
            )
            for old, new in zip(self.model.encoder.variables, encoder.variables):
                if old.path in averages:
                    new.assign(averages[old.path])
        return encoder

    def save(self, epochs: int) -> None:
        """Write log, encoder and checkpoint, the checkpoint last: it says how far the others are good."""
        with files.atomic(self.out / LOG) as path, open(path, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self.lines[0])
            writer.writeheader()
            writer.writerows(self.lines)
        with files.atomic(self.out / ENCODER) as path:
            self._encoder().save(path)
        state = {
            "recipe": self.recipe.deciding(),
            "epochs": epochs,
            "version": __version__,
            "taught_by": self.taught_by,
        }
        with files.atomic(self.out / CHECKPOINT) as path:
            self.model.save_weights(path)
            with h5py.File(path, "a") as file:
                file.attrs["mizoo"] = json.dumps(state)


class _Progress(keras.callbacks.Callback):
    """Shows the terms of each epoch, the rate and the time left."""

    def __init__(self, recipe: recipes.Recipe, batches, last: int) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.recipe, self.batches, self.last = recipe, batches, last
        self.console = Console(stderr=True)
        columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}")]
        columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
        self.bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)

    def on_train_begin(self, logs=None) -> None:
        """Say what begins."""
        training = self.recipe.training
        first = self.batches.start_epoch
        self.console.print(
            f"{self.recipe.name}: epochs {first + 1} to {self.last} of {training.epochs}, "
            f"{self.batches.steps_per_epoch} steps of {training.batch_size} {self.batches.kind}",
            highlight=False,
        )
        self.bar.start()
        total = (self.last - first) * self.batches.steps_per_epoch
        self.task = self.bar.add_task("training", total=total, rate="")
        self.began, self.done = time.perf_counter(), 0

    def _advance(self, steps: int) -> None:
        self.done += steps
        rate = self.done * self.batches.batch_size / (time.perf_counter() - self.began)
        self.bar.update(self.task, completed=self.done, rate=f"{rate:,.0f} {self.batches.kind}/s")

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        """Move the bar."""
        self._advance(1)

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """One line an epoch, bar or not."""
        done = (epoch + 1 - self.batches.start_epoch) * self.batches.steps_per_epoch
        self._advance(done - self.done)
        ceilings = self.model.ceilings(self.recipe.training.batch_size)
        parts = [
            f"{key} {logs[key]:.3f}" + (f" (at most {ceilings[key]:.2f})" if key in ceilings else "")
            for key in self.model.term_metrics
            if not key.startswith("accuracy")  # the log has them
        ]
        elapsed = time.perf_counter() - self.began
        left = elapsed / self.done * ((self.last - epoch - 1) * self.batches.steps_per_epoch)
        rate = self.done * self.batches.batch_size / elapsed
        speed = f"{rate:,.0f} {self.batches.kind}/s"
        self.console.print(
            f"epoch {epoch + 1}/{self.last}  {'  '.join(parts)}  {speed}  {left / 60:.0f} min left",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, logs=None) -> None:
        """Close the bar."""
        self.bar.stop()
