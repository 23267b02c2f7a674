"""Records that tests stream: what they decode says which process did it, and when."""

from __future__ import annotations

import os
import sys
import time

import numpy as np

from mizoo.data.records import Records

HEAVY = ("keras", "tensorflow", "torch", "sklearn", "tensorflow_datasets")


class Probing(Records):
    """Pictures of one pixel: how many heavy packages the process that decodes has imported, and whether it is `parent`.

    Args:
        parent: a process number.
        slow_from: the record from which on decoding takes `seconds`.
        seconds: how long.
    """

    def __init__(self, parent: int, slow_from: int = 1 << 30, seconds: float = 0.0) -> None:
        self.parent, self.slow_from, self.seconds = parent, slow_from, seconds

    def __len__(self) -> int:
        return 64

    def name(self, index: int) -> str:
        """What messages call a picture."""
        return f"record {index}"

    def content(self, index: int) -> bytes:
        """Nothing: the pictures are made up."""
        return b""

    def decode(self, index: int, depth=None, notes=None) -> np.ndarray:
        """uint8 (1, 1, 3): heavy packages, 1 in `parent` and 0 elsewhere, and the number of the record."""
        if index >= self.slow_from:
            time.sleep(self.seconds)
        heavy = sum(name in sys.modules for name in HEAVY)
        return np.array([[[heavy, os.getpid() == self.parent, index]]], np.uint8)
