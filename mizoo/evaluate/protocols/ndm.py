"""Neural dependency measure: how far coordinates are from independent (Hjelm et al. 2018, section 4.1 and appendix)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from mizoo import bounds
from mizoo.critics import Network, VectorCritic
from mizoo.errors import UserError
from mizoo.evaluate.protocols import Options, Score, Task
from mizoo.evaluate.protocols.linear import standardisation, standardise
from mizoo.mi import fit
from mizoo.mi.models import Contrast

SCHEDULE = fit.FitSchedule(batch_size=512, learning_rate=5e-4, max_steps=1500, check_every=100, patience=5)
HIDDEN = (1000, 200)  # as the prior's discriminator
VALIDATION_SIZE = 2000
SHUFFLES = 10  # shuffled rows for each scored row
_BLOCK = 1000


def run(task: Task, options: Options, progress) -> Score:
    """The protocol `ndm`, with the prior's sigmoid or without."""
    progress.resize(SCHEDULE.max_steps)
    sigmoid = options.variant == "sigmoid"
    return Score(*neural_total_correlation(task.train_x, task.test_x, sigmoid, advance=progress.advance))


def neural_total_correlation(
    train_features: np.ndarray,
    test_features: np.ndarray,
    sigmoid: bool = False,
    seed: int = 0,
    schedule: fit.FitSchedule | None = None,
    advance: Callable[[int], None] | None = None,
) -> tuple[float, dict[str, Any]]:
    """Total correlation, KL(p(y) || p(y_1) ... p(y_D)), that a discriminator finds.

    The product of the marginals is sampled by taking each coordinate from a row of its own. The discriminator is
    trained on the KL divergence as a difference of expectations (Nguyen et al. 2010; f-GAN) and the value is the
    Donsker-Varadhan bound of its scores on rows that it did not see. The truth is the same with and without a sigmoid,
    which acts on each coordinate alone: where the two values differ, the discriminator is the reason.

    Args:
        train_features: features (N, D) to fit on.
        test_features: features (M, D) to score.
        sigmoid: apply the prior's sigmoid first. Coordinates are standardised after it.
        seed: of the first weights, the order of the rows and the shuffles.
        schedule: the budget; by default `SCHEDULE`.
        advance: called with the number of steps done, `schedule.max_steps` in all.

    Returns:
        Nats, a lower bound up to the sampling of the scored rows, so that it can come out slightly below 0; and the
        settings used, among them the standard error given the discriminator, and `gaussian_nats`.

    Raises:
        UserError: for fewer than 50 rows to fit on or 10 to score, or a single coordinate.
    """
    schedule = schedule or SCHEDULE
    check_rows("ndm", train_features, test_features)
    if train_features.shape[1] < 2:
        raise UserError("Protocol `ndm` takes two coordinates at least. Received: features of 1 coordinate.")
    if sigmoid:
        train_features, test_features = (
            1 / (1 + np.exp(-y.astype("float64"))) for y in (train_features, test_features)
        )
    mean, scale = standardisation(train_features)
    train_features, test_features = standardise(train_features, mean, scale), standardise(test_features, mean, scale)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(train_features))
    validation_size = min(VALIDATION_SIZE, len(order) // 5)
    validation, rows = train_features[order[:validation_size]], train_features[order[validation_size:]]

    model = Contrast("nwj", Discriminator(rows.shape[1], seed), candidates=1)
    fitter = fit.Fitter(model, schedule, min(schedule.batch_size, len(rows)))
    validation_pairs = (validation, Shuffled(validation, rng)[np.arange(validation_size)])
    curve = fitter.fit((rows, Shuffled(rows, rng)), validation_pairs, rng, advance or (lambda steps: None))

    shuffled = Shuffled(test_features, rng, SHUFFLES)
    blocks = [
        np.arange(start, min(start + _BLOCK, len(test_features))) for start in range(0, len(test_features), _BLOCK)
    ]
    scores = np.concatenate([_scores(model, test_features[block], shuffled[block]) for block in blocks])
    value = float(bounds.dv(scores, np.zeros(len(scores), "int32")))
    settings = {
        "variant": "sigmoid" if sigmoid else "plain",
        "trained_on": "KL (f-GAN form)",
        "bound": "dv",
        "standard_error": round(_standard_error(scores[:, 0]), 4),
        "gaussian_nats": gaussian_total_correlation(test_features),
        "hidden": list(HIDDEN),
        "shuffles": SHUFFLES,
        "seed": seed,
        "batch_size": fitter.batch_size,
        "learning_rate": schedule.learning_rate,
        "steps": curve[-1][0],
        "max_steps": schedule.max_steps,
    }
    return value, settings


def check_rows(protocol: str, train: np.ndarray, test: np.ndarray) -> None:
    """Refuse what is too little to fit a critic on."""
    if len(train) < 50 or len(test) < 10:
        raise UserError(
            f"Protocol `{protocol}` fits a network: it takes 50 pictures to fit on and 10 to score at least, and "
            f"thousands to be worth much. Received: {len(train)} and {len(test)}."
        )


def gaussian_total_correlation(values: np.ndarray) -> float | None:
    """Total correlation in nats of a Gaussian with the correlations of `values` (N, D).

    It sees pairs of coordinates only and is in closed form: where it is far above what a discriminator found, that one
    was too weak. Correlations of a sample are larger than the true ones; of Gaussian rows the expected excess follows
    from that of the logarithm of a Wishart determinant, whatever the correlations, and is taken off.

    Returns:
        Nats, 0 or more; None where it is infinite, and of fewer than two rows for each coordinate.
    """
    from scipy.special import digamma

    rows, coordinates = values.shape
    if rows < 2 * coordinates:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        sign, logarithm = np.linalg.slogdet(np.corrcoef(values.astype("float64"), rowvar=False))
    if sign <= 0 or not np.isfinite(logarithm):
        return None
    freedom = rows - 1
    shrunk = digamma((freedom - np.arange(coordinates)) / 2) - digamma(freedom / 2)
    return round(max(0.0, 0.5 * float(shrunk.sum() - logarithm)), 3)


class Shuffled:
    """Samples from the product of the marginals, in the place of an array of rows.

    Indexing with row numbers of any shape S draws new samples (S, count, D), each coordinate from a random row.

    Args:
        values: rows (N, D).
        rng: draws the rows.
        count: samples for each index.
    """

    def __init__(self, values: np.ndarray, rng: np.random.Generator, count: int = 1) -> None:
        self.values, self.rng, self.count = values, rng, count

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        size = (*np.shape(rows), self.count, self.values.shape[1])
        return self.values[self.rng.integers(len(self.values), size=size), np.arange(size[-1])]


class Discriminator(VectorCritic):
    """Scores of rows (N, D) and of K shuffled rows for each (N, K, D): (N, 1, 1 + K), the row's own first."""

    def __init__(self, columns: int, seed: int) -> None:
        super().__init__()
        self.network = Network(columns, HIDDEN, 1, 10 * seed + 1, zero=True)

    def call(self, x, y, candidates: int | None = None):
        """The scores; `candidates`, which `Contrast` passes, is the number of shuffled rows that y has anyway."""
        return ops.transpose(ops.concatenate([self.network(x[:, None]), self.network(y)], axis=1), (0, 2, 1))


def _scores(model: Contrast, rows: np.ndarray, shuffled: np.ndarray) -> np.ndarray:
    """Scores (N, 1, 1 + K) of rows (N, D) and of their own shuffled rows (N, K, D), which are no pairs of all rows."""
    return ops.convert_to_numpy(model.scores(ops.convert_to_tensor(rows), ops.convert_to_tensor(shuffled)))


def _standard_error(scores: np.ndarray) -> float:
    """Of Donsker-Varadhan on scores (N, 1 + K), joint and shuffled, by the delta method."""
    joint = scores[:, 0].astype("float64")
    weights = np.exp(scores[:, 1:].astype("float64") - scores[:, 1:].max())
    weights = weights.mean(axis=1) / weights.mean()
    return float(np.sqrt((joint.var(ddof=1) + weights.var(ddof=1)) / len(joint)))
