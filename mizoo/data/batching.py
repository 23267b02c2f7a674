"""Batches whose order and noise are functions of (seed, epoch, step) alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from mizoo._tools.arrays import check_whole, to_numpy
from mizoo.data.arrays import check_array
from mizoo.data.order import VIEWS, WINDOW, BatchRows, epoch_order, generator, rows_of_host, step_noise
from mizoo.data.reading import Reader
from mizoo.data.sound_files import check_clips
from mizoo.data.streams import Stream
from mizoo.errors import UserError

__all__ = ["VIEWS", "Batches", "StreamedBatches", "Windows", "epoch_order", "generator", "rows_of_host", "step_noise"]


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
        shard: (index, count) of the host that takes its equal part of every batch, see `mizoo.data.order.rows_of_host`.

    Raises:
        UserError: if there are fewer pictures than one batch takes, or not a target for each; for arrays of another
            type or range (as of `mizoo.data.load`), a seed or another number below 0, targets that are not finite, and
            batches that the hosts cannot share equally.
    """

    def __init__(
        self,
        images: Any,
        batch_size: int,
        seed: int = 0,
        noise_size: int = 0,
        start_epoch: int = 0,
        targets: np.ndarray | None = None,
        shard: tuple[int, int] = (0, 1),
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
        self.part = rows_of_host(batch_size, *shard)
        self.rows = BatchRows(len(images), batch_size, self.seed, self.start_epoch, self.part)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the pictures."""
        return self.rows.steps_per_epoch

    @property
    def num_batches(self) -> None:
        """None: Keras treats the sequence as endless and keeps one iterator for all epochs."""
        return None

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        epoch, step = self.rows.position(index)
        rows = self.rows[index]
        batch = {"images" if self.kind == "pictures" else self.kind: self.take(rows, index)}
        if self.noise_size:
            noise = step_noise(self.seed, epoch, step, (self.batch_size, self.noise_size))
            batch["noise"] = noise[self.part]
        if self.targets is not None:
            batch["targets"] = self.targets[rows]
        return batch

    def check(self, images: Any) -> Any:
        """What the batches are made of, once it is what they can be made of."""
        return check_array(images)

    def take(self, rows: np.ndarray, index: int) -> np.ndarray:
        """The rows of batch `index`."""
        return self.images[rows]

    def close(self) -> None:
        """End what reads ahead, where something does; no batch can be had any more."""


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


class StreamedBatches(Batches):
    """Batches of pictures that are streamed, read ahead: the same as of the array of all pictures.

    Args:
        images: a `mizoo.data.streams.Stream`.
        batch_size, seed, noise_size, start_epoch, targets, shard: as of `Batches`.
        workers: processes that decode, see `mizoo.data.batches`.

    Attributes:
        failure: the error of a picture that could not be read, which TensorFlow passes on as one of its own.

    Raises:
        UserError: as of `Batches`, but for the pictures, which are looked at when they are read: then by name.
    """

    def __init__(self, images: Stream, batch_size: int, *args: Any, workers: int | None = None, **kwargs) -> None:
        super().__init__(images, batch_size, *args, **kwargs)
        self.failure: UserError | None = None
        self._reader = Reader(images, self.rows, workers)

    def check(self, images: Any) -> Any:
        """The stream, whose pictures are checked when they are decoded."""
        if not isinstance(images, Stream):
            raise UserError(f"`images` is a stream, as `mizoo.data.stream` gives it. Received: {type(images).__name__}")
        return images

    def take(self, rows: np.ndarray, index: int) -> np.ndarray:
        """The rows of batch `index`; errors as of `mizoo.data.reading.Reader`."""
        try:
            return self._reader[index]
        except UserError as error:
            self.failure = error
            raise

    def close(self) -> None:
        """End the processes that read ahead; no batch can be had any more."""
        self._reader.close()


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

    def take(self, rows: np.ndarray, index: int) -> np.ndarray:
        """Windows float32 (batch_size, window) of the clips `rows`."""
        from mizoo.data.sounds import cut

        positions = generator(self.seed, WINDOW, *self.rows.position(index)).random(self.batch_size)[self.part]
        return np.stack([cut(self.images[row], self.window, position) for row, position in zip(rows, positions)])
