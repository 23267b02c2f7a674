"""A run on drawn shapes and its page, made once a process for the tests of `mizoo report`."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from mizoo import recipes
from support import shapes
from support.encoders import TOY

EPOCHS = 4


class Reported:
    """Folders of the pictures, the run and the page, which live as long as the process; `page` is its text."""

    def __init__(self, root: Path) -> None:
        from mizoo.pretrain import pretrain
        from mizoo.report.page import report

        self.data = root / "my shapes"
        shapes.write(self.data / "train", 160, 1)
        shapes.write(self.data / "test", 120, 2)
        recipe = recipes.validate(
            {
                "name": "shapes",
                "encoder": TOY,
                "objective": {"name": "simclr"},
                "data": {"source": str(self.data), "augment": "views"},
                "training": {"epochs": EPOCHS, "batch_size": 32, "precision": "float32"},
                "watch": {"source": str(self.data)},
            }
        )
        self.run = pretrain(recipe, root / "runs/shapes", jit_compile=False)
        self.folder = root / "report"
        self.file = report([self.run], self.folder, progress=False)
        self.page = self.file.read_text(encoding="utf-8")


@functools.cache
def reported() -> Reported:
    """The run and its page."""
    return Reported(Path(_folder.name))


_folder = tempfile.TemporaryDirectory(prefix="mizoo-tests-")
