"""Arrays of rows."""

from __future__ import annotations

from typing import Any

import numpy as np


def unit_rows(rows: Any, dtype: Any = "float32") -> np.ndarray:
    """Rows (N, d) scaled to the length 1, as a new array of `dtype`; a row of zeros stays one."""
    scaled = np.array(rows, dtype=dtype)
    scaled /= np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
    return scaled
