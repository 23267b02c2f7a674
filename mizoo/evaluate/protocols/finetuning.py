"""The encoder trained with labels: from its weights (`finetune`), or from new ones (`scratch`)."""

from __future__ import annotations

from typing import Any

from mizoo import finetune as engine
from mizoo.errors import UserError
from mizoo.evaluate.protocols import Options, Score, Task


def finetuned(task: Task, options: Options, progress) -> Score:
    """The protocol `finetune`."""
    return _trained(task, options, progress, "unfrozen")


def from_scratch(task: Task, options: Options, progress) -> Score:
    """The protocol `scratch`."""
    return _trained(task, options, progress, "scratch")


def _trained(task: Task, options: Options, progress, mode: str) -> Score:
    if options.seeds < 1:
        raise UserError(f"`seeds` must be at least 1. Received: seeds={options.seeds}")
    progress.resize(options.seeds * engine.Budget().steps)
    values, settings = [], {}
    for seed in range(options.seeds):
        value, settings = train_and_score(task, task.train_images, task.train_y, mode, seed, progress.advance)
        values.append(value)
    return Score(values, settings)


def train_and_score(task: Task, images: Any, labels: Any, mode: str, seed: int, advance) -> tuple[float, dict]:
    """Train with the labels given, score on the task: accuracy in percent, and the settings used."""
    arguments = (task.encoder, images, labels, task.classes, mode, task.endpoint)
    trained = engine.finetune(*arguments, seed=seed, advance=advance)
    return trained.accuracy(task.test_images, task.test_y), trained.settings
