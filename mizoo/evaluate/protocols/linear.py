"""Multinomial logistic regression on frozen features, its L2 chosen without the test split."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from mizoo.errors import UserError
from mizoo.evaluate.protocols import Options, Score, Task

# Strongest first: each fit starts from the stronger one's weights, which it is near to.
STRENGTHS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
ROUNDS = len(STRENGTHS) + 1
HELD_OUT = 0.1
ITERATIONS = 200
# Largest component of the gradient at which L-BFGS stops. On `fc` of a trained encoder 1e-3 and 3e-4 score within 0.2
# point of each other, less than neighbouring strengths do, so the path that chooses a strength stops at the former.
TOLERANCE = 3e-4
PATH_TOLERANCE = 1e-3
# Accuracy has one peak along the path: this many points below it, weaker penalties only cost time.
PEAK_PASSED = 0.5


def run(task: Task, options: Options, progress) -> Score:
    """The protocol `linear`."""
    progress.resize(ROUNDS)
    return Score(*fit_score(*task.arrays, advance=progress.advance))


def fit_score(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    classes: int,
    advance: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Fit on standardised features, choose L2 on the last tenth of the training features, refit on all, score.

    The loss is the mean cross-entropy plus `l2 / 2` times the squared weights. For CIFAR-10 the last tenth is the
    5,000 validation pictures of the training split. Features that come one class after the other are shuffled first.

    Args:
        train_x: features (N, D).
        train_y: labels (N,), 0..classes-1.
        test_x: features (M, D), used for nothing but the score.
        test_y: labels (M,).
        classes: number of classes.
        advance: called with the number of fits done, `ROUNDS` in all.

    Returns:
        Accuracy (1,) in percent and the settings used, among them the chosen `l2`.
    """
    mean, scale = standardisation(train_x)
    x = standardise(train_x, mean, scale)
    if grouped(train_y):
        order = np.random.default_rng(0).permutation(len(x))
        x, train_y = x[order], train_y[order]
    cut = len(x) - max(1, round(HELD_OUT * len(x)))
    if len(np.unique(train_y[:cut])) < 2:
        raise UserError(
            f"`linear` fits on all but the last tenth of the {len(x)} rows, and those are of one class: give it more."
        )

    model = _model()
    best, chosen, coefficients, done = -1.0, STRENGTHS[0], None, 0
    for l2 in STRENGTHS:
        _fit(model, x[:cut], train_y[:cut], l2, PATH_TOLERANCE)
        score = 100 * model.score(x[cut:], train_y[cut:])
        done += 1
        if advance is not None:
            advance(1)
        if score > best:
            best, chosen, coefficients = score, l2, (model.coef_.copy(), model.intercept_.copy())
        elif score < best - PEAK_PASSED:
            break

    if len(np.unique(train_y[:cut])) == len(np.unique(train_y)):
        model.coef_, model.intercept_ = coefficients
    else:  # a class of the last tenth alone: its weights are not there to start from
        model = _model()
    converged = _fit(model, x, train_y, chosen, TOLERANCE)
    score = 100 * model.score(standardise(test_x, mean, scale), test_y)
    if advance is not None:
        advance(ROUNDS - done)
    settings = {
        "l2": chosen,
        "held_out_accuracy": round(best, 2),
        "held_out_size": len(x) - cut,
        "tolerance": TOLERANCE,
        "converged": converged,
    }
    return np.array([score]), settings


def grouped(labels: np.ndarray) -> bool:
    """Whether labels (N,) come one class after the other, so that the last tenth is no fair sample."""
    return np.count_nonzero(np.diff(labels)) + 1 == len(np.unique(labels))


def _model() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="lbfgs", max_iter=ITERATIONS, warm_start=True)


def _fit(model: Any, x: np.ndarray, y: np.ndarray, l2: float, tolerance: float) -> bool:
    """Fit from the model's present weights; whether L-BFGS met its tolerance before the last iteration."""
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # One thread: the products are narrow, so a second one gains little on an idle machine and waits on a busy one
    # (144 against 14 CPU seconds on `fc`), and the order of sums, hence the result, stays the same everywhere.
    model.C, model.tol = 1 / (l2 * len(x)), tolerance
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    return bool(model.n_iter_.max() < ITERATIONS)


def standardisation(x: np.ndarray, batch_size: int = 5000) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale (D,) of the training features; a constant feature gets scale 1."""
    mean, square = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for start in range(0, len(x), batch_size):
        block = x[start : start + batch_size].astype("float64")
        mean += block.sum(axis=0) / len(x)
        square += (block**2).sum(axis=0) / len(x)
    scale = np.sqrt(np.maximum(square - mean**2, 0))
    scale[scale < 1e-6 * np.maximum(np.abs(mean), 1)] = 1
    return mean.astype("float32"), scale.astype("float32")


def standardise(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Features (N, D) less `mean`, over `scale` (`standardisation`), float32."""
    x = x.astype("float32")
    x -= mean
    x /= scale
    return x
