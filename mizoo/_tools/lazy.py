"""Modules of a package as its attributes, imported on first use: `mizoo.data.batching` after `import mizoo`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def submodules(package: str) -> Callable[[str], Any]:
    """A `__getattr__` for the `__init__` of a package, which finds its modules."""

    def find(name: str) -> Any:
        """The module of this name."""
        if not name.startswith("__"):
            try:
                return importlib.import_module(f"{package}.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"{package}.{name}":
                    raise
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
