"""Collapse measures in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from mizoo.evaluate import measures


def test_effective_rank_counts_directions(rng):
    orthogonal, _ = np.linalg.qr(rng.standard_normal((200, 7)) - 0.0)
    centred = orthogonal - orthogonal.mean(0)
    q, _ = np.linalg.qr(centred)
    assert measures.effective_rank(q @ np.eye(7, 12) + 3.0) == pytest.approx(7.0, abs=0.05)
    line = rng.standard_normal((50, 1)) * np.ones((1, 6))
    assert measures.effective_rank(line) == pytest.approx(1.0, abs=1e-6)
    assert measures.effective_rank(np.ones((9, 4))) == 1.0


def test_spread_is_the_mean_deviation():
    features = np.array([[0.0, 1.0], [2.0, 1.0]])
    assert measures.spread(features) == pytest.approx(0.5)
    assert measures.spread(np.ones((5, 3))) == 0.0
