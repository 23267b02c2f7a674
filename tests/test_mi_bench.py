"""The staircase: its truth, its ceiling, and that it goes on where it stopped."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mizoo.errors import UserError
from mizoo.mi import staircase as bench

TINY = {"steps": 40, "batch_size": 16, "progress": False}


@pytest.mark.parametrize("level", bench.LEVELS)
def test_the_levels_have_the_information_they_are_named_by(level):
    rho = bench.correlation(level)
    assert -10 * math.log(1 - rho**2) == pytest.approx(level)
    x, y = bench.sample(np.random.default_rng(0), "linear", level, (20000, 20))
    assert np.corrcoef(x[:, 3], y[:, 3])[0, 1] == pytest.approx(rho, abs=0.03)
    cubic = bench.sample(np.random.default_rng(0), "cubic", level, (20000, 20))[1]
    np.testing.assert_allclose(cubic, y**3 / math.sqrt(15), rtol=1e-5)
    assert cubic.std() == pytest.approx(1.0, abs=0.05)


def test_a_run_leaves_numbers_table_and_plot_and_goes_on_where_it_stopped(tmp_path):
    pytest.importorskip("matplotlib")
    rows = bench.staircase(tmp_path, ["infonce", "doe"], ["linear"], **TINY)
    assert len(rows) == 2 * len(bench.LEVELS)
    assert all(row["largest"] <= math.log(16) + 1e-4 for row in rows if row["estimator"] == "infonce")
    assert all(row["mse"] == pytest.approx(row["bias"] ** 2 + row["variance"], rel=1e-6) for row in rows)
    assert "| infonce |" in (tmp_path / "staircase.md").read_text()
    assert (tmp_path / "staircase.png").stat().st_size > 1000
    kept = (tmp_path / "linear-doe.npz").read_bytes()
    (tmp_path / "linear-infonce.npz").unlink()
    again = bench.staircase(tmp_path, ["infonce", "doe"], ["linear"], **TINY)
    assert (tmp_path / "linear-doe.npz").read_bytes() == kept
    assert [row["bias"] for row in again] == [row["bias"] for row in rows]
    assert json.loads((tmp_path / "staircase.json").read_text())["steps"] == 40
    with pytest.raises(UserError, match="another folder"):
        bench.staircase(tmp_path, ["doe"], ["linear"], **{**TINY, "steps": 48})


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="infonce, nwj"):
        bench.staircase(tmp_path, ["flow"])
    with pytest.raises(UserError, match="8 steps"):
        bench.staircase(tmp_path, ["doe"], steps=4)
