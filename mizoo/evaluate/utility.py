"""What pretraining is worth in labels (Newell and Deng 2020, arXiv 2003.14323, section 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from mizoo.errors import UserError


@dataclasses.dataclass(frozen=True)
class Utility:
    """The utility of pretraining at one number of labels.

    Attributes:
        labels: n, with which the pretrained encoder was fitted.
        needed: n', with which training from scratch is as accurate.
        bound: "" where n' was found on the curve of training from scratch; ">" where even its most labels are less
            accurate, and `needed` is their number; "<" where even its fewest are more accurate.
    """

    labels: int
    needed: float
    bound: str = ""

    @property
    def value(self) -> float:
        """U = n' / n - 1: 1 where pretraining saves as many labels as there are, 0 where it saves none."""
        return self.needed / self.labels - 1

    @property
    def saved(self) -> float:
        """Labels that pretraining saves, n' - n."""
        return self.needed - self.labels


def utility(pretrained: Mapping[int, float], scratch: Mapping[int, float]) -> list[Utility]:
    """The utility at each number of labels of a pretrained encoder.

    Args:
        pretrained: number of labels -> accuracy.
        scratch: number of labels -> accuracy of the same architecture trained from scratch, at two numbers at least.

    Returns:
        One value for each number in `pretrained`, in rising order. n' is interpolated in the logarithm of the number
        of labels, on the curve of the best accuracy with so many labels or fewer, which does not fall.

    Raises:
        UserError: for fewer than two points from scratch, or numbers of labels below 1.
    """
    if len(scratch) < 2 or min((*pretrained, *scratch), default=0) < 1:
        raise UserError(
            "Utility compares accuracies by number of labels, from scratch at two numbers at least. Received: "
            f"{dict(pretrained)} and {dict(scratch)}"
        )
    counts = np.array(sorted(scratch), "float64")
    reached = np.maximum.accumulate([scratch[int(count)] for count in counts])
    found = []
    for labels in sorted(pretrained):
        accuracy = pretrained[labels]
        if accuracy > reached[-1]:
            found.append(Utility(labels, counts[-1], ">"))
        elif accuracy < reached[0]:
            found.append(Utility(labels, counts[0], "<"))
        else:
            after = int(np.argmax(reached >= accuracy))  # the first number with which scratch is as accurate
            if after == 0:
                found.append(Utility(labels, counts[0]))
                continue
            part = (accuracy - reached[after - 1]) / (reached[after] - reached[after - 1])
            low, high = np.log(counts[after - 1 : after + 1])
            found.append(Utility(labels, float(np.exp(low + part * (high - low)))))
    return found
