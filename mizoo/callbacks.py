"""Keras callbacks for pretraining: a probe that is watched while it trains, and logs for TensorBoard."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mizoo import data as data_sets
from mizoo._tools.arrays import check_whole
from mizoo._tools.averages import averaged
from mizoo._tools.progress import Progress
from mizoo.data.dataset import Dataset
from mizoo.errors import UserError
from mizoo.evaluate.loop import asked_for
from mizoo.evaluate.protocols import Options, Protocol, Task, watchable
from mizoo.runs.columns import PROBE, group_of
from mizoo.zoo import interface

_SHARE = 5  # one picture in so many is a query, of fewer than the bank and the queries take
_BATCH = 500


class OnlineProbe(keras.callbacks.Callback):
    """Accuracy of a probe on the frozen encoder at the end of epochs, from labels that the objective never sees.

    The pictures are encoded in inference mode with the weights as they are then, or with their averages where the
    optimiser keeps them (`use_ema`, `optimizer.ema`). A bank is fitted on and queries are
    scored, both drawn once from one split, stratified by class; the test split is not read. In a run of
    `mizoo.pretrain.pretrain` (`callbacks=[OnlineProbe(...)]`, or `watch:` in the recipe) the accuracy stands in
    log.csv, in the line of the epoch and in the curves as `probe_<name>`; in every `fit` it is in the logs of later
    callbacks, so that `keras.callbacks.EarlyStopping("probe_knn", mode="max")` may follow. The weights are those of a
    run without.

    Args:
        data: labelled pictures, as `mizoo.data.load` takes them: a TFDS name, a folder of class folders with a few
            hundred pictures, or a `Dataset`.
        protocol: `knn`, or another that takes labels and frozen features, by name or import path
            (`mizoo.evaluate.protocols`), one variant of it where it has several: `retrieval:map`. Those that fit a
            network take longer than they are worth at every epoch.
        every: epochs from one measurement to the next.
        split: the split that both are drawn from, "train[-5000:]" for pictures that a recipe with
            `data.split: train[:-5000]` does not train on.
        endpoint: of the encoder; its only output where there is one.
        name: of the column; the protocol's by default.
        bank, queries: how many pictures are fitted on and scored, at most; of fewer pictures a fifth are queries.
        seed: of the draw.
        depth, without: bits of the values of deep files, and files to leave out, as of `mizoo.data.load`.

    Raises:
        UserError: for a protocol that `watchable` refuses or a number below 1; when the data are loaded, for data
            without labels, of one class, or with a class of one picture; and in training, for an encoder without the
            endpoint or of sounds.
    """

    def __init__(
        self,
        data: Any,
        protocol: str | Protocol = "knn",
        every: int = 1,
        split: str = "train",
        endpoint: str = "global",
        name: str | None = None,
        bank: int = 5000,
        queries: int = 1000,
        seed: int = 0,
        depth: int | None = None,
        without: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.protocol = watchable(protocol)
        self.every = check_whole(every, "every", 1)
        self.bank, self.queries = check_whole(bank, "bank", 2), check_whole(queries, "queries", 1)
        self.data, self.split, self.endpoint, self.seed = data, split, endpoint, seed
        self.depth, self.without = depth, without
        self.column = PROBE + (name or self.protocol.name)
        self.seconds = 0.0  # of the last measurement
        self._drawn: tuple[Dataset, Dataset] | None = None
        self._encoder: Any = None
        self._one_endpoint: Any = None

    def load(self, size: interface.Shape | None = None) -> None:
        """Load and draw the pictures, brought to `size`, as of `mizoo.data.load`; once."""
        if self._drawn is None:
            whole = data_sets.load(self.data, self.split, size, self.depth, without=self.without)
            self._drawn = _draw(whole, self.bank, self.queries, self.seed)

    def measure(self, encoder: Any, epoch: int) -> dict[str, float]:
        """The column and the accuracy in percent after `epoch` epochs; {} where none is due.

        Args:
            encoder: a Keras model of pictures.
            epoch: how many epochs are done.
        """
        if epoch % self.every:
            return {}
        if interface.kind(encoder) != "pictures":
            raise UserError("A probe is watched on pictures, and this encoder takes others: leave out `watch`.")
        self.load(interface.picture_shape(encoder))
        assert self._drawn is not None
        began = time.perf_counter()
        fitted, scored = (self._features(encoder, each.images) for each in self._drawn)
        bank, queries = self._drawn
        task = Task(
            dataset=bank.name,
            split="validation",
            endpoint=self.endpoint,
            train_x=fitted,
            train_y=bank.labels,
            test_x=scored,
            test_y=queries.labels,
            classes=max(len(bank.classes), int(bank.labels.max()) + 1),  # type: ignore[union-attr]
            train_images=bank.images,
            test_images=queries.images,
        )
        with Progress(False) as hidden:
            (variant,) = self.protocol.variants
            score = self.protocol(task, Options(seeds=1, variant=variant), hidden.start(""))
            score = asked_for(self.protocol, score)[variant] if self.protocol.joint else score
        self.seconds = time.perf_counter() - began
        return {self.column: score.mean}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, and put the accuracy into the logs."""
        with averaged(self.model):
            values = self.measure(getattr(self.model, "encoder", self.model), epoch + 1)
        if logs is not None:
            logs.update(values)

    def _features(self, encoder: Any, images: np.ndarray) -> np.ndarray:
        """One endpoint of the pictures, (N, D); the others, which may be a hundred times as wide, are not kept."""
        if self._encoder is not encoder:
            outputs = interface.outputs(encoder)
            if self.endpoint not in outputs and len(outputs) > 1:
                raise UserError(f"The encoder has no endpoint {self.endpoint!r}; it has {', '.join(outputs)}.")
            output = outputs.get(self.endpoint, next(iter(outputs.values())))
            self._encoder, self._one_endpoint = encoder, keras.Model(encoder.inputs[0], output)
        values = self._one_endpoint.predict(images, batch_size=_BATCH, verbose=0)
        return np.asarray(values, "float32").reshape(len(images), -1)


def _draw(whole: Dataset, bank: int, queries: int, seed: int) -> tuple[Dataset, Dataset]:
    """The pictures to fit on and those to score, none in both, each class with its share in either."""
    from sklearn.model_selection import train_test_split

    if whole.labels is None:
        raise UserError(f"A probe is scored by labels, and {whole.name} has none: give a folder of class folders.")
    labels, counts = np.unique(whole.labels, return_counts=True)
    if len(labels) < 2:
        raise UserError(f"A probe distinguishes classes, and the labels of {whole.name} are all of one.")
    if counts.min() < 2:
        rare = int(labels[counts.argmin()])
        name = whole.classes[rare] if rare < len(whole.classes) else str(rare)
        raise UserError(f"A probe takes two pictures of each class, one to fit on, and {whole.name} has one of {name}.")
    scored = max(min(queries, len(whole) // _SHARE), len(labels))
    fitted = max(min(bank, len(whole) - scored), len(labels))
    rows = np.arange(len(whole))
    if fitted + scored > len(whole):
        raise UserError(f"{whole.name} has {len(whole)} pictures of {len(labels)} classes, too few for a probe.")
    drawn = train_test_split(rows, test_size=scored, train_size=fitted, stratify=whole.labels, random_state=seed)
    if unseen := set(whole.labels[drawn[1]].tolist()) - set(whole.labels[drawn[0]].tolist()):
        raise UserError(
            f"The bank of {fitted:,} pictures drawn from {whole.name} has none of {len(unseen)} classes that are "
            "scored: raise `bank`, or leave out the rare classes."
        )
    first, second = (Dataset(whole.name, whole.images[each], whole.labels[each], whole.classes) for each in drawn)
    return first, second


class TensorBoard(keras.callbacks.Callback):
    """Writes everything that a run logs by epoch as scalars for TensorBoard, with tensorboard's own writer.

    A tag is the kind of the column and its name: `nats/local_mi`, `nats/local_mi_ceiling`, `embedding/spread`,
    `probe/probe_knn`. In a run of `mizoo.pretrain.pretrain(..., tensorboard=True)` (`mizoo pretrain --tensorboard`)
    that is all of log.csv, on either backend; in another `fit` it is what that logs.

    Args:
        folder: of the event files. Those that are there are replaced, so that a run that goes on from an earlier
            checkpoint shows each epoch once.
        lines: what was logged before, as `mizoo.runs.folder.read_log` gives it: written first.

    Raises:
        UserError: if tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike, lines: Iterable[Mapping[str, float]] = ()) -> None:
        super().__init__()
        try:
            from tensorboard.summary import Writer
        except ImportError as error:
            raise UserError(
                'TensorBoard\'s files are written by tensorboard: `pip install ".[tensorboard]"` in a clone.'
            ) from error
        self.folder, self.lines, self._kind = Path(folder), tuple(lines), Writer
        self._writer: Any = None

    def on_train_begin(self, logs=None) -> None:
        """Open the file, and write what was logged before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in self.folder.glob("events.out.tfevents.*"):
            file.unlink()
        self._writer = self._kind(str(self.folder))
        for line in self.lines:
            self._write(int(line["epoch"]), line)

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Write one epoch."""
        self._write(epoch + 1, logs or {})

    def on_train_end(self, logs=None) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, epoch: int, values: Mapping[str, float]) -> None:
        for column, value in values.items():
            if column != "epoch":
                self._writer.add_scalar(f"{group_of(column, values)}/{column}", float(value), step=epoch)
        self._writer.flush()
