"""A recipe and a run folder -> a job: everything that a training needs, checked and loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mizoo import augment, data, recipes, teachers
from mizoo._tools import files
from mizoo._tools.progress import bar
from mizoo.data.batching import Batches, Windows
from mizoo.data.choosing import load_or_stream
from mizoo.data.sounds import Sounds, cut
from mizoo.encoders import fit_statistics
from mizoo.errors import UserError
from mizoo.recipes.objectives import Phase
from mizoo.recipes.starting_weights import copy_weights
from mizoo.recipes.training import Training
from mizoo.runs.folder import TARGETS, SavedState
from mizoo.runs.provenance import teacher_hashes
from mizoo.zoo import interface

_SAMPLE = 1000  # inputs on which the state of the embedding is measured


@dataclass(frozen=True)
class Job:
    """What one run trains, and on what: all that is left of the recipe once it is read.

    Attributes:
        name: of the run.
        recipe_text: the recipe as YAML, every default written out.
        identity: what determines the weights, for the checkpoint.
        facts: what the run's machine.json records in addition to the machine: the teachers.
        training: length, batch size, precision and seed.
        phases: the stretches of the run, each with its objective.
        inputs: the pictures, uint8 (N, H, W, C), or a `mizoo.data.streams.Stream` of them, or the sounds.
        window: samples in a training window of sounds; None for pictures.
        sample: some of the inputs, on which the state of the embedding is measured.
        targets: float16 (N, D) for each picture, or None.
        targets_hash: hash of all that determines the targets, or None.
        state: of the run folder's checkpoint.
    """

    name: str
    recipe_text: str
    identity: Mapping[str, Any]
    facts: Mapping[str, Any]
    training: Training
    phases: tuple[Phase, ...]
    inputs: np.ndarray | Sounds
    window: int | None
    sample: np.ndarray
    targets: np.ndarray | None
    targets_hash: str | None
    state: SavedState
    _recipe: recipes.Recipe

    def batches(self, noise_size: int, start: int, shard: tuple[int, int] = (0, 1)) -> Batches:
        """Training batches from epoch `start` on, of them the part of a host by (index, count)."""
        return _batches(self._recipe, self.inputs, noise_size, start, self.targets, shard)

    def encoder(self, start: int) -> keras.Model:
        """The encoder with fresh weights; at epoch 0 with those that `init_from` names, if it does."""
        encoder = self._recipe.encoder.build()
        if start:
            return encoder
        if self._recipe.init_from:  # all weights, those that are not trained included
            copy_weights(self._recipe, encoder)
        else:
            self._recipe.encoder.fit_to(encoder, self.inputs)
        return encoder

    def empty_encoder(self) -> keras.Model:
        """The encoder, whose weights are set later."""
        return self._recipe.encoder.build()

    def objective(self, phase: Phase, encoder: keras.Model) -> Any:
        """The objective of one phase around an encoder."""
        stage, _ = self._recipe.data.stage_at(phase.start)
        channels = interface.channels(encoder) or 3
        views = augment.preset(self._recipe.data.augment, stage.view_side, stage.area, channels)
        target_size = None if self.targets is None else self.targets.shape[1]
        trained = view_encoder(self._recipe, encoder, stage.view_side)
        return phase.objective.build(trained, views, self.training.seed, target_size)

    def settle_statistics(self, encoder: keras.Model) -> None:
        """Give a trained encoder the statistics of batch normalisation that the recipe asks for."""
        if self.training.batch_statistics == "pictures" and not isinstance(self.inputs, Sounds):
            fit_statistics(encoder, self.inputs)

    def optimizer(self, steps_per_epoch: int) -> keras.optimizers.Optimizer:
        """The optimiser of the whole run."""
        return self._recipe.optimizer.build(steps_per_epoch, self.training.epochs)


def prepare(recipe: recipes.Recipe, folder: Path, state: SavedState, last: int) -> Job:
    """Load what a recipe trains on, and compute the targets of its teachers.

    Args:
        recipe: what to train.
        folder: the run folder, which stores the targets.
        state: of its checkpoint.
        last: the epoch to stop after.

    Raises:
        UserError: for data that are not there or do not fit, weights of `init_from` that do not fit, and a run that
            began with other targets than its teachers give now.
    """
    inputs, labels = _load(recipe)
    if recipe.objective.teacher_endpoints:  # they take minutes: what would be refused after them is refused now
        _batches(recipe, inputs, 0, state.epochs, None)
        if recipe.init_from and not state.epochs:
            copy_weights(recipe, recipe.encoder.build())
    hashes = teacher_hashes(recipe)
    if recipe.objective.takes_labels:
        targets, targets_hash = _class_targets(recipe, labels, folder, state.targets_hash)
    else:
        targets, targets_hash = _targets(recipe, hashes, inputs, folder, state.targets_hash)
    return Job(
        name=recipe.name,
        recipe_text=recipe.dump(),
        identity=recipe.identity(),
        facts={"teachers": hashes} if hashes else {},
        training=recipe.training,
        phases=tuple(_phases(recipe, state.epochs, last)),
        inputs=inputs,
        window=recipe.data.window,
        sample=_sample(inputs, recipe.data.window),
        targets=targets,
        targets_hash=targets_hash,
        state=state,
        _recipe=recipe,
    )


def view_encoder(recipe: recipes.Recipe, encoder: keras.Model, side: int | None) -> keras.Model:
    """The encoder that is trained: a copy for views of another side, if there is one, with the same weights."""
    if side is None:
        return encoder
    copy = recipe.encoder.model_copy(update={"side": side}).build()
    copy.set_weights(encoder.get_weights())
    return copy


def _phases(recipe: recipes.Recipe, start: int, last: int) -> Iterator[Phase]:
    """The stretches of a run with one objective and views of one kind."""
    for phase in recipe.objective.phases(start, last):
        begin = phase.start
        while begin < phase.last:
            _, end = recipe.data.stage_at(begin)
            stop = min(phase.last, end or phase.last)
            yield Phase(phase.objective, begin, stop)
            begin = stop


def _load(recipe: recipes.Recipe) -> tuple[np.ndarray | Sounds, np.ndarray | None]:
    """The pictures, uint8 (N, H, W, C), with their labels if they have some, or the sounds that the recipe names."""
    source = recipe.data
    if source.window is None:
        shape, labelled = interface.picture_shape(recipe.encoder.build()), recipe.objective.takes_labels
        loaded = load_or_stream(
            source.source, source.split, shape, source.stream, labelled, source.depth, source.without_files
        )
        return loaded.images, loaded.labels
    sounds = data.sounds.load(source.source, source.split, source.without_speakers)
    if sounds.sampling_rate != recipe.encoder.sampling_rate:
        raise UserError(
            f"`encoder.sampling_rate` is {recipe.encoder.sampling_rate} Hz and {sounds.name!r} has "
            f"{sounds.sampling_rate} Hz. Change the one, or resample the other."
        )
    return sounds, None


def _batches(
    recipe: recipes.Recipe,
    inputs: np.ndarray | Sounds,
    noise_size: int,
    start: int,
    targets: np.ndarray | None,
    shard: tuple[int, int] = (0, 1),
) -> Batches:
    training = recipe.training
    if isinstance(inputs, Sounds):
        settings = {"seed": training.seed, "noise_size": noise_size, "start_epoch": start, "shard": shard}
        return Windows(inputs.clips, recipe.data.window or 0, training.batch_size, **settings)
    workers = None if recipe.data.workers == "auto" else recipe.data.workers
    size, seed = training.batch_size, training.seed
    return data.batches(inputs, "train", size, seed, noise_size, start, targets, workers=workers, shard=shard)


def _sample(inputs: np.ndarray | Sounds, window: int | None) -> np.ndarray:
    if isinstance(inputs, Sounds):
        step = -(-len(inputs) // _SAMPLE)
        return np.stack([cut(clip, window or 0, 0.5) for clip in inputs.clips[::step]])
    return inputs[:_SAMPLE]


def _class_targets(
    recipe: recipes.Recipe, labels: np.ndarray | None, folder: Path, saved_hash: str | None
) -> tuple[np.ndarray, str]:
    """The classes of the data as float16 (N, classes), for the objective that is trained with them, and their hash."""
    if labels is None:
        raise UserError(
            f"`objective.name: {recipe.objective.name}` trains with labels, and {recipe.data.source} has none: a "
            "folder has them as class folders."
        )
    key = hashlib.sha256(labels.tobytes()).hexdigest()
    if saved_hash not in (None, key):
        raise UserError(f"{folder} has been trained with other labels. Choose another folder with --out.")
    return np.eye(int(labels.max()) + 1, dtype="float16")[labels], key


def _hash(images: Any) -> str:
    """SHA-256 of the pixels of all pictures, a block of them in memory at a time."""
    digest = hashlib.sha256()
    for start in range(0, len(images), _SAMPLE):
        digest.update(np.ascontiguousarray(images[start : start + _SAMPLE]).data)
    return digest.hexdigest()


def _targets(
    recipe: recipes.Recipe, hashes: dict[str, str], images: Any, folder: Path, saved_hash: str | None
) -> tuple[np.ndarray | None, str | None]:
    """The targets that a recipe's objective asks for, stored in the run folder, and a hash of what determines them."""
    chosen = recipe.objective.teacher_endpoints
    if not chosen:
        return None, None
    views, seed = recipe.objective.teacher_views, recipe.training.seed
    determining = {
        "teachers": chosen,
        "weights": hashes,
        "views": views,
        "area": teachers.AREA,
        "size": teachers.SIZE,
        "seed": seed,
        "shape": images.shape,
        "pictures": _hash(images),
    }
    key = hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()
    if saved_hash not in (None, key):
        raise UserError(
            f"{folder} has been trained with other targets than its teachers give now: their weights or the pictures "
            "are others. Put those back, or choose another folder with --out."
        )
    file = folder / TARGETS
    if file.is_file():
        with np.load(file) as stored:
            if str(stored["key"]) == key:
                return stored["targets"], key
    total = len(images) * views * len(hashes)
    with bar("targets of the teachers", total, unit="pictures") as advance:
        targets = teachers.targets(chosen, images, views, seed, advance=advance, hashes=hashes)
    with files.atomic(file) as path:
        np.savez(path, targets=targets, key=key)
    return targets, key
