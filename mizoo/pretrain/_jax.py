"""Training on several devices and hosts by JAX: one program over all of them, its batch in shares."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import keras
import numpy as np

from mizoo._tools.group import Group
from mizoo.errors import UserError
from mizoo.pretrain.placement import Placement, run_epochs, say


class Scan(Placement):
    """One device, each epoch as one compiled scan where the data are one array."""

    def fit(self, model: Any, batches: Any, start: int, last: int, callbacks: Sequence[Any]) -> None:
        """As `Objective.fit`, without calls for batches where an epoch is a scan."""
        if not isinstance(batches.images, np.ndarray):
            super().fit(model, batches, start, last, callbacks)
            return
        images = jax.device_put(batches.images)
        targets = None if batches.targets is None else jax.device_put(batches.targets)

        def train_epoch(epoch: int, calls: Any) -> dict[str, float]:
            """The means of the terms over one epoch."""
            return model.scan_epoch(images, batches.batch_size, batches.seed, epoch, targets)

        run_epochs(model, start, last, batches.steps_per_epoch, callbacks, train_epoch)


class DataParallel(Placement):
    """All devices of this host, or of all hosts, by `keras.distribution.DataParallel`.

    The step is traced for the whole batch, so negatives, statistics, order and noise are those of one device; XLA puts
    in what the devices exchange.
    """

    splits = True

    def __init__(self, group: Group | None, seed: int) -> None:
        self.group = group
        if group is not None:
            keras.utils.set_random_seed(seed)  # without one, Keras draws one that all hosts have to compute together
            keras.distribution.initialize(",".join(group.workers.addresses), group.count, group.index)
        self.distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
        self.replicas = jax.device_count()

    def scope(self) -> contextlib.AbstractContextManager:
        """The distribution's."""
        return self.distribution.scope()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Without the distribution: on the first device of this host."""
        outer = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(outer)

    def fit(self, model: Any, batches: Any, start: int, last: int, callbacks: Sequence[Any]) -> None:
        """As `Objective.fit`."""
        with self.scope():
            model.fit(batches, initial_epoch=start, epochs=last, verbose=0, callbacks=callbacks)


def choose(strategy: str, scan: bool | None, group: Group | None, seed: int) -> Placement:
    """The placement of a strategy; see `mizoo.pretrain.strategies.choose`."""
    if scan and (group is not None or strategy in ("mirrored", "multiworker")):
        raise UserError("`scan` trains on one device: leave it out, or choose `--strategy single`.")
    if group is not None:
        return DataParallel(group, seed)
    devices = jax.local_device_count()
    if strategy == "mirrored" or (strategy == "auto" and devices > 1 and not scan):
        return DataParallel(None, seed)
    if scan is None:
        scan = jax.default_backend() != "cpu"
    if scan and devices > 1:
        say(f"Epochs by scan train on one device; the other {devices - 1} do nothing.")
    return Scan() if scan else Placement()
