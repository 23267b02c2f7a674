"""Recipes: what a training run is made of, validated before anything starts."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from mizoo import yaml_text
from mizoo.errors import UserError

Endpoint = Literal["local", "conv", "fc", "global"]
_Sizes = Annotated[tuple[PositiveInt, ...], Field(strict=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Encoder(_Part):
    def build(self):
        """Build the encoder, with fresh weights: the function of `mizoo.encoders` of this name."""
        from mizoo import encoders

        return getattr(encoders, self.name)(**self.model_dump(exclude={"name"}))


class Conv32(_Encoder):
    """Arguments of `mizoo.encoders.conv32`."""

    name: Literal["conv32"] = "conv32"
    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = Field((64, 128, 256), strict=False)
    fc_size: PositiveInt = 1024
    global_size: PositiveInt = 64


class ResNet18(_Encoder):
    """Arguments of `mizoo.encoders.resnet18`."""

    name: Literal["resnet18"] = "resnet18"
    width: PositiveFloat = 1.0
    head_size: PositiveInt = 512
    global_size: PositiveInt = 128
    side: PositiveInt = Field(32, multiple_of=8)


class PatchGrid(_Encoder):
    """Arguments of `mizoo.encoders.patch_grid`."""

    name: Literal["patch_grid"] = "patch_grid"
    side: PositiveInt = 32
    patch: int = Field(8, ge=4)
    width: PositiveInt = 128
    size: PositiveInt = 256
    blocks: int = Field(3, ge=0)


class Waveform(_Encoder):
    """Arguments of `mizoo.encoders.waveform`; `sampling_rate` is that of the data, in Hz."""

    name: Literal["waveform"] = "waveform"
    sampling_rate: PositiveInt = 16000
    kernels: _Sizes | None = None
    strides: _Sizes | None = None
    widths: PositiveInt | _Sizes = 512
    context_size: PositiveInt = 256
    norm: bool = True


class DeepInfoMax(_Part):
    """Arguments of `mizoo.DeepInfoMax`."""

    name: Literal["deep_infomax"] = "deep_infomax"
    local_weight: float = Field(1.0, ge=0)
    global_weight: float = Field(0.0, ge=0)
    prior_weight: float = Field(0.1, ge=0)
    bound: Literal["infonce", "jsd", "dv"] = "infonce"
    negatives: Literal["images", "locations", "both"] = "images"
    critic: Literal["encode_dot", "concat_conv"] = "encode_dot"
    critic_width: PositiveInt = 512
    views: Literal[1, 2] = 1
    pairs: tuple[Annotated[tuple[Endpoint, Endpoint], Field(strict=False)], ...] = Field(
        (("local", "global"),), strict=False, min_length=1
    )
    clip: PositiveFloat | None = None
    score_penalty: float = Field(0.0, ge=0)
    occlusion: float = Field(0.0, ge=0, le=1)
    occlusion_from: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _something_is_maximised(self):
        if not (self.local_weight or self.global_weight):
            raise ValueError("`local_weight` and `global_weight` are both 0: nothing is maximised")
        if len(set(self.pairs)) < len(self.pairs):
            raise ValueError("`pairs` names a pair twice")
        if self.views == 1 and any(first == second for first, second in self.pairs):
            raise ValueError("`pairs` of equal endpoints take `views: 2`")
        if self.occlusion_from and not self.occlusion:
            raise ValueError("`occlusion_from` takes an `occlusion` above 0")
        return self

    def build(self, encoder, augment, seed: int):
        """Build the objective around `encoder`."""
        from mizoo import objectives

        settings = self.model_dump(exclude={"name", "occlusion_from"})
        return objectives.DeepInfoMax(encoder, augment=augment, seed=seed, **settings)

    @property
    def second_optimizer(self) -> str:
        """What to change for a model with one optimiser; empty where it has one."""
        return "prior_weight: 0" if self.prior_weight else ""


class SimCLR(_Part):
    """Arguments of `mizoo.SimCLR`."""

    name: Literal["simclr"] = "simclr"
    temperature: PositiveFloat = 0.5

    views: ClassVar[int] = 2
    second_optimizer: ClassVar[str] = ""

    def build(self, encoder, augment, seed: int):
        """Build the objective around `encoder`."""
        from mizoo import objectives

        return objectives.SimCLR(encoder, self.temperature, augment=augment, seed=seed)


class DeepCoTraining(_Part):
    """Arguments of `mizoo.DeepCoTraining`."""

    name: Literal["deep_co_training"] = "deep_co_training"
    beta: float = Field(0.0, ge=0, lt=1)
    form: Literal["doe", "cpc"] = "doe"
    family: Literal["gaussian", "logistic"] = "gaussian"
    hidden: _Sizes = Field((256,), min_length=1)
    scale_range: float = Field(0.0, ge=0)
    resolution: PositiveFloat = 0.25
    inner_steps: PositiveInt = 4
    density_rate: PositiveFloat = 2e-3

    views: ClassVar[int] = 2

    @model_validator(mode="after")
    def _entropy_to_weigh(self):
        if self.beta and self.form == "cpc":
            raise ValueError("`beta` weighs an entropy, and `form: cpc` has none")
        return self

    def build(self, encoder, augment, seed: int):
        """Build the objective around `encoder`."""
        from mizoo import objectives

        return objectives.DeepCoTraining(encoder, augment=augment, seed=seed, **self.model_dump(exclude={"name"}))

    @property
    def second_optimizer(self) -> str:
        """What to change for a model with one optimiser; empty where it has one."""
        return "form: cpc" if self.form == "doe" else ""


class CPC(_Part):
    """Arguments of `mizoo.CPC`; `patch_augment` names a preset of `mizoo.augment`."""

    name: Literal["cpc"] = "cpc"
    steps: PositiveInt = 12
    first_step: PositiveInt = 1
    negatives: Literal["batch", "sequence", "both"] = "batch"
    directions: tuple[Literal["down", "up", "left", "right"], ...] = Field(("down",), strict=False, min_length=1)
    context: Literal["masked_conv", "row_gru"] = "masked_conv"
    context_size: PositiveInt = 256
    context_blocks: PositiveInt = 3
    patch_augment: Literal["none", "patches"] = "none"

    views: ClassVar[int] = 1
    second_optimizer: ClassVar[str] = ""

    @model_validator(mode="after")
    def _first_before_last(self):
        if self.first_step > self.steps:
            raise ValueError("`first_step` is above `steps`: nothing is predicted")
        return self

    def build(self, encoder, augment, seed: int):
        """Build the objective around `encoder`."""
        from mizoo import objectives
        from mizoo.augment import preset

        settings = self.model_dump(exclude={"name", "patch_augment"})
        return objectives.CPC(encoder, augment=augment, patch_augment=preset(self.patch_augment), seed=seed, **settings)


class Data(_Part):
    """Where pictures or sounds come from: arguments of `mizoo.data.load` or `mizoo.data.sounds.load`.

    `view_side` is for resized crops: the height and width of the views that are trained on, where they are smaller than
    the pictures. `window` and `without_speakers` are for sounds: samples in a training window, and whom to leave out.
    """

    source: str
    split: str = "train"
    augment: Literal["none", "dim", "amdim", "simclr", "views"] = "dim"
    view_side: PositiveInt | None = None
    window: PositiveInt | None = None
    without_speakers: tuple[str, ...] = Field((), strict=False)


class Optimizer(_Part):
    """An optimiser of Keras with a warm-up and a schedule.

    "cosine" decays over the whole run, "trapezoid" linearly over its last `decay_epochs`, both to zero.

    The weight decay is decoupled and spares biases and normalisation. `ema` is the momentum of a running average of
    the weights, which is then what the encoder is saved with; 0 keeps none.
    """

    name: Literal["adamw", "lamb"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    beta_1: float = Field(0.9, ge=0, lt=1)
    beta_2: float = Field(0.999, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine", "trapezoid"] = "cosine"
    warmup_epochs: float = Field(0.0, ge=0)
    decay_epochs: float = Field(0.0, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)

    def build(self, steps_per_epoch: int, epochs: int):
        """Build the optimiser for a run of `epochs` epochs."""
        import keras

        from mizoo.schedules import scheduled

        warmup, decay = (int(part * steps_per_epoch) for part in (self.warmup_epochs, self.decay_epochs))
        rate = scheduled(self.schedule, self.learning_rate, steps_per_epoch * epochs, warmup, decay)
        kind = {"adamw": keras.optimizers.AdamW, "lamb": keras.optimizers.Lamb}[self.name]
        average = {"use_ema": True, "ema_momentum": self.ema} if self.ema else {}
        optimizer = kind(rate, weight_decay=self.weight_decay, beta_1=self.beta_1, beta_2=self.beta_2, **average)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer


class Training(_Part):
    """Length, batch, precision and seed of the run."""

    epochs: PositiveInt = 100
    batch_size: int = Field(128, ge=2)
    precision: Literal["float32", "mixed_bfloat16"] = "mixed_bfloat16"
    seed: int = Field(0, ge=0)
    checkpoint_epochs: PositiveInt = 1


class Recipe(_Part):
    """A whole recipe: the content of a recipe.yaml.

    `init_from` names a published entry, or a path that `mizoo.load` takes, whose encoder the training goes on with.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    summary: str = ""
    init_from: str | None = None
    encoder: Annotated[Conv32 | ResNet18 | PatchGrid | Waveform, Field(discriminator="name")] = Conv32()
    objective: Annotated[DeepInfoMax | SimCLR | CPC | DeepCoTraining, Field(discriminator="name")] = DeepInfoMax()
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
    every = (Conv32, ResNet18, PatchGrid, Waveform, DeepInfoMax, SimCLR, CPC, DeepCoTraining)
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
