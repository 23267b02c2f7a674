"""What each protocol measures, in which unit, and which way is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mizoo.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """One protocol.

    Attributes:
        about: what is done, for the line above a table.
        unit: of the value of its rows; rows of different protocols never share a column.
        better: "higher" or "lower".
        labels: whether it takes labels.
        fits: whether something is fitted on training pictures.
        columns: variant (`settings["variant"]` of a row, "" where there is one) -> head of its column.
    """

    about: str
    unit: str
    better: str
    labels: bool = False
    fits: bool = False
    columns: tuple[tuple[str, str], ...] = ()


ALL = {
    "linear": Protocol(
        "`linear`: multinomial logistic regression on standardised features, L2 chosen on the last tenth of the "
        "training split",
        "top-1 %",
        "higher",
        labels=True,
        fits=True,
    ),
    "mlp200": Protocol(
        "`mlp200`: one hidden layer of 200, as in Hjelm et al. 2018", "top-1 %", "higher", labels=True, fits=True
    ),
    "knn": Protocol(
        "`knn`: 200 nearest neighbours by cosine similarity, weights exp(similarity / 0.1)",
        "top-1 %",
        "higher",
        labels=True,
        fits=True,
    ),
    "mine": Protocol(
        "`mine`: what a critic of fixed budget finds of I(picture; Y), a score and not the information, which is "
        "infinite for a deterministic encoder",
        "nats",
        "higher",
        fits=True,
        columns=(("", "MINE, nats ↑"),),
    ),
    "ndm": Protocol(
        "`ndm`: total correlation of the coordinates that a discriminator finds, of sigmoid(Y) and of Y; in brackets, "
        "where it is more than twice as much, that of a Gaussian with the same correlations: the discriminator was too "
        "weak there",
        "nats",
        "lower",
        fits=True,
        columns=(("sigmoid", "NDM, nats ↓"), ("plain", "NDM without sigmoid, nats ↓")),
    ),
    "prior_fit": Protocol(
        "`prior_fit`: Kolmogorov-Smirnov distance of each coordinate of sigmoid(Y) from the uniform prior",
        "0 to 1",
        "lower",
        columns=(("mean", "distance from the prior, mean ↓"), ("worst", "worst coordinate ↓")),
    ),
    "effective_rank": Protocol(
        "`effective_rank`: exponential of the entropy of the normalised singular values",
        "directions",
        "higher",
        columns=(("", "effective rank ↑"),),
    ),
    "alignment": Protocol(
        "`alignment`: mean squared distance of two augmented views of a picture, on the unit sphere",
        "squared distance, 0 to 4",
        "lower",
        columns=(("", "alignment ↓"),),
    ),
    "uniformity": Protocol(
        "`uniformity`: logarithm of the mean of exp(-2 squared distance) over pairs of pictures, on the unit sphere",
        "log of a mean, -8 to 0",
        "lower",
        columns=(("", "uniformity ↓"),),
    ),
}
PROBES = tuple(name for name, protocol in ALL.items() if protocol.labels)
MEASURES = tuple(name for name, protocol in ALL.items() if not protocol.labels)


def chosen(given: Sequence[str]) -> tuple[str, ...]:
    """The protocols named, in that order and once each; "measures" stands for all of `MEASURES`.

    Raises:
        UserError: for a string, nothing, or an unknown name.
    """
    if isinstance(given, str):
        raise UserError(f"`protocols` takes a sequence, such as ({given!r},). Received: {given!r}")
    unknown = [name for name in given if name not in ALL and name != "measures"]
    if unknown or not given:
        raise UserError(
            f"`protocols` takes {', '.join(ALL)}, and measures for the last {len(MEASURES)} of them. Received: "
            f"{', '.join(map(repr, unknown)) or 'nothing'}"
        )
    names = [name for each in given for name in (MEASURES if each == "measures" else (each,))]
    return tuple(dict.fromkeys(names))
