"""Critics: two sets of features in, a score matrix out."""

from mizoo.critics import blocks
from mizoo.critics.maps import (
    ConcatConvolve,
    NearIdentity,
    aligned_scores,
    dot_scores,
    log_bilinear,
    projection,
    within_scores,
)
from mizoo.critics.vectors import VECTOR_CRITICS, Concat, Network, VectorCritic, vector_critic

__all__ = [
    "VECTOR_CRITICS",
    "Concat",
    "ConcatConvolve",
    "NearIdentity",
    "Network",
    "VectorCritic",
    "aligned_scores",
    "blocks",
    "dot_scores",
    "log_bilinear",
    "projection",
    "vector_critic",
    "within_scores",
]
