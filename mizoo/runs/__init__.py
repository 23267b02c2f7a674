"""Run folders: what a training leaves behind, read without Keras."""

from mizoo._tools.lazy import submodules

__getattr__ = submodules(__name__)
