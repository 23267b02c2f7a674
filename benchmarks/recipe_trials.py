"""Short trials around the recipe of dim_local_cifar10, measured on the validation part of the training split.

    python benchmarks/recipe_trials.py [NAME ...]

Each trial is the recipe with one change, trained for 4 epochs on the first 45,000 training pictures (the schedule
decays within them) and probed by `mlp200` (3 seeds) on the last 5,000. Finished trials are kept in runs/trials and
their rows in benchmarks/recipe_trials.json; name trials to run only those. About 5 minutes a trial on 2 cores.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from mizoo import evaluate, files, pretrain, recipes

ENTRY = "dim_local_cifar10"
HERE = Path(__file__).parent
RESULT = HERE / "recipe_trials.json"
SHORT = {"training.epochs": 4, "data.split": "train[:-5000]"}
TRIALS = {
    "recipe": {},
    "negatives-images": {"objective.negatives": "images"},
    "bound-jsd": {"objective.bound": "jsd"},
    "prior-0": {"objective.prior_weight": 0.0},
    "batch-256": {"training.batch_size": 256},
    "rate-2e-3": {"optimizer.learning_rate": 2e-3},
    "rate-5e-4": {"optimizer.learning_rate": 5e-4},
    "critic-512": {"objective.critic_width": 512},
    "augment-none": {"data.augment": "none"},
}


def run(name: str) -> list[dict]:
    """Train and probe one trial; returns its rows."""
    recipe = recipes.load(HERE.parent / "models" / ENTRY / "recipe.yaml", SHORT | TRIALS[name])
    folder = pretrain.pretrain(recipe, HERE.parent / "runs" / "trials" / name)
    seconds = pretrain.read_log(folder)[-1]["seconds"]
    rows = evaluate.evaluate(
        folder,
        protocols=("mlp200",),
        endpoints=["conv", "fc", "global"],
        split="validation",
        entry=ENTRY,
        command=f"python benchmarks/recipe_trials.py {name}",
    )
    return [
        {"trial": name, "changes": TRIALS[name], "training_seconds": seconds, **dataclasses.asdict(r)} for r in rows
    ]


def main(names: list[str]) -> None:
    """Run the named trials, or all, and merge their rows into the result."""
    unknown = sorted(set(names) - set(TRIALS))
    if unknown:
        sys.exit(f"error: no trial {', '.join(unknown)}; there are {', '.join(TRIALS)}")
    for name in names or TRIALS:
        rows = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
        rows = [row for row in rows if row["trial"] != name] + run(name)
        files.write_json(RESULT, {"recipe": ENTRY, "epochs": SHORT["training.epochs"], "rows": rows})


if __name__ == "__main__":
    main(sys.argv[1:])
