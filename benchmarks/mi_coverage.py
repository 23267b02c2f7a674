"""How often two standard errors around an estimate hold the truth, and the mean of all estimates.

    python benchmarks/mi_coverage.py                 # writes benchmarks/mi_coverage.json and .md, an hour of a core
    python benchmarks/mi_coverage.py --seeds 10      # quicker, and coarser

Each seed draws other rows and fits other critics to them. Estimates are kept in a folder, those of repeats one by one:
the same command resumes an interrupted run, keeps the rows of mi_coverage.json that are of as many seeds, and writes it
after each case. The mean estimate has the
bias of the estimator, the truth has not: where only the second is covered less, the estimator is biased; where both
are, its error bar is too small.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import warnings
from pathlib import Path

import numpy as np

import mizoo
from mizoo._tools import files
from mizoo._tools.markdown import table
from mizoo._tools.progress import bar
from mizoo.mi.settings import seed_of_repeat

HERE = Path(__file__).parent
FOLDS = 3  # the default of `mizoo.mi.estimate`


@dataclasses.dataclass(frozen=True)
class Case:
    """An estimator and the pairs that it is given.

    Attributes:
        bound, critic: of `mizoo.mi.estimate`, whose other settings are the defaults.
        rows: N.
        columns: of each side.
        rho: correlation of Gaussian pairs; None: pairs of the two-dimensional Cauchy distribution.
        repeats: of `mizoo.mi.estimate`, a row of the table each.
        seeds: number of samples.
    """

    bound: str
    rows: int
    columns: int
    rho: float | None
    repeats: tuple[int, ...] = (1,)
    seeds: int = 40
    critic: str | None = None

    @property
    def truth(self) -> float:
        """Mutual information in nats."""
        if self.rho is None:
            return math.log(8 * math.pi) - 3
        return -0.5 * self.columns * math.log(1 - self.rho**2)

    @property
    def facts(self) -> dict:
        """What its rows of the table have in common."""
        facts = {"estimator": self.bound, "critic": self.critic, "pairs": self.kind}
        return facts | {"rows": self.rows, "columns": self.columns}

    @property
    def kind(self) -> str:
        """What the pairs are, as the table names it."""
        return "Cauchy" if self.rho is None else f"Gaussian, {self.rho}"

    def pairs(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """x and y (rows, columns), each column paired with its own."""
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((2, self.rows, self.columns))
        if self.rho is None:
            scale = np.abs(rng.standard_normal((self.rows, 1)))
            return x / scale, y / scale
        return x, self.rho * x + math.sqrt(1 - self.rho**2) * y


CASES = (
    Case("ksg", 500, 1, 0.6, seeds=60),
    Case("ksg", 2000, 1, 0.8, seeds=60),
    Case("ksg", 2000, 2, 0.6, seeds=60),
    Case("ksg", 2000, 3, 0.6, seeds=60),
    Case("auto", 300, 1, 0.6, seeds=24),
    Case("infonce", 300, 1, None, (1, 3, 5), critic="separable"),
    Case("nwj", 300, 2, 0.6, (1, 3, 5), critic="separable"),
)


def estimates(case: Case, seed: int, folder: Path) -> list[dict]:
    """Nats, the standard error where the estimator has no fits, and shares (N,), of each repeat, made or read."""
    found = []
    for repeat in range(max(case.repeats)):
        parts = (case.bound, case.critic, case.kind.replace(", ", "-"), case.rows, case.columns, seed, repeat)
        name = "-".join(map(str, parts)) + ".npz"
        if not (folder / name).exists():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                # That of "ksg" is only of the parts of the rows that its error bar comes from.
                seed_of_fit = seed_of_repeat(0 if case.bound == "ksg" else seed, repeat)
                made = mizoo.mi.estimate(*case.pairs(seed), case.bound, case.critic, seed_of_fit, progress=False)
            with files.atomic(folder / name) as path:
                np.savez(path, nats=made.nats, error=made.standard_error, shares=made.shares)
        with np.load(folder / name) as stored:
            found.append({key: stored[key] for key in ("nats", "error", "shares")})
    return found


def averaged(case: Case, seed: int, found: list[dict]) -> tuple[float, float, float]:
    """Nats and standard error of estimates of one sample, averaged, and what the spread of the shares alone says."""
    from mizoo.mi import crossfit, scoring

    values, shares = (np.array([each[key] for each in found]) for key in ("nats", "shares"))
    generators = (np.random.default_rng(seed_of_repeat(seed, repeat)) for repeat in range(len(found)))
    splits = (list(crossfit.split(case.rows, FOLDS, generator)) for generator in generators)
    nats, error, share = scoring.averaged(
        values, shares, np.array([crossfit.fold_of(each, case.rows) for each in splits])
    )
    return nats, float(found[0]["error"]) if case.bound == "ksg" else error, scoring.standard_error(share)


def summary(case: Case, repeats: int, samples: list[list[dict]]) -> dict:
    """A row of the table from the estimates of each sample."""
    cut = [averaged(case, seed, found[:repeats]) for seed, found in enumerate(samples)]
    nats, error, naive = np.array(cut).T
    row = case.facts | {"repeats": repeats, "truth": case.truth, "seeds": len(samples), "mean": nats.mean()}
    row |= {"spread": nats.std(ddof=1), "error": error.mean(), "naive": naive.mean()}
    row |= {
        f"{what}_of_{of}": float(np.mean(np.abs(nats - centre) < 2 * bars))
        for what, bars in (("coverage", error), ("naive_coverage", naive))
        for of, centre in (("truth", case.truth), ("mean", nats.mean()))
    }
    return {key: float(value) if isinstance(value, np.floating) else value for key, value in row.items()}


def of_case(case: Case, seeds: int, folder: Path, kept: list[dict], advance) -> list[dict]:
    """The rows of a case: those that are kept if they are of as many seeds, or else made."""
    own = [row for row in kept if case.facts.items() <= row.items() and row["seeds"] >= seeds]
    if [row["repeats"] for row in own] == list(case.repeats):
        advance(seeds)
        return own
    samples = []
    for seed in range(seeds):
        samples.append(estimates(case, seed, folder))
        advance(1)
    return [summary(case, repeats, samples) for repeats in case.repeats]


def measure(folder: Path, most_seeds: int, kept: list[dict]) -> list[dict]:
    """The rows of all cases; the files are written after each case, with what is kept of those to come."""
    counts = [min(case.seeds, most_seeds) for case in CASES]
    done: list[dict] = []
    with bar("coverage", sum(counts)) as advance:
        for number, (case, seeds) in enumerate(zip(CASES, counts)):
            done += of_case(case, seeds, folder, kept, advance)
            later = [each.facts.items() for each in CASES[number + 1 :]]
            to_come = [row for row in kept if any(facts <= row.items() for facts in later)]
            files.write_json(HERE / "mi_coverage.json", {"version": mizoo.__version__, "rows": done + to_come})
    files.write_text(HERE / "mi_coverage.md", written(done))
    return done


def _share(row: dict, key: str) -> str:
    """A coverage with its interval."""
    from scipy.stats import binomtest

    inside = round(row[key] * row["seeds"])
    interval = binomtest(inside, row["seeds"]).proportion_ci(method="wilson")
    return f"{100 * row[key]:.0f}% ({100 * interval.low:.0f} to {100 * interval.high:.0f})"


def of_published_tasks(path: Path) -> list[dict]:
    """Of each bound in mi_tasks.json: how its estimates of three samples of a task scatter, in standard errors."""
    stored = json.loads(path.read_text())["rows"]
    rows = []
    for name in dict.fromkeys(row["estimator"] for row in stored if "error" in row):
        tasks: dict[str, list[dict]] = {}
        for row in stored:
            if row["estimator"] == name and "same_as" not in row:
                tasks.setdefault(row["task"], []).append(row)
        tasks = {task: own for task, own in tasks.items() if len(own) == 3}
        nats, error = (np.array([[row[key] for row in own] for own in tasks.values()]) for key in ("nats", "error"))
        # A value lies nearer to a mean that it is part of: by the root of 1 - 1/3.
        apart = np.abs(nats - nats.mean(axis=1, keepdims=True)) / math.sqrt(2 / 3) / error
        rows.append(
            {
                "estimator": name,
                "tasks": len(tasks),
                "ratio": float(np.sqrt(np.mean(nats.var(axis=1, ddof=1) / np.square(error).mean(axis=1)))),
                "coverage_of_mean": float(np.mean(apart < 2)),
                "seeds": nats.size,
            }
        )
    return rows


def written(rows: list[dict]) -> str:
    """The rows as Markdown."""
    head = ["estimator", "critic", "pairs", "rows", "columns", "repeats", "seeds", "truth", "mean", "its spread"]
    head += ["standard error", "covers the truth", "covers the mean", "the shares' own spread", "covers the mean"]
    body = [
        [
            row["estimator"],
            row["critic"] or "",
            row["pairs"],
            f"{row['rows']:,}",
            f"{row['columns']} + {row['columns']}",
            str(row["repeats"]),
            str(row["seeds"]),
            *(f"{row[key]:.3f}" for key in ("truth", "mean", "spread", "error")),
            *(_share(row, key) for key in ("coverage_of_truth", "coverage_of_mean")),
            f"{row['naive']:.3f}",
            _share(row, "naive_coverage_of_mean"),
        ]
        for row in rows
    ]
    published = of_published_tasks(HERE / "mi_tasks.json")
    tasks = [
        [row["estimator"], str(row["tasks"]), str(row["seeds"]), f"{row['ratio']:.2f}", _share(row, "coverage_of_mean")]
        for row in published
    ]
    return (
        "Nats. Coverage: share of the seeds whose estimate lies within two standard errors (95% where the bar is "
        "right), with the 95% interval (Wilson) that the number of seeds leaves. A seed draws other rows and fits "
        "other critics; the mean is that of all seeds. Last two columns: with the spread of the rows' shares as the "
        "only standard error. Made by `python benchmarks/mi_coverage.py`, `--seeds` as in the table.\n\n"
        + table(head, body)
        + "\n\nThe estimates of 5,000 rows in [mi_tasks.md](mi_tasks.md), of tasks with three different samples: the "
        "spread over the samples of a task in standard errors (root mean square), and how many estimates lie within "
        "two of them around the mean of the task. The standard errors there are those of the rows' spread alone.\n\n"
        + table(["estimator", "tasks", "estimates", "spread in standard errors", "covers the mean"], tasks)
        + "\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/mi_coverage"), help="where estimates are kept")
    parser.add_argument("--seeds", type=int, default=60, help="at most, of each case")
    parser.add_argument("--again", action="store_true", help="make the rows of mi_coverage.json anew from the folder")
    arguments = parser.parse_args()
    stored = HERE / "mi_coverage.json"
    kept = json.loads(stored.read_text())["rows"] if stored.exists() and not arguments.again else []
    print(written(measure(arguments.folder, arguments.seeds, kept)))
