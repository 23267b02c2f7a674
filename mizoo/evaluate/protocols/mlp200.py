"""The paper's probe: a hidden layer of 200 on frozen features (Hjelm et al. 2018, section 4.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from mizoo._tools.keras_backend import fast_precision
from mizoo.errors import UserError
from mizoo.evaluate.protocols import Options, Score, Task

HIDDEN = 200
DROPOUT = 0.1


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long and how fast the probe is trained.

    Args:
        batch_size: features a step.
        rate: Adam's rate at the start.
        epochs: passes over the training features.
        drops: epochs (counted from 0) at which the rate is multiplied by 0.1.
        last: the reported accuracy is the mean over this many epochs at the end.
    """

    batch_size: int
    rate: float
    epochs: int
    drops: tuple[int, ...]
    last: int


# "paper": as published, the end cut to 20 epochs. "fast": 16 times the batch and, as Adam's noise asks, 4 times the
# rate; as many epochs at the full rate, because their number decides how far the probe overfits (7 of them at a higher
# rate score 1.3 points more on `fc`), and few after each drop, where little moves. Narrow features take half that
# batch: from 64 columns the probe learns slowly and needs the steps. How far the two agree:
# benchmarks/probe_schedule.py.
SCHEDULES = {
    "paper": Schedule(batch_size=64, rate=1e-4, epochs=120, drops=(50, 100), last=10),
    "fast": Schedule(batch_size=1024, rate=4e-4, epochs=62, drops=(50, 60), last=4),
}
NARROW = 512  # columns, from which on features are not narrow


def run(task: Task, options: Options, progress) -> Score:
    """The protocol `mlp200`."""
    progress.resize(resolve(options.schedule)[0].epochs)
    return Score(*fit_score(*task.arrays, options.schedule, options.seeds, advance=progress.advance))


def fit_score(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    classes: int,
    schedule: str | Schedule = "fast",
    seeds: int = 3,
    precision: str | None = None,
    advance: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Train the probe once a seed, all seeds side by side in one model, and score each.

    The seeds share batches and a matrix product but no weight: the loss is their sum and Adam works element by
    element, so each runs as it would alone.

    Args:
        train_x: features (N, D).
        train_y: labels (N,), 0..classes-1.
        test_x: features (M, D), used for nothing but the score.
        test_y: labels (M,).
        classes: number of classes.
        schedule: `"fast"`, `"paper"` or a `Schedule`.
        seeds: number of independent probes.
        precision: Keras dtype policy of the hidden layer; by default bfloat16 products where the machine is fast at
            them.
        advance: called with 1 after each epoch.

    Returns:
        Accuracies (seeds,) in percent, each the mean over the last epochs, and the settings used.

    Raises:
        UserError: for an unknown schedule or fewer than one seed.
    """
    import keras

    plan, name = resolve(schedule, train_x.shape[1])
    if seeds < 1:
        raise UserError(f"`seeds` must be at least 1. Received: seeds={seeds}")
    precision = precision or fast_precision()
    steps = -(-len(train_x) // plan.batch_size)
    probe = build_probe(train_x.shape[1], classes, seeds, precision)
    rate: Any = plan.rate
    if plan.drops:
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            [drop * steps for drop in plan.drops], [plan.rate * 0.1**i for i in range(len(plan.drops) + 1)]
        )
    probe.compile(optimizer=keras.optimizers.Adam(rate), loss=summed_cross_entropy, jit_compile=False)

    train_x, test_x = _cast(train_x, precision), _cast(test_x, precision)
    rng = np.random.default_rng(0)
    scores = []
    for epoch in range(plan.epochs):
        order = rng.permutation(len(train_x))
        for rows in np.array_split(order, steps):
            probe.train_on_batch(train_x[rows], train_y[rows])
        if epoch >= plan.epochs - plan.last:
            scores.append(accuracy(probe, test_x, test_y))
        if advance is not None:
            advance(1)
    settings = {"schedule": name, **dataclasses.asdict(plan), "drops": list(plan.drops), "precision": precision}
    return np.mean(scores, axis=0), settings


def resolve(schedule: str | Schedule, width: int = NARROW) -> tuple[Schedule, str]:
    """The schedule for features of `width` columns, and its name, or a `UserError` that lists the names."""
    if isinstance(schedule, Schedule):
        return schedule, "custom"
    if schedule not in SCHEDULES:
        raise UserError(f"No such schedule: {schedule!r}. There are: {', '.join(SCHEDULES)}")
    plan = SCHEDULES[schedule]
    if schedule == "fast" and width < NARROW:
        plan = dataclasses.replace(plan, batch_size=plan.batch_size // 2)
    return plan, schedule


def input_dtype(precision: str) -> str:
    """The type features are fed in: what the hidden layer multiplies, so that no step has to convert them."""
    return "bfloat16" if precision == "mixed_bfloat16" else "float32"


def build_probe(width: int, classes: int, seeds: int, precision: str) -> Any:
    """A Keras model from features (B, width) to logits (B, seeds, classes)."""
    import keras
    from keras import initializers, layers

    features = keras.Input((width,), name="features", dtype=input_dtype(precision))
    # Glorot's limit of one probe's hidden layer, not of the stack's.
    limit = float(np.sqrt(6 / (width + HIDDEN)))
    x = layers.Dense(
        seeds * HIDDEN, kernel_initializer=initializers.RandomUniform(-limit, limit, seed=1), dtype=precision
    )(features)
    x = layers.BatchNormalization(dtype=precision)(x)
    x = layers.ReLU(dtype=precision)(x)
    x = layers.Dropout(DROPOUT, seed=2, dtype=precision)(x)
    x = layers.Reshape((seeds, HIDDEN), dtype=precision)(x)
    limit = float(np.sqrt(6 / (HIDDEN + classes)))
    logits = layers.EinsumDense(
        "bsh,shc->bsc",
        output_shape=(seeds, classes),
        bias_axes="sc",
        kernel_initializer=initializers.RandomUniform(-limit, limit, seed=3),
        dtype="float32",
    )(x)
    return keras.Model(features, logits, name="mlp200")


def summed_cross_entropy(labels: Any, logits: Any) -> Any:
    """Cross-entropy (B,) of each example summed over the probes, so that none scales another's gradient."""
    from keras import ops

    log_p = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    one_hot = ops.one_hot(ops.reshape(labels, (-1,)), logits.shape[-1], dtype="float32")
    return -ops.sum(ops.einsum("bsc,bc->bs", log_p, one_hot), axis=-1)


def accuracy(probe: Any, x: np.ndarray, y: np.ndarray, batch_size: int = 2000) -> np.ndarray:
    """Top-1 accuracy (seeds,) in percent."""
    hits = 0
    for start in range(0, len(x), batch_size):
        logits = np.asarray(probe.predict_on_batch(x[start : start + batch_size]))
        hits = hits + (logits.argmax(-1) == y[start : start + batch_size, None]).sum(0)
    return 100 * np.asarray(hits) / len(x)


def _cast(x: np.ndarray, precision: str) -> np.ndarray:
    import ml_dtypes

    return x.astype(ml_dtypes.bfloat16 if input_dtype(precision) == "bfloat16" else "float32", copy=False)
