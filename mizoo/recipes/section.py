"""What every section of a recipe shares."""

from __future__ import annotations

import functools
import operator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PositiveInt, Tag

from mizoo._tools.import_path import is_import_path

Endpoint = Literal["local", "conv", "fc", "global"]
Sizes = Annotated[tuple[PositiveInt, ...], Field(strict=False)]

CUSTOM = "custom"  # the tag of a class that a recipe names by import path


class Section(BaseModel):
    """A section of a recipe: its keys, with types and defaults. An unknown key is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Settings(Section):
    """A section whose `name` chooses what it configures: an encoder or an objective.

    A subclass has one field for each argument of what it builds, with the same default.
    """

    name: str
    builds: ClassVar[str] = ""  # import path of what is built
    recipe_only: ClassVar[tuple[str, ...]] = ()  # keys that are no arguments of it

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of what this section configures."""
        return self.model_dump(exclude={"name", *self.recipe_only})


def one_of(table: dict[str, type[Settings]], custom: type[Settings]) -> Any:
    """The type of a section that is one of a table's, chosen by its `name`; `custom` takes an import path there."""

    def tag(value: Any) -> Any:
        """The key in the table that a section's content belongs to."""
        name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
        return CUSTOM if isinstance(name, str) and is_import_path(name) else name

    kinds = [Annotated[kind, Tag(name)] for name, kind in table.items()]
    union = functools.reduce(operator.or_, [*kinds, Annotated[custom, Tag(CUSTOM)]])
    return Annotated[union, Discriminator(tag)]
