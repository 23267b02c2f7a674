"""The protocols that are a formula: nothing is fitted."""

from __future__ import annotations

import numpy as np

from mizoo.evaluate import measures
from mizoo.evaluate.label_free import AUGMENT, SEED
from mizoo.evaluate.protocols import Options, Score, Task


def prior_fit(task: Task, options: Options, progress) -> Score:
    """Mean or worst distance of the coordinates from one of the priors (`mizoo.evaluate.measures.prior_fit`)."""
    prior = "gaussian" if options.variant.startswith("gaussian") else "uniform"
    summary = np.max if options.variant.endswith("worst") else np.mean
    value = float(summary(measures.prior_fit(task.test_x, prior)))
    settings = {"variant": options.variant, "prior": prior}
    return Score(value, settings | ({"of": "sigmoid"} if prior == "uniform" else {}))


def effective_rank(task: Task, options: Options, progress) -> Score:
    """See `mizoo.evaluate.measures.effective_rank`."""
    return Score(measures.effective_rank(task.test_x), {"of": task.test_x.shape[1]})


def alignment(task: Task, options: Options, progress) -> Score:
    """Of two augmented views of the scored pictures; see `mizoo.evaluate.measures.alignment`."""
    return Score(measures.alignment(*task.views), {"alpha": 2, "augment": AUGMENT, "augment_seed": SEED})


def uniformity(task: Task, options: Options, progress) -> Score:
    """See `mizoo.evaluate.measures.uniformity`."""
    return Score(measures.uniformity(task.test_x), {"t": 2})
