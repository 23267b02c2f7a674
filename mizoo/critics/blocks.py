"""Statistics of scores that are formed block by block, and again on the way back, where all would take much memory."""

from __future__ import annotations

import keras
from keras import ops

BUDGET = 1 << 28
"""The most bytes of float32 scores that are formed at once: 256 MiB. More of them are formed by blocks."""

BLOCK = 1 << 25
"""The most bytes of the scores of one block: 32 MiB."""


def needed(rows, columns, batch: int | None = None, replicas: int = 1) -> bool:
    """Whether the scores of rows and columns would pass the budget.

    Args:
        rows: (N, L, U).
        columns: (M, U).
        batch: M, and N on all replicas together, where the tensors do not tell because they are traced without sizes.
        replicas: how many share the batch.
    """
    n, m = rows.shape[0], columns.shape[0]
    if batch is not None:
        n, m = n or -(-batch // replicas), m or batch
    return n is not None and m is not None and 4 * n * rows.shape[1] * m > BUDGET


def mapped(function, columns, rows, *others):
    """The values of a function on blocks of rows, each computed again when its gradient is taken.

    The blocks are of one size, the largest that divides the rows and keeps to `BLOCK`, so the mean of means over them
    is the mean over all. A number of rows with a large prime factor makes them small, and the loop longer.

    Args:
        function: of (columns, block of `rows`, block of each of `others`), to a tensor (K,) of statistics. Everything
            that gets a gradient is among its arguments: TensorFlow gives none to what it captures.
        columns: (M, U), or (M, S, U).
        rows: (N, L, U).
        *others: tensors of N rows.

    Returns:
        (blocks, K).
    """
    count = ops.shape(rows)[0]
    size = _largest_divisor(count, _row_bytes(rows, columns))
    again = keras.remat(function)

    def cut(tensor):
        """The blocks of a tensor, one below the other: (N, ...) to (blocks, N / blocks, ...)."""
        return ops.reshape(tensor, (count // size, size, *tensor.shape[1:]))

    return ops.map(lambda block: again(columns, *block), tuple(cut(each) for each in (rows, *others)))


def _row_bytes(rows, columns):
    """Bytes of the scores of one row: a number where the columns are known, otherwise an int64 scalar."""
    pairs_of_locations = rows.shape[1] * (columns.shape[1] if len(columns.shape) == 3 else 1)
    return 4 * pairs_of_locations * _as_wide(ops.shape(columns)[0])


def _as_wide(size):
    return size if isinstance(size, int) else ops.cast(size, "int64")  # bytes of large batches pass int32


def _largest_divisor(count, row_bytes):
    """The most rows of a block: it divides `count`, and its scores keep to `BLOCK` (or it is 1)."""
    if isinstance(count, int) and isinstance(row_bytes, int):
        most = max(1, BLOCK // row_bytes)
        return max(size for size in range(1, min(count, most) + 1) if count % size == 0)
    most = ops.maximum(BLOCK // row_bytes, 1)
    sizes = ops.arange(1, ops.cast(count, "int64") + 1, dtype="int64")
    fits = ops.logical_and(ops.equal(ops.cast(count, "int64") % sizes, 0), sizes <= most)
    return ops.cast(ops.max(ops.where(fits, sizes, 1)), "int32")
