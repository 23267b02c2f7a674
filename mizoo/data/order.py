"""The order of the pictures and the noise of a step, as functions of (seed, epoch, step) alone. Needs NumPy only."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from mizoo._tools.arrays import check_whole
from mizoo.errors import UserError

ORDER, NOISE, WINDOW, VIEWS, LAYERS = 0, 1, 2, 3, 4  # streams of the generator, so that they never share numbers
_EPOCHS = 1 << 30  # as good as endless


def generator(seed: int, *counters: int) -> np.random.Generator:
    """A counter-based generator (Philox) of the stream that `seed` and `counters` name."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, *counters))))


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The permutation, int64 (size,), in which `epoch` visits the pictures."""
    return generator(seed, ORDER, epoch).permutation(size)


def step_noise(seed: int, epoch: int, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform float32 noise in [0, 1) for one step."""
    return generator(seed, NOISE, epoch, step).random(shape, dtype=np.float32)


@functools.lru_cache(maxsize=2)  # of the epoch that ends and of the one that begins
def _kept_order(seed: int, epoch: int, size: int) -> np.ndarray:
    return epoch_order(seed, epoch, size)


def rows_of_host(batch_size: int, index: int, count: int) -> slice:
    """The rows of each batch that belong to host (or device) `index` of `count`: equal blocks, in their order.

    Order and noise are drawn for the whole batch, so that the hosts together have the batches of one.

    Args:
        batch_size: rows of the whole batch.
        index, count: the host's number, from 0 on, and how many there are.

    Raises:
        UserError: for an index that is none of `count`, or hosts that cannot share the batch equally.
    """
    if check_whole(index, "index") >= check_whole(count, "count", 1):
        raise UserError(f"The index of a host is below the count of hosts. Received: index={index}, count={count}")
    if batch_size % count:
        raise UserError(f"{count} hosts share a batch equally: give a multiple of {count}. Received: {batch_size}")
    share = batch_size // count
    return slice(index * share, (index + 1) * share)


@dataclass(frozen=True)
class BatchRows:
    """The rows of every batch of an endless training, by the number of the batch.

    Attributes:
        count: pictures in all.
        batch_size: of the whole batch, of all hosts.
        seed: of the order.
        start_epoch: that batch 0 belongs to.
        part: which rows of a batch are taken, see `rows_of_host`.
    """

    count: int
    batch_size: int
    seed: int
    start_epoch: int
    part: slice

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the pictures."""
        return self.count // self.batch_size

    def position(self, index: int) -> tuple[int, int]:
        """Epoch and step of batch `index`."""
        epoch, step = divmod(index, self.steps_per_epoch)
        return epoch + self.start_epoch, step

    def __len__(self) -> int:
        return _EPOCHS * self.steps_per_epoch

    def __getitem__(self, index: int) -> np.ndarray:
        """Row numbers, int64, of the pictures of batch `index`."""
        epoch, step = self.position(index)
        order = _kept_order(self.seed, epoch, self.count)
        return order[step * self.batch_size : (step + 1) * self.batch_size][self.part]
