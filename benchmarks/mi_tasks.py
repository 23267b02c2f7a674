"""`mizoo.mi.estimate` on the 40 tasks of benchmark-mi by two bounds, and that package's own estimators.

    python benchmarks/mi_tasks.py estimate runs/mi_tasks --set bound=auto      # after benchmarks/mi_tasks_sample.py
    python benchmarks/mi_tasks.py estimate runs/mi_tasks --set bound=infonce
    python benchmarks/mi_tasks.py table runs/mi_tasks                          # writes benchmarks/mi_tasks.json and .md

`estimate` takes every sample in the folder at the same settings, and keeps finished ones in ours.json: the same command
resumes an interrupted run. Names of tasks after the folder take only those, and `--set KEY=VALUE` changes a setting;
the estimates are kept under the name of the changes, and the table holds all. Tasks of one seed that become the same
numbers by the rank transform (monotone maps of columns) are estimated once; the rows of the others name that
task in `same_as`. Samples: Czyz et al. 2023, "Beyond normal".
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

import numpy as np

import mizoo
from mizoo._tools import files
from mizoo._tools.markdown import table as markdown_table
from mizoo.mi.inputs import rescale

HERE = Path(__file__).parent
NEAR = 0.1  # nats


def estimate(folder: Path, tasks: list[str], changes: dict) -> None:
    """Add our estimates that are not there yet."""
    result = folder / "ours.json"
    label = ",".join(f"{key}={value}" for key, value in sorted(changes.items())) or "mizoo"
    rows = json.loads(result.read_text()) if result.exists() else []
    done = {(row["estimator"], row["task"], row["seed"]) for row in rows}
    for path in sorted(folder.glob("*.npz"), key=lambda path: (path.stem[-1], path.stem)):  # seed by seed
        with np.load(path) as data:
            x, y, truth = data["x"], data["y"], float(data["truth"])
            task, seed = str(data["task"]), int(data["seed"])
        if (label, task, seed) in done or (tasks and task not in tasks):
            continue
        how = changes.get("preprocess", "rank")
        numbers = b"".join(rescale(v.astype("float64"), how).tobytes() for v in (x, y))
        digest = hashlib.sha256(numbers + bytes([seed])).hexdigest()[:16]
        equal = next((row for row in rows if (row["estimator"], row["sha256"]) == (label, digest)), None)
        if equal:
            rows.append(equal | {"task": task, "truth": truth, "same_as": equal["task"]})
            files.write_json(result, rows)
            print(f"{label} {task} {seed}: as {equal['task']}, truth {truth:.3f}", flush=True)
            continue
        started, cpu = time.perf_counter(), time.process_time()
        estimated = mizoo.mi.estimate(x, y, seed=seed, progress=False, **changes)
        row = {
            "estimator": label,
            "task": task,
            "seed": seed,
            "nats": estimated.nats,
            "error": estimated.standard_error,
        }
        row |= {"truth": truth, "sha256": digest, "steps": [curve[-1][0] for curve in estimated.curve]}
        row |= {"cpu_seconds": round(time.process_time() - cpu, 1), "seconds": round(time.perf_counter() - started, 1)}
        rows.append(row)
        files.write_json(result, rows)
        print(f"{label} {task} {seed}: {estimated}, truth {truth:.3f}, {row['cpu_seconds']} CPU s", flush=True)


def table(folder: Path) -> None:
    """Write all estimates as JSON, and their means over the seeds as a Markdown table."""
    ours = json.loads((folder / "ours.json").read_text())
    theirs = folder / "theirs.json"
    rows = ours + (json.loads(theirs.read_text()) if theirs.exists() else [])
    truths = {row["task"]: row["truth"] for row in sorted(ours, key=lambda row: row["task"])}
    rows = [row for row in rows if row["task"] in truths]
    names = list(dict.fromkeys(row["estimator"] for row in rows))
    near = dict.fromkeys(names, 0)
    lines = []
    for task, truth in truths.items():
        cells = []
        for name in names:
            values = [row["nats"] for row in rows if (row["estimator"], row["task"]) == (name, task)]
            good = bool(values) and abs(np.mean(values) - truth) <= NEAR
            near[name] += good
            spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
            text = f"{np.mean(values):.2f}{spread}" if values else ""
            cells.append(f"**{text}**" if good else text)
        lines.append([task, f"{truth:.2f}", *cells])
    lines.append(["within 0.1 nat", "", *(f"{near[name]} of {len(truths)}" for name in names)])
    lines += [[label, "", *(value(rows, name) for name in names)] for label, value in SUMMARIES.items()]
    seeds = {name: len({row["seed"] for row in rows if row["estimator"] == name}) for name in names}
    text = (
        f"Nats at N = 5000, mean ± standard deviation over seeds ({', '.join(f'{n}: {s}' for n, s in seeds.items())}); "
        "bold: within 0.1 nat of the truth. bound=...: `mizoo.mi.estimate(x, y, bound=...)`, alike for all tasks; SE "
        "is its `standard_error`. The others: benchmark-mi 0.1.3 at its defaults, KSG with 10 neighbours."
    )
    page = f"{text}\n\n{markdown_table(['task', 'truth', *names], lines)}\n"
    files.write_text(HERE / "mi_tasks.md", page)
    files.write_json(HERE / "mi_tasks.json", {"version": mizoo.__version__, "rows": rows})
    print(page)


def _above(rows: list[dict], name: str, errors: float) -> str:
    """How many estimates lie more than so many standard errors above the truth."""
    own = [row for row in rows if row["estimator"] == name and "error" in row]
    count = sum(row["nats"] > row["truth"] + errors * row["error"] for row in own)
    return f"{count} of {len(own)}" if own else ""


def _cpu(rows: list[dict], name: str) -> str:
    """Median CPU seconds of the estimates that were made, not taken over from an equal sample."""
    seconds = [row["cpu_seconds"] for row in rows if row["estimator"] == name and "same_as" not in row]
    return f"{np.median(seconds):.1f}" if seconds else ""


SUMMARIES = {
    "more than 2 SE above": lambda rows, name: _above(rows, name, 2),
    "more than 4 SE above": lambda rows, name: _above(rows, name, 4),
    "median CPU seconds": _cpu,
}


def changed(pairs: list[str]) -> dict:
    """["folds=5"] as {"folds": 5}; values are JSON, or else text."""
    changes = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        try:
            changes[key] = json.loads(value)
        except json.JSONDecodeError:
            changes[key] = value
    return changes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["estimate", "table"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("tasks", nargs="*")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    if arguments.command == "estimate":
        estimate(arguments.folder, arguments.tasks, changed(arguments.changes))
    else:
        table(arguments.folder)
