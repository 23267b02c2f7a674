"""Mutual information of plain arrays: `estimate`, with its error bar and its ceiling, and what is made of several."""

from mizoo._tools.lazy import submodules
from mizoo.mi.derived import conditional, total_correlation
from mizoo.mi.estimator import BOUNDS, Estimate, estimate

__all__ = ["BOUNDS", "Estimate", "conditional", "estimate", "total_correlation"]

__getattr__ = submodules(__name__)
