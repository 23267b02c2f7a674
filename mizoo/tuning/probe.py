"""What a search chooses by: a probe on the validation part, which no trial trains on."""

from __future__ import annotations

import os
from typing import Any

from mizoo import data
from mizoo.data.dataset import Dataset, parse_split
from mizoo.data.loading import same_source
from mizoo.data.sampling import fair_sample
from mizoo.data.sounds import SPOKEN_DIGIT
from mizoo.errors import UserError
from mizoo.evaluate import evaluate
from mizoo.evaluate.splits import fit_and_test_splits, validation_size
from mizoo.evaluate.tasks import probe_labels
from mizoo.recipes import Recipe
from mizoo.runs.columns import PROBE
from mizoo.zoo import interface


class ValidationProbe:
    """The probe of a search, and the pictures that it holds out from the trials.

    Args:
        recipe: with a section `search`.

    Raises:
        UserError: for a recipe that trains on the test split, or on nothing but what is scored, and for pictures
            without labels, of one class, or sorted by class.
    """

    def __init__(self, recipe: Recipe) -> None:
        assert recipe.search is not None
        self.search, self.of_sounds = recipe.search, recipe.encoder.takes == "sounds"
        self.source = self.search.source or (SPOKEN_DIGIT if self.of_sounds else recipe.data.source)
        self.protocol = self.search.protocol
        self.column = PROBE + "_".join(filter(None, [self.protocol.name, *self.protocol.variants]))
        self._pictures: Dataset | None = None
        self._read_as: Any = None
        if parse_split(recipe.data.split)[0] == "test":
            raise UserError(
                f"A search does not read the test split, which `data.split` names. Received: {recipe.data.split!r}"
            )
        self.scored = 0 if self.of_sounds else self._check(recipe)
        self.split = self._training_split(recipe)

    @property
    def direction(self) -> str:
        """ "max" or "min", as keras-tuner has it."""
        return "max" if self.protocol.better == "higher" else "min"

    def trial(self, recipe: Recipe, name: str) -> Recipe:
        """A recipe as a trial trains it: without the validation part, and with nothing watched."""
        trained = recipe.data.model_copy(update={"split": self.split})
        return recipe.model_copy(update={"name": name, "data": trained, "watch": None, "search": None})

    def score(self, encoder: Any, recipe: Recipe) -> float:
        """The value of the probe, in the unit of its protocol (of most top-1 accuracy in %).

        Args:
            encoder: a Keras model, a run folder or a file.
            recipe: that it was trained with.
        """
        given = os.fspath(encoder) if isinstance(encoder, os.PathLike) else encoder
        labelled: Any = self.source if self.of_sounds else self._load(recipe)
        choice = {"protocols": (self.search.objective,), "endpoints": (self.search.endpoint,), "seeds": 1}
        rows = evaluate(given, labelled, split="validation", progress=False, cache=False, **choice)  # type: ignore[arg-type]
        return sum(row.value for row in rows) / len(rows)  # of sounds the mean over digits and speakers

    def _check(self, recipe: Recipe) -> int:
        """How many pictures are scored, once they have labels that a probe can be fitted to."""
        pictures = self._load(recipe)
        own = same_source(self.source, recipe.data.source) and parse_split(recipe.data.split)[0] == "train"
        cut = len(pictures) - validation_size(len(pictures))
        # To score others than the last, as `evaluate` does of sorted data, would score what the trials train on.
        if own and pictures.labels is not None and cut < len(pictures) and not fair_sample(pictures.labels, cut):
            raise UserError(
                f"A search scores its trials on the last part of the training split, and that of {self.source} is no "
                "fair sample of its classes: it is sorted by class. Store it in a random order, or name other labelled "
                "pictures in `search.source`."
            )
        fitted, scored = fit_and_test_splits(pictures, "validation", "train", None)
        assert fitted is not None
        if fitted.labels is None:
            raise UserError(
                f"A search chooses by a probe, which needs labels, and {self.source} has none. `search.source` names "
                "labelled pictures: a TFDS name, or a folder of class folders."
            )
        probe_labels(fitted, scored)
        return len(scored)

    def _load(self, recipe: Recipe) -> Dataset:
        """The training split of the labelled pictures, as the recipe's encoder takes them, read as its own are."""
        how: dict[str, Any] = {"size": interface.picture_shape(recipe.encoder.build())}
        if same_source(self.source, recipe.data.source):
            how |= {"depth": recipe.data.depth, "without": recipe.data.without_files}
        if self._pictures is None or self._read_as != how:
            self._pictures, self._read_as = data.load(self.source, "train", **how), how
        return self._pictures

    def _training_split(self, recipe: Recipe) -> str:
        """`data.split` without what is scored, where both are of one source."""
        split = recipe.data.split
        name, rows = parse_split(split)
        if not same_source(self.source, recipe.data.source):
            return split
        if self.of_sounds:
            return split.replace("train", "fit", 1) if name == "train" else _without_validation(split, name == "fit")
        if name != "train" or self._pictures is None:
            return split
        total = len(self._pictures)
        trained = range(total)[rows]
        stop = min(trained.stop, total - validation_size(total))
        return _without_validation(f"train[{trained.start or ''}:{stop}]", trained.start < stop)


def _without_validation(split: str, some_left: bool) -> str:
    if not some_left:
        raise UserError(
            "A search scores its trials on the last part of the training split, and `data.split` leaves nothing else "
            "to train on: take the whole of it, `data.split: train`."
        )
    return split
