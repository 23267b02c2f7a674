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
PREVIOUS = "previous.weights.h5"
DAMAGED = "damaged.weights.h5"
HASHES = "checkpoint.sha256"
TARGETS = "targets.npz"
MACHINE = "machine.json"
EVENTS = "tensorboard"

_STATE = "mizoo"  # the attribute of a checkpoint that holds the state


@dataclass(frozen=True)
class SavedState:
    """What a checkpoint records of its run.

    Attributes:
        epochs: how many it has trained for.
        targets_hash: hash of the targets that it was trained with, or None.
        file: name of the checkpoint in the run folder, or None where there is none.
        note: why that is not the last one, or "".
    """

    epochs: int = 0
    targets_hash: str | None = None
    file: str | None = None
    note: str = ""


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
    """Write the lines of a run's log.csv, atomically; a value that a line does not have is left empty."""
    columns = dict.fromkeys(key for line in lines for key in line)
    with files.atomic(run / LOG) as path, open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(lines)


def read_machine(run: Path) -> dict[str, Any]:
    """What a run was trained on, and by which teachers, as its machine.json records; {} where there is none."""
    path = run / MACHINE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def saved_state(run: Path, recipe: Recipe) -> SavedState:
    """What the last good checkpoint of a run folder records, as far as the recipe can resume it; epoch 0 without one.

    A checkpoint is good if its SHA-256 is recorded in the folder; folders of version 0.1.0 record none.

    Raises:
        UserError: if the folder is a file, no checkpoint is good, or the recipe is no continuation of the run: another
            one, or one of another length once the rate decays. (As long as the rate of a trapezoid schedule is
            constant, the recipe may be given another length, and an occlusion that begins later.)
    """
    if run.exists() and not run.is_dir():
        raise UserError(f"{run} is a file; a run folder is needed.")
    recorded, problems = _recorded_hashes(run), []
    for name in (CHECKPOINT, PREVIOUS):
        path = run / name
        if not path.exists():
            continue
        state = _read_state(path, recorded)
        if state is None:
            problems.append(name)
            continue
        _check_recipe(run, recipe, state)
        note = ""
        if name == PREVIOUS:
            last = f"{run / CHECKPOINT} is {'damaged' if problems else 'not there'}"
            note = f"{last}: the checkpoint before it, of epoch {state['epochs']}, is taken."
        targets_hash = state.get("targets_hash", state.get("taught_by"))  # its name in 0.1.0
        return SavedState(state["epochs"], targets_hash, name, note)
    if not problems:
        return SavedState()
    paths = " and ".join(str(run / name) for name in problems)
    many = "are no checkpoints of mizoo or are damaged. Move both"
    one = "is no checkpoint of mizoo or is damaged. Move it"
    raise UserError(f"{paths} {one if len(problems) == 1 else many} away to start again.")


def _read_state(path: Path, recorded: Sequence[str]) -> dict[str, Any] | None:
    """The content of a checkpoint's mark; None if it is damaged."""
    import h5py

    if recorded and files.sha256(path) not in recorded:
        return None
    try:
        with h5py.File(path) as file:
            state = json.loads(file.attrs[_STATE])
        return state if {"recipe", "epochs"} <= set(state) else None
    except (OSError, KeyError, ValueError, TypeError):
        return None


def _check_recipe(run: Path, recipe: Recipe, state: dict[str, Any]) -> None:
    saved = _saved_recipe(state["recipe"])
    if saved is None:
        why: str | None = "it is the run of another recipe, which this version does not read"
    else:
        why = recipe.why_not_resume(saved, state["epochs"])
    if why:
        raise UserError(
            f"{run} holds a run that this recipe does not continue; {why} (see {run / RECIPE}). Put the keys back, "
            "choose another folder with --out, or remove that one."
        )


def settle_checkpoints(run: Path, state: SavedState) -> None:
    """Make the checkpoint that a state was read from the last one, and record the hashes of those that are good.

    A damaged one that it takes the place of is kept as `damaged.weights.h5`.
    """
    if state.file is None:
        return
    recorded = _recorded_hashes(run)
    if state.file == PREVIOUS:
        if (run / CHECKPOINT).exists():
            os.replace(run / CHECKPOINT, run / DAMAGED)
        os.replace(run / PREVIOUS, run / CHECKPOINT)
    digests = [files.sha256(run / CHECKPOINT)]
    if (run / PREVIOUS).exists() and (previous := files.sha256(run / PREVIOUS)) in recorded:
        digests.append(previous)
    _record_hashes(run, digests)


def keep_previous(run: Path, written: Path) -> None:
    """Record the hash of a checkpoint that is about to take its place, and keep the one that is there.

    Whenever this is interrupted, a checkpoint whose hash is recorded is there.
    """
    digests = [files.sha256(written)]
    if not (run / CHECKPOINT).exists():
        _record_hashes(run, digests)
        return
    recorded = _recorded_hashes(run)
    _record_hashes(run, digests + recorded[:1])
    os.replace(run / CHECKPOINT, run / PREVIOUS)


def _recorded_hashes(run: Path) -> list[str]:
    """The SHA-256 of the good checkpoints of a run, the last one's first; [] in folders of version 0.1.0."""
    path = run / HASHES
    return path.read_text(encoding="utf-8", errors="replace").split() if path.is_file() else []


def _record_hashes(run: Path, digests: Sequence[str]) -> None:
    files.write_text(run / HASHES, "".join(f"{digest}\n" for digest in digests))


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
