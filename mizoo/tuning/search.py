"""`tune`: one search, from the state of its folder to the end of its budget."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mizoo import recipes
from mizoo._tools import files, yaml_text
from mizoo._tools.locks import lock_folder
from mizoo.errors import UserError
from mizoo.recipes import Recipe
from mizoo.recipes.recipe import differences
from mizoo.runs.folder import RECIPE
from mizoo.tuning import trials
from mizoo.tuning.space import Space

BEST = "best.yaml"
_WHOLE_RUNS = 10  # the budget by default
_BUDGET = "search.epochs"


def run(recipe: Recipe, out: str | os.PathLike | None = None) -> Path:
    """See `mizoo.tuning.tune`."""
    space = Space(recipe)
    search = recipe.search
    assert search is not None
    folder = files.user_path(out or Path("runs") / f"{recipe.name}_tuning")
    budget = search.epochs or _WHOLE_RUNS * recipe.training.epochs
    busy = f"Another process searches in {folder}. Wait until it ends, or choose another folder with --out."
    with lock_folder(folder, busy):
        check_same_search(recipe, folder)
        import keras_tuner  # noqa: F401  (its extra brings all but the backend, and is named first)
        import matplotlib  # noqa: F401  (the picture comes last, and what it needs is said before anything is trained)

        from mizoo.tuning.probe import ValidationProbe
        from mizoo.tuning.tuner import RecipeTuner

        probe = ValidationProbe(recipe)

        def report(results: trials.Results) -> None:
            """Write what is known after a trial."""
            trials.write(folder, results)
            write_best(folder, results, space)

        tuner = RecipeTuner(recipe, space, probe, folder, budget, report)
        files.write_text(folder / RECIPE, recipe.dump())
        before = len(tuner.results().trials)
        tuner.run()
        results = tuner.results()
        report(results)
        trials.plot(folder, results, search.keys)
        _say_what_ended(results, before, budget)
    return folder


def check_same_search(recipe: Recipe, folder: Path) -> None:
    """Refuse a folder of another search; more or fewer epochs are the same one.

    Raises:
        UserError: naming the keys that differ.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; the folder of a search is needed.")
    if not (folder / RECIPE).is_file():
        return
    old, new = (_identity(each) for each in (recipes.load(folder / RECIPE), recipe))
    if changed := differences(old, new):
        keys = "; ".join(f"`{key}` was {before!r} and is {after!r}" for key, (before, after) in changed.items())
        raise UserError(
            f"{folder} holds another search: {keys}. Put the keys back, choose another folder with --out, or remove "
            "that one."
        )


def write_best(folder: Path, results: trials.Results, space: Space) -> None:
    """Write the recipe of the best trial: the searched one with its values, and without `search`."""
    best = results.best
    if best is None:
        return
    probe = results.column.removeprefix("probe_")
    about = (
        f"# Of {len(results.trials)} trials the best: trial {best.number}, {best.last} epochs, {probe} of "
        f"{results.endpoint} {best.score:.2f} on the validation part.\n"
    )
    content = yaml_text.dump(space.content(best.values), sort_keys=False, allow_unicode=True)
    files.write_text(folder / BEST, about + content)


def _identity(recipe: Recipe) -> dict:
    search = {} if recipe.search is None else recipe.search.model_dump(mode="json", exclude={"epochs"})
    return {**recipe.identity(), "search": search}


def _say_what_ended(results: trials.Results, before: int, budget: int) -> None:
    """Say why nothing, or nothing more, was tried.

    Raises:
        UserError: if the budget has room for no trial.
    """
    if not results.trials:
        raise UserError(
            f"`{_BUDGET}` is {budget}, and a trial takes more: a whole run has {results.epochs} epochs. Raise it, or "
            "lower `training.epochs`."
        )
    if len(results.trials) == before:
        print(
            f"Nothing more was tried: {results.spent} of {budget} epochs are spent, and the next trial takes more, or "
            f"every combination was tried. More: --set {_BUDGET}={2 * budget}",
            file=sys.stderr,
        )
