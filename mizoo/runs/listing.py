"""The files that a run began with, so that a folder that has changed since is noticed before it goes on."""

from __future__ import annotations

import json
from pathlib import Path

from mizoo._tools import files
from mizoo.data import packed, pictures, sound_files, splits
from mizoo.data.dataset import parse_split
from mizoo.errors import UserError
from mizoo.recipes import Recipe

LISTING = "pictures.json"
_LISTED = 5


def write_listing(recipe: Recipe, run: Path) -> None:
    """Record path and size of each picture or sound file that a recipe names, or path and hash of each file of packed
    data, in `pictures.json` of its run folder.

    Nothing is written for data that are no folder.
    """
    found = _listed(recipe)
    if found is not None:
        run.mkdir(parents=True, exist_ok=True)
        files.write_text(run / LISTING, json.dumps(found))


def check_listing(recipe: Recipe, run: Path) -> None:
    """Refuse to go on with a run whose folder has changed: its order would be that of other pictures or sounds.

    Raises:
        UserError: naming files that are new, gone or changed, and the ways on. The run folder stays as it is.
    """
    file = run / LISTING
    if not file.is_file():
        return
    before: dict[str, int | str] = json.loads(file.read_text(encoding="utf-8"))
    now = _listed(recipe) or {}
    changes = {
        "new": [path for path in now if path not in before],
        "gone": [path for path in before if path not in now],
        "changed": [path for path, size in before.items() if now.get(path, size) != size],
    }
    if not any(changes.values()):
        return
    kinds = "pictures" if recipe.data.window is None else "sounds"
    words = [f"{len(paths)} {kind} ({_some(paths)})" for kind, paths in changes.items() if paths]
    raise UserError(
        f"The {kinds} of {recipe.data.source} are others than those that the run in {run} began with: "
        f"{'; '.join(words)}. The run was left as it is. Put the files back as they were, or train on those of now in "
        f"another folder: --out, with --set init_from={run} from the weights so far."
    )


def _listed(recipe: Recipe) -> dict[str, int] | dict[str, str] | None:
    """Path below the folder -> size in bytes of a file, or hash of one of packed data; None for other data."""
    folder = files.user_path(recipe.data.source)
    split = parse_split(recipe.data.split)[0]
    if not folder.is_dir():
        return None
    if recipe.data.window is None and packed.is_packed(folder):
        return packed.hashes(folder, split)
    left_out = set(recipe.data.without_files)
    if recipe.data.window is not None:
        found = sound_files.find(folder)
    else:
        below = folder if splits(folder) == ("train",) else folder / split
        found = pictures.find(below, channels=getattr(recipe.encoder, "channels", None))
    named = ((file.relative_to(folder).as_posix(), file) for file in found)
    return {name: file.stat().st_size for name, file in named if name not in left_out}


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:_LISTED] + (["..."] if len(paths) > _LISTED else []))
