"""Batches of a stream, read ahead in order by Grain: in processes, or in threads of this one."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import shutil
import signal
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from mizoo._tools.arrays import check_whole
from mizoo._tools.hardware import cores
from mizoo.data.order import BatchRows
from mizoo.data.streams import Stream
from mizoo.errors import UserError

TIMEOUT = 300.0
"""Seconds that a batch may take to come before the training stops with an error."""

_MOST_WORKERS = 8  # unless more are asked for
_KEPT = 2  # batches that can be had again: Keras looks at the first two before it begins
_IN_FLIGHT = (
    4  # batches that a process holds at most: one that is made, one that waits, one that is taken, and one kept
)
_SHARED_MEMORY = "/dev/shm"


def default_workers(cores: int) -> int:
    """The processes that decode on a machine of so many cores, unless others are asked for."""
    return min(_MOST_WORKERS, max(1, cores // 2))


class Reader:
    """The batches of a training by number, asked for mostly in order, a few of them decoded ahead.

    A batch depends on its number alone, so that any number of processes, and a start at any batch, give the same.

    Args:
        stream: the pictures.
        rows: of every batch.
        workers: processes that decode; 0 decodes in threads of this process, None takes half of the cores, 8 at most.
    """

    def __init__(self, stream: Stream, rows: BatchRows, workers: int | None = None) -> None:
        self.workers = default_workers(cores()) if workers is None else check_whole(workers, "workers")
        self.stream, self.rows = stream, rows
        self._iterator: Any = None
        self._next, self._kept = 0, dict[int, np.ndarray]()
        self._closed = self._fresh = False
        self._lock = threading.Lock()

    def __getitem__(self, index: int) -> np.ndarray:
        """Pictures of batch `index`, uint8 (rows, H, W, C).

        Raises:
            UserError: naming the file or shard, for a picture that cannot be read; for a process that ended, and for a
                batch that does not come within `TIMEOUT` seconds.
        """
        with self._lock:
            if index in self._kept:
                return self._kept[index]
            if self._closed:
                raise UserError("These batches are closed. Make new ones, with `start_epoch` to go on from.")
            if self._iterator is None or index != self._next:
                self._start(index)
            self._kept = {number: self._kept[number] for number in list(self._kept)[1 - _KEPT :]}
            self._kept[index] = self._next_batch(index)
            self._next = index + 1
            return self._kept[index]

    def close(self) -> None:
        """End the processes; no batch can be had any more."""
        self._closed = True
        self._stop()

    def _start(self, index: int) -> None:
        self._stop()
        self._iterator, self._next = iter(_pipeline(self.stream, self.rows, index, self.workers)), index
        self._kept.clear()
        self._fresh = True  # the processes start when its first batch is asked for

    def _stop(self) -> None:
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            iterator.close()

    def _next_batch(self, index: int) -> np.ndarray:
        epoch, step = self.rows.position(index)
        where = f"Reading stopped at step {step + 1} of epoch {epoch + 1}."
        fresh, self._fresh = self._fresh, False
        try:
            with _without_main_module() if fresh and self.workers else contextlib.nullcontext():
                return _within(self._iterator, TIMEOUT)
        except queue.Empty:
            reason = f"No batch came for {TIMEOUT:g} seconds: the disk or the network that holds the data may hang."
        except UserError as error:
            reason = str(error)
        except (RuntimeError, OSError) as error:  # Grain's, of a process that was killed
            reason = f"A process that decodes pictures ended ({error}). It may have had too little memory: take fewer."
        self._stop()  # what is asked for again is begun again
        raise UserError(f"{reason} {where}")


def _pipeline(stream: Stream, rows: BatchRows, start: int, workers: int) -> Any:
    """Grain's data set of the batches from `start` on."""
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # outside of absl's `app.run` its workers refuse to start
        flags.FLAGS.mark_as_parsed()
    # Whole batches before the processes: formed behind them, the order would depend on their number.
    batches = grain.MapDataset.source(rows)[start:].map(stream.read)
    if not workers:
        threads = cores()
        return batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
    ahead = batches.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    size = len(rows[start]) * int(np.prod(stream.picture_shape))
    if not _fits_in_shared_memory(size * workers * _IN_FLIGHT):
        ahead = grain.experimental.WithOptionsIterDataset(
            ahead, grain.experimental.DatasetOptions(min_shm_size=1 << 62)
        )
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
    return ahead.mp_prefetch(options, worker_init_fn=_begin_process)


def _begin_process(index: int, count: int) -> None:
    """What each process does first: it leaves Ctrl-C to the training, and ends when that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_it() -> None:
        """Wait for the end of the process that trains, which may have been killed and say nothing."""
        if parent is not None:
            parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_it, daemon=True).start()


def _within(iterator: Iterator[np.ndarray], seconds: float) -> np.ndarray:
    """The next batch; `queue.Empty` if it does not come in time."""
    box: queue.SimpleQueue = queue.SimpleQueue()

    def fetch() -> None:
        """Put the batch, or the error that comes in its place, into the box."""
        try:
            box.put((next(iterator), None))
        except BaseException as error:  # handed over to the thread that waits
            box.put((None, error))

    threading.Thread(target=fetch, daemon=True).start()
    batch, error = box.get(timeout=seconds)
    if error is not None:
        raise error
    return np.array(batch)  # a copy, as what lies in shared memory takes its file until it is gone


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    """Within it, processes start without the script that runs: it may import Keras, or train without a guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _fits_in_shared_memory(size: int) -> bool:
    """Whether batches may travel by shared memory, of which containers often have 64 MB alone."""
    try:
        return size < shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:  # of other systems, where it is not a folder
        return True
