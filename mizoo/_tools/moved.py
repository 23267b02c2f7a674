"""Modules under the paths of version 0.1.0: found for one release more, with a warning."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "mizoo.benchmark_tables": "mizoo.report.benchmark_tables",
    "mizoo.cards": "mizoo.report.cards",
    "mizoo.curves": "mizoo.runs.curves",
    "mizoo.evaluate.knn": "mizoo.evaluate.protocols.knn",
    "mizoo.evaluate.linear": "mizoo.evaluate.protocols.linear",
    "mizoo.evaluate.mine": "mizoo.evaluate.protocols.mine",
    "mizoo.evaluate.mlp200": "mizoo.evaluate.protocols.mlp200",
    "mizoo.evaluate.ndm": "mizoo.evaluate.protocols.ndm",
    "mizoo.measures": "mizoo.evaluate.measures",
    "mizoo.measures_table": "mizoo.report.label_free_table",
    "mizoo.mi.bench": "mizoo.mi.staircase",
    "mizoo.mi.held_out": "mizoo.mi.scoring",
    "mizoo.parity": "mizoo.export.parity",
    "mizoo.pictures": "mizoo.data.pictures",
    "mizoo.portable": "mizoo.export.keras_file",
    "mizoo.recipe_parts": "mizoo.recipes",
    "mizoo.runtime": "mizoo.zoo.onnx_encoder",
    "mizoo.schedules": "mizoo.recipes.schedules",
    "mizoo.sounds": "mizoo.data.sound_files",
}
"""Old path -> the module that has its content now."""


class _Alias:
    """Gives the module of another path, as it is."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module under its new path."""
        warnings.warn(
            f"{self.old} is {self.new} now; the old path goes with the next release.", DeprecationWarning, stacklevel=2
        )
        module = importlib.import_module(self.new)
        self.own = module.__spec__  # the import puts the old path there
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: it was imported under its new path."""
        module.__spec__ = self.own


class _Finder:
    """Finds the old paths."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of an old path; None for any other module."""
        return ModuleSpec(name, _Alias(name, MOVED[name])) if name in MOVED else None  # type: ignore[arg-type]


def find_old_paths() -> None:
    """Let the old paths be imported from now on, after everything else was looked up."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
