"""Names, files and mappings -> checked recipes. Importing it imports no Keras: what is wrong is reported at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml
from pydantic import ValidationError

from mizoo._tools import files, yaml_text
from mizoo.errors import UserError
from mizoo.recipes.encoders import ENCODERS, CustomEncoderSettings
from mizoo.recipes.objectives import OBJECTIVES, CustomObjectiveSettings
from mizoo.recipes.recipe import Recipe
from mizoo.recipes.search import Search
from mizoo.recipes.section import CUSTOM, Section, Settings
from mizoo.recipes.training import Data, Optimizer, Training, Watch
from mizoo.zoo import entries

_ENDINGS = (".yaml", ".yml")
_TABLES: dict[str, dict[str, type[Settings]]] = {
    "encoder": {**ENCODERS, CUSTOM: CustomEncoderSettings},
    "objective": {**OBJECTIVES, CUSTOM: CustomObjectiveSettings},
}
_SECTIONS: dict[str, type[Section]] = {
    "data": Data,
    "optimizer": Optimizer,
    "training": Training,
    "watch": Watch,
    "search": Search,
}


def load(name_or_path: str | os.PathLike, changes: dict[str, Any] | None = None) -> Recipe:
    """Read and validate a recipe.

    Args:
        name_or_path: the name of a published entry or of another recipe of `models/`, such as "paper_cifar10/vae"
            (`names` lists them), or the path of a YAML file.
        changes: dotted keys to replace, such as {"training.epochs": 5}.

    Returns:
        The recipe.

    Raises:
        UserError: naming the key, for an unknown one, a wrong type or an impossible value.
    """
    path = _recipe_file(name_or_path)
    try:
        content = yaml_text.parse(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {yaml_text.problem(error)}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a recipe, a mapping of keys: it holds {type(content).__name__}.")
    change(content, changes or {})
    return validate(content, str(path))


def change(content: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Set dotted keys, such as "training.epochs", in the content of a recipe.

    Raises:
        UserError: for a key below one that holds a value.
    """
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = content
        for parent in parents:
            if section.get(parent) is None:  # `watch: null` is a section without keys, too
                section[parent] = {}
            section = section[parent]
            if not isinstance(section, dict):
                raise UserError(f"`{key}` is no key of a recipe: `{parent}` holds a value, not keys.")
        section[last] = value.item() if isinstance(value, np.generic) else value


def validate(content: dict[str, Any], where: str = "recipe") -> Recipe:
    """Turn a mapping into a `Recipe`.

    Raises:
        UserError: listing every key that is unknown, ill-typed or impossible.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise UserError(f"{where} is refused:\n  " + "\n  ".join(lines)) from None


def ancestors(init_from: str | None) -> list[Path]:
    """The recipes of the runs that another recipe continues from, where those runs are no entries themselves.

    Args:
        init_from: the value of that key in the other recipe.

    Returns:
        Files beside the recipe.yaml of an entry, in the order in which they are trained: the last one's `name` is that
        of the run folder in `init_from`, and each continues from the run of the one before it.
    """
    if not init_from:
        return []
    files = [file for file in sorted(entries.locate("models").glob("*/*.yaml")) if file.name != entries.RECIPE]
    contents = {file: yaml_text.parse(file.read_text(encoding="utf-8")) for file in files}
    chain: list[Path] = []
    source: str | None = init_from
    while source:
        run = Path(source).name
        named = [file for file in files if contents[file].get("name") == run and file not in chain]
        chain = named[:1] + chain
        source = contents[named[0]].get("init_from") if named else None
    return chain


def names() -> list[str]:
    """What `load` takes by name: the recipes of `models/`.

    Returns:
        The name of each folder with a `recipe.yaml`, and FOLDER/FILE, without its ending, of every other recipe in one.
    """
    return list(entries.recipes())


def _explain(problem: Any) -> str:
    """One line for a problem that pydantic has found."""
    location = [str(key) for key in problem["loc"]]
    table = _TABLES.get(location[0], {}) if location else {}
    if len(location) > 1 and location[1] in table:
        section = _section_at(location[2:-1], table[location.pop(1)])  # what `name` was taken for: no key of the recipe
    else:
        section = _section_at(location[:-1], Recipe)
    key = ".".join(location) or "recipe"
    if problem["type"] in ("union_tag_not_found", "union_tag_invalid"):
        given = problem["input"].get("name") if isinstance(problem["input"], dict) else problem["input"]
        names = [name for name in table if name != CUSTOM]
        return f"`{key}.name` is one of {', '.join(names)}, or an import path. Received: {given!r}"
    if problem["type"] == "extra_forbidden" and section is not None:
        near = difflib.get_close_matches(location[-1], section.model_fields, n=1)
        inner = [
            f"{name}.{location[-1]}"
            for name, other in _SECTIONS.items()
            if section is Recipe and location[-1] in other.model_fields
        ]
        hint = f"known keys: {', '.join(section.model_fields)}"
        if near or inner:
            hint = f"did you mean `{(inner or near)[0]}`?"
        return f"`{key}` is unknown; {hint}"
    if problem["type"] == "missing":
        return f"`{key}` is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"`{key}`: {message}. Received: {problem['input']!r}" if location else message


def _section_at(parents: Sequence[str], section: type[Section] | None) -> type[Section] | None:
    """The section that keys lead to from another one; None where they lead to none."""
    for parent in parents:
        if section is not None and not parent.isdecimal():  # of several sections in a list each is of the same kind
            field = section.model_fields.get(parent)
            section = None if field is None else _section_of(field.annotation)
    return section


def _section_of(annotation: Any) -> type[Section] | None:
    """The kind of section in an annotation such as `Watch | None` or `tuple[Stage, ...]`; None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for each in get_args(annotation) if (found := _section_of(each))), None)


def _recipe_file(name_or_path: str | os.PathLike) -> Path:
    path = files.user_path(name_or_path)
    if path.is_file() and (path.suffix in _ENDINGS or path.parent != Path(".")):
        return path
    name, known = path.as_posix(), entries.recipes()
    if name in known:
        return known[name]
    near = [each for each in known if each.endswith(f"/{name}")]
    near = near or difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    if path.suffix in _ENDINGS or (path.parent != Path(".") and not near):
        raise UserError(f"There is no recipe file {str(path)!r}.")
    hint = f"Did you mean {', '.join(near)}?" if near else f"Known: {', '.join(known) or 'none'}."
    raise UserError(f"There is no recipe {name!r}. {hint} A recipe of your own is a path that ends in .yaml.")
