"""Recipes: what a training run is made of, validated before anything starts."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from mizoo import yaml_text
from mizoo.errors import UserError
from mizoo.recipe_parts import (
    CPC,
    Conv32,
    Data,
    DeepCoTraining,
    DeepInfoMax,
    Distillation,
    Optimizer,
    Part,
    PatchGrid,
    ResNet18,
    SimCLR,
    Training,
    Waveform,
)


class Recipe(Part):
    """A whole recipe: the content of a recipe.yaml.

    `init_from` names a published entry, or a path that `mizoo.load` takes, whose encoder the training goes on with.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    summary: str = ""
    init_from: str | None = None
    encoder: Annotated[Conv32 | ResNet18 | PatchGrid | Waveform, Field(discriminator="name")] = Conv32()
    objective: Annotated[DeepInfoMax | SimCLR | CPC | DeepCoTraining | Distillation, Field(discriminator="name")] = (
        DeepInfoMax()
    )
    data: Data
    optimizer: Optimizer = Optimizer()
    training: Training = Training()

    @model_validator(mode="before")
    @classmethod
    def _usual_kinds(cls, content: Any):
        usual = {"encoder": "conv32", "objective": "deep_infomax"}
        named = {
            part: {"name": name, **content[part]} for part, name in usual.items() if isinstance(content.get(part), dict)
        }
        return {**content, **named}

    @model_validator(mode="after")
    def _views_differ(self):
        if self.objective.views > 1 and self.data.augment == "none":
            raise ValueError("two views take an augmentation, and `data.augment` is none: they would be equal")
        return self

    @model_validator(mode="after")
    def _smaller_views_fit(self):
        side = self.data.view_side
        if side is None:
            return self
        if self.data.augment not in ("simclr", "views"):
            raise ValueError("`data.view_side` takes `data.augment` simclr or views, which resize crops")
        if not isinstance(self.encoder, ResNet18):
            raise ValueError(
                "`data.view_side` takes `encoder.name: resnet18`, whose weights fit pictures of every size"
            )
        if side % 8 or side >= self.encoder.side:
            raise ValueError("`data.view_side` is a multiple of 8 below `encoder.side`")
        return self

    @model_validator(mode="after")
    def _sounds_have_windows(self):
        sound = isinstance(self.encoder, Waveform)
        if sound != (self.data.window is not None):
            raise ValueError("`data.window`, in samples, goes with `encoder.name: waveform`, and that with it")
        if sound and (self.data.augment != "none" or not isinstance(self.objective, CPC)):
            raise ValueError("`encoder.name: waveform` takes `objective.name: cpc` and `data.augment: none`")
        return self

    @model_validator(mode="after")
    def _what_is_taught_is_there(self):
        if isinstance(self.objective, Distillation) and isinstance(self.encoder, PatchGrid):
            if "conv" in self.objective.endpoints:
                raise ValueError(
                    "`encoder.name: patch_grid` has no endpoint conv: give `objective.endpoints` without it"
                )
        return self

    @model_validator(mode="after")
    def _averages_whole_models(self):
        if self.optimizer.ema and (key := self.objective.second_optimizer):
            raise ValueError(f"`optimizer.ema` takes `objective.{key}`: two optimisers share the model")
        return self

    @model_validator(mode="after")
    def _times_fit(self):
        length, optimizer, problems = self.training.epochs, self.optimizer, []
        if optimizer.warmup_epochs >= length:
            problems.append("`optimizer.warmup_epochs` is as long as `training.epochs`: the rate never decays")
        if (optimizer.schedule == "trapezoid") != (optimizer.decay_epochs > 0):
            problems.append("`optimizer.decay_epochs` goes with `schedule: trapezoid`, and that with it")
        if optimizer.warmup_epochs + optimizer.decay_epochs > length:
            problems.append("`optimizer.warmup_epochs` and `decay_epochs` together are longer than `training.epochs`")
        if getattr(self.objective, "occlusion_from", 0) >= length:
            problems.append("`objective.occlusion_from` is as long as `training.epochs`: lower it with the length")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def deciding(self) -> dict[str, Any]:
        """Everything that decides the weights: a checkpoint goes on only under a recipe that says the same."""
        return self.model_dump(mode="json", exclude={"name": True, "summary": True, "training": {"checkpoint_epochs"}})

    def goes_on(self, kept: Recipe, epochs: int) -> bool:
        """Whether a run of the recipe `kept` that has trained for `epochs` epochs is also a run of this one.

        So it is if both say the same, or if they differ only in what neither has begun: the decay of a trapezoid
        schedule, and an occlusion that comes late.
        """
        mine, theirs = self.deciding(), kept.deciding()
        lengths = []
        for recipe in (mine, theirs):
            lengths.append(recipe["training"].pop("epochs") - recipe["optimizer"].pop("decay_epochs"))
            objective = recipe["objective"]
            if not objective.get("occlusion") or epochs <= objective["occlusion_from"]:
                objective |= {"occlusion": 0.0, "occlusion_from": 0}
        still_open = self.optimizer.schedule == "trapezoid" and epochs <= min(lengths)
        return self.deciding() == kept.deciding() or (mine == theirs and still_open)

    def dump(self) -> str:
        """The recipe as YAML, every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load(name_or_path: str | os.PathLike, changes: dict[str, Any] | None = None) -> Recipe:
    """Read and validate a recipe.

    Args:
        name_or_path: the name of a published entry, or the path of a YAML file.
        changes: dotted keys to replace, such as {"training.epochs": 5}.

    Returns:
        The recipe.

    Raises:
        UserError: naming the key, for an unknown one, a wrong type or an impossible value.
    """
    path = _find(name_or_path)
    try:
        content = yaml_text.parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a recipe, a mapping of keys: it holds {type(content).__name__}.")
    for key, value in (changes or {}).items():
        *parents, last = key.split(".")
        place = content
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"`{key}` is no key of a recipe: `{parent}` holds a value, not keys.")
        place[last] = value
    return validate(content, str(path))


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


_KEYS = {name: part.model_fields for name, part in (("data", Data), ("optimizer", Optimizer), ("training", Training))}


def _explain(problem: dict) -> str:
    location = [str(part) for part in problem["loc"]]
    every = (Conv32, ResNet18, PatchGrid, Waveform, DeepInfoMax, SimCLR, CPC, DeepCoTraining, Distillation)
    kinds = {kind.model_fields["name"].default: kind for kind in every}
    if len(location) > 1 and location[0] in ("encoder", "objective") and location[1] in kinds:
        part = kinds[location.pop(1)]  # which of the kinds the validator took `name` for: no key of the recipe
    else:
        part = Recipe
        for parent in location[:-1]:
            part = part.model_fields[parent].annotation
    key = ".".join(location) or "recipe"
    if problem["type"] in ("union_tag_not_found", "union_tag_invalid"):
        known = [n for n, kind in kinds.items() if kind in get_args(Recipe.model_fields[location[0]].annotation)]
        given = problem["input"].get("name") if isinstance(problem["input"], dict) else problem["input"]
        return f"`{key}.name` is one of {', '.join(known)}. Received: {given!r}"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], part.model_fields, n=1)
        inner = [f"{name}.{location[-1]}" for name, keys in _KEYS.items() if part is Recipe and location[-1] in keys]
        hint = f"known keys: {', '.join(part.model_fields)}"
        if near or inner:
            hint = f"did you mean `{(inner or near)[0]}`?"
        return f"`{key}` is unknown; {hint}"
    if problem["type"] == "missing":
        return f"`{key}` is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"`{key}`: {message}. Received: {problem['input']!r}" if location else message


def _find(name_or_path: str | os.PathLike) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.parent != Path("."):
        if not path.is_file():
            raise UserError(f"There is no recipe file {str(path)!r}.")
        return path
    from importlib import resources

    folder = Path(str(resources.files("mizoo.models")))
    known = sorted(p.parent.name for p in folder.glob("*/recipe.yaml"))
    if path.name not in known:
        near = difflib.get_close_matches(path.name, known, n=3, cutoff=0.4)
        hint = f"Did you mean {', '.join(near)}?" if near else f"Known: {', '.join(known) or 'none'}."
        raise UserError(f"There is no recipe {path.name!r}. {hint} A recipe of your own is a path that ends in .yaml.")
    return folder / path.name / "recipe.yaml"
