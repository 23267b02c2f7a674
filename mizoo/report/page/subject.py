"""What a page is asked about: an entry or a run, its files, its recipe and its log. Nothing here loads an encoder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mizoo import recipes
from mizoo._tools.files import user_path
from mizoo._tools.progress import Progress
from mizoo.data.loading import as_folder, same_source
from mizoo.errors import UserError
from mizoo.evaluate.rows import TFDS, UNKNOWN
from mizoo.evaluate.source import data_source
from mizoo.recipes import Recipe
from mizoo.runs.folder import LOG, RECIPE, read_log
from mizoo.zoo import entries, interface
from mizoo.zoo.loading import read_encoder

_DEFAULT_DATA = "cifar10"


@dataclass(frozen=True)
class Subject:
    """One encoder of a page.

    Attributes:
        given: what the caller named.
        name: of the entry, run folder or file.
        sha256: of the encoder's file.
        published: whether it is an entry.
        recipe: of the run or entry; None where there is none.
        lines: of the log; () without one.
        dataset: the pictures that it is shown on: a TFDS name or a folder.
        source: the identity of those: "tfds:NAME/VERSION" or "sha256:...".
        depth, without: how those that the run was trained on are read: see `mizoo.data.load`.
        start: sha256 of the encoder whose weights a run began with (`init_from`), where it is at hand.
    """

    given: str
    name: str
    sha256: str
    published: bool
    recipe: Recipe | None
    lines: Sequence[Mapping[str, float]]
    dataset: str
    source: str
    depth: int | None = None
    without: tuple[str, ...] = ()
    start: str | None = None

    @property
    def prior(self) -> str | None:
        """The distribution that the objective pulls `global` to: see `ObjectiveSettings.matched_prior`."""
        return None if self.recipe is None else self.recipe.objective.matched_prior

    @property
    def steady_lines(self) -> Sequence[Mapping[str, float]]:
        """The lines since the views or the objective last changed: a step there is no learning and no divergence."""
        if self.recipe is None or not self.lines:
            return self.lines
        done = int(self.lines[-1]["epoch"])
        begins = [phase.start for phase in self.recipe.objective.phases(0, max(done, 1))]
        end = 0
        for stage in self.recipe.data.stages:
            begins.append(end)
            end += stage.epochs or 0
        start = max([0, *(each for each in begins if each < done)])
        return [line for line in self.lines if line["epoch"] > start]


def find(
    given: str | os.PathLike, dataset: str | os.PathLike | None, progress: Progress, depth: int | None = None
) -> Subject:
    """What is known of an entry, a run folder or an encoder's file.

    Args:
        given: as `mizoo.load` takes it.
        dataset: pictures to show it on; by default those that a run was trained on, and CIFAR-10 for the others.
        progress: shows the progress over the files of a folder of pictures.
        depth: bits of the values of deep files, as of `mizoo.data.load`; by default those of the run, on its own data.

    Raises:
        UserError: if there is no such encoder, or no such folder of pictures.
    """
    text = os.fspath(given)
    published = text in entries.registry()
    file = read_encoder(text)
    recipe_file = entries.locate(f"models/{text}/recipe.yaml") if published else file.path.parent / RECIPE
    run = file.path.parent
    if published:  # the run that an entry came from, where it is still here
        run = Path("runs") / text
    recipe = recipes.load(recipe_file) if recipe_file.is_file() else None
    if dataset is None:
        dataset = recipe.data.source if recipe is not None else _DEFAULT_DATA
    without: tuple[str, ...] = ()
    if recipe is not None and same_source(recipe.data.source, os.fspath(dataset)):
        depth, without = depth or recipe.data.depth, tuple(recipe.data.without_files)
    return Subject(
        given=text,
        name=interface.encoder_name(text) if not published else text,
        sha256=file.sha256,
        published=published,
        recipe=recipe,
        lines=_lines(run, text if published else None),
        dataset=os.fspath(dataset),
        source=_source(os.fspath(dataset), progress, depth),
        depth=depth,
        without=without,
        start=None if published or recipe is None or recipe.init_from is None else _start(recipe.init_from),
    )


def _start(init_from: str) -> str | None:
    try:
        return read_encoder(init_from).sha256
    except (UserError, OSError):  # a run of another machine, or gone
        return None


def _lines(run: Path, entry: str | None) -> Sequence[Mapping[str, float]]:
    """The log in a run folder; of an entry only if it is the run that was published. () without one."""
    if not (run / LOG).is_file():
        return ()
    lines = read_log(run)
    if entry is not None:
        manifest = json.loads(entries.locate(f"export/{entry}/manifest.json").read_text(encoding="utf-8"))
        trained, last = manifest.get("trained") or {}, lines[-1]
        if (trained.get("epochs"), trained.get("seconds")) != (int(last["epoch"]), round(last["seconds"])):
            return ()
    return lines


def _source(dataset: str, progress: Progress, depth: int | None) -> str:
    """The identity of data, without loading them where they are a TFDS set that is prepared."""
    if as_folder(dataset) is not None:
        return data_source(dataset, progress, depth)
    root = user_path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    name = dataset.partition(":")[0]
    versions = sorted(file.parent.name for file in (root / name).glob("*/dataset_info.json"))
    return f"{TFDS}{name}/{versions[-1] if versions else UNKNOWN}"
