"""Where a run is trained: on one device, on those of a host, or on several hosts."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from mizoo._tools.group import Group
from mizoo.errors import UserError


class Placement:
    """One device, the one that Keras takes; the others are subclasses, in `_tensorflow.py` and `_jax.py`.

    Attributes:
        replicas: how many devices share a batch, on all hosts together.
        group: the workers of a run on several hosts, or None.
        splits: whether a model that is built in the `scope` has parts on other devices, so that what one process
            computes by itself needs a model of its own.
    """

    replicas = 1
    group: Group | None = None
    splits = False

    @property
    def shard(self) -> tuple[int, int]:
        """Of several hosts the index of this one and their count: which part of every batch it takes."""
        return (0, 1) if self.group is None else (self.group.index, self.group.count)

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """In it the callbacks measure and write, alone; the death of another worker waits for a file to be whole."""
        with self.alone(), contextlib.nullcontext() if self.group is None else self.group.writing():
            yield

    def scope(self) -> contextlib.AbstractContextManager:
        """In it the model is built and compiled."""
        return contextlib.nullcontext()

    def alone(self) -> contextlib.AbstractContextManager:
        """In it a model is built, and works, for this process alone."""
        return contextlib.nullcontext()

    def fit(self, model: Any, batches: Any, start: int, last: int, callbacks: Sequence[Any]) -> None:
        """Train the epochs from `start` to `last` on batches of `mizoo.data.batches`."""
        model.fit(batches, initial_epoch=start, epochs=last, verbose=0, callbacks=callbacks)

    def facts(self) -> dict[str, Any]:
        """What machine.json records of it."""
        hosts = {} if self.group is None else {"hosts": self.group.count}
        return {"replicas": self.replicas, **hosts} if self.replicas > 1 else {}


def check_shared(batch_size: int, placement: Placement) -> None:
    """Refuse a batch that the devices cannot share equally.

    Raises:
        UserError: with the nearest sizes that they can.
    """
    replicas = placement.replicas
    if batch_size % replicas:
        below = batch_size // replicas * replicas
        sizes = " or ".join(str(size) for size in (below, below + replicas) if size)
        raise UserError(
            f"The {replicas} devices share a batch equally, and `training.batch_size` is {batch_size}: give {sizes} "
            "(--set training.batch_size=...)."
        )


def run_epochs(
    model: Any, start: int, last: int, steps: int, callbacks: Sequence[Any], train_epoch: Callable[[int, Any], dict]
) -> None:
    """Call the callbacks around epochs that are trained without `fit`.

    Args:
        model: what is trained.
        start, last: the epochs.
        steps: in an epoch.
        callbacks: of Keras.
        train_epoch: of the epoch and the list of callbacks, to the logs of the epoch.
    """
    calls = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=last, steps=steps)
    model.stop_training = False
    logs = None
    calls.on_train_begin()
    for epoch in range(start, last):
        calls.on_epoch_begin(epoch)
        logs = train_epoch(epoch, calls)
        calls.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    calls.on_train_end(logs)


class KeepTogether(keras.callbacks.Callback):
    """At the end of an epoch all workers wait for the chief, which measures and writes, and stop if it stops.

    The chief calls it after all other callbacks; the other workers have none that measure or write.
    """

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.group = group

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Go on or stop, as the chief does."""
        self.model.stop_training, _ = self.group.share(bool(self.model.stop_training))


class Alone(keras.callbacks.Callback):
    """Calls callbacks in a context: what they compute is this process's alone.

    Args:
        callbacks: of Keras.
        context: makes the context.
    """

    def __init__(self, callbacks: Sequence[Any], context: Callable[[], contextlib.AbstractContextManager]) -> None:
        super().__init__()
        self.callbacks, self.context = list(callbacks), context

    def set_model(self, model: Any) -> None:
        """Hand on the model."""
        super().set_model(model)
        for each in self.callbacks:
            each.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        """Hand on what Keras tells of the training."""
        super().set_params(params)
        for each in self.callbacks:
            each.set_params(params)

    def on_train_begin(self, logs=None) -> None:
        """Hand on the call."""
        self._call("on_train_begin", logs)

    def on_train_end(self, logs=None) -> None:
        """Hand on the call."""
        self._call("on_train_end", logs)

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        """Hand on the call."""
        self._call("on_epoch_begin", epoch, logs)

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Hand on the call."""
        self._call("on_epoch_end", epoch, logs)

    def on_train_batch_begin(self, batch: int, logs=None) -> None:
        """Hand on the call."""
        self._call("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        """Hand on the call."""
        self._call("on_train_batch_end", batch, logs)

    def _call(self, name: str, *arguments: Any) -> None:
        with self.context():
            for each in self.callbacks:
                getattr(each, name)(*arguments)


def say(message: str) -> None:
    """A line on standard error about how the run is placed."""
    print(message, file=sys.stderr, flush=True)
