"""What a protocol is: what it is run on, what it returns, and what the table says about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mizoo._tools.import_path import import_object
from mizoo._tools.progress import Line
from mizoo.errors import UserError

TAKES = ("labels", "features", "views", "pictures", "encoder")


class LeftOut(UserError):
    """A protocol, or one of its variants, cannot be computed on this data: the others go on, and a line says why."""


@dataclass(frozen=True)
class Task:
    """What a protocol is run on: one endpoint of an encoder on one data set.

    Attributes:
        dataset: name of the data set; of sounds with the label, such as "spoken_digit/speaker".
        split: the split that is scored, for the rows.
        endpoint: name of the features.
        test_x: features (M, D) that are scored, float16 or float32.
        test_y: labels (M,) int64, or None.
        train_x: features (N, D) to fit on, or None where nothing is fitted.
        train_y: labels (N,) int64, or None.
        classes: number of classes; 0 without labels.
        train_images, test_images: the pictures (N, H, W, C) of the features, or None for sounds.
        views: features of two augmented views of the scored pictures, each (M, D); () unless a protocol takes them.
        encoder: the encoder itself; None for raw pixels.

    `test_x` and `train_x` have no columns, (M, 0) and (N, 0), for a protocol that takes no features.
    """

    dataset: str
    split: str
    endpoint: str
    test_x: np.ndarray
    test_y: np.ndarray | None = None
    train_x: np.ndarray | None = None
    train_y: np.ndarray | None = None
    classes: int = 0
    train_images: np.ndarray | None = None
    test_images: np.ndarray | None = None
    views: tuple[np.ndarray, ...] = ()
    encoder: Any = None

    @property
    def arrays(self) -> tuple[Any, Any, Any, Any, int]:
        """What a classifier is fitted on and scored by: `train_x`, `train_y`, `test_x`, `test_y` and `classes`."""
        return (self.train_x, self.train_y, self.test_x, self.test_y, self.classes)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many rows are fitted on and how many scored."""
        return (0 if self.train_x is None else len(self.train_x), len(self.test_x))


@dataclass(frozen=True)
class Options:
    """What the caller of `evaluate` chose, as far as it concerns a protocol.

    Attributes:
        seeds: number of fits for a protocol that depends on a seed.
        schedule: of `mlp200`.
        variant: which of the protocol's variants is asked for; "" where there is one.
    """

    seeds: int = 3
    schedule: Any = "fast"
    variant: str = ""


@dataclass(frozen=True)
class Score:
    """What a protocol returns.

    Attributes:
        values: one value for each seed, in the unit of the protocol, or a single number.
        settings: all that decides them, for the row.
    """

    values: Any
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.values))

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 for one."""
        return float(np.std(self.values, ddof=1)) if self.seeds > 1 else 0.0

    @property
    def seeds(self) -> int:
        """How many values there are."""
        return int(np.size(self.values))


@dataclass(frozen=True)
class Protocol:
    """One protocol.

    Attributes:
        name: what rows, columns and the command line call it.
        about: how it is made, for the line above a table.
        unit: of the value of its rows; rows of different protocols never share a column.
        better: "higher" or "lower".
        takes: some of `TAKES`: "labels", "features", "views" (features of two augmented views), "pictures", "encoder".
        run: a function of (task, options, progress) that returns a `Score`, or its import path, which is imported on
            first use. `progress.resize(total)` and `progress.advance(parts)` move its bar. It raises `LeftOut` where
            the data do not have what it takes.
        fits: whether something is fitted on the training split.
        columns: variant (`options.variant`, "" where there is one) -> head of its column.
        digits: of the value in a row.
        joint: `run` is called once for all variants, and returns variant -> `Score`, without those that are left out.
        renews: whether it gives the encoder new weights, so that its rows are those of `random`.
        endpoints: those measured by default, the first of them that an encoder has; () for all. Of a protocol without
            labels, `global` alone.
    """

    name: str
    about: str
    unit: str
    better: Literal["higher", "lower"]
    takes: tuple[str, ...]
    run: str | Callable[[Task, Options, Line], Any]
    fits: bool = False
    columns: tuple[tuple[str, str], ...] = (("", ""),)
    digits: int = 3
    joint: bool = False
    renews: bool = False
    endpoints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.takes) - set(TAKES)):
            raise UserError(f"A protocol takes some of {', '.join(TAKES)}. Received: {', '.join(unknown)}")
        if {"labels", "views"} <= set(self.takes):
            raise UserError(
                f"`{self.name}` takes labels and views: views are made for protocols without labels alone. Make those "
                "it needs from `task.train_images` and `task.encoder`, with `mizoo.augment`."
            )

    @property
    def labelled(self) -> bool:
        """Whether it takes labels."""
        return "labels" in self.takes

    @property
    def variants(self) -> tuple[str, ...]:
        """Its variants, "" for the only one."""
        return tuple(variant for variant, _ in self.columns)

    def __call__(self, task: Task, options: Options, progress: Line) -> Any:
        """Run it: a `Score`, or one for each variant where it is `joint`."""
        function = import_object(self.run) if isinstance(self.run, str) else self.run
        return function(task, options, progress)
