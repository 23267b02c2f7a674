"""A run folder: the names of its files, its log, and what its checkpoint records of the run."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mizoo._tools import files
from mizoo.errors import UserError
from mizoo.recipes import Recipe, validate

RECIPE = "recipe.yaml"
ENCODER = "encoder.keras"
LOG = "log.csv"
CHECKPOINT = "checkpoint.weights.h5"
TARGETS = "targets.npz"
MACHINE = "machine.json"

_STATE = "mizoo"  # the attribute of a checkpoint that holds the state


@dataclass(frozen=True)
class SavedState:
    """What a checkpoint records of its run.

    Attributes:
        epochs: how many it has trained for.
        targets_hash: hash of the targets that it was trained with, or None.
    """

    epochs: int = 0
    targets_hash: str | None = None


def read_log(run: str | os.PathLike) -> list[dict[str, float]]:
    """The lines of a run's log.csv, one dict an epoch; a value that an epoch does not have is left out.

    Raises:
        UserError: if the folder holds no log, or the log no line.
    """
    path = Path(run) / LOG
    if not path.is_file():
        raise UserError(f"A run folder holds {LOG}. {run} has none.")
    with open(path, newline="", encoding="utf-8") as stream:
        lines = [{key: float(value) for key, value in line.items() if value} for line in csv.DictReader(stream)]
    if not lines:
        raise UserError(f"{path} has no line yet: an epoch has to end first.")
    return lines


def write_log(run: Path, lines: Sequence[dict[str, float]]) -> None:
    """Write the lines of a run's log.csv, atomically."""
    with files.atomic(run / LOG) as path, open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, lines[0])
        writer.writeheader()
        writer.writerows(lines)


def read_machine(run: Path) -> dict[str, Any]:
    """What a run was trained on, and by which teachers, as its machine.json records; {} where there is none."""
    path = run / MACHINE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def saved_state(run: Path, recipe: Recipe) -> SavedState:
    """What the checkpoint of a run folder records, as far as the recipe can resume it; epoch 0 where there is none.

    Raises:
        UserError: if the folder is a file, the checkpoint cannot be read, or the run is that of another recipe. (A
            recipe with a trapezoid schedule may be given another length, and an occlusion that begins later, as long as
            the rate is constant.)
    """
    path = run / CHECKPOINT
    if not path.exists():
        if run.exists() and not run.is_dir():
            raise UserError(f"{run} is a file; a run folder is needed.")
        return SavedState()
    import h5py

    try:
        with h5py.File(path) as file:
            state = json.loads(file.attrs[_STATE])
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} is no checkpoint of mizoo or is damaged. Move it away to start again.") from error
    saved = _saved_recipe(state["recipe"])
    if saved is None or not recipe.can_resume(saved, state["epochs"]):
        raise UserError(
            f"{run} holds the run of another recipe (see {run / RECIPE}). Choose another folder with --out, or remove "
            "that one."
        )
    return SavedState(state["epochs"], state.get("targets_hash", state.get("taught_by")))  # its name in 0.1.0


def mark_checkpoint(path: Path, identity: dict[str, Any], state: SavedState, version: str) -> None:
    """Record in a checkpoint its recipe and how far it is trained."""
    import h5py

    content = {
        "recipe": identity,
        "epochs": state.epochs,
        "version": version,
        "targets_hash": state.targets_hash,
    }
    with h5py.File(path, "a") as file:
        file.attrs[_STATE] = json.dumps(content)


def _saved_recipe(identity: object) -> Recipe | None:
    """A checkpoint's recipe as it reads today: keys added since then take their defaults. None if it is refused."""
    try:
        return validate({"name": "saved", **identity})  # type: ignore[dict-item]
    except (UserError, TypeError):
        return None
