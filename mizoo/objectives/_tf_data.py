"""Batches of one from a `tf.data.Dataset` that does not say how large its batches are."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from mizoo.errors import UserError
from mizoo.objectives import inputs

_MARK = "the first batch holds too few inputs"  # by which the error of the graph is known again
_REFUSED = ("mizoo refuses this batch: ", " (end)")


def with_first_rows_checked(model: Any, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same batches, of which the first fails if it holds fewer inputs than the objective tells apart.

    Nothing is read for it: shuffling starts once, and a generator loses no batch.

    Args:
        model: the objective.
        dataset: of batches (B, ...), alone or in tuples and dicts; left as it is where its shape says B.
    """
    first = tf.nest.flatten(dataset.element_spec)[0]
    if not isinstance(first, tf.TensorSpec) or first.shape.rank in (None, 0) or first.shape[0] is not None:
        return dataset

    def checked(index, batch):
        """The batch, once it is not a first one of too few rows."""
        rows = tf.shape(tf.nest.flatten(batch)[0])[0]
        enough = tf.logical_or(index > 0, rows >= model.fewest_rows)
        with tf.control_dependencies([tf.debugging.Assert(enough, [f"{_MARK}: <", tf.strings.as_string(rows), ">"])]):
            return tf.nest.map_structure(tf.identity, batch)

    return dataset.enumerate().map(lambda index, *batch: checked(index, batch[0] if len(batch) == 1 else batch))


def refusal(message: str) -> str:
    """What an assertion of the graph says, so that `errors_named` raises it as a `UserError` with the message."""
    return message.join(_REFUSED)


@contextlib.contextmanager
def errors_named(model: Any) -> Iterator[None]:
    """Within it, what the graph finds of a batch is a `UserError`: of the rows of the first that of `check_rows`."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if refused := re.search("(.*?)".join(map(re.escape, _REFUSED)), str(error), re.DOTALL):
            raise UserError(refused.group(1)) from error
        found = re.search(rf"{_MARK}: <\W*(\d+)", str(error))
        if not found:
            raise
        inputs.check_rows(model, int(found.group(1)))
        raise
