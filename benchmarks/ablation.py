"""What each part of the recipe of `fast_cifar10` brings, at equal CPU time, on validation pictures of CIFAR-10.

    taskset -c 0 python benchmarks/ablation.py [TRIAL ...] [--minutes 10] [--seed 0]

A trial is the recipe with one change. A few steps of it are timed first, and its length is what then fits into the
minutes, 60 % of them in the first stage where there are two; so a slower step means fewer epochs, not more time. All
train on the first 15,000 training pictures, without labels, and are measured by `linear` and `knn` of `fc`, fitted on
the first 45,000, on the last 5,000. Give the process one core: minutes are then CPU minutes. Rates of optimisers and
lengths are trials too; other minutes and seeds are rows of their own. Writes benchmarks/ablation.json after each trial;
what it holds is not run again, and a trial that was interrupted goes on in runs/ablation. Two processes, each with
trials and a core of its own, may write to one file, but not two kinds of machine. `mizoo tables` writes the table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from mizoo import __version__, recipes
from mizoo._tools import files
from mizoo._tools.hardware import hardware
from mizoo._tools.keras_backend import precision_here
from mizoo._tools.locks import lock_file
from mizoo.evaluate import evaluate
from mizoo.new.measure import measure
from mizoo.pretrain import pretrain
from mizoo.runs.folder import read_log

HERE = Path(__file__).parent
OUT = HERE / "ablation.json"
PICTURES = 15000
FIRST_STAGE = 0.6  # of the time
SMALL, LARGE = {"view_side": 16, "area": [0.1, 0.5]}, {"view_side": 24, "area": [0.2, 1.0]}


def rates(name: str, values: tuple[float, ...]) -> dict[str, dict[str, Any]]:
    """Trials of an optimiser at some rates."""
    return {f"{name}-{value:g}": {"optimizer.name": name, "optimizer.learning_rate": value} for value in values}


TRIALS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "two views": {"objective.views": 2},
    "one size, 24 pixels": {"data.stages": [LARGE]},
    "one size, 16 pixels": {"data.stages": [SMALL]},
    "no whitening": {"encoder.whitening": False},
    "same padding": {"encoder.padding": "same"},
    "temperature 0.5": {"objective.temperature": 0.5},
    "Gaussian information": {"objective": {"name": "information_maximization", "views": 4}},
    "half a ResNet-18": {"encoder": {"name": "resnet18", "width": 0.5}},
    "average of the weights": {"optimizer.ema": 0.99},
    "as simclr_cifar10": {
        "encoder": {"name": "resnet18", "width": 0.5},
        "objective": {"name": "simclr", "views": 2, "temperature": 0.5},
        "data.augment": "simclr",
        "data.stages": [{"view_side": 32}],
        "optimizer": {"name": "adamw", "learning_rate": 1e-3},
    },
    **rates("muon", (0.025, 0.1)),
    **rates("adamw", (1e-3, 2e-3, 4e-3)),
    **rates("lamb", (5e-3, 1e-2, 2e-2)),
}


def changed(changes: dict[str, Any], seed: int) -> dict[str, Any]:
    """The recipe's content with the changes, on the part of the pictures that all trials share."""
    path = HERE.parent / "models" / "fast_cifar10" / "recipe.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["data"]["stages"] = [SMALL, LARGE]
    shared = {"data.split": f"train[:{PICTURES}]", "training.seed": seed, "training.precision": precision_here()}
    shared["training.jit_compile"] = False
    for key, value in (shared | changes).items():
        section, _, name = key.partition(".")
        if name:
            content[section][name] = value
        else:
            content[section] = value
    if content["optimizer"]["name"] != "muon":
        content["optimizer"].pop("beta_2", None)
    return content


def planned(content: dict[str, Any], minutes: float) -> dict[str, Any]:
    """The same with the epochs of each stage that fit into the minutes on this machine."""
    stages = content["data"]["stages"]
    shares = [1.0] if len(stages) == 1 else [FIRST_STAGE, 1 - FIRST_STAGE]
    counted = [stage | {"epochs": 1} for stage in stages[:-1]] + [stages[-1]]
    content["data"]["stages"] = counted
    content["training"]["epochs"] = len(stages)
    cost = measure(content, content["training"]["precision"], pictures=content["training"]["batch_size"])
    epochs = [
        max(1, round(share * 60 * minutes / (seconds * PICTURES)))
        for share, seconds in zip(shares, cost.seconds_per_picture)
    ]
    content["data"]["stages"] = [stage | {"epochs": count} for stage, count in zip(stages[:-1], epochs)] + [stages[-1]]
    content["training"]["epochs"] = sum(epochs)
    content["optimizer"] |= {"schedule": "cosine", "warmup_epochs": round(0.1 * sum(epochs), 2)}
    return content


def run(name: str, minutes: float, seed: int) -> dict[str, Any]:
    """Train and measure one trial; its row."""
    folder = HERE.parent / "runs" / "ablation" / f"{name.replace(' ', '_').replace(',', '')}_{minutes:g}_{seed}"
    if (folder / "recipe.yaml").is_file():
        recipe = recipes.load(folder / "recipe.yaml")
    else:
        content = planned(changed(TRIALS[name], seed), minutes)
        recipe = recipes.validate(content | {"name": "ablation", "summary": name})
    began = time.process_time()
    pretrain(recipe, folder)
    used = time.process_time() - began
    rows = evaluate(folder, "cifar10", ("linear", "knn"), ["fc"], split="validation", entry="x", cache=False)
    log = read_log(folder)
    row = {"trial": name, "changes": TRIALS[name], "minutes": minutes, "seed": seed, "epochs": len(log)}
    row |= {"precision": recipe.training.precision}
    row |= {"train_minutes": round(log[-1]["seconds"] / 60, 1), "cpu_minutes": round(used / 60, 1)}
    return row | {each.protocol: round(each.value, 2) for each in rows}


def held(out: Path) -> dict[str, Any]:
    """What the file holds; minutes of another kind of machine are other minutes."""
    begun = {"pictures": PICTURES, "hardware": hardware(), "version": __version__, "rows": []}
    content = json.loads(out.read_text(encoding="utf-8")) if out.exists() else begun
    if content["hardware"] != begun["hardware"]:
        sys.exit(f"error: {out} is of {content['hardware']}, this is {begun['hardware']}: pass another --out")
    return content


def main(arguments: list[str] | None = None) -> None:
    """Run the trials that the file does not hold yet, and write after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", help="all by default")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.trials) - set(TRIALS)):
        sys.exit(f"error: no {', '.join(unknown)}; there are {', '.join(TRIALS)}")
    for name in options.trials or TRIALS:
        key = (name, options.minutes, options.seed)
        if key not in {(row["trial"], row["minutes"], row["seed"]) for row in held(options.out)["rows"]}:
            row = run(name, options.minutes, options.seed)
            with lock_file(options.out):
                content = held(options.out)
                files.write_json(options.out, content | {"rows": [*content["rows"], row]})
            print(row, flush=True)


if __name__ == "__main__":
    main()
