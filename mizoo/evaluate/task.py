"""Features and labels of two parts of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Task:
    """What one probe is fitted and scored on.

    Attributes:
        dataset: name of the sounds and of the label, such as "spoken_digit/speaker".
        train_x, test_x: endpoint -> (N, d) float32.
        train_y, test_y: (N,) int64.
        classes: their number.
    """

    dataset: str
    train_x: dict[str, np.ndarray]
    train_y: np.ndarray
    test_x: dict[str, np.ndarray]
    test_y: np.ndarray
    classes: int
