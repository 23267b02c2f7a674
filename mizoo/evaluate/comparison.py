"""Two encoders on the same pictures: which is better, and how sure that is (McNemar's test)."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mizoo._tools.progress import Progress
from mizoo.errors import UserError
from mizoo.evaluate import copies
from mizoo.evaluate.cache import open_cache
from mizoo.evaluate.protocols import TABLE, Task, knn, linear, svm
from mizoo.evaluate.tasks import PictureTasks
from mizoo.zoo import interface
from mizoo.zoo.loading import load_hashed

LEVEL = 0.05
_NORMAL = 1.959964  # of 95 %


def _votes(train_x, train_y, test_x, classes, advance):
    return knn.class_votes(train_x, train_y, test_x, classes, advance=advance).argmax(axis=1), {}


PREDICTORS: dict[str, Callable[..., tuple[np.ndarray, dict[str, Any]]]] = {
    "linear": linear.predictions,
    "knn": _votes,
    "svm": svm.predictions,
}
"""The protocols that encoders can be compared by: each classifies every picture, in the same way each time."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two classifiers on the same pictures.

    Attributes:
        names: of the encoders.
        protocol, dataset, endpoint: what they were compared by.
        both, first_alone, second_alone, neither: pictures that are classified rightly by each.
        test_in_train: scored pictures that are also among those that were fitted on; of TFDS sets they are not counted.
    """

    names: tuple[str, str]
    protocol: str
    dataset: str
    endpoint: str
    both: int
    first_alone: int
    second_alone: int
    neither: int
    test_in_train: int = 0

    @property
    def count(self) -> int:
        """Pictures scored."""
        return self.both + self.first_alone + self.second_alone + self.neither

    @property
    def accuracies(self) -> tuple[float, float]:
        """Top-1 accuracies in percent."""
        return tuple(100 * (self.both + alone) / self.count for alone in (self.first_alone, self.second_alone))  # type: ignore[return-value]

    @property
    def difference(self) -> float:
        """Accuracy of the first less that of the second, in points."""
        return 100 * (self.first_alone - self.second_alone) / self.count

    @property
    def margin(self) -> float:
        """Half the width of the 95 % interval of the difference, in points, of paired proportions."""
        apart, sum_ = self.first_alone - self.second_alone, self.first_alone + self.second_alone
        return 100 * _NORMAL * math.sqrt(max(sum_ - apart**2 / self.count, 0)) / self.count

    @property
    def p_value(self) -> float:
        """Of McNemar's exact test: two-sided binomial test of the pictures that one alone gets right; 1 without any."""
        from scipy.stats import binomtest

        apart = self.first_alone + self.second_alone
        return float(binomtest(self.first_alone, apart).pvalue) if apart else 1.0

    def summary(self) -> str:
        """The result in a few lines."""
        first, second = self.names
        if self.p_value >= LEVEL:
            verdict = f"no difference is shown (p = {self.p_value:.2g})"
        else:
            better = first if self.difference > 0 else second
            verdict = f"{better} is better (p = {self.p_value:.2g})"
        copied = ""
        if self.test_in_train:
            copied = f"\n{self.test_in_train:,} of these pictures are also among those that were fitted on: "
            copied += "keep one copy of each."
        return (
            f"{self.protocol} of {self.endpoint} on {self.dataset}, {self.count:,} pictures: {first} "
            f"{self.accuracies[0]:.2f} %, {second} {self.accuracies[1]:.2f} %, difference {self.difference:+.2f} ± "
            f"{self.margin:.2f} points (95 %).\n"
            f"{first} alone is right on {self.first_alone:,}, {second} alone on {self.second_alone:,}: {verdict}.\n"
            "The test is about these pictures and these two fits; another training run of either may differ by more."
            f"{copied}"
        )


def mcnemar(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> tuple[int, int, int, int]:
    """Pictures that both, the first alone, the second alone and neither classify rightly (McNemar 1947).

    Args:
        first, second: predicted classes (N,).
        labels: classes (N,).
    """
    right, also = first == labels, second == labels
    return tuple(int(np.sum(each)) for each in (right & also, right & ~also, ~right & also, ~right & ~also))  # type: ignore[return-value]


def compare(
    first: Any,
    second: Any,
    dataset: Any = "cifar10",
    protocols: Sequence[str] = ("linear",),
    endpoints: Sequence[str] | None = None,
    split: str = "test",
    train_split: str = "train",
    cache: Any = None,
    progress: bool = True,
    depth: int | None = None,
) -> list[Comparison]:
    """Compare two encoders by probes that are fitted and scored on the same pictures.

    Args:
        first, second: names of entries, paths of files (.keras or .onnx) or run folders, or models.
        dataset, split, train_split, cache, progress, depth: as of `evaluate`.
        protocols: some of `PREDICTORS`.
        endpoints: endpoints that both have; by default the first of `fc` and `global` that both have.

    Returns:
        One comparison for each protocol and endpoint.

    Raises:
        UserError: for another protocol, and encoders without an endpoint in common.
    """
    if unknown := [str(name) for name in protocols if name not in PREDICTORS]:
        raise UserError(f"Encoders are compared by {', '.join(PREDICTORS)}. Received: {', '.join(unknown)}")
    models = [_model(each) for each in (first, second)]
    names = _names(first, second)
    for model in models:
        if interface.kind(model) != "pictures":
            raise UserError("Encoders of pictures are compared.")
    endpoints = list(endpoints or _common(models))
    store = open_cache(cache)
    with Progress(progress, keep=True) as display:
        by_encoder = []
        for model in models:
            pictures = PictureTasks(
                model, dataset, split, train_split, interface.picture_shape(model), endpoints, store, display, depth
            )
            by_encoder.append(pictures.for_protocol(TABLE["linear"]))
        fitted, scored = pictures.train.images, pictures.test.images
        if copied := copies.count(dataset, fitted, scored):
            display.print(copies.sentence(dataset, copied, scored, split))
        return [
            _compare(names, protocol, task, other, copied, display)
            for protocol in protocols
            for task, other in zip(*by_encoder)
        ]


def _compare(names: Any, protocol: str, task: Task, other: Task, copied: int, display: Progress) -> Comparison:
    predicted = []
    for name, each in zip(names, (task, other)):
        line = display.start(f"{protocol}, {each.endpoint}, {name}")
        right, _ = PREDICTORS[protocol](each.train_x, each.train_y, each.test_x, each.classes, advance=None)
        predicted.append(right)
        line.finish(f"{100 * np.mean(right == each.test_y):.2f} %")
    assert task.test_y is not None
    counts = mcnemar(predicted[0], predicted[1], task.test_y)
    return Comparison(names, protocol, task.dataset, task.endpoint, *counts, copied)


def _model(given: Any) -> Any:
    if not isinstance(given, (str, os.PathLike)):
        return given
    return load_hashed(given, None, "onnx" if os.fspath(given).endswith(".onnx") else "keras")[0]


def _names(*encoders: Any) -> tuple[str, str]:
    """What two encoders are called, in another way where that is the same: by their paths, or by their place."""
    names = [interface.encoder_name(each) for each in encoders]
    if names[0] == names[1]:
        given = [isinstance(each, (str, os.PathLike)) for each in encoders]
        names = [os.fspath(each) if path else name for each, path, name in zip(encoders, given, names)]
    if names[0] == names[1]:
        names = [f"{name} ({i})" for i, name in enumerate(names, start=1)]
    return names[0], names[1]


def _common(models: Sequence[Any]) -> list[str]:
    known = [interface.endpoint_names(model) or ("features",) for model in models]
    for name in (*TABLE["finetune"].endpoints, *known[0]):
        if all(name in each for each in known):
            return [name]
    raise UserError(
        "Two encoders are compared by an endpoint that both have. Received: "
        + " and ".join(", ".join(each) for each in known)
    )
