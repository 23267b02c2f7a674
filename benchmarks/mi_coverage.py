"""How often two standard errors around an estimate of Gaussian pairs hold the truth, and the mean of all estimates.

    python benchmarks/mi_coverage.py                 # writes benchmarks/mi_coverage.json and .md, some minutes
    python benchmarks/mi_coverage.py --seeds 20      # quicker, and coarser

The mean estimate has the bias of the estimator, the truth has not: where only the second is covered less, the estimator
is biased; where both are, its error bar is too small.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

import mizoo
from mizoo._tools import files
from mizoo._tools.markdown import table
from mizoo._tools.progress import bar

HERE = Path(__file__).parent
CASES = (
    ("ksg", {"bound": "ksg"}, 500, 1, 0.6),
    ("ksg", {"bound": "ksg"}, 2000, 1, 0.8),
    ("ksg", {"bound": "ksg"}, 2000, 2, 0.6),
    ("ksg", {"bound": "ksg"}, 2000, 3, 0.6),
)


def pairs(seed: int, rows: int, columns: int, rho: float):
    """Gaussian x and y (rows, columns), each column correlated with its own by rho."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, columns))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((rows, columns))


def measure(seeds: int) -> list[dict]:
    """A row for each case."""
    rows = []
    with bar("coverage", len(CASES) * seeds) as advance:
        for name, options, count, columns, rho in CASES:
            truth = -0.5 * columns * math.log(1 - rho**2)
            found = []
            for seed in range(seeds):
                estimated = mizoo.mi.estimate(*pairs(seed, count, columns, rho), progress=False, **options)
                naive = float(np.nanstd(estimated.shares, ddof=1) / math.sqrt(estimated.rows))
                found.append((estimated.nats, estimated.standard_error, naive))
                advance(1)
            nats, error, naive = np.array(found).T
            row = {"estimator": name, "rows": count, "columns": columns, "truth": truth, "seeds": seeds}
            row |= {"mean": nats.mean(), "spread": nats.std(ddof=1), "error": error.mean(), "naive": naive.mean()}
            row |= {
                f"{what}_of_{of}": float(np.mean(np.abs(nats - centre) < 2 * bars))
                for what, bars in (("coverage", error), ("naive_coverage", naive))
                for of, centre in (("truth", truth), ("mean", nats.mean()))
            }
            rows.append({key: float(value) if isinstance(value, np.floating) else value for key, value in row.items()})
    return rows


def written(rows: list[dict]) -> str:
    """The rows as Markdown."""
    head = ["estimator", "rows", "columns", "truth", "mean", "its spread", "standard error", "covers the truth"]
    head += ["covers the mean", "the terms' own spread", "covers the mean with that"]
    body = [
        [
            row["estimator"],
            f"{row['rows']:,}",
            f"{row['columns']} + {row['columns']}",
            *(f"{row[key]:.3f}" for key in ("truth", "mean", "spread", "error")),
            *(f"{100 * row[key]:.0f}%" for key in ("coverage_of_truth", "coverage_of_mean")),
            f"{row['naive']:.3f}",
            f"{100 * row['naive_coverage_of_mean']:.0f}%",
        ]
        for row in rows
    ]
    return (
        f"Gaussian pairs, {rows[0]['seeds']} seeds, nats. Coverage: share of the seeds whose estimate lies within two "
        "standard errors (95% where the bar is right). Made by `python benchmarks/mi_coverage.py`.\n\n"
        + table(head, body)
        + "\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=60)
    results = measure(parser.parse_args().seeds)
    files.write_json(HERE / "mi_coverage.json", {"version": mizoo.__version__, "rows": results})
    files.write_text(HERE / "mi_coverage.md", written(results))
    print(written(results))
