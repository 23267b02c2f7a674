"""What a recipe, its run folder and the size of its data can tell before Keras is imported and anything is read."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from mizoo._tools.files import user_path
from mizoo._tools.locks import LOCK, lock_folder
from mizoo.data import packed, pictures, sound_files
from mizoo.data.dataset import parse_split
from mizoo.data.loading import as_folder
from mizoo.errors import UserError
from mizoo.recipes import Recipe
from mizoo.recipes.starting_weights import check_ancestor
from mizoo.runs.folder import saved_state
from mizoo.runs.listing import check_listing
from mizoo.runs.provenance import teacher_hashes

_INFO = "dataset_info.json"
_NAME = re.compile(r"[\w/:.]+")  # of a data set of TFDS, with its configuration and version


def check_first(recipe: Recipe, folder: Path) -> None:
    """Refuse at once what would be refused later, as far as it can be known without reading the data.

    Args:
        recipe: what to train.
        folder: the run folder.

    Raises:
        UserError: if another process trains in the folder, or it holds a run that the recipe does not continue; if the
            data have fewer pictures than a batch takes, or are other files than the run began with; if an encoder that
            the recipe names is not there.
    """
    if (folder / LOCK).exists():
        with lock_folder(folder, busy(folder)):
            pass
    state = saved_state(folder, recipe)
    if state.epochs >= recipe.training.epochs:
        return
    known = count(recipe)
    if known is not None and known < recipe.training.batch_size:
        kind = "pictures" if recipe.data.window is None else "sounds"
        raise UserError(
            f"One batch takes {recipe.training.batch_size} {kind}, and `data.split` {recipe.data.split!r} of "
            f"{recipe.data.source} has {known}: lower `training.batch_size` (--set training.batch_size={known})."
        )
    if state.epochs:
        check_listing(recipe, folder)
    teacher_hashes(recipe)
    if recipe.init_from and not state.epochs:
        check_ancestor(recipe)


def busy(folder: Path) -> str:
    """The message for a run folder in which another process trains."""
    return (
        f"Another process trains in {folder}. Wait until it ends, or choose another folder with --out. (Its log, "
        f"{folder / 'log.csv'}, shows how far it is.)"
    )


def count(recipe: Recipe) -> int | None:
    """How many pictures or sounds the data of a recipe have at most, as file names and indices tell.

    Returns:
        A number that the true one does not exceed; None where only reading the data would tell.

    Raises:
        UserError: if there is no such folder or it holds none, or `data.split` has no such form.
    """
    source = recipe.data
    name, rows = parse_split(source.split)
    folder = as_folder(source.source)
    if folder is None:
        whole = _count_in_tfds(source.source, name)
    elif source.window is not None:
        whole = len(sound_files.find(folder))
    else:
        whole = _count_in_folder(folder, name, getattr(recipe.encoder, "channels", None), len(source.without_files))
    return None if whole is None else len(range(whole)[rows])


def _count_in_folder(folder: Path, split: str, channels: int | None, left_out: int) -> int | None:
    if packed.is_packed(folder):
        try:
            return int(json.loads((folder / "index.json").read_text(encoding="utf-8"))["splits"][split]["count"])
        except (KeyError, TypeError, ValueError):  # a split that is not there, or a damaged index: reading says so
            return None
    split_folders = all((folder / each).is_dir() for each in ("train", "test"))
    if split_folders and not (folder / split).is_dir():
        return None
    listed = pictures.find(folder / split if split_folders else folder, channels=channels)
    return len(listed) - (0 if split_folders else left_out)  # of two splits, not all need be of this one


def _count_in_tfds(name: str, split: str) -> int | None:
    """By the description of data that are prepared already; of their splits the largest where `split` is not one."""
    if not _NAME.fullmatch(name):
        return None
    root = user_path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    counts = []
    for file in (root / name.partition(":")[0]).glob(f"*/{_INFO}"):
        try:
            splits = json.loads(file.read_text(encoding="utf-8"))["splits"]
            sizes = {each["name"]: sum(map(int, each["shardLengths"])) for each in splits}
        except (OSError, KeyError, TypeError, ValueError):
            return None
        counts.append(sizes.get(split, max(sizes.values(), default=0)))
    return max(counts, default=None)
