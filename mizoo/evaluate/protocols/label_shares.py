"""Accuracy against the number of labels: of frozen features, of fine-tuning and of training from scratch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mizoo import finetune as engine
from mizoo.data.sampling import stratified
from mizoo.evaluate.protocols import LeftOut, Options, Score, Task, linear
from mizoo.evaluate.protocols.finetuning import train_and_score

DRAWS = 3
FEW = 10  # per cent up to which the draw matters
_FEWEST = 2  # labels of a class on the average


def frozen(task: Task, options: Options, progress) -> Score:
    """The protocol `labels`, at the share that the variant names."""

    train_x, train_y, test_x, test_y, classes = task.arrays

    def measure(rows: np.ndarray, seed: int):
        """The probe `linear` on a part of the training features."""
        probe = linear.fit_score(train_x[rows], train_y[rows], test_x, test_y, classes, progress.advance)
        return float(probe[0][0]), {"probe": "linear", **probe[1]}

    return _over_draws(task, options, progress, linear.ROUNDS, measure)


def finetuned(task: Task, options: Options, progress) -> Score:
    """The protocol `labels_finetune`, at the share that the variant names."""
    return _trained(task, options, progress, "unfrozen")


def from_scratch(task: Task, options: Options, progress) -> Score:
    """The protocol `labels_scratch`, at the share that the variant names."""
    return _trained(task, options, progress, "scratch")


def _trained(task: Task, options: Options, progress, mode: str) -> Score:
    images, labels = task.train_images, task.train_y
    assert images is not None and labels is not None

    def measure(rows: np.ndarray, seed: int):
        """One training with a part of the labels."""
        return train_and_score(task, images[rows], labels[rows], mode, seed, progress.advance)

    return _over_draws(task, options, progress, engine.Budget().steps, measure)


def _over_draws(
    task: Task,
    options: Options,
    progress,
    parts: int,
    measure: Callable[[np.ndarray, int], tuple[float, dict]],
) -> Score:
    """The accuracy over the draws of one share; `measure` takes the rows of a draw and its number."""
    share, labels = int(options.variant), task.train_y
    assert labels is not None
    count, classes = round(len(labels) * share / 100), len(np.unique(labels))
    if count < _FEWEST * classes:
        raise LeftOut(
            f"{share} % of {len(labels)} labels are {count}, fewer than {_FEWEST} for each of {classes} classes."
        )
    draws = DRAWS if share <= FEW else 1
    progress.resize(draws * parts)
    values, settings = [], {}
    for draw in range(draws):
        rows = stratified(labels, count, draw, at_least=1) if share < 100 else np.arange(len(labels))
        value, settings = measure(rows, draw)
        values.append(value)
    return Score(values, {"variant": options.variant, "labels": len(rows), "draws": draws, **settings})
