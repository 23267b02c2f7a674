"""The section `search` of a recipe: which keys `mizoo tune` searches over, and what it chooses by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from mizoo.errors import UserError
from mizoo.evaluate.protocols import TABLE, Protocol, choose
from mizoo.recipes.section import Section

_FIXED = {
    "name": "it decides nothing of a run",
    "summary": "it decides nothing of a run",
    "watch": "it decides nothing of a run",
    "search": "it is what searches",
    "training.checkpoint_epochs": "it decides nothing of a run",
    "training.epochs": "epochs are what a search spends: it is the length of a whole run, and `search.epochs` that of "
    "all trials together",
    "data.source": "trials are compared on the same pictures",
    "data.split": "trials are compared on the same pictures",
}
_PROBE = {"labels", "features"}  # what a protocol takes that a search can choose by


class Range(Section):
    """Numbers from `low` to `high`, both included, drawn evenly on a `linear` or a `log` scale.

    Whole numbers where the key takes no others, or where `low`, `high` and `step` are whole.
    """

    low: int | float
    high: int | float
    scale: Literal["linear", "log"] = "linear"
    step: int | float | None = None

    @model_validator(mode="after")
    def _is_a_range(self):
        numbers = [each for each in (self.low, self.high, self.step) if each is not None]
        if not all(math.isfinite(each) for each in numbers) or self.low >= self.high:
            raise ValueError("`low` is a number below `high`")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("`scale: log` takes a `low` above 0")
        if self.step is not None and (self.scale == "log" or not 0 < self.step <= self.high - self.low):
            raise ValueError("`step` is for `scale: linear`, and a step from `low` that stays below `high`")
        return self


class Search(Section):
    """A search over keys of the recipe by whole or shortened runs, each scored by a probe on the validation part.

    `keys` has for each dotted key a list of choices, of any kind that the key takes, or a range, `{low, high, scale,
    step}`. `epochs` is what all trials together may train for, ten whole runs by default. `objective` is a protocol
    with labels that is fitted on frozen features, of `endpoint`. The labelled pictures are those of `source`, by
    default of `data.source`: the last 5,000 of their training split are scored, a fifth where that is fewer.
    """

    keys: dict[str, Range | tuple[Any, ...]] = Field(min_length=1)
    algorithm: Literal["hyperband", "bayesian", "random"] = "hyperband"
    epochs: PositiveInt | None = None
    objective: str = "knn"
    endpoint: str = "global"
    source: str | None = None
    seed: int = Field(0, ge=0, lt=(1 << 32) - 1)

    @field_validator("keys", mode="before")
    @classmethod
    def _read_keys(cls, given: Any):
        if not isinstance(given, Mapping):
            raise ValueError("a mapping from keys to lists of choices or to ranges")
        read = {key: _read(key, value) for key, value in given.items()}
        for key in read:
            parents = [other for other in read if key.startswith(f"{other}.")]
            if parents:
                raise ValueError(f"`{parents[0]}` and `{key}` set the same: leave out one")
            for fixed, why in _FIXED.items():
                if key == fixed or key.startswith(f"{fixed}."):
                    raise ValueError(f"`{key}` is not searched over: {why}")
        return read

    @field_validator("objective")
    @classmethod
    def _is_a_probe(cls, given: str) -> str:
        _probe(given)
        return given

    @property
    def protocol(self) -> Protocol:
        """The protocol that `objective` names."""
        return _probe(self.objective)


def _read(key: Any, value: Any) -> Any:
    """The choices or the range of one key."""
    if not isinstance(key, str):
        raise ValueError(f"keys are written with dots, such as `optimizer.learning_rate`. Received: {key!r}")
    if isinstance(value, Range):
        return value
    if isinstance(value, (list, tuple)):
        if not value or any(value[i] == other for i in range(len(value)) for other in value[:i]):
            raise ValueError(f"`{key}` has a list of choices that differ. Received: {value!r}")
        return tuple(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"`{key}` has a list of choices, or a range, {{low: ..., high: ...}}. Received: {value!r}")
    try:
        return Range.model_validate(dict(value))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join([key, *(str(part) for part in problem["loc"][:1])])
        known = f"; a range has {', '.join(Range.model_fields)}" if problem["type"] == "extra_forbidden" else ""
        raise ValueError(f"`{where}`: {problem['msg'].removeprefix('Value error, ')}{known}") from None


def _probe(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        ValueError: for one that is no probe of frozen features with one value, such as a bound.
    """
    try:
        (chosen,) = choose((name,))
    except UserError:
        chosen = None
    if chosen is None or not _PROBE <= set(chosen.takes) or len(chosen.variants) != 1:
        probes = [each.name for each in TABLE.values() if _PROBE <= set(each.takes) and len(each.variants) == 1]
        raise ValueError(
            f"a probe of frozen features, {', '.join(probes)}, labels:10, or one of your own by import path. What a "
            "run maximises is none: the values of different bounds, batch sizes and temperatures are on no common scale"
        )
    return chosen
