"""The one table of protocols: what each measures, in which unit, what it takes, and where it is computed.

Reading it imports no Keras. A protocol is covered by `evaluate`, the command line, tables, cards and the tests by being
listed in `TABLE`. One of a user's own goes to `evaluate` as a `Protocol`, or by its import path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mizoo._tools.import_path import import_object, is_import_path
from mizoo._tools.lazy import submodules
from mizoo.errors import UserError
from mizoo.evaluate.protocols.base import TAKES, LeftOut, Options, Protocol, Score, Task

__all__ = [
    "ALL_MEASURES",
    "LABELLED",
    "LABEL_FREE",
    "MEASURES",
    "PROBES",
    "SHARES",
    "TABLE",
    "TAKES",
    "LeftOut",
    "Options",
    "Protocol",
    "Score",
    "Task",
    "choose",
    "watchable",
]

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
        "precision in %",
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
        "`prior_fit`: Kolmogorov-Smirnov distance of each coordinate from a prior, of sigmoid(Y) from the uniform one "
        "and of Y from the standard Gaussian",
        "0 to 1",
        "lower",
        ("features",),
        f"{_HERE}.closed_form:prior_fit",
        columns=(
            ("mean", "distance from the uniform prior, mean ↓"),
            ("worst", "worst coordinate ↓"),
            ("gaussian_mean", "from the Gaussian prior, mean ↓"),
            ("gaussian_worst", "worst coordinate there ↓"),
        ),
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
TABLE = {protocol.name: protocol for protocol in _ALL}
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
        own = TABLE.get(each.name, each)
        if replace(each, columns=own.columns) != own or each != chosen[each.name]:  # one of its variants is it still
            raise UserError(
                f"Rows and tables tell protocols by their names, and two are called {each.name!r}. Give yours another."
            )
    if unknown or not chosen:
        raise UserError(
            f"`protocols` takes {', '.join(TABLE)}, {ALL_MEASURES} for {', '.join(MEASURES)}, and "
            f"import paths such as mypackage.module:my_protocol. Received: {', '.join(unknown) or 'nothing'}"
        )
    return tuple(chosen.values())


def watchable(protocol: str | Protocol) -> Protocol:
    """The protocol of a probe that is measured while a run trains.

    Raises:
        UserError: for one without labels, that trains an encoder, or of which several variants are asked for.
    """
    (chosen,) = choose((protocol,))
    if not chosen.labelled:
        raise UserError(f"A probe is scored by labels, and `{chosen.name}` takes none.")
    if "encoder" in chosen.takes:
        raise UserError(
            f"A probe is of frozen features, and `{chosen.name}` trains the encoder: `mizoo evaluate` runs it."
        )
    if len(chosen.variants) > 1:
        names = ", ".join(f"{chosen.name}:{variant}" for variant in chosen.variants)
        raise UserError(f"One variant of `{chosen.name}` is watched: give one of {names}.")
    return chosen


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
