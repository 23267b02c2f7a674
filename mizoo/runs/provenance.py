"""Where the weights of a run come from: how long it was trained, on what, by which teachers, from which ancestor."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from mizoo import recipes
from mizoo.errors import UserError
from mizoo.runs.folder import LOG, RECIPE, read_log, read_machine
from mizoo.zoo import entries
from mizoo.zoo.loading import read_encoder


def training_facts(run: Path, init_from: str | None = None) -> dict[str, Any] | None:
    """How long a run took and on what, by its log, and the same of its ancestor as `before`; None without a log.

    `labels` is there, and true, where it was trained with the labels of its data.

    Args:
        run: the run folder.
        init_from: that key of its recipe: the encoder whose weights it started with.

    Raises:
        UserError: if that encoder is gone.
    """
    if not (run / LOG).is_file():
        return None
    last = read_log(run)[-1]
    facts = {"epochs": int(last["epoch"]), "seconds": round(last["seconds"]), **read_machine(run)}
    if (run / RECIPE).is_file() and recipes.load(run / RECIPE).objective.takes_labels:
        facts["labels"] = True
    return {**facts, "before": ancestor(init_from)} if init_from else facts


def ancestor(init_from: str) -> dict[str, Any]:
    """The hash of the encoder that a run started with, and how that one was trained as far as it is known.

    A published encoder is recognised by its hash wherever it lies: also the one that is about to be replaced. The
    ancestor of a run folder is described in turn, unless it is gone.
    """
    try:
        found = read_encoder(init_from)
    except UserError as error:
        raise UserError(
            f"`init_from`: {error} The manifest records the hash of the encoder that a run started with: put it back, "
            "or publish where it is."
        ) from error
    file, digest = found.path, found.sha256
    facts = training_facts(file.parent) or {}
    if facts and (file.parent / RECIPE).is_file():
        earlier = recipes.load(file.parent / RECIPE).init_from
        with contextlib.suppress(UserError):
            facts |= {"before": ancestor(earlier)} if earlier else {}
    for name, entry in entries.registry().items():
        if entry["files"]["encoder.keras"]["sha256"] == digest:
            manifest = json.loads(entries.locate(f"export/{name}/manifest.json").read_text(encoding="utf-8"))
            facts = manifest.get("trained") or {}
    return {"sha256": digest, **facts}


def teacher_hashes(recipe: recipes.Recipe) -> dict[str, str]:
    """The name of each teacher of a recipe and the SHA-256 of its file; {} where it has none."""
    names = sorted({encoder for encoder, _ in recipe.objective.teacher_endpoints})
    return {name: read_encoder(name).sha256 for name in names}
