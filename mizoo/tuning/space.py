"""The search space of a recipe: its keys as hyperparameters, and the recipe that belongs to their values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mizoo.errors import UserError
from mizoo.recipes import Recipe, validate
from mizoo.recipes.loading import change
from mizoo.recipes.search import Range

_DRAWS = 200  # combinations with the other keys in which a value is looked for that is allowed
_DIGITS = 4  # of numbers that are drawn from a range


class Space:
    """The keys that a recipe searches over.

    Args:
        recipe: with a section `search`.

    Raises:
        UserError: if it has none; for a key that recipes do not have, and a value that this one does not take whatever
            the other keys are, by name.
    """

    def __init__(self, recipe: Recipe) -> None:
        if recipe.search is None:
            raise UserError(
                f"The recipe {recipe.name} has no section `search`, which names the keys to search over, such as "
                "search: {keys: {optimizer.learning_rate: {low: 0.0003, high: 0.01, scale: log}}}"
            )
        self.keys = recipe.search.keys
        self._content = recipe.model_dump(mode="json", exclude_unset=True, exclude={"search"})
        self._whole = {key: self._takes_whole(key, each) for key, each in self.keys.items() if isinstance(each, Range)}
        self._texts = {
            key: {_text(value): value for value in each}
            for key, each in self.keys.items()
            if not isinstance(each, Range) and not _is_plain(each)
        }
        self._check()

    def content(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe's own keys, without `search`, changed to these values."""
        content = json.loads(json.dumps(self._content))
        change(content, json.loads(json.dumps(dict(values))))
        return content

    def recipe(self, values: Mapping[str, Any]) -> Recipe:
        """The recipe with these values, without `search`.

        Args:
            values: dotted key -> value.

        Raises:
            UserError: for values that do not go together.
        """
        given = ", ".join(f"{key}: {value}" for key, value in values.items())
        return validate(self.content(values), f"The recipe with {given}")

    def declare(self, hyperparameters: Any) -> None:
        """Add the keys to `keras_tuner.HyperParameters`, unless they are there."""
        for key, each in self.keys.items():
            if not isinstance(each, Range):
                hyperparameters.Choice(key, list(self._texts.get(key, each)))
                continue
            kind = hyperparameters.Int if self._whole[key] else hyperparameters.Float
            step = {} if each.step is None else {"step": each.step}
            kind(key, each.low, each.high, sampling=each.scale, **step)

    def decode(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the keys in those of `keras_tuner.HyperParameters`, as the recipe takes them."""
        decoded = {}
        for key, each in self.keys.items():
            value: Any = values[key]
            if key in self._texts:
                value = self._texts[key][value]
            elif isinstance(each, Range):
                value = int(value) if self._whole[key] else min(max(_rounded(value), each.low), each.high)
            decoded[key] = value
        return decoded

    def _takes_whole(self, key: str, given: Range) -> bool:
        """Whether a range is of whole numbers: its own are, and so is its step, or the key takes no others."""
        if any(isinstance(each, float) for each in (given.low, given.high, given.step)):
            return False
        if given.step is not None:
            return True
        try:
            self.recipe({key: given.low + 0.5})
        except UserError:
            return True
        return False

    def _examples(self, key: str) -> list[Any]:
        """The choices of a key, or the ends of its range."""
        each = self.keys[key]
        if not isinstance(each, Range):
            return list(each)
        return [each.low, each.high] if self._whole[key] else [float(each.low), float(each.high)]

    def _check(self) -> None:
        for key in self.keys:
            for value in self._examples(key):
                problem = self._why_refused(key, value)
                if problem is not None:
                    raise problem

    def _why_refused(self, key: str, value: Any) -> UserError | None:
        """Why no combination with the other keys allows a value; None if one does."""
        first = None
        for others in self._combinations(key):
            try:
                self.recipe({key: value, **others})
            except UserError as error:
                first = first or error
            else:
                return None
        return first

    def _combinations(self, key: str) -> Iterator[dict[str, Any]]:
        """Values of the other keys: those of the recipe first, then some that are drawn."""
        yield {}
        others = [other for other in self.keys if other != key]
        draw = np.random.default_rng(0)
        for _ in range(_DRAWS if others else 0):
            chosen = {other: self._examples(other) for other in others}
            yield {other: values[draw.integers(len(values))] for other, values in chosen.items()}


def _is_plain(choices: tuple[Any, ...]) -> bool:
    """Whether keras-tuner takes the choices as they are: all numbers of one type, or all text."""
    kinds = {type(each) for each in choices}
    return len(kinds) == 1 and kinds <= {int, float, str}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
