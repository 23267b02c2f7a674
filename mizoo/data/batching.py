"""Batches whose order and noise are functions of (seed, epoch, step) alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from mizoo._tools.arrays import check_whole, to_numpy
from mizoo.data.arrays import check_array
from mizoo.data.sound_files import check_clips
from mizoo.errors import UserError

_ORDER, _NOISE, _WINDOW, VIEWS = 0, 1, 2, 3  # streams of the generator, so that they never share numbers


def generator(seed: int, *counters: int) -> np.random.Generator:
    """A counter-based generator (Philox) of the stream that `seed` and `counters` name."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, *counters))))


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The permutation, int64 (size,), in which `epoch` visits the pictures."""
    return generator(seed, _ORDER, epoch).permutation(size)


def step_noise(seed: int, epoch: int, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform float32 noise in [0, 1) for one step."""
    return generator(seed, _NOISE, epoch, step).random(shape, dtype=np.float32)


def rows_of_host(batch_size: int, index: int, count: int) -> slice:
    """The rows of a batch that belong to host (or device) `index` of `count`: the one place that deals out batches.

    Order and noise are defined over the whole batch, and the parts in the order of their index make it up again, so
    that the same weights come out whatever the number of hosts. A reader of data that is told (index, count) needs to
    read these rows alone: `epoch_order(seed, epoch, size)[step * batch_size:][rows]`.

    Raises:
        UserError: if they cannot share the batch equally.
    """
    if batch_size % count:
        raise UserError(f"{count} hosts share a batch equally: give a multiple of {count}. Received: {batch_size}")
    share = batch_size // count
    return slice(index * share, (index + 1) * share)


class Batches(keras.utils.PyDataset):
    """An endless sequence of batches; batch i belongs to epoch i // steps_per_epoch.

    Keras starts the next iterator before it announces the end of an epoch, so an order kept as state would be wrong
    by a few batches: here the index alone decides. `Objective.fit` reads `steps_per_epoch`.

    Args:
        images: uint8 (N, H, W, C), or sequences, float32 (N, T) or (N, T, d).
        batch_size: pictures in a batch.
        seed: seed of order and noise.
        noise_size: columns of noise, or 0 for none.
        start_epoch: the epoch of batch 0.
        targets: (N, D), a vector that comes with each picture, or None.

    Raises:
        UserError: if there are fewer pictures than one batch takes, or not a target for each; for arrays of another
            type or range (as of `mizoo.data.load`), a seed or another number below 0, and targets that are not finite.
    """

    def __init__(
        self,
        images: Any,
        batch_size: int,
        seed: int = 0,
        noise_size: int = 0,
        start_epoch: int = 0,
        targets: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        images = self.check(images)
        self.kind = "pictures" if getattr(images, "ndim", 1) == 4 else "sequences"
        batch_size = check_whole(batch_size, "batch_size")
        if batch_size < 2:
            raise UserError(f"`batch_size` is 2 or more: negatives are other pictures. Received: {batch_size}")
        if len(images) < batch_size:
            raise UserError(
                f"One batch takes {batch_size} {self.kind} and there are {len(images)}: lower `batch_size`."
            )
        if targets is not None:
            targets = _check_targets(targets, len(images), self.kind)
        self.images = images
        self.targets = targets
        self.batch_size = batch_size
        self.seed = check_whole(seed, "seed")
        self.noise_size = check_whole(noise_size, "noise_size")
        self.start_epoch = check_whole(start_epoch, "start_epoch")
        self._order = (-1, np.empty(0, np.int64))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the pictures."""
        return len(self.images) // self.batch_size

    @property
    def num_batches(self) -> None:
        """None: Keras treats the sequence as endless and keeps one iterator for all epochs."""
        return None

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        epoch, step = divmod(index, self.steps_per_epoch)
        epoch += self.start_epoch
        cached, order = self._order
        if cached != epoch:
            order = epoch_order(self.seed, epoch, len(self.images))
            self._order = (epoch, order)
        rows = order[step * self.batch_size : (step + 1) * self.batch_size]
        batch = {"images" if self.kind == "pictures" else self.kind: self.take(rows, epoch, step)}
        if self.noise_size:
            batch["noise"] = step_noise(self.seed, epoch, step, (self.batch_size, self.noise_size))
        if self.targets is not None:
            batch["targets"] = self.targets[rows]
        return batch

    def check(self, images: Any) -> Any:
        """What the batches are made of, once it is what they can be made of."""
        return check_array(images)

    def take(self, rows: np.ndarray, epoch: int, step: int) -> np.ndarray:
        """The rows of one batch."""
        return self.images[rows]


def _check_targets(targets: Any, count: int, kind: str) -> np.ndarray:
    array = to_numpy(targets, "targets")
    if array.ndim == 0 or len(array) != count:
        received = len(array) if array.ndim else "one number"
        raise UserError(f"There is one target for each of {count} {kind}. Received: {received}")
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise UserError(
            "`targets` are finite floats (N, D), as `mizoo.teachers.targets` gives them. Received: "
            f"{array.dtype} of shape {array.shape}."
        )
    return array


class Windows(Batches):
    """Batches of windows of clips: every clip once an epoch, its window by (seed, epoch, step).

    Args:
        clips: float32 arrays (T,) in -1..1, of different lengths; shorter ones than a window get zeros around them.
        window: samples in a window.
        batch_size, seed, noise_size, start_epoch: as of `Batches`.

    Raises:
        UserError: if there are fewer clips than one batch takes, or they are no sounds.
    """

    def __init__(self, clips: Sequence[np.ndarray], window: int, batch_size: int, **kwargs) -> None:
        super().__init__(clips, batch_size, **kwargs)
        self.window = check_whole(window, "window", 1)

    def check(self, images: Any) -> tuple[np.ndarray, ...]:
        """The clips, once each is one."""
        return check_clips(images)

    def take(self, rows: np.ndarray, epoch: int, step: int) -> np.ndarray:
        """Windows float32 (batch_size, window) of the clips `rows`."""
        from mizoo.data.sounds import cut

        positions = generator(self.seed, _WINDOW, epoch, step).random(len(rows))
        return np.stack([cut(self.images[row], self.window, position) for row, position in zip(rows, positions)])
