"""Searching over keys of a recipe with keras-tuner: whole searches, and a hypermodel for tuners of one's own.

Importing it imports neither Keras nor keras-tuner.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mizoo._tools.lazy import submodules
from mizoo.recipes import Recipe

if TYPE_CHECKING:
    import keras_tuner

__all__ = ["hypermodel", "tune"]

__getattr__ = submodules(__name__)


def tune(recipe: Recipe, out: str | os.PathLike | None = None) -> Path:
    """Search over the keys that the section `search` of a recipe lists, or resume an interrupted search.

    Each trial is a run of `mizoo.pretrain.pretrain` on the training split without its validation part, and is scored by
    a probe that is fitted on that and scored on the validation part. Only the probe reads labels; the test split is not
    read. With Hyperband most trials are stopped early, under the schedules of the whole run, and the best of them go on
    from their checkpoints.

    Args:
        recipe: with a section `search`. `search.epochs` is what all trials together may train for.
        out: the folder of the search; by default runs/<name of the recipe>_tuning. The same call resumes what is there;
            with more `search.epochs` it goes on searching.

    Returns:
        The folder: best.yaml (the best recipe, for `mizoo pretrain`), trials.csv and trials.md (a row for each trial),
        trials.png, recipe.yaml, the run folders of the trials in `trials`, and the state of keras-tuner in `tuner`.

    Raises:
        UserError: if the recipe has no `search`; for keys that recipes do not have and values that they do not take, by
            name; for data without labels, fewer epochs than one trial takes, a folder that holds another search or in
            which another process searches; if ten trials in a row fail; and for what `pretrain` refuses.
    """
    from mizoo.tuning.search import run

    return run(recipe, out)


def hypermodel(recipe: Recipe) -> keras_tuner.HyperModel:
    """A recipe with a section `search` as a hypermodel, for a tuner of keras-tuner of one's own.

    `build(hp)` gives the compiled objective. `fit(hp, model, epochs=..., initial_epoch=..., callbacks=...)` trains it
    on the training split without its validation part, scores its encoder by the probe and returns a dict with that and
    the loss. `recipe_of(hp)` is the recipe of a trial, and `objective` is what to give to the tuner:

        space = mizoo.tuning.hypermodel(mizoo.recipes.load("mine.yaml"))
        tuner = keras_tuner.RandomSearch(space, objective=space.objective, max_trials=10, directory="mine")
        tuner.search()
        best = space.recipe_of(tuner.get_best_hyperparameters()[0])

    Raises:
        UserError: as of `tune`; in `build` also for a run that changes its objective or its views on the way.
    """
    from mizoo.tuning.hyper import RecipeHyperModel

    return RecipeHyperModel(recipe)
