"""The columns of a run's log: what kind of quantity each one is, for curves, TensorBoard and the report."""

from __future__ import annotations

import re
from collections.abc import Container

CEILING = "_ceiling"
PROBE = "probe_"
"""Suffix of the largest value that a term can have, and prefix of the accuracy of a probe that is watched."""

_BOUND, _PICKS = re.compile(r"mi_\d+|\w*_mi"), re.compile(r"accuracy_\d+")
_EMBEDDING = ("spread", "effective_rank")
_TRAINING = re.compile(r"learning_rate|seconds|\w+_per_second")


def group_of(column: str, columns: Container[str] = ()) -> str:
    """The kind of a column, as tags of TensorBoard and panels of curves sort them.

    "nats" of bounds and their ceilings, "probe" of the accuracy of a watched probe in percent, "accuracy" of shares of
    right picks, "loss", "terms" of an objective's further ones, "embedding" of its spread and rank, "training" of rate,
    speed and time.

    Args:
        column: its name.
        columns: the names of all columns of the log: a term that has a ceiling is a bound.
    """
    if column.endswith(CEILING) or column + CEILING in columns or _BOUND.fullmatch(column):
        return "nats"
    if column.startswith(PROBE):
        return "probe"
    if _PICKS.fullmatch(column):
        return "accuracy"
    if column in _EMBEDDING:
        return "embedding"
    if _TRAINING.fullmatch(column):
        return "training"
    return "loss" if column == "loss" else "terms"
