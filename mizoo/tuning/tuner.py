"""keras-tuner at work: which trial comes next, run by `mizoo.pretrain`, within a budget of epochs."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine import base_tuner

from mizoo._tools.progress import Progress
from mizoo.errors import Diverged, UserError
from mizoo.pretrain import pretrain
from mizoo.recipes import Recipe
from mizoo.runs.folder import CHECKPOINT, PREVIOUS, read_log
from mizoo.tuning.probe import ValidationProbe
from mizoo.tuning.space import Space
from mizoo.tuning.trials import Results, Trial

TRIALS = "trials"
_STATE = "tuner"
_FAILED = 10  # in a row: then the search ends


class BudgetSpent(Exception):
    """The next trial would train for more epochs than are left."""


class RecipeTuner(base_tuner.BaseTuner):
    """A tuner whose trials are runs in the folder of the search; the one that was interrupted comes first again.

    Args:
        recipe: with a section `search`.
        space: its keys.
        probe: what the trials are scored by.
        folder: of the search.
        budget: epochs that all trials together may train for.
        report: called after each trial.

    Raises:
        UserError: if the state of an earlier search cannot be read.
    """

    def __init__(
        self,
        recipe: Recipe,
        space: Space,
        probe: ValidationProbe,
        folder: Path,
        budget: int,
        report: Callable[[Results], None],
    ) -> None:
        self.recipe, self.space, self.probe, self.folder = recipe, space, probe, folder
        self.budget, self.report, self.progress = budget, report, Progress()
        self._ended: dict[str, Trial] = {}
        oracle = make_oracle(recipe, space, probe)
        oracle.verbose = 0
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                super().__init__(oracle, None, directory=os.fspath(folder), project_name=_STATE)
        except (ValueError, KeyError, RuntimeError) as error:
            raise UserError(
                f"{folder / _STATE} is no state of keras-tuner or is damaged. Move {folder} away to search again."
            ) from error

    def run(self) -> None:
        """Run trials until the epochs are spent, or every combination of choices was tried.

        Raises:
            UserError: as of `mizoo.tuning.tune`.
        """
        try:
            self.search(verbose=0)
        except BudgetSpent:
            pass
        except keras_tuner.errors.FatalError as error:
            raise error.__cause__ or error from None
        except RuntimeError as error:
            last = next((each.note for each in reversed(self.results().trials) if each.score is None), "")
            if "consecutive failures" not in str(error) or not last:
                raise
            raise UserError(f"{_FAILED} trials in a row failed, the last one so:\n  {last}") from None

    def results(self) -> Results:
        """The trials that have ended."""
        for number in self.oracle.end_order:
            if number not in self._ended:
                self._ended[number] = self._trial(self.oracle.trials[number])
        search = self.probe.search
        return Results(
            name=self.recipe.name,
            trials=[self._ended[number] for number in self.oracle.end_order],
            column=self.probe.column,
            unit=self.probe.protocol.unit,
            higher=self.probe.direction == "max",
            endpoint=search.endpoint,
            source=self.probe.source,
            scored=self.probe.scored,
            epochs=self.recipe.training.epochs,
        )

    def on_search_begin(self) -> None:
        """Save the state, so that an interruption of the first trial is resumed as well."""
        self.save()

    def on_trial_begin(self, trial: Any) -> None:
        """Announce a trial, if the budget has room for it."""
        planned, done = self._trial(trial), self.results()
        if done.spent + planned.last - planned.first > self.budget:
            raise BudgetSpent
        best = "" if done.best is None else f", best {done.best.score:.2f} in trial {done.best.number}"
        values = ", ".join(f"{key}: {value}" for key, value in planned.values.items())
        goes_on = f", continues {planned.continues} from epoch {planned.first}" if planned.continues else ""
        self.progress.print(f"trial {trial.trial_id}{goes_on}  {values}")
        self.progress.print(f"  {done.spent} of {self.budget} epochs spent{best}")

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Train a run to the epoch of the trial, and score it."""
        planned = self._trial(trial)
        try:
            trained = self.space.recipe(planned.values)
        except UserError as error:
            raise keras_tuner.errors.FailedTrialError(str(error)) from None
        keras.utils.clear_session()
        try:
            run = self._run_folder(trial)
            pretrain(self.probe.trial(trained, f"{self.recipe.name}_{run.name}"), run, stop_after=planned.last)
            score = self.probe.score(run, trained)
        except Diverged as error:
            raise keras_tuner.errors.FailedTrialError(str(error)) from None
        except Exception as error:  # keras-tuner would go on with the next trial
            raise keras_tuner.errors.FatalError(str(error)) from error
        return {self.probe.column: score}

    def on_trial_end(self, trial: Any) -> None:
        """Record the trial, and remove the checkpoints of a run that no other trial continues."""
        super().on_trial_end(trial)
        ended = self._trial(self.oracle.trials[trial.trial_id])
        outcome = ended.note.partition("\n")[0] if ended.score is None else f"{self.probe.column} {ended.score:.2f}"
        self.progress.print(f"trial {trial.trial_id}  {outcome}")
        if ended.last == self.recipe.training.epochs:
            for name in (CHECKPOINT, PREVIOUS):
                (self._run_folder(trial) / name).unlink(missing_ok=True)
        self.report(self.results())

    def _run_folder(self, trial: Any) -> Path:
        """The run folder of a trial: that of the one it continues, if there is one."""
        while earlier := trial.hyperparameters.values.get("tuner/trial_id"):
            trial = self.oracle.trials[earlier]
        return self.folder / TRIALS / trial.trial_id

    def _trial(self, trial: Any) -> Trial:
        values, run = trial.hyperparameters.values, self._run_folder(trial)
        first = values.get("tuner/initial_epoch", 0)
        last = values.get("tuner/epochs", self.recipe.training.epochs)
        failed = trial.status == "FAILED"
        note = (trial.message or "").rpartition("FailedTrialError: ")[2].strip() if failed else ""
        if failed and not run.exists():  # refused before it was trained
            last = first
        return Trial(
            number=trial.trial_id,
            values=self.space.decode(values),
            first=first,
            last=last,
            continues=values.get("tuner/trial_id") or "",
            score=trial.score,
            seconds=_seconds(run, first, last),
            note=note,
        )


def make_oracle(recipe: Recipe, space: Space, probe: ValidationProbe) -> keras_tuner.Oracle:
    """The algorithm that `search.algorithm` names: what proposes the values of the next trial."""
    assert recipe.search is not None
    hyperparameters = keras_tuner.HyperParameters()
    space.declare(hyperparameters)
    settings: dict[str, Any] = {
        "objective": keras_tuner.Objective(probe.column, probe.direction),
        "hyperparameters": hyperparameters,
        "seed": recipe.search.seed + 1,  # keras-tuner takes 0 for none
        "max_consecutive_failed_trials": _FAILED,
    }
    if recipe.search.algorithm == "hyperband":
        length = recipe.training.epochs
        return keras_tuner.oracles.HyperbandOracle(max_epochs=length, hyperband_iterations=None, **settings)
    kinds = {
        "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
        "random": keras_tuner.oracles.RandomSearchOracle,
    }
    return kinds[recipe.search.algorithm](max_trials=None, **settings)


def _seconds(run: Path, first: int, last: int) -> float | None:
    """How long a run trained between two epochs, as its log has it; None where it has not."""
    try:
        logged = {int(line["epoch"]): line["seconds"] for line in read_log(run)}
    except UserError:
        return None
    return logged[last] - logged.get(first, 0.0) if last in logged else None
