"""Samples of the 40 tasks of the package benchmark-mi, and that package's own estimates of them.

It needs an environment of its own (the package pins an old pydantic), without mizoo:

    python3.11 -m venv bmi && bmi/bin/pip install benchmark-mi==0.1.3 jax==0.4.30 jaxlib==0.4.30
    bmi/bin/python benchmarks/mi_tasks_sample.py sample runs/mi_tasks --seeds 3
    bmi/bin/python benchmarks/mi_tasks_sample.py estimate runs/mi_tasks cca ksg mine infonce

`sample` writes <task>-<seed>.npz with x, y (5000 rows, float32) and the true mutual information in nats. `estimate`
adds the package's own estimates to theirs.json: seed 0 for the networks, which are slow, every sampled seed for CCA and
KSG. Both leave what is already there alone, so they can be interrupted. `benchmarks/mi_tasks.py` continues from here.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

ROWS = 5000
NETWORKS = ("mine", "infonce")


def sample(folder: Path, seeds: int) -> None:
    """Write the samples that are not there yet."""
    from bmi.benchmark import BENCHMARK_TASKS

    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        for name, task in BENCHMARK_TASKS.items():
            path = folder / f"{name}-{seed}.npz"
            if path.exists():
                continue
            x, y = task.sample(ROWS, seed)
            temporary = path.with_suffix(".part.npz")
            np.savez(
                temporary,
                x=np.asarray(x, "float32"),
                y=np.asarray(y, "float32"),
                truth=float(task.mutual_information),
                task=name,
                title=task.name,
                seed=seed,
            )
            os.replace(temporary, path)
            print(path, flush=True)


def estimator(name: str):
    """A fresh estimator of the package, at its defaults (KSG: 10 neighbours)."""
    import bmi.estimators as estimators

    if name == "ksg":
        return estimators.KSGEnsembleFirstEstimator(neighborhoods=(10,))
    kinds = {
        "cca": estimators.CCAMutualInformationEstimator,
        "mine": estimators.MINEEstimator,
        "infonce": estimators.InfoNCEEstimator,
    }
    return kinds[name]() if name == "cca" else kinds[name](verbose=False)


def estimate(folder: Path, names: list[str]) -> None:
    """Add the package's own estimates that are not there yet."""
    result = folder / "theirs.json"
    rows = json.loads(result.read_text()) if result.exists() else []
    done = {(row["estimator"], row["task"], row["seed"]) for row in rows}
    for name in names:
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as data:
                x, y, task, seed = data["x"], data["y"], str(data["task"]), int(data["seed"])
            if (name, task, seed) in done or (name in NETWORKS and seed > 0):
                continue
            started = time.process_time()
            nats = float(estimator(name).estimate(x, y))
            seconds = round(time.process_time() - started, 1)
            rows.append({"estimator": name, "task": task, "seed": seed, "nats": nats, "cpu_seconds": seconds})
            temporary = result.with_suffix(".part")
            temporary.write_text(json.dumps(rows, indent=1) + "\n")
            os.replace(temporary, result)
            print(rows[-1], flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["sample", "estimate"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("estimators", nargs="*", default=[], help="of `estimate`: cca, ksg, mine, infonce")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.command == "sample":
        sample(arguments.folder, arguments.seeds)
    else:
        estimate(arguments.folder, arguments.estimators or ["cca", "ksg", *NETWORKS])
