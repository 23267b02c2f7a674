"""One run: from the last checkpoint of its folder to the end of the recipe."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from mizoo import recipes
from mizoo._tools import files
from mizoo._tools.arrays import check_whole
from mizoo._tools.group import JOIN_WITHIN
from mizoo._tools.hardware import hardware
from mizoo._tools.keras_backend import dtype_policy, precision_here
from mizoo._tools.locks import lock_folder
from mizoo._tools.progress import Progress
from mizoo.callbacks import OnlineProbe, TensorBoard
from mizoo.errors import UserError
from mizoo.objectives.inputs import check_rows
from mizoo.pretrain import compiling, hosts
from mizoo.pretrain.callbacks import FreshDraws, ProgressLines, Record, SaveStopped
from mizoo.pretrain.inputs import Job, prepare
from mizoo.pretrain.placement import Alone, KeepTogether, Placement, check_shared
from mizoo.pretrain.strategies import choose
from mizoo.recipes.objectives import Phase
from mizoo.runs.checks import busy, check_first
from mizoo.runs.folder import CHECKPOINT, EVENTS, MACHINE, RECIPE, read_machine, saved_state, settle_checkpoints
from mizoo.runs.listing import write_listing
from mizoo.zoo import interface


@dataclasses.dataclass(frozen=True)
class _Run:
    """What `pretrain` was asked for.

    Attributes:
        recipe, folder, scan, jit_compile, stop_after, callbacks, tensorboard, strategy: as of `pretrain`.
    """

    recipe: recipes.Recipe
    folder: Path
    scan: bool | None
    jit_compile: bool | str
    stop_after: int | None
    callbacks: Sequence[keras.callbacks.Callback]
    tensorboard: bool
    strategy: str

    @property
    def last(self) -> int:
        """The epoch to stop after."""
        return min(self.recipe.training.epochs, self.stop_after or self.recipe.training.epochs)


def pretrain(
    recipe: recipes.Recipe | str | os.PathLike,
    out: str | os.PathLike | None = None,
    scan: bool | None = None,
    jit_compile: bool | str | None = None,
    stop_after: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    tensorboard: bool = False,
    strategy: str = "auto",
    workers: str | Sequence[str] | None = None,
    index: int | None = None,
    join_within: float = JOIN_WITHIN,
) -> Path:
    """Train an encoder, or resume a run from its last checkpoint.

    The order of the pictures, the augmentation and the noise are functions of the seed, the epoch and the step, and at
    each epoch the generators of layers that draw, such as dropout, are set by seed and epoch. So a run that was
    interrupted ends with the weights of one that was not, and (where no layer draws) one on several devices or hosts
    with those of one on one, up to rounding.

    Args:
        recipe: what to train, or what `mizoo.recipes.load` takes: its name, or the path of its file.
        out: the run folder; by default runs/<name of the recipe>. Of several hosts the first alone writes into it.
        scan: on JAX, train each epoch as one compiled scan with the data on the device; by default where JAX has one
            accelerator. Not for TensorFlow, not for several devices, and not for data that are streamed.
        jit_compile: whether TensorFlow compiles the step by XLA, `True`, `False` or "auto": measured at the start; by
            default what the recipe says. JAX always does.
        stop_after: stop after this many epochs of the recipe (its schedules stay those of the whole length).
        callbacks: Keras callbacks, called after those of the run; their logs hold all that it logs. A run in stages
            trains each one by itself, and calls them for each. One that stops the training (`EarlyStopping`) ends the
            run, which is saved as it is then, before weights that a callback puts back; resumed, it goes on. An epoch
            by scan has no batches to call them for, and of several hosts the first alone calls them. What a callback
            keeps is in no checkpoint. A `mizoo.callbacks.OnlineProbe` is measured before the epoch is logged, and is in
            the log.
        tensorboard: also write all that is logged for TensorBoard, to the folder `tensorboard` of the run folder.
        strategy: "auto": several hosts where `workers` or TF_CONFIG name them, else all devices of this one; "single"
            for one device; "mirrored" for those of this host; "multiworker" for several hosts.
        workers: host:port of every host, the same list on each, its first the chief; TF_CONFIG names them otherwise.
        index: of this host among them.
        join_within: seconds in which all of them have to start.

    Returns:
        The run folder: recipe.yaml, machine.json, log.csv (a line an epoch), encoder.keras (float32), the last two
        checkpoints, checkpoint.weights.h5 and previous.weights.h5, and their hashes in checkpoint.sha256; with teachers
        also targets.npz, their mean features of the pictures; with `tensorboard` its event files.

    Raises:
        UserError: if another process trains in the folder; if it holds the run of another recipe, or no checkpoint that
            is whole (a recipe with a trapezoid schedule may be given another length, and an occlusion that begins
            later, as long as the rate is constant); if the data have fewer pictures than a batch takes; if the loss or
            the weights stop being finite; for callbacks that are none of Keras; for what a probe cannot be drawn from;
            for a batch that the devices cannot share equally; for what is no recipe, or no epoch to stop after; and, on
            every host, if they do not do the same.

    When a host is lost, the processes on the others print its name and end at once with exit status 75, whatever else
    they do: training waits for it in operations that nothing interrupts.
    """
    recipe = _recipe(recipe)
    if stop_after is not None:
        stop_after = check_whole(stop_after, "stop_after", 1)
    folder = files.user_path(out or Path("runs") / recipe.name)
    chosen = recipe.training.jit_compile if jit_compile is None else jit_compile
    checked = _check_callbacks(callbacks)
    run = _Run(recipe, folder, scan, compiling.check(chosen), stop_after, checked, tensorboard, strategy)
    with hosts.group_of(strategy, workers, index, join_within) as group:
        if group is None:
            check_first(recipe, folder)
            with lock_folder(folder, busy(folder)):
                _train_all(run, choose(strategy, scan, None))
            return folder
        group.join(hosts.facts(recipe, run.last, run.jit_compile))
        with hosts.own_folder(group, recipe, folder) as own:
            placement = choose(strategy, scan, group, recipe.training.seed)
            _train_all(dataclasses.replace(run, folder=own), placement)
        group.leave()
    return folder


def _train_all(run: _Run, placement: Placement) -> None:
    """Train what the run folder lacks."""
    recipe, folder, group = run.recipe, run.folder, placement.group
    leads = group is None or group.is_chief
    state = saved_state(folder, recipe)
    if state.note:
        print(state.note, file=sys.stderr)
    if state.epochs >= run.last:
        if leads:
            print(f"{folder} is already trained for {state.epochs} epochs.", file=sys.stderr)
        return
    check_shared(recipe.training.batch_size, placement)
    callbacks = list(run.callbacks) if leads else []
    if recipe.watch is not None and leads:
        callbacks = [OnlineProbe(**recipe.watch.arguments(recipe.data)), *callbacks]
    for each in callbacks:
        if isinstance(each, OnlineProbe):  # what cannot be drawn is said before the targets of teachers are made
            each.load(interface.picture_shape(recipe.encoder.build()))
    if run.tensorboard and leads:
        TensorBoard(folder / EVENTS)  # as is a writer that is not installed
    job = prepare(recipe, folder, state, run.last)
    if leads and not state.epochs:
        write_listing(recipe, folder)
    if group is not None:
        group.agree(hosts.data_facts(job))
    settle_checkpoints(folder, state)
    for phase in job.phases:
        if not _train(job, phase, dataclasses.replace(run, callbacks=callbacks), placement):
            break


def _recipe(given: Any) -> recipes.Recipe:
    if isinstance(given, (str, os.PathLike)):
        return recipes.load(given)
    if not isinstance(given, recipes.Recipe):
        raise UserError(f"`recipe` is a mizoo.recipes.Recipe, or the name or path of one. Received: {given!r}")
    return given


def _check_callbacks(callbacks: Any) -> list[keras.callbacks.Callback]:
    listed = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    for each in listed:
        if not isinstance(each, keras.callbacks.Callback):
            raise UserError(f"`callbacks` are objects of keras.callbacks.Callback. Received: {each!r}")
    return listed


def _train(job: Job, phase: Phase, run: _Run, placement: Placement) -> bool:
    """Train one phase, from the checkpoint in the folder unless it starts at epoch 0; whether it came to its end."""
    start, last, folder = phase.start, phase.last, run.folder
    keras.utils.set_random_seed(job.training.seed)
    precision = _precision(job, folder if placement.group is None else None)
    with dtype_policy(precision):
        with placement.scope():
            encoder = job.encoder(start)
            model = job.objective(phase, encoder)
            check_rows(model, job.training.batch_size)
            batches = job.batches(model.noise_size, start, placement.shard)
            jit_compile = compiling.before_measuring(run.jit_compile, placement.replicas)
            model.compile(job.optimizer(batches.steps_per_epoch), jit_compile=jit_compile)
        if placement.splits:
            with placement.alone():
                encoder = job.empty_encoder()
        if start:
            hosts.hand_out_checkpoint(placement.group, folder)
            _restore(model, folder / CHECKPOINT)
        compiled: dict[str, Any] = {}
        if run.jit_compile == "auto" and placement.replicas == 1:
            compiled = compiling.choose(model, batches, (last - start) * batches.steps_per_epoch, folder)
    callbacks: list[keras.callbacks.Callback] = [FreshDraws(job.training.seed)]
    leads = placement.group is None or placement.group.is_chief
    progress = Progress(leads)
    if leads:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(folder / RECIPE, job.recipe_text)
        machine = {"hardware": hardware(), "backend": keras.backend.backend(), "precision": precision}
        files.write_json(folder / MACHINE, machine | placement.facts() | compiled | dict(job.facts))
        record = Record(job, encoder, folder, start, last, _probes(run))
        shown = ProgressLines(job, batches, last, progress)
        callbacks.append(Alone(_callbacks(run, record, shown), placement.measuring))
    if placement.group is not None:
        callbacks.append(KeepTogether(placement.group))
    with contextlib.closing(batches), progress:
        placement.fit(model, batches, start, last, callbacks)
    return not model.stop_training


def _precision(job: Job, folder: Path | None) -> str:
    """The precision of the run: where the recipe leaves it open, that which its folder tells, or this machine's."""
    if job.training.precision != "auto":
        return job.training.precision
    return (read_machine(folder).get("precision") if folder else None) or precision_here()


def _probes(run: _Run) -> list[OnlineProbe]:
    """The callbacks that are measured before an epoch is logged."""
    return [each for each in run.callbacks if isinstance(each, OnlineProbe)]


def _callbacks(run: _Run, record: Record, shown: ProgressLines) -> list[keras.callbacks.Callback]:
    """What is done at the end of an epoch: measured, written, shown, and what the user asks for."""
    others = [each for each in run.callbacks if not isinstance(each, OnlineProbe)]
    board = [TensorBoard(run.folder / EVENTS, record.lines)] if run.tensorboard else []
    return [record, shown, *others, *board, SaveStopped(record)]


def _restore(model: Any, path: Path) -> None:
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} does not fit this recipe or is damaged. Move it away to start again.") from error
