"""What the size of the batch is worth to Deep InfoMax by each bound: InfoNCE, JSD and Donsker-Varadhan.

    taskset -c 0 python benchmarks/batch_and_bounds.py [--epochs 3] [--pictures 45000]

The recipes paper_cifar10/dim_local_infonce, _jsd and _dv with batches of 16, 64 and 256, 3 epochs each at the recipe's
rate, on the first 45,000 training pictures; measured by `linear` and `knn` of `fc`, fitted on those, on the last
5,000. An epoch of small batches has more steps, and costs more, but InfoNCE has fewer negatives in them: its ceiling is
the logarithm of their number. Runs are kept in runs/batch_and_bounds, and one that was interrupted goes on; what
benchmarks/batch_and_bounds.json holds is not made again. After each run the picture beside the file is drawn; `mizoo
tables` writes the table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from paper_models import CPU, EpochCost, read_cost

from mizoo import __version__, recipes
from mizoo._tools import files
from mizoo._tools.hardware import hardware
from mizoo.evaluate import evaluate
from mizoo.pretrain import pretrain
from mizoo.runs.folder import read_log

HERE = Path(__file__).parent
OUT = HERE / "batch_and_bounds.json"
RUNS = HERE.parent / "runs" / "batch_and_bounds"
BOUNDS = {"infonce": "InfoNCE", "jsd": "JSD", "dv": "Donsker-Varadhan"}
BATCHES = (16, 64, 256)
PICTURES = 45000
ENDPOINT = "fc"
PROTOCOLS = ("linear", "knn")


def run(bound: str, batch_size: int, about: dict[str, Any], runs: Path) -> dict[str, Any]:
    """Train and measure one case; its row."""
    changes = {
        "training.epochs": about["epochs"],
        "training.batch_size": batch_size,
        "data.split": f"train[:{about['pictures']}]",
    }
    folder = runs / f"{bound}_{batch_size}_{about['epochs']}_{about['pictures']}"
    pretrain(recipes.load(f"paper_cifar10/dim_local_{bound}", changes), folder, callbacks=[EpochCost(folder)])
    log, cost = read_log(folder), read_cost(folder / CPU)
    row: dict[str, Any] = {"bound": bound, "batch_size": batch_size}
    row |= {"steps": about["epochs"] * (about["pictures"] // batch_size), "nats": round(log[-1]["local_mi"], 3)}
    if len(cost) == len(log):
        row["cpu_minutes"] = round(sum(cost.values()) / 60, 1)
    # Validation is the last 5,000 of the whole split, whatever part of the others is trained on.
    measured = evaluate(folder, "cifar10", PROTOCOLS, [ENDPOINT], split="validation", entry="x", command="x")
    row |= {each.protocol: round(each.value, 2) for each in measured}
    return row | {"scored": measured[0].test_size, "weights": measured[0].settings["weights"]}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy by the size of the batch: a panel for each protocol, a line for each bound."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(PROTOCOLS), 3.4), layout="constrained")
    for axes, protocol in zip(figure.subplots(1, len(PROTOCOLS)), PROTOCOLS):
        for bound, name in BOUNDS.items():
            points = sorted((row["batch_size"], row[protocol]) for row in rows if row["bound"] == bound)
            if points:
                axes.plot(*zip(*points), marker="o", label=name)
        axes.set_xscale("log", base=2)
        axes.set_xticks(BATCHES, [str(size) for size in BATCHES])
        axes.set_xlabel("pictures in a batch")
        axes.set_ylabel(f"{protocol} of {ENDPOINT}, %")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(BOUNDS))
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=100)


def main(arguments: list[str] | None = None) -> None:
    """Run the cases that the file does not hold yet, and write and draw after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=PICTURES, help="that are trained on")
    parser.add_argument("--runs", type=Path, default=RUNS, help="the folder of the runs")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    if not 0 < options.pictures <= PICTURES:
        parser.error(f"--pictures is 1 to {PICTURES}: the other training pictures are scored")
    about = {"epochs": options.epochs, "pictures": options.pictures}
    content = {"about": about, "hardware": hardware(), "version": __version__, "endpoint": ENDPOINT, "rows": []}
    if options.out.exists():
        content = json.loads(options.out.read_text(encoding="utf-8"))
        if content["about"] != about:
            parser.error(f"{options.out} holds runs of {content['about']}: pass another --out")
    for batch_size in sorted(BATCHES, reverse=True):  # the cheapest first
        for bound in BOUNDS:
            if (bound, batch_size) in {(row["bound"], row["batch_size"]) for row in content["rows"]}:
                continue
            row = run(bound, batch_size, about, options.runs)
            content["scored"] = row.pop("scored")
            content["rows"].append(row)
            files.write_json(options.out, content)
            draw(content["rows"], options.out.with_suffix(".png"))
            print(row, flush=True)


if __name__ == "__main__":
    main()
