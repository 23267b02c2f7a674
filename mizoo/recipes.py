"""Recipes: what a training run is made of, validated before anything starts."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from mizoo.errors import UserError


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Encoder(_Part):
    """The encoder; `name` is a function of `mizoo.encoders`."""

    name: Literal["conv32"] = "conv32"
    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = Field((64, 128, 256), strict=False)
    fc_size: PositiveInt = 1024
    global_size: PositiveInt = 64

    def build(self):
        """Build the encoder, with fresh weights."""
        from mizoo import encoders

        return getattr(encoders, self.name)(**self.model_dump(exclude={"name"}))


class Objective(_Part):
    """Arguments of `mizoo.DeepInfoMax`."""

    name: Literal["deep_infomax"] = "deep_infomax"
    local_weight: float = Field(1.0, ge=0)
    global_weight: float = Field(0.0, ge=0)
    prior_weight: float = Field(0.1, ge=0)
    bound: Literal["infonce", "jsd"] = "infonce"
    negatives: Literal["images", "locations"] = "images"
    critic_width: PositiveInt = 512

    @model_validator(mode="after")
    def _something_is_maximised(self):
        if not (self.local_weight or self.global_weight):
            raise ValueError("`local_weight` and `global_weight` are both 0: nothing is maximised")
        return self

    def build(self, encoder, augment, seed: int):
        """Build the objective around `encoder`."""
        from mizoo.objectives import DeepInfoMax

        return DeepInfoMax(encoder, augment=augment, seed=seed, **self.model_dump(exclude={"name"}))


class Data(_Part):
    """Where the pictures come from: arguments of `mizoo.data.load`."""

    source: str
    split: str = "train"
    augment: Literal["none", "dim"] = "dim"


class Optimizer(_Part):
    """Adam(W) with a warm-up and, if wanted, a cosine decay to zero."""

    learning_rate: PositiveFloat = 1e-3
    beta_1: float = Field(0.9, ge=0, lt=1)
    beta_2: float = Field(0.999, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_epochs: float = Field(0.0, ge=0)

    def build(self, steps_per_epoch: int, epochs: int):
        """Build the optimiser for a run of `epochs` epochs."""
        import keras

        rate: Any = self.learning_rate
        warmup = int(self.warmup_epochs * steps_per_epoch)
        total = steps_per_epoch * epochs
        if self.schedule == "cosine":
            rate = keras.optimizers.schedules.CosineDecay(
                0.0 if warmup else rate,
                max(total - warmup, 1),
                warmup_target=rate if warmup else None,
                warmup_steps=warmup,
            )
        elif warmup:
            rate = keras.optimizers.schedules.PolynomialDecay(0.0, warmup, end_learning_rate=rate)
        return keras.optimizers.AdamW(rate, weight_decay=self.weight_decay, beta_1=self.beta_1, beta_2=self.beta_2)


class Training(_Part):
    """Length, batch, precision and seed of the run."""

    epochs: PositiveInt = 100
    batch_size: int = Field(128, ge=2)
    precision: Literal["float32", "mixed_bfloat16"] = "mixed_bfloat16"
    seed: int = Field(0, ge=0)
    checkpoint_epochs: PositiveInt = 1


class Recipe(_Part):
    """A whole recipe: the content of a recipe.yaml."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    summary: str = ""
    encoder: Encoder = Encoder()
    objective: Objective = Objective()
    data: Data
    optimizer: Optimizer = Optimizer()
    training: Training = Training()

    @model_validator(mode="after")
    def _warmup_ends(self):
        if self.optimizer.warmup_epochs >= self.training.epochs:
            raise ValueError("`optimizer.warmup_epochs` is as long as `training.epochs`: the rate never decays")
        return self

    def digest(self) -> str:
        """SHA-256 of everything that decides the weights: a checkpoint goes on only under the same digest."""
        parts = self.model_dump(exclude={"name": True, "summary": True, "training": {"checkpoint_epochs"}})
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

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
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path} is not a recipe: it holds {type(content).__name__}, and a recipe is a mapping of keys."
        )
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


def _explain(problem: dict) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location) or "recipe"
    if problem["type"] == "extra_forbidden":
        part = Recipe
        for parent in location[:-1]:
            part = part.model_fields[parent].annotation
        near = difflib.get_close_matches(location[-1], part.model_fields, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(part.model_fields)}"
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
