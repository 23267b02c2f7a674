"""Training on several devices and hosts by TensorFlow's strategies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mizoo._tools.group import Group
from mizoo._tools.workers import Workers
from mizoo.data.order import rows_of_host
from mizoo.pretrain.placement import Placement, run_epochs

_AHEAD = 2  # batches that are made while one is trained on


class Mirrored(Placement):
    """The devices of this host, by MirroredStrategy."""

    def __init__(self, devices: Sequence[str] | None = None) -> None:
        self.strategy = tf.distribute.MirroredStrategy(devices)
        self.replicas = self.strategy.num_replicas_in_sync

    def scope(self) -> contextlib.AbstractContextManager:
        """The strategy's."""
        return self.strategy.scope()


class MultiWorker(Placement):
    """Several hosts, by MultiWorkerMirroredStrategy and the loop over `strategy.run`, as `fit` fails there."""

    splits = True

    def __init__(self, group: Group) -> None:
        self.group = group
        self.strategy = tf.distribute.MultiWorkerMirroredStrategy(_resolver(group.workers))
        self.replicas = self.strategy.num_replicas_in_sync

    def scope(self) -> contextlib.AbstractContextManager:
        """The strategy's."""
        return self.strategy.scope()

    def fit(self, model: Any, batches: Any, start: int, last: int, callbacks: Sequence[Any]) -> None:
        """As `Objective.fit`; callbacks get no logs at the end of a batch."""
        steps = batches.steps_per_epoch
        model.batch_rows = batches.batch_size
        shares = iter(self._distributed(batches, (last - start) * steps))

        @tf.function(reduce_retracing=True)
        def step(batch: Any) -> None:
            """One update from every replica's share of a batch."""
            self.strategy.run(model.train_step, args=(batch,))

        def train_epoch(epoch: int, calls: Any) -> dict[str, float]:
            """The means of the terms over one epoch."""
            model.reset_metrics()
            for number in range(steps):
                calls.on_train_batch_begin(number)
                step(next(shares))
                calls.on_train_batch_end(number)
            # All workers read them: the reading is a sum over the replicas.
            return {name: float(metric.result()) for name, metric in model.term_metrics.items()}

        run_epochs(model, start, last, steps, callbacks, train_epoch)

    def _distributed(self, batches: Any, count: int) -> Any:
        """The first `count` batches, dealt out: each of this host's replicas takes its rows."""
        assert self.group is not None
        local = self.replicas // self.group.count

        def parts() -> Iterator[dict[str, np.ndarray]]:
            """The parts of batch after batch, of which this host has its own, for its replicas in their order."""
            for index in range(count):
                batch = batches[index]
                for replica in range(local):
                    yield {key: np.ascontiguousarray(each[_share(each, replica)]) for key, each in batch.items()}

        def _share(values: np.ndarray, replica: int) -> slice:
            """The rows of one of this host's replicas."""
            return rows_of_host(len(values), replica, local)

        example = {key: values[_share(values, 0)] for key, values in batches[0].items()}
        signature = {key: tf.TensorSpec(values.shape, values.dtype) for key, values in example.items()}

        def dataset(context: Any) -> tf.data.Dataset:
            """The parts as TensorFlow's data set."""
            options = tf.data.Options()
            options.autotune.enabled = False  # the end of a run was seen to wait for its thread
            made = tf.data.Dataset.from_generator(parts, output_signature=signature)
            return made.prefetch(_AHEAD * local).with_options(options)

        return self.strategy.distribute_datasets_from_function(dataset)


def choose(strategy: str, group: Group | None) -> Placement:
    """The placement of a strategy; see `mizoo.pretrain.strategies.choose`."""
    if group is not None:
        return MultiWorker(group)
    gpus = tf.config.list_logical_devices("GPU")
    if strategy == "mirrored":
        return Mirrored([each.name for each in gpus or tf.config.list_logical_devices("CPU")])
    return Mirrored() if strategy == "auto" and len(gpus) > 1 else Placement()


def _resolver(workers: Workers) -> Any:
    cluster = tf.train.ClusterSpec({"worker": list(workers.addresses)})
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster, task_type="worker", task_id=workers.index, rpc_layer="grpc"
    )
