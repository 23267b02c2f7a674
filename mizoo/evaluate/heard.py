"""Labelled sounds for the probes: mean features of whole clips, one task for each kind of label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mizoo.errors import UserError
from mizoo.evaluate._progress import Steps
from mizoo.evaluate.clips import clip_features
from mizoo.evaluate.task import Task

SPLITS = {"test": ("train", "test"), "validation": ("fit", "validation")}
LABELS = ("digit", "speaker")
ENDPOINTS = ("local", "global")


def takes_sounds(model: Any) -> bool:
    """Whether an encoder takes samples (B, T)."""
    shape = getattr(model, "input_shape", None)
    return isinstance(shape, tuple) and len(shape) == 2


def tasks(
    model: Any, dataset: Any, split: str, train_split: str, endpoints: Sequence[str] | None, steps: Steps
) -> list[Task]:
    """The tasks of one encoder of sounds.

    Args:
        model: a Keras encoder as `mizoo.encoders.waveform` builds.
        dataset: "spoken_digit", the one set of sounds with labels.
        split: "test": takes 5-49 are fitted on and takes 0-4 scored. "validation": takes 10-49, and takes 5-9.
        train_split: "train"; other parts are not on offer.
        endpoints: some of `local` and `global`; both if None.
        steps: shows progress.

    Returns:
        One task for the digits and one for the speakers.

    Raises:
        UserError: for another data set, part or endpoint, or an encoder of ONNX Runtime.
    """
    from mizoo.data import sounds

    if not isinstance(dataset, str) or dataset != sounds.SPOKEN_DIGIT:
        given = repr(dataset) if isinstance(dataset, str) else type(dataset).__name__
        raise UserError(
            f"{getattr(model, 'name', 'This encoder')} takes sounds, and the labelled sounds are "
            f"dataset={sounds.SPOKEN_DIGIT!r}. Received: {given}"
        )
    if train_split != "train":
        raise UserError(f"Probes of sounds are fitted on the whole of 'train'. Received: {train_split!r}")
    if unknown := [name for name in endpoints or () if name not in ENDPOINTS]:
        raise UserError(
            f"Whole clips are probed by `local` (the mean of the frames) and `global` (that of the contexts). "
            f"Received: {', '.join(unknown)}"
        )
    if not hasattr(model, "layers"):
        raise UserError("Encoders of sounds are measured as Keras models: pass the name of the entry or a .keras file.")
    parts = [sounds.load(sounds.SPOKEN_DIGIT, part) for part in SPLITS[split]]
    features = []
    for part, title in zip(parts, ("features to fit on", "features to score"), strict=True):
        step = steps.start(title, len(part))
        found = clip_features(model, part.clips, advance=step.advance)
        features.append({name: found[name] for name in endpoints or ENDPOINTS})
    return [task(label, parts, features) for label in LABELS]


def task(label: str, parts: Sequence[Any], features: Sequence[dict[str, np.ndarray]]) -> Task:
    """One task of two parts of labelled sounds and their features."""
    from mizoo.data.batching import epoch_order

    train, test = parts
    # The linear probe holds out its last tenth, and clips come sorted by digit.
    order = epoch_order(0, 0, len(train))
    return Task(
        dataset=f"{train.name}/{label}",
        train_x={name: values[order] for name, values in features[0].items()},
        train_y=train.labels[label][order],
        test_x=features[1],
        test_y=test.labels[label],
        classes=len(train.classes[label]),
    )
