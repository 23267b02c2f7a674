"""A zoo of a test's own: a folder laid out like a clone, in which the package looks everything up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mizoo.zoo import entries


class FakeZoo:
    """An empty clone in a folder.

    Attributes:
        root: the folder.
        registry_file: its registry.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry_file = root / entries.REGISTRY
        self.registry_file.parent.mkdir(parents=True)
        for folder in ("models", "export"):
            (root / folder).mkdir()
        (root / "setup.cfg").touch()
        self.register({})

    def register(self, registry: dict[str, Any]) -> None:
        """Write the registry anew."""
        self.registry_file.write_text(json.dumps(registry))

    def copy_from(self, folder: Path) -> None:
        """Copy the models and exports of a folder laid out like a clone."""
        shutil.copytree(folder, self.root, dirs_exist_ok=True)
