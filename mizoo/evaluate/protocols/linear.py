"""Multinomial logistic regression on frozen features, its L2 chosen without the test split."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from mizoo.data.sampling import fair_sample
from mizoo.errors import UserError
from mizoo.evaluate.protocols import Options, Score, Task

# Strongest first: each fit starts from the stronger one's weights, which it is near to. Where the best of them is at an
# end, the path goes on beyond that end.
STRENGTHS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
STRONGER = (3e-1, 1.0, 3.0, 10.0, 30.0)
WEAKER = (3e-5, 1e-5, 3e-6, 1e-6)
ROUNDS = len(STRENGTHS) + len(STRONGER) + len(WEAKER) + 1
HELD_OUT = 0.1
ITERATIONS, LAST_ITERATIONS = 200, 1000  # at most, on the path and of the last fit
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
    """Accuracy (1,) in percent and the settings used: `predictions`, scored.

    Args:
        train_x, train_y, test_x, classes, advance: see there.
        test_y: labels (M,).
    """
    predicted, settings = predictions(train_x, train_y, test_x, classes, advance)
    return np.array([100 * np.mean(predicted == test_y)]), settings


def predictions(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    classes: int,
    advance: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Fit on standardised features, choose L2 on the last tenth of the training features, refit on all, classify.

    The loss is the mean cross-entropy plus `l2 / 2` times the squared weights. For CIFAR-10 the last tenth is the
    5,000 validation pictures of the training split. Where the last tenth is no fair sample of the classes (features
    that come one class after the other, or in parts that do), the rows are shuffled first. Strengths from 1e-1 to 1e-4
    are tried, and where the best is one of these, further ones up to 30 or down to 1e-6.

    Args:
        train_x: features (N, D).
        train_y: labels (N,), 0..classes-1.
        test_x: features (M, D).
        classes: number of classes.
        advance: called with the number of fits done, `ROUNDS` in all.

    Returns:
        Classes (M,) and the settings used, among them the chosen `l2`, whether it stands at the end of all
        strengths (`l2_at_end`), and whether the last fit `converged`.
    """
    mean, scale = standardisation(train_x)
    x, train_y, cut = with_last_tenth(standardise(train_x, mean, scale), train_y, "linear")
    path = _Path(x[:cut], train_y[:cut], x[cut:], train_y[cut:], advance)
    path.follow(STRENGTHS)
    for further in (STRONGER, WEAKER):
        if path.chosen == (STRENGTHS[0] if further is STRONGER else STRENGTHS[-1]):
            path.follow(further, from_best=True)
    chosen, model = path.chosen, path.best_model()
    if len(np.unique(train_y[:cut])) < len(np.unique(train_y)):
        model = _model()  # a class of the last tenth alone: its weights are not there to start from
    converged = _fit(model, x, train_y, chosen, TOLERANCE, LAST_ITERATIONS)
    predicted = model.predict(standardise(test_x, mean, scale))
    if advance is not None:
        advance(ROUNDS - path.fits)
    settings = {
        "l2": chosen,
        "l2_at_end": chosen in (STRONGER[-1], WEAKER[-1]),
        "held_out_accuracy": round(path.best, 2),
        "held_out_size": len(x) - cut,
        "tolerance": TOLERANCE,
        "converged": converged,
    }
    return predicted, settings


class _Path:
    """Fits at one strength after the other, each from the weights of the one before; the best on held-out rows."""

    def __init__(self, x, y, held_out_x, held_out_y, advance) -> None:
        self.train, self.held_out, self.advance = (x, y), (held_out_x, held_out_y), advance
        self.model = _model()
        self.best, self.chosen, self.fits = -1.0, STRENGTHS[0], 0
        self._weights: tuple[np.ndarray, np.ndarray] = (np.zeros(0), np.zeros(0))

    def follow(self, strengths: tuple[float, ...], from_best: bool = False) -> None:
        """Try strengths in turn, until accuracy has passed its peak."""
        if from_best:
            self.best_model()
        for l2 in strengths:
            _fit(self.model, *self.train, l2, PATH_TOLERANCE)
            score = 100 * self.model.score(*self.held_out)
            self.fits += 1
            if self.advance is not None:
                self.advance(1)
            if score > self.best:
                self.best, self.chosen = score, l2
                self._weights = self.model.coef_.copy(), self.model.intercept_.copy()
            elif score < self.best - PEAK_PASSED:
                break

    def best_model(self) -> Any:
        """The model at the weights of the best strength."""
        self.model.coef_, self.model.intercept_ = (each.copy() for each in self._weights)
        return self.model


def with_last_tenth(x: np.ndarray, labels: np.ndarray, protocol: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Features (N, D) and labels (N,) in an order whose last tenth is a fair sample, and the row at which it begins.

    Raises:
        UserError: if all before it is of one class; `protocol` is what the message calls the fit.
    """
    cut = len(x) - max(1, round(HELD_OUT * len(x)))
    if not fair_sample(labels, cut):
        order = np.random.default_rng(0).permutation(len(x))
        x, labels = x[order], labels[order]
    if len(np.unique(labels[:cut])) < 2:
        raise UserError(
            f"`{protocol}` fits on all but the last tenth of the {len(x)} rows, and those are of one class: give it "
            "more."
        )
    return x, labels, cut


def _model() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="lbfgs", max_iter=ITERATIONS, warm_start=True)


def _fit(model: Any, x: np.ndarray, y: np.ndarray, l2: float, tolerance: float, iterations: int = ITERATIONS) -> bool:
    """Fit from the model's present weights; whether L-BFGS met its tolerance before the last iteration."""
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # One thread: the products are narrow, so a second one gains little on an idle machine and waits on a busy one
    # (144 against 14 CPU seconds on `fc`), and the order of sums, hence the result, stays the same everywhere.
    model.C, model.tol, model.max_iter = 1 / (l2 * len(x)), tolerance, iterations
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    return bool(model.n_iter_.max() < iterations)


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
