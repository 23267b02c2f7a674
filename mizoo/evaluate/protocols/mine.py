"""MINE between pictures and their features: a score of what a critic of fixed budget finds (Hjelm et al. 2018, 4.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from mizoo.critics import Network, VectorCritic
from mizoo.evaluate.protocols import Options, Score, Task
from mizoo.evaluate.protocols.linear import standardisation, standardise
from mizoo.evaluate.protocols.ndm import check_rows
from mizoo.mi import fit, scoring
from mizoo.mi.models import Contrast

# Plain Donsker-Varadhan at 3e-4 climbs steadily (4.0 nats on validation rows after 400 steps for `dim_local_cifar10`);
# with the gradient corrected by MINE's moving average the same critic falls back again and again (0.8 there), as the
# moving average lags behind scores that grow without end.
BOUND = "dv"
SCHEDULE = fit.FitSchedule(batch_size=256, learning_rate=3e-4, max_steps=1500, check_every=50, patience=8)
VALIDATION_SIZE = 1000  # training pictures that choose among the weights along the way
EMBEDDING = 128


def run(task: Task, options: Options, progress) -> Score:
    """The protocol `mine`."""
    progress.resize(SCHEDULE.max_steps)
    data = (task.train_images, task.train_x, task.test_images, task.test_x)
    return Score(*neural_information(*data, advance=progress.advance))


def neural_information(
    train_images: np.ndarray,
    train_features: np.ndarray,
    test_images: np.ndarray,
    test_features: np.ndarray,
    seed: int = 0,
    schedule: fit.FitSchedule | None = None,
    advance: Callable[[int], None] | None = None,
) -> tuple[float, dict[str, Any]]:
    """Fit a critic T(x, y) = g(x) . h(y) to training pairs and report the bound of MINE on the scored ones.

    The features of a deterministic encoder are a function of the picture, so the true mutual information is infinite
    (or, counted in half precision, the entropy of the features). The value says how much of that this critic finds
    with this budget on pictures that it did not see, and is comparable only between encoders measured in the same way.

    Trained and reported is the Donsker-Varadhan bound (Belghazi et al. 2018, eq. 10), with all other pictures of the
    batch as the product of the marginals; of the weights along the way those are chosen whose bound is largest on
    1,000 training pictures that are not trained on. The bound is computed in blocks of at most 1,024 pictures, all
    pairs of each.

    Args:
        train_images: uint8 (N, H, W, C).
        train_features: features (N, D), paired.
        test_images: uint8 (M, H, W, C).
        test_features: features (M, D).
        seed: of the critic's first weights and the order of the pictures.
        schedule: the budget; by default `SCHEDULE`.
        advance: called with the number of steps done, `schedule.max_steps` in all.

    Returns:
        Nats, and the settings used, among them the standard error over the scored pictures, given the critic.

    Raises:
        UserError: for fewer than 50 training pictures or 10 scored ones.
    """
    schedule = schedule or SCHEDULE
    check_rows("mine", train_features, test_features)
    mean, scale = standardisation(train_features)
    train_features, test_features = standardise(train_features, mean, scale), standardise(test_features, mean, scale)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(train_features))
    validation_size = min(VALIDATION_SIZE, len(order) // 5)
    validation, rows = order[:validation_size], np.sort(order[validation_size:])

    model = BoundChosen(BOUND, PictureCritic(train_images.shape[1:], train_features.shape[1], seed))
    fitter = fit.Fitter(model, schedule, min(schedule.batch_size, len(rows)))
    train = (train_images[rows], train_features[rows])
    curve = fitter.fit(
        train, (train_images[validation], train_features[validation]), rng, advance or (lambda steps: None)
    )

    values, shares, sizes = [], [], []
    for block in scoring.blocks(len(test_features)):
        scores = scoring.scores(model, test_images[block], test_features[block])
        value, share = scoring.value_and_shares(BOUND, scores, 1.0)
        values.append(value)
        shares.append(share)
        sizes.append(len(share))
    error = float(np.concatenate(shares).std(ddof=1) / np.sqrt(len(test_features)))
    settings = {
        "truth": "infinite for a deterministic encoder: the value depends on the critic and its budget",
        "bound": BOUND,
        "standard_error": round(error, 3),
        "critic": f"separable, {EMBEDDING}",
        "seed": seed,
        "batch_size": fitter.batch_size,
        "learning_rate": schedule.learning_rate,
        "steps": curve[-1][0],
        "max_steps": schedule.max_steps,
        "kept_step": max(curve, key=lambda point: point[2])[0],
    }
    return float(np.average(values, weights=sizes)), settings


class BoundChosen(Contrast):
    """A contrast whose weights are chosen by the bound that is reported, as that is what is to be large."""

    def criterion(self, x, y):
        """Minus the bound, and the bound in nats, of validation rows."""
        _, value = super().criterion(x, y)
        return -value, value


class PictureCritic(VectorCritic):
    """g(picture) . h(y): patches of 4x4 pixels, then of 2x2 of those, each through one dense layer, then a network.

    Patches that do not overlap make every layer a matrix product, which a compiled loop on a CPU does far faster than
    a convolution.

    Args:
        shape: of a picture, (H, W, C); padded with grey to multiples of 8.
        columns: size of y.
        seed: of the first weights; h starts at zero, and so do the scores.
    """

    def __init__(self, shape: tuple[int, int, int], columns: int, seed: int) -> None:
        super().__init__()
        height, width, channels = shape
        self.padding = ((0, 0), (0, -height % 8), (0, -width % 8), (0, 0))
        cells = (-(-height // 8)) * (-(-width // 8))
        self.fine = Network(16 * channels, (), 64, 10 * seed + 1)
        self.coarse = Network(4 * 64, (), 128, 10 * seed + 2)
        self.picture = Network(cells * 128, (512,), EMBEDDING, 10 * seed + 3)
        self.feature = Network(columns, (512,), EMBEDDING, 10 * seed + 5, zero=True)

    def sides(self, x, y):
        """Pictures (N, H, W, C), 0..255, and y (M, D) to (N, U) and (M, U)."""
        maps = ops.pad(ops.cast(x, "float32") / 127.5 - 1.0, self.padding)
        maps = ops.relu(self.fine(_patches(maps, 4)))
        maps = ops.relu(self.coarse(_patches(maps, 2)))
        return self.picture(ops.reshape(maps, (maps.shape[0], -1))), self.feature(y)


def _patches(maps, side: int):
    """(N, H, W, C) to (N, H / side, W / side, side * side * C)."""
    count, height, width, channels = maps.shape
    maps = ops.reshape(maps, (count, height // side, side, width // side, side, channels))
    maps = ops.transpose(maps, (0, 1, 3, 2, 4, 5))
    return ops.reshape(maps, (count, height // side, width // side, side * side * channels))
