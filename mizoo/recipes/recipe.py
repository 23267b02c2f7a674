"""A whole recipe: its sections, and what has to hold between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from mizoo._tools import yaml_text
from mizoo.recipes.encoders import ENCODERS, Conv32Settings, CustomEncoderSettings, EncoderSettings
from mizoo.recipes.objectives import (
    DEFAULT,
    OBJECTIVES,
    CustomObjectiveSettings,
    DeepInfoMaxSettings,
    ObjectiveSettings,
)
from mizoo.recipes.search import Search
from mizoo.recipes.section import Section, one_of
from mizoo.recipes.training import AUGMENTS, Data, Optimizer, Training, Watch

if TYPE_CHECKING:
    AnyEncoder = EncoderSettings
    AnyObjective = ObjectiveSettings
else:
    AnyEncoder = one_of(ENCODERS, CustomEncoderSettings)
    AnyObjective = one_of(OBJECTIVES, CustomObjectiveSettings)

_LENGTH = {"training.epochs", "optimizer.decay_epochs"}
_DEFAULT_NAMES = {"encoder": "conv32", "objective": DEFAULT}  # where a section does not give its name


class Recipe(Section):
    """A whole recipe: the content of a recipe.yaml.

    `init_from` names a published entry, or a path that `mizoo.load` takes: the training starts with the weights of that
    encoder.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    summary: str = ""
    init_from: str | None = None
    encoder: AnyEncoder = Conv32Settings()
    objective: AnyObjective = DeepInfoMaxSettings()
    data: Data
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    watch: Watch | None = None
    search: Search | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_names(cls, content: Any):
        named = {
            key: {"name": name, **content[key]}
            for key, name in _DEFAULT_NAMES.items()
            if isinstance(content.get(key), dict)
        }
        return {**content, **named}

    @model_validator(mode="after")
    def _views_differ(self):
        if self.objective.views > 1 and self.data.augment == "none":
            raise ValueError("two views take an augmentation, and `data.augment` is none: they would be equal")
        return self

    @model_validator(mode="after")
    def _smaller_views_fit(self):
        sides = self.data.view_sides
        if (sides or self.data.stages) and self.data.augment not in self.data.resized:
            raise ValueError(
                f"`data.view_side` and `data.stages` take `data.augment` {' or '.join(self.data.resized)}, which "
                "resize crops"
            )
        if not sides:
            return self
        if not self.encoder.any_side:
            allowed = [name for name, settings in ENCODERS.items() if settings.any_side]
            raise ValueError(
                f"`data.view_side` takes `encoder.name: {' or '.join(allowed)}`, whose weights fit pictures of every "
                "size"
            )
        if isinstance(self.encoder.side, tuple):
            raise ValueError("`data.view_side` is of square views, and `encoder.side` is not square")
        largest = self.encoder.side if self.data.stages else self.encoder.side - 1
        if any(side % self.encoder.step or side > largest for side in sides):
            raise ValueError(
                f"`view_side` is a multiple of {self.encoder.step} below `encoder.side`; in `stages` it may be that as "
                "well"
            )
        return self

    @model_validator(mode="after")
    def _inputs_fit(self):
        sounds = self.encoder.takes == "sounds"
        if sounds != (self.data.window is not None):
            allowed = [name for name, settings in ENCODERS.items() if settings.takes == "sounds"]
            raise ValueError(f"`data.window`, in samples, and `encoder.name: {' or '.join(allowed)}` belong together")
        if sounds and self.training.batch_statistics != "views":
            raise ValueError("`training.batch_statistics: pictures` takes an encoder of pictures")
        augments = ("none", "voice") if sounds else tuple(name for name in AUGMENTS if name != "voice")
        if self.encoder.takes not in self.objective.takes or self.data.augment not in augments:
            allowed = [name for name, settings in OBJECTIVES.items() if self.encoder.takes in settings.takes]
            raise ValueError(
                f"`encoder.name: {self.encoder.name}` takes `objective.name: {' or '.join(allowed)}` and "
                f"`data.augment: {' or '.join(augments)}`"
            )
        return self

    @model_validator(mode="after")
    def _watches_what_is_there(self):
        if self.watch is None:
            return self
        if self.encoder.takes == "sounds":
            raise ValueError(f"`watch` is of pictures, and `encoder.name: {self.encoder.name}` takes sounds")
        if self.encoder.endpoints and self.watch.endpoint not in self.encoder.endpoints:
            raise ValueError(
                f"`encoder.name: {self.encoder.name}` has no endpoint {self.watch.endpoint}, which `watch` names; it "
                f"has {', '.join(self.encoder.endpoints)}"
            )
        return self

    @model_validator(mode="after")
    def _searches_by_what_is_there(self):
        if self.search is None:
            return self
        if self.objective.takes_labels:
            raise ValueError(
                f"`search` scores runs by labels that they have not seen, and `objective.name: {self.objective.name}` "
                "trains with labels"
            )
        known = self.encoder.endpoints
        if known and self.search.endpoint not in known:
            raise ValueError(
                f"`encoder.name: {self.encoder.name}` has no endpoint {self.search.endpoint}, which `search` names; it "
                f"has {', '.join(known)}"
            )
        return self

    @model_validator(mode="after")
    def _endpoints_are_there(self):
        missing = [name for name in self.objective.required_endpoints if name not in self.encoder.endpoints]
        if missing and self.encoder.endpoints:
            raise ValueError(
                f"`encoder.name: {self.encoder.name}` has no endpoint {missing[0]}, which `objective` names; it has "
                f"{', '.join(self.encoder.endpoints)}"
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
            problems.append(
                "`optimizer.warmup_epochs` is as long as `training.epochs`: the rate never decays; lower it"
            )
        if optimizer.schedule == "trapezoid" and "decay_epochs" not in optimizer.model_fields_set:
            problems.append("`optimizer.schedule: trapezoid` takes `optimizer.decay_epochs`, with 0 for no decay")
        if optimizer.schedule != "trapezoid" and optimizer.decay_epochs:
            problems.append("`optimizer.decay_epochs` is for `optimizer.schedule: trapezoid`")
        if optimizer.warmup_epochs + optimizer.decay_epochs > length:
            problems.append(
                f"`optimizer.warmup_epochs` ({optimizer.warmup_epochs:g}) and `optimizer.decay_epochs` "
                f"({optimizer.decay_epochs:g}) together are longer than `training.epochs` ({length}): lower them"
            )
        if sum(stage.epochs or 0 for stage in self.data.stages) >= length:
            problems.append("`data.stages` are as long as `training.epochs`: the last one never begins")
        if problem := self.objective.check_length(length):
            problems.append(problem)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def identity(self) -> dict[str, Any]:
        """Everything that determines the weights: a checkpoint resumes under a recipe of the same identity alone."""
        decides_nothing: Any = {
            "name": True,
            "summary": True,
            "watch": True,
            "search": True,
            "data": {"stream", "workers"},
            "training": {"checkpoint_epochs", "batch_statistics", "jit_compile"},
        }
        return self.model_dump(mode="json", exclude=decides_nothing)

    def can_resume(self, saved: Recipe, epochs: int) -> bool:
        """Whether a run of the recipe `saved` that has trained for `epochs` epochs is also a run of this one.

        That is the case if both have the same identity, or if they differ only in what neither has begun: the decay of
        a trapezoid schedule, and an occlusion that comes late.
        """
        if self.identity() == saved.identity():
            return True
        identities, lengths = [], []
        for recipe in (self, saved):
            keys = recipe.identity() | {"objective": recipe.objective.identity(epochs)}
            lengths.append(keys["training"].pop("epochs") - keys["optimizer"].pop("decay_epochs"))
            identities.append(keys)
        length_is_open = self.optimizer.schedule == "trapezoid" and epochs <= min(lengths)
        return length_is_open and identities[0] == identities[1]

    def why_not_resume(self, saved: Recipe, epochs: int) -> str | None:
        """Why a run of the recipe `saved` that has trained for `epochs` epochs is no run of this one.

        Returns:
            A clause that names the keys with their old and new values; None if `can_resume`.
        """
        if self.can_resume(saved, epochs):
            return None
        old, new = (recipe.identity() | {"objective": recipe.objective.identity(epochs)} for recipe in (saved, self))
        begun = differences(old, new)
        changed = begun or differences(saved.identity(), self.identity())  # which includes what begins later
        keys = "; ".join(f"`{key}` was {before!r} and is {after!r}" for key, (before, after) in changed.items())
        if set(begun) - _LENGTH:
            return f"it is the run of another recipe: {keys}"
        if self.optimizer.schedule != "trapezoid":
            return f"{keys}, and only `optimizer.schedule: trapezoid` leaves the length of a run open"
        begins = min(recipe.training.epochs - recipe.optimizer.decay_epochs for recipe in (saved, self))
        return (
            f"the decay of its rate had begun: it is trained for {epochs} epochs, and by `training.epochs` and "
            f"`optimizer.decay_epochs` of the old or the new recipe the rate falls after {begins:g}. {keys}"
        )

    def dump(self) -> str:
        """The recipe as YAML, every default written out."""
        return yaml_text.dump(self.model_dump(mode="json"), sort_keys=False)


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (old value, new value), of the keys that differ; None where one has no such key."""
    changed: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changed |= differences(before, after, f"{prefix}{key}.")
        elif before != after:
            changed[prefix + key] = (before, after)
    return changed
