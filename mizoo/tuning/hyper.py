"""A recipe as a `keras_tuner.HyperModel`, for tuners of one's own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from mizoo._tools.arrays import check_whole
from mizoo._tools.keras_backend import dtype_policy
from mizoo.errors import UserError
from mizoo.pretrain.callbacks import FreshDraws
from mizoo.pretrain.inputs import Job, prepare
from mizoo.recipes import Recipe
from mizoo.runs.folder import SavedState
from mizoo.tuning.probe import ValidationProbe
from mizoo.tuning.space import Space


class RecipeHyperModel(keras_tuner.HyperModel):
    """See `mizoo.tuning.hypermodel`."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(name=recipe.name)
        self.space, self.probe = Space(recipe), ValidationProbe(recipe)
        self.folder = tempfile.TemporaryDirectory(prefix="mizoo-")  # the targets of teachers
        self._job: tuple[Recipe, Job] | None = None

    @property
    def objective(self) -> keras_tuner.Objective:
        """The accuracy of the probe, for the tuner."""
        return keras_tuner.Objective(self.probe.column, self.probe.direction)

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        """Add the keys of the search to the space."""
        self.space.declare(hp)

    def recipe_of(self, hp: keras_tuner.HyperParameters) -> Recipe:
        """The recipe with the values of `hp`, without `search`, for `mizoo.pretrain.pretrain`.

        Raises:
            UserError: for values that do not go together.
        """
        self.space.declare(hp)
        return self.space.recipe(self.space.decode(hp.values))

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The compiled objective of a trial, with fresh weights drawn from the seed of the recipe.

        Raises:
            keras_tuner.errors.FailedTrialError: for values that do not go together: the tuner takes others.
            UserError: for a run that changes its objective or its views on the way, which one `fit` cannot do.
        """
        try:
            recipe = self.recipe_of(hp)
        except UserError as error:
            raise keras_tuner.errors.FailedTrialError(str(error)) from None
        job = self._prepared(recipe)
        keras.utils.set_random_seed(recipe.training.seed)
        with dtype_policy(recipe.training.precision):
            model = job.objective(job.phases[0], job.encoder(0))
            steps = job.batches(model.noise_size, 0).steps_per_epoch
            model.compile(job.optimizer(steps))
        return model

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        *args: Any,
        epochs: int | None = None,
        initial_epoch: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **kwargs: Any,
    ) -> dict[str, float]:
        """Train a model of `build`, and score its encoder.

        Args:
            hp: as given to `build`.
            model: what that returned.
            epochs: the last epoch; that of the recipe if None.
            initial_epoch: the epoch to begin with.
            callbacks: of Keras.
            kwargs: further arguments of `keras.Model.fit`.

        Returns:
            The value of the probe, under the name of `objective`, and the loss of the last epoch.
        """
        recipe = self.recipe_of(hp)
        last = recipe.training.epochs if epochs is None else check_whole(epochs, "epochs", 1)
        job = self._prepared(recipe)
        batches = job.batches(model.noise_size, initial_epoch)
        settings = {"verbose": 0, **kwargs, "epochs": last, "initial_epoch": initial_epoch}
        draws = FreshDraws(recipe.training.seed)  # as a trial of `mizoo.tuning.tune`
        history = model.fit(batches, *args, callbacks=[draws, *callbacks], **settings).history
        encoder = recipe.encoder.build()  # in float32, and for whole pictures
        encoder.set_weights(model.encoder.get_weights())
        job.settle_statistics(encoder)
        return {self.probe.column: self.probe.score(encoder, recipe), "loss": float(history["loss"][-1])}

    def _prepared(self, recipe: Recipe) -> Job:
        """The data and the parts of a trial, kept until another one is asked for."""
        if self._job is None or self._job[0] != recipe:
            trial = self.probe.trial(recipe, recipe.name)
            job = prepare(trial, Path(self.folder.name), SavedState(), recipe.training.epochs)
            if len(job.phases) > 1:
                raise UserError(
                    "One `fit` trains one objective on views of one kind, and this recipe changes them on the way "
                    "(`data.stages`, `objective.occlusion_from`, ...): search with `mizoo.tuning.tune`."
                )
            self._job = (recipe, job)
        return self._job[1]
