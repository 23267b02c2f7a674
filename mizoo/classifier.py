"""An encoder and a folder of labelled pictures -> a classifier as one file: what `mizoo finetune` does."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mizoo import finetune as engine
from mizoo._tools import files
from mizoo._tools.progress import Progress
from mizoo.data import duplicates, load, packed, splits
from mizoo.data.dataset import Dataset
from mizoo.errors import UserError
from mizoo.finetune import Budget
from mizoo.zoo import interface
from mizoo.zoo.labels import sidecar
from mizoo.zoo.loading import read_keras

PROBABILITIES = "probabilities"  # the one endpoint of a classifier
_LISTED = 10
_UNEVEN = 3  # largest class over smallest, from which on class weights are named


@dataclasses.dataclass(frozen=True)
class Classifier:
    """What `train` did.

    Attributes:
        written: the .keras file, a Functional model of the encoder's layers from pictures (B, H, W, C), 0..255, to
            probabilities (B, classes).
        classes: their names, in the order of the columns.
        train_size: labelled pictures, those of the validation part among them.
        validation_accuracy: in percent, of the pictures that decided when training ended; None without such a part.
        test_accuracy: in percent, of the `test` folder, which decided nothing; None where there is none.
        recalls: class -> percent of its test pictures that are told; {} without a `test` folder.
        settings: everything that decided the training.
        notes: what was left out, and what the user should know.
    """

    written: Path
    classes: tuple[str, ...]
    train_size: int
    validation_accuracy: float | None
    test_accuracy: float | None
    recalls: dict[str, float]
    settings: dict[str, Any]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.written}: {len(self.classes)} classes, trained on {self.train_size:,} pictures"]
        if self.validation_accuracy is not None:
            held_out = self.settings["held_out_size"]
            lines.append(
                f"  validation {self.validation_accuracy:.1f} % of {held_out:,} held out (they chose the weights)"
            )
        if self.test_accuracy is not None:
            lines.append(f"  test {self.test_accuracy:.1f} %")
            lines += [f"    {name}: {value:.1f} %" for name, value in self.recalls.items()]
        return "\n".join(lines)


def train(
    encoder: str | os.PathLike,
    data: str | os.PathLike | Dataset,
    out: str | os.PathLike,
    mode: str = "unfrozen",
    endpoint: str | None = None,
    budget: Budget | None = None,
    class_weights: str | Sequence[float] | None = None,
    depth: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Classifier:
    """Train a classifier on an encoder, and write it with the names of its classes beside it.

    Copies of a picture are not trained on twice; those of a test picture, and those in several classes, are left out of
    the training, and named.

    Args:
        encoder: as for `mizoo.load`, of pictures, with a Keras form.
        data: a folder with a subfolder of pictures for each class, or with two such folders, `train` and `test`; or
            anything else with labels that `mizoo.data.load` takes.
        out: the classifier, a .keras file. `<name>.json` beside it holds the classes, the accuracies and the settings.
        mode, endpoint, budget, class_weights, seed: as of `mizoo.finetune.finetune`.
        depth: bits of the values of deep grey files: see `mizoo.data.pictures.read`.
        progress: show a bar.

    Raises:
        UserError: as of `mizoo.finetune.finetune`; for data without labels, a class of one picture or of none to train
            on, or an `out` that is no .keras file.
    """
    out = files.user_path(out)
    if out.suffix != ".keras":
        raise UserError(f"A classifier is written as a .keras file. Received: {out}")
    budget = budget or Budget()
    model, sha256 = read_keras(encoder)
    notes: list[str] = []
    train_data, test_data = _load(data, interface.picture_shape(model), depth, notes)
    notes += _check_classes(train_data, class_weights)
    names = _names(train_data)
    with Progress(progress) as display:
        line = display.start("training the classifier", budget.steps, "steps")
        tuned = engine.finetune(
            model,
            train_data.images,
            train_data.labels,  # type: ignore[arg-type]
            len(names),
            mode,
            endpoint,
            budget,
            seed=seed,
            advance=line.advance,
            class_weights=class_weights,
        )
    accuracy, recalls = _score(tuned, test_data)
    classifier = Classifier(
        out,
        names,
        len(train_data),
        tuned.validation_accuracy,
        accuracy,
        recalls,
        {"encoder": interface.encoder_name(encoder), "encoder_sha256": sha256, "seed": seed, "depth": depth}
        | tuned.settings,
        tuple(notes),
    )
    with files.atomic(out) as path:
        with_probabilities(tuned.model).save(path)
    files.write_json(sidecar(out), {**dataclasses.asdict(classifier), "written": out.name})
    return classifier


def with_probabilities(model: Any) -> Any:
    """A `keras.Model` to probabilities (B, classes) from one to logits, of the same layers."""
    import keras

    softmax = keras.layers.Softmax(dtype="float32", name=PROBABILITIES)
    return keras.Model(model.inputs[0], softmax(model.outputs[0]), name=model.name)


def _load(
    data: Any, shape: interface.Shape | None, depth: int | None, notes: list[str]
) -> tuple[Dataset, Dataset | None]:
    """The pictures to train on and those to score, if there are some; what is left out is added to `notes`."""
    without: tuple[str, ...] = ()
    if isinstance(data, (str, os.PathLike)):
        folder = files.user_path(data)
        if folder.is_dir() and not packed.is_packed(folder):
            found = duplicates.copies(folder, shape[2] if shape else None)
            without = found.without
            notes += _about(found)
    train_data = load(data, "train", shape, depth, without=without)
    test_data = load(data, "test", shape, depth, without=without) if "test" in splits(data) else None
    return train_data, test_data


def _about(found: duplicates.Copies) -> list[str]:
    """What is left out, in words."""
    said = []
    if found.leaked:
        pairs = [f"{train} is {test}" for train, test in found.leaked]
        said.append(f"{len(pairs)} training pictures are test pictures too and are not trained on: {_some(pairs)}")
    if found.contradictory:
        listed = [" and ".join(group) for group in found.contradictory]
        said.append(f"{len(listed)} pictures are in several classes and are left out: {_some(listed)}")
    if found.repeated:
        said.append(f"{found.repeated} copies of training pictures are left out")
    return said


def _check_classes(data: Dataset, class_weights: Any) -> list[str]:
    """Refuse labels that make no classifier; what to know about uneven ones."""
    if data.labels is None:
        raise UserError(
            f"A classifier is trained with labels, and {data.name} has none: make a subfolder for each class."
        )
    counts = np.bincount(data.labels, minlength=len(data.classes))
    names = _names(data)
    few = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < 2]
    if len(counts) > 1 and few:
        raise UserError(f"A classifier takes two pictures of each class and more. Too few: {_some(few)}")
    if len(counts) > 1 and counts.max() > _UNEVEN * counts.min() and class_weights is None:
        return [
            f"classes have {counts.min():,} to {counts.max():,} pictures: with class weights 'balanced' "
            "(--class-weights balanced) rare ones count as much as others"
        ]
    return []


def _score(tuned: engine.Finetuned, data: Dataset | None) -> tuple[float | None, dict[str, float]]:
    """Accuracy and recall by class, in percent, on the pictures of the test folder."""
    if data is None or data.labels is None:
        return None, {}
    right = tuned.logits(data.images).argmax(axis=1) == data.labels
    masks = {name: data.labels == i for i, name in enumerate(_names(data))}
    recalls = {name: round(100 * float(right[mask].mean()), 2) for name, mask in masks.items() if mask.any()}
    return round(100 * float(right.mean()), 2), recalls


def _names(data: Dataset) -> tuple[str, ...]:
    """The classes of labelled pictures; their numbers where they have no names."""
    assert data.labels is not None
    return data.classes or tuple(map(str, range(int(data.labels.max()) + 1)))


def _some(texts: Sequence[str]) -> str:
    return "; ".join([*texts[:_LISTED], *([f"and {len(texts) - _LISTED} more"] if len(texts) > _LISTED else [])])
