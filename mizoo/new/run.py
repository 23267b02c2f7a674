"""`mizoo new`: look at a folder, measure a few steps, write the recipe."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mizoo._tools import files
from mizoo._tools.hardware import gigabytes
from mizoo._tools.progress import Progress
from mizoo.data import folder as folders
from mizoo.data import splits
from mizoo.data.loading import same_source
from mizoo.errors import UserError
from mizoo.new import words
from mizoo.new.choose import Plan, Wishes, choose, duration, refuse
from mizoo.new.measure import measure
from mizoo.new.survey import Survey, survey
from mizoo.recipes import validate


@dataclass(frozen=True)
class NewRecipe:
    """What `new` did.

    Attributes:
        written: the recipe file.
        survey: what was found in the folder.
        wishes: what was asked for.
        plan: the recipe, and what it is expected to take.
    """

    written: Path
    survey: Survey
    wishes: Wishes
    plan: Plan

    def __str__(self) -> str:
        lines = [words.found(self.survey)]
        for key, reason in words.reasons(self.survey, self.wishes, self.plan).items():
            section, _, inner = key.partition(".")
            value = self.plan.content[section][inner] if inner else self.plan.content[section]
            if key == "data.stages":
                value = " then ".join(f"{stage['view_side']} px" for stage in value)
            lines.append(f"  {key}: {value}  ({reason})")
        lines += words.notes(self.survey, self.plan)
        lines.append(f"expected: {duration(self.plan.seconds)}, {gigabytes(self.plan.memory)} of memory")
        lines.append(f"{self.written} is written. Now: {_command(self.written)}")
        return "\n".join(lines)


def new(
    out: str | os.PathLike,
    data: str | os.PathLike,
    side: int | None = None,
    hours: float = 2.0,
    labelled: str | os.PathLike | None = None,
    centre: bool = False,
    check_seconds: float = 120.0,
    replace: bool = False,
    progress: bool = True,
) -> NewRecipe:
    """Write a commented recipe for a folder of pictures and this machine, which `mizoo pretrain` runs as it is.

    The files are opened, and a few steps of the recipes in question are run on noise, so that side, encoder, batch,
    views, precision and length follow from what was found and measured.

    Args:
        out: the recipe to write, a .yaml file; the run is called by its name.
        data: a folder of pictures; of one with `train` and `test` the former is trained on.
        side: height and width that the encoder takes, a multiple of 8 from 32 on; chosen if None.
        hours: how long the run may take.
        labelled: a folder of class folders, to watch the run by a probe.
        centre: take the centre square of pictures more than twice as long as wide.
        check_seconds: time to spend on opening the files of a folder; 0 for all of them.
        replace: overwrite `out`.
        progress: show what is done.

    Raises:
        UserError: for pictures that no recipe does justice to (`mizoo.new.refuse` and `mizoo.new.choose` say which), a
            folder of labelled pictures that is none, or an `out` that is there or no .yaml file.
    """
    out = _check_out(out, replace)
    if labelled is not None:
        _check_labelled(labelled)
    wishes = Wishes(
        source=os.fspath(data),
        name=_run_name(out),
        hours=hours,
        side=side,
        labelled=None if labelled is None else os.fspath(labelled),
    )
    found = survey(data, check_seconds, progress)
    refuse(found, centre)
    watched = None
    if labelled is not None:
        own = same_source(os.fspath(labelled), os.fspath(data))
        watched = found if own else survey(labelled, check_seconds, progress)
    with Progress(progress, keep=True) as display:
        plan = choose(found, wishes, functools.partial(measure, progress=display), watched=watched)
    validate(plan.content, str(out))
    files.write_text(out, words.write(found, wishes, plan, _command(out)))
    return NewRecipe(out, found, wishes, plan)


def _check_out(out: str | os.PathLike, replace: bool) -> Path:
    path = files.user_path(out)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"A recipe is a .yaml file. Received: {path}")
    if path.exists() and not replace:
        raise UserError(f"{path} is there already. Name another file, or overwrite it: --replace.")
    return path


def _run_name(out: Path) -> str:
    name = re.sub(r"[^a-z0-9_]+", "_", out.stem.lower()).strip("_")
    if not name:
        raise UserError(f"The run is called by its recipe, in letters, digits and underscores. Received: {out.name}")
    return name


def _check_labelled(labelled: str | os.PathLike) -> None:
    folder = files.user_path(labelled)
    if not folder.is_dir():
        raise UserError(f"`labelled` (--labelled) is a folder of class folders. Received: {folder}, which is none.")
    found = folders.classes(folder / "train" if len(splits(folder)) > 1 else folder)
    if len(found) < 2:
        raise UserError(
            f"`labelled` (--labelled) is a folder with a subfolder of pictures for each class, two at least. {folder} "
            f"has {len(found)}."
        )


def _command(out: Path) -> str:
    return f"mizoo pretrain {out}"
