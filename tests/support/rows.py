"""A row of results, as the tests of tables, cards and files change it."""

from __future__ import annotations

import dataclasses
from typing import Any

from mizoo.evaluate.rows import Row

_ROW = Row(
    entry="dim",
    encoder="published",
    dataset="cifar10",
    endpoint="fc",
    protocol="knn",
    value=70.0,
    spread=0.0,
    seeds=1,
    split="test",
    train_size=50000,
    test_size=10000,
    settings={},
    command="mizoo evaluate dim",
    version="0.1.0",
    hardware="CPU, 2 cores",
    seconds=1.0,
)


def a_row(**changes: Any) -> Row:
    """A row of `knn` on `fc` of an entry `dim`, with some values changed."""
    return dataclasses.replace(_ROW, **changes)
