"""Label-free measures of a representation that show a collapse at once."""

from __future__ import annotations

import numpy as np


def spread(features: np.ndarray) -> float:
    """Mean standard deviation of the coordinates of `features` (N, d); 0 when every picture gets the same vector."""
    return float(np.std(np.asarray(features, np.float64), axis=0).mean())


def effective_rank(features: np.ndarray) -> float:
    """Effective rank of centred `features` (N, d): the exponential of the entropy of the normalised singular values.

    Between 1 (all variation along one line, or none) and d (the same variation along every direction). Source: Roy and
    Vetterli 2007, "The effective rank", definition 1.
    """
    centred = np.asarray(features, np.float64)
    centred = centred - centred.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)
    total = values.sum()
    if total <= 1e-12:
        return 1.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))
