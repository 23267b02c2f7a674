"""Mutual information of plain arrays: `estimate`, with its error bar and its ceiling."""

from mizoo._tools.lazy import submodules
from mizoo.mi.estimator import BOUNDS, Estimate, estimate

__all__ = ["BOUNDS", "Estimate", "estimate"]

__getattr__ = submodules(__name__)
