"""The one table of protocols: what each measures, in which unit, what it takes, and where it is computed.

Reading it imports no Keras. A protocol is covered by `evaluate`, the command line, tables, cards and the tests by being
listed in `TABLE`. One of a user's own goes to `evaluate` as a `Protocol`, or by its import path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from mizoo._tools.import_path import import_object, is_import_path
from mizoo._tools.lazy import submodules
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
        encoder: the encoder itself, for a protocol that trains it; None for raw pixels.

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
        endpoints: those measured by default, the first of them that an encoder has; () for all.
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


_HERE = "mizoo.evaluate.protocols"
_PROBE = ("labels", "features")
_TRAINED = ("labels", "pictures", "encoder")
_ONE_ENDPOINT = ("fc", "global", "features")  # training an encoder or a decoder is slow
SHARES = (1, 2, 5, 10, 25, 50, 100)
"""Per cent of the labels that the curves of `labels` are measured at."""
_SHARES = tuple((str(share), f"{share} %") for share in SHARES)
_LABELS_ABOUT = (
    "of that share of the labels (the same number for each class where the classes are equal; mean of three draws up "
    "to 10 %, one draw above)"
)

_ALL = (
    Protocol(
        "linear",
        "`linear`: multinomial logistic regression on standardised features, L2 chosen on the last tenth of the "
        "training split",
        "top-1 %",
        "higher",
        _PROBE,
        f"{_HERE}.linear:run",
        fits=True,
    ),
    Protocol(
        "mlp200",
        "`mlp200`: one hidden layer of 200, as in Hjelm et al. 2018",
        "top-1 %",
        "higher",
        _PROBE,
        f"{_HERE}.mlp200:run",
        fits=True,
    ),
    Protocol(
        "knn",
        "`knn`: the 200 nearest neighbours (all, if fewer) by cosine similarity, weights exp(similarity / 0.1)",
        "top-1 %",
        "higher",
        _PROBE,
        f"{_HERE}.knn:run",
        fits=True,
    ),
    Protocol(
        "svm",
        "`svm`: linear support vector machine (squared hinge, one against the rest) on standardised features, its cost "
        "chosen on a tenth of the training split",
        "top-1 %",
        "higher",
        _PROBE,
        f"{_HERE}.svm:run",
        fits=True,
    ),
    Protocol(
        "retrieval",
        "`retrieval`: for each scored picture the training pictures in the order of cosine similarity; the share of "
        "its class among the first 1, 10 and 100, and mean average precision over all. Nothing is fitted",
        "%",
        "higher",
        _PROBE,
        f"{_HERE}.retrieval:run",
        fits=True,
        columns=(("p1", "first"), ("p10", "first 10"), ("p100", "first 100"), ("map", "mean average precision")),
        joint=True,
    ),
    Protocol(
        "finetune",
        "`finetune`: the encoder and a linear layer trained with labels from the encoder's weights, batch "
        "normalisation held",
        "top-1 %",
        "higher",
        _TRAINED,
        f"{_HERE}.finetuning:finetuned",
        fits=True,
        endpoints=_ONE_ENDPOINT,
    ),
    Protocol(
        "scratch",
        "`scratch`: the same architecture trained with labels from new weights, with the budget and the rates of "
        "`finetune`",
        "top-1 %",
        "higher",
        _TRAINED,
        f"{_HERE}.finetuning:from_scratch",
        fits=True,
        renews=True,
        endpoints=_ONE_ENDPOINT,
    ),
    Protocol(
        "labels",
        f"`labels`: the probe `linear` on frozen features {_LABELS_ABOUT}",
        "top-1 %",
        "higher",
        _PROBE,
        f"{_HERE}.label_shares:frozen",
        fits=True,
        columns=_SHARES,
        endpoints=_ONE_ENDPOINT,
    ),
    Protocol(
        "labels_finetune",
        f"`labels_finetune`: as `finetune`, {_LABELS_ABOUT}; as many steps at every share",
        "top-1 %",
        "higher",
        _TRAINED,
        f"{_HERE}.label_shares:finetuned",
        fits=True,
        columns=_SHARES,
        endpoints=_ONE_ENDPOINT,
    ),
    Protocol(
        "labels_scratch",
        f"`labels_scratch`: as `scratch`, {_LABELS_ABOUT}; as many steps at every share",
        "top-1 %",
        "higher",
        _TRAINED,
        f"{_HERE}.label_shares:from_scratch",
        fits=True,
        columns=_SHARES,
        renews=True,
        endpoints=_ONE_ENDPOINT,
    ),
    Protocol(
        "mine",
        "`mine`: what a critic of fixed budget finds of I(picture; Y), a score and not the information, which is "
        "infinite for a deterministic encoder",
        "nats",
        "higher",
        ("features", "pictures"),
        f"{_HERE}.mine:run",
        fits=True,
        columns=(("", "MINE, nats ↑"),),
        digits=4,
    ),
    Protocol(
        "ndm",
        "`ndm`: total correlation of the coordinates that a discriminator finds, of sigmoid(Y) and of Y; in brackets, "
        "where it is more than twice as much, that of a Gaussian with the same correlations: the discriminator was too "
        "weak there",
        "nats",
        "lower",
        ("features",),
        f"{_HERE}.ndm:run",
        fits=True,
        columns=(("sigmoid", "NDM, nats ↓"), ("plain", "NDM without sigmoid, nats ↓")),
        digits=4,
    ),
    Protocol(
        "prior_fit",
        "`prior_fit`: Kolmogorov-Smirnov distance of each coordinate of sigmoid(Y) from the uniform prior",
        "0 to 1",
        "lower",
        ("features",),
        f"{_HERE}.closed_form:prior_fit",
        columns=(("mean", "distance from the prior, mean ↓"), ("worst", "worst coordinate ↓")),
        digits=4,
    ),
    Protocol(
        "effective_rank",
        "`effective_rank`: exponential of the entropy of the normalised singular values",
        "directions",
        "higher",
        ("features",),
        f"{_HERE}.closed_form:effective_rank",
        columns=(("", "effective rank ↑"),),
        digits=4,
    ),
    Protocol(
        "alignment",
        "`alignment`: mean squared distance of two augmented views of a picture, on the unit sphere",
        "squared distance, 0 to 4",
        "lower",
        ("features", "views"),
        f"{_HERE}.closed_form:alignment",
        columns=(("", "alignment ↓"),),
        digits=4,
    ),
    Protocol(
        "uniformity",
        "`uniformity`: logarithm of the mean of exp(-2 squared distance) over pairs of pictures, on the unit sphere",
        "log of a mean, -8 to 0",
        "lower",
        ("features",),
        f"{_HERE}.closed_form:uniformity",
        columns=(("", "uniformity ↓"),),
        digits=4,
    ),
    Protocol(
        "reconstruct",
        "`reconstruct`: multi-scale structural similarity (Wang et al. 2003; Gaussian filter of 11 pixels, as many of "
        "the five scales as the pictures are large enough for: 2 at 32 pixels) of the pictures and of what a decoder "
        "makes of their frozen features",
        "MS-SSIM, 0 to 1",
        "higher",
        ("features", "pictures"),
        f"{_HERE}.reconstruct:run",
        fits=True,
        digits=4,
    ),
)
TABLE: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}
"""Name -> protocol, in the order of columns and help texts."""
PROBES = ("linear", "mlp200", "knn")  # the default of `evaluate`
LABELLED = tuple(name for name, protocol in TABLE.items() if protocol.labelled)
LABEL_FREE = tuple(name for name, protocol in TABLE.items() if not protocol.labelled)
MEASURES = ("mine", "ndm", "prior_fit", "effective_rank", "alignment", "uniformity")  # columns of one table
ALL_MEASURES = "measures"  # on the command line, all of `MEASURES`


def choose(given: Sequence[str | Protocol]) -> tuple[Protocol, ...]:
    """The protocols that a caller names, in that order and once each.

    Args:
        given: names of `TABLE`, with a variant to run that alone ("labels:10"); "measures" for all of `MEASURES`;
            import paths of `Protocol` objects ("mypackage.module:name"); and `Protocol` objects.

    Raises:
        UserError: for a string instead of a sequence, nothing, an unknown name, an import path of something else, or
            a protocol that has the name of another.
    """
    if isinstance(given, str):
        raise UserError(f"`protocols` takes a sequence, such as ({given!r},). Received: {given!r}")
    chosen: dict[str, Protocol] = {}
    unknown: list[str] = []
    for each in given:
        if isinstance(each, Protocol):
            chosen.setdefault(each.name, each)
        elif each == ALL_MEASURES:
            for name in MEASURES:
                chosen.setdefault(name, TABLE[name])
        elif each in TABLE:
            chosen[each] = TABLE[each]
        elif isinstance(each, str) and each.partition(":")[0] in TABLE:
            protocol = _narrowed(each, chosen)
            chosen[protocol.name] = protocol
        elif isinstance(each, str) and is_import_path(each):
            protocol = import_object(each)
            if not isinstance(protocol, Protocol):
                raise UserError(f"{each!r} is no mizoo.evaluate.Protocol. Received: {type(protocol).__name__}")
            chosen.setdefault(protocol.name, protocol)
        else:
            unknown.append(repr(each))
    for each in (*chosen.values(), *(each for each in given if isinstance(each, Protocol))):
        mine = TABLE.get(each.name, each)
        if (each != mine and each.run != mine.run) or each != chosen[each.name]:
            raise UserError(
                f"Rows and tables tell protocols by their names, and two are called {each.name!r}. Give yours another."
            )
    if unknown or not chosen:
        raise UserError(
            f"`protocols` takes {', '.join(TABLE)}, {ALL_MEASURES} for {', '.join(MEASURES)}, and "
            f"import paths such as mypackage.module:my_protocol. Received: {', '.join(unknown) or 'nothing'}"
        )
    return tuple(chosen.values())


def _narrowed(given: str, chosen: dict[str, Protocol]) -> Protocol:
    """The protocol of "name:variant" with that variant, and those of it that were chosen before."""
    name, _, variant = given.partition(":")
    whole = TABLE[name]
    if variant not in whole.variants or not variant:
        known = ", ".join(f"{name}:{each}" for each in whole.variants if each) or name
        raise UserError(f"`protocols` takes {known}. Received: {given!r}")
    before = chosen[name].variants if name in chosen else ()
    return replace(whole, columns=tuple(each for each in whole.columns if each[0] in (variant, *before)))


__getattr__ = submodules(__name__)
