"""Mutual information of plain arrays: `estimate`, with its error bar and its ceiling."""

from mizoo.mi.estimator import BOUNDS, Estimate, estimate

__all__ = ["BOUNDS", "Estimate", "estimate"]
