"""Linear support vector machine on frozen features, as in the extended comparison of Hjelm et al. 2018.

The squared hinge of one class against the rest (Fan et al. 2008, LIBLINEAR, eq. 3), which LIBLINEAR itself takes hours
for on 50,000 features of 4,096 columns. In the primal it is differentiable: L-BFGS needs two matrix products a
step, for all classes at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mizoo.evaluate.protocols import Options, Score, Task
from mizoo.evaluate.protocols.linear import PEAK_PASSED, standardisation, standardise, with_last_tenth

# Strongest penalty first, as each fit starts from the weights of the one before. `cost` is LIBLINEAR's C times the
# number of training features, so that it means the same for any number of them.
COSTS = (1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 1e1, 3e1, 1e2, 3e2, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6)
ROUNDS = len(COSTS) + 1
ITERATIONS = 300
PATH_TOLERANCE = 1e-3  # see `fit`
TOLERANCE = 1e-4


def run(task: Task, options: Options, progress) -> Score:
    """The protocol `svm`."""
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
    """Accuracy (1,) in percent and the settings used, among them the chosen `cost`; arguments as of `predictions`."""
    predicted, settings = predictions(train_x, train_y, test_x, classes, advance)
    return np.array([100 * np.mean(predicted == test_y)]), settings


def predictions(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    classes: int,
    advance: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Choose the cost on the last tenth of the training features, fit on all of them, and classify.

    Args:
        train_x: features (N, D).
        train_y: labels (N,), 0..classes-1. Rows whose last tenth is no fair sample of them are shuffled first.
        test_x: features (M, D).
        classes: number of classes.
        advance: called with the number of fits done, `ROUNDS` in all.

    Returns:
        Classes (M,) and the settings used.

    Raises:
        UserError: if all but the last tenth is of one class.
    """
    mean, scale = standardisation(train_x)
    x, train_y, cut = with_last_tenth(_with_bias(standardise(train_x, mean, scale)), train_y, "svm")
    weights = np.zeros((x.shape[1], classes), "float32")
    best, chosen, start, done = -1.0, COSTS[0], weights, 0
    for cost in COSTS:
        weights, _ = fit(x[:cut], train_y[:cut], cost, weights, PATH_TOLERANCE)
        score = 100 * np.mean((x[cut:] @ weights).argmax(axis=1) == train_y[cut:])
        done += 1
        if advance is not None:
            advance(1)
        if score > best:
            best, chosen, start = score, cost, weights
        elif score < best - PEAK_PASSED:
            break
    weights, converged = fit(x, train_y, chosen, start, TOLERANCE)
    if advance is not None:
        advance(ROUNDS - done)
    settings = {
        "cost": chosen,
        "loss": "squared hinge, one against the rest",
        "cost_at_end": chosen in (COSTS[0], COSTS[-1]),
        "held_out_accuracy": round(float(best), 2),
        "held_out_size": len(x) - cut,
        "converged": converged,
    }
    return (_with_bias(standardise(test_x, mean, scale)) @ weights).argmax(axis=1), settings


def fit(
    x: np.ndarray, y: np.ndarray, cost: float, start: np.ndarray, tolerance: float = TOLERANCE
) -> tuple[np.ndarray, bool]:
    """Minimise the mean squared hinge plus the squared weights over `2 cost`.

    Args:
        x: features (N, D), the bias as a column of ones, which LIBLINEAR penalises too.
        y: labels (N,).
        cost: N times LIBLINEAR's C.
        start: weights (D, classes) to start from.
        tolerance: see below.

    Returns:
        Weights (D, classes), and whether the objective had come to rest, changing by less than `tolerance` / 1000 of
        its value in a step, before the last iteration.
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    sides = np.where(y[:, None] == np.arange(start.shape[1]), np.float32(1), np.float32(-1))

    def objective(flat):
        """Value and gradient at weights in one row."""
        weights = flat.reshape(start.shape).astype("float32")
        slack = np.maximum(1 - sides * (x @ weights), 0)
        value = np.vdot(slack, slack) / len(x) + np.vdot(weights, weights) / (2 * cost)
        gradient = x.T @ (slack * sides) * np.float32(-2 / len(x)) + weights / np.float32(cost)
        return float(value), gradient.ravel().astype("float64")

    options = {"maxiter": ITERATIONS, "ftol": 1e-3 * tolerance, "gtol": 1e-7}
    with threadpool_limits(1):  # as `linear`, and for the same reasons
        result = minimize(objective, start.ravel().astype("float64"), jac=True, method="L-BFGS-B", options=options)
    return result.x.reshape(start.shape).astype("float32"), bool(result.nit < ITERATIONS)


def _with_bias(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1), "float32")], axis=1)
