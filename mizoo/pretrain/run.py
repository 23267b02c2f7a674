"""One run: from the last checkpoint of its folder to the end of the recipe."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mizoo import recipes
from mizoo._tools import files
from mizoo._tools.hardware import hardware
from mizoo._tools.keras_backend import dtype_policy
from mizoo._tools.locks import lock_folder
from mizoo.callbacks import OnlineProbe, TensorBoard
from mizoo.errors import UserError
from mizoo.pretrain.callbacks import ProgressLines, Record
from mizoo.pretrain.inputs import Job, prepare
from mizoo.recipes.objectives import Phase
from mizoo.runs.checks import busy, check_first
from mizoo.runs.folder import CHECKPOINT, EVENTS, MACHINE, RECIPE, saved_state, settle_checkpoints
from mizoo.runs.listing import write_listing
from mizoo.zoo import interface


def pretrain(
    recipe: recipes.Recipe,
    out: str | os.PathLike | None = None,
    scan: bool | None = None,
    jit_compile: bool | str = "auto",
    stop_after: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    tensorboard: bool = False,
) -> Path:
    """Train an encoder, or resume a run from its last checkpoint.

    The order of the pictures, the augmentation and the noise are functions of the seed, the epoch and the step, so a
    run that was interrupted ends with the weights of one that was not.

    Args:
        recipe: what to train.
        out: the run folder; by default runs/<name of the recipe>.
        scan: on JAX, train each epoch as one compiled scan with the data on the device; by default where JAX has an
            accelerator. Not for TensorFlow.
        jit_compile: as in `keras.Model.compile`.
        stop_after: stop after this many epochs of the recipe (its schedules stay those of the whole length).
        callbacks: Keras callbacks, called after those of the run; their logs hold all that it logs. A run in stages
            trains each one by itself, and calls them for each. One that stops the training (`EarlyStopping`) ends the
            run, which is saved as it is then, before weights that a callback puts back; resumed, it goes on. An epoch
            by scan has no batches to call them for. What a callback keeps is in no checkpoint. A
            `mizoo.callbacks.OnlineProbe` is measured before the epoch is logged, and is in the log.
        tensorboard: also write all that is logged for TensorBoard, to the folder `tensorboard` of the run folder.

    Returns:
        The run folder: recipe.yaml, machine.json, log.csv (a line an epoch), encoder.keras (float32), the last two
        checkpoints, checkpoint.weights.h5 and previous.weights.h5, and their hashes in checkpoint.sha256; with teachers
        also targets.npz, their mean features of the pictures; with `tensorboard` its event files.

    Raises:
        UserError: if another process trains in the folder; if it holds the run of another recipe, or no checkpoint that
            is whole (a recipe with a trapezoid schedule may be given another length, and an occlusion that begins
            later, as long as the rate is constant); if the data have fewer pictures than a batch takes; if the loss or
            the weights stop being finite; for callbacks that are none of Keras; for what a probe cannot be drawn from.
    """
    callbacks = _check_callbacks(callbacks)
    folder = Path(out or Path("runs") / recipe.name)
    check_first(recipe, folder)
    by_scan = _choose_scan(scan)
    with lock_folder(folder, busy(folder)):
        state = saved_state(folder, recipe)
        last = min(recipe.training.epochs, stop_after or recipe.training.epochs)
        if state.note:
            print(state.note, file=sys.stderr)
        if state.epochs >= last:
            print(f"{folder} is already trained for {state.epochs} epochs.", file=sys.stderr)
            return folder
        if recipe.watch is not None:
            callbacks = [OnlineProbe(**recipe.watch.arguments), *callbacks]
        for each in callbacks:
            if isinstance(each, OnlineProbe):  # what cannot be drawn is said before the targets of teachers are made
                each.load(interface.side(recipe.encoder.build()))
        if tensorboard:
            TensorBoard(folder / EVENTS)  # as is a writer that is not installed
        job = prepare(recipe, folder, state, last)
        if not state.epochs:
            write_listing(recipe, folder)
        settle_checkpoints(folder, state)
        for phase in job.phases:
            if not _train(job, phase, folder, by_scan, jit_compile, callbacks, tensorboard):
                break
    return folder


def _check_callbacks(callbacks: Any) -> list[keras.callbacks.Callback]:
    listed = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    for each in listed:
        if not isinstance(each, keras.callbacks.Callback):
            raise UserError(f"`callbacks` are objects of keras.callbacks.Callback. Received: {each!r}")
    return listed


def _train(
    job: Job,
    phase: Phase,
    folder: Path,
    by_scan: bool,
    jit_compile: bool | str,
    further: Sequence[keras.callbacks.Callback] = (),
    tensorboard: bool = False,
) -> bool:
    """Train one phase, from the checkpoint in `folder` unless it starts at epoch 0; whether it came to its end."""
    start, last = phase.start, phase.last
    keras.utils.set_random_seed(job.training.seed)
    with dtype_policy(job.training.precision), _strategy_scope():
        encoder = job.encoder(start)
        model = job.objective(phase, encoder)
        batches = job.batches(model.noise_size, start)
        model.compile(job.optimizer(batches.steps_per_epoch), jit_compile=jit_compile)
    if start:
        _restore(model, folder / CHECKPOINT)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / RECIPE, job.recipe_text)
    machine = {"hardware": hardware(), "backend": keras.backend.backend()}
    files.write_json(folder / MACHINE, machine | dict(job.facts))
    probes = [each for each in further if isinstance(each, OnlineProbe)]
    record = Record(job, encoder, folder, start, last, probes)
    callbacks = [record, ProgressLines(job, batches, last), *(each for each in further if each not in probes)]
    if tensorboard:
        callbacks.append(TensorBoard(folder / EVENTS, record.lines))
    if by_scan and isinstance(batches.images, np.ndarray):
        _fit_by_scan(model, batches, start, last, callbacks)
    else:
        model.fit(batches, initial_epoch=start, epochs=last, verbose=0, callbacks=callbacks)
    return not model.stop_training


def _restore(model: Any, path: Path) -> None:
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} does not fit this recipe or is damaged. Move it away to start again.") from error


def _choose_scan(scan: bool | None) -> bool:
    if keras.backend.backend() != "jax":
        if scan:
            raise UserError("`scan` trains an epoch as one compiled scan on JAX: set KERAS_BACKEND=jax.")
        return False
    import jax

    return jax.default_backend() != "cpu" if scan is None else scan


def _strategy_scope() -> contextlib.AbstractContextManager:
    """The scope of MirroredStrategy where TensorFlow sees several GPUs; else one that does nothing."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    several = len(tf.config.list_logical_devices("GPU")) > 1
    return (tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()).scope()


def _fit_by_scan(model: Any, batches: Any, start: int, last: int, callbacks: list) -> None:
    import jax

    images = jax.device_put(batches.images)
    targets = None if batches.targets is None else jax.device_put(batches.targets)
    calls = keras.callbacks.CallbackList(callbacks, model=model, epochs=last, steps=batches.steps_per_epoch)
    model.stop_training = False
    logs = None
    calls.on_train_begin()
    for epoch in range(start, last):
        calls.on_epoch_begin(epoch)
        logs = model.scan_epoch(images, batches.batch_size, batches.seed, epoch, targets)
        calls.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    calls.on_train_end(logs)
