"""Pretraining: a recipe in, a run folder out, resumable at every checkpoint."""

from mizoo.pretrain.run import pretrain

__all__ = ["pretrain"]
