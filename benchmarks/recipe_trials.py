"""Short trials around the recipe of an entry, measured on validation pictures of the training split.

    python benchmarks/recipe_trials.py ENTRY [NAME ...]

Each trial is the recipe with one change, trained for 4 epochs (`cpc_cifar10` for 2) on the first 45,000 training
pictures, with a cosine schedule that decays within them, and probed by `mlp200` (3 seeds) on the last 5,000. Finished
trials are kept in runs/trials and their rows in benchmarks/recipe_trials.json; name trials to run only those. About 5
to 10 minutes a trial on 2 cores.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from mizoo import evaluate, recipes
from mizoo._tools import files
from mizoo._tools.locks import lock_file
from mizoo.pretrain import pretrain
from mizoo.runs.folder import read_log

HERE = Path(__file__).parent
RESULT = HERE / "recipe_trials.json"
EPOCHS = 4
SHORT = {
    "training.epochs": EPOCHS,
    "data.split": "train[:-5000]",
    "optimizer.schedule": "cosine",
    "optimizer.decay_epochs": 0.0,
}
# What the trials of an entry share in addition to their length, whatever its recipe is changed to.
BASE_CHANGES = {
    "dim_local_cifar10": {
        "data.augment": "dim",
        "optimizer.warmup_epochs": 0.0,
        "objective.occlusion": 0.0,
        "objective.occlusion_from": 0,
    },
    "dim_views_cifar10": {"training.batch_size": 256, "objective.score_penalty": 0.0},
    "cpc_cifar10": {
        "training.epochs": 2,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 1e-3,
        "optimizer.warmup_epochs": 0.2,
    },
}
ENDPOINTS = {"cpc_cifar10": ["fc", "global"]}  # conv, fc and global of the others
MUON = {"optimizer.name": "muon", "optimizer.learning_rate": 0.05}
TRIALS = {
    "dim_local_cifar10": {
        "recipe": {},
        "negatives-images": {"objective.negatives": "images"},
        "bound-jsd": {"objective.bound": "jsd"},
        "prior-0": {"objective.prior_weight": 0.0},
        "batch-256": {"training.batch_size": 256},
        "rate-2e-3": {"optimizer.learning_rate": 2e-3},
        "rate-5e-4": {"optimizer.learning_rate": 5e-4},
        "rate-2.5e-4": {"optimizer.learning_rate": 2.5e-4},
        "decay-0.05": {"optimizer.weight_decay": 0.05},
        "critic-512": {"objective.critic_width": 512},
        "augment-none": {"data.augment": "none"},
        "augment-views": {"data.augment": "views"},
        "occlusion-0.5": {"objective.occlusion": 0.5},
        "lamb-5e-3": {"optimizer.name": "lamb", "optimizer.learning_rate": 5e-3},
        "muon-0.05": MUON,
        "muon-0.02": {"optimizer.name": "muon", "optimizer.learning_rate": 0.02},
    },
    "dim_views_cifar10": {
        "recipe": {},
        "views-1": {"objective.views": 1, "objective.pairs": [["local", "global"], ["conv", "global"]]},
        "pairs-1": {"objective.pairs": [["local", "global"]]},
        "pairs-5": {
            "objective.pairs": [
                ["local", "global"],
                ["conv", "global"],
                ["conv", "conv"],
                ["fc", "fc"],
                ["global", "global"],
            ]
        },
        "augment-amdim": {"data.augment": "amdim"},
        "augment-simclr": {"data.augment": "simclr"},
        "negatives-images": {"objective.negatives": "images"},
        "negatives-locations": {"objective.negatives": "locations"},
        "prior-0.1": {"objective.prior_weight": 0.1},
        "clip-none": {"objective.clip": None},
        "penalty-0.05": {"objective.score_penalty": 0.05},
        "batch-128": {"training.batch_size": 128},
        "batch-512": {"training.batch_size": 512},
        "critic-512": {"objective.critic_width": 512},
        "rate-2e-3": {"optimizer.learning_rate": 2e-3},
        "rate-5e-4": {"optimizer.learning_rate": 5e-4},
        "decay-0.1": {"optimizer.weight_decay": 0.1},
        "ema-0.99": {"optimizer.ema": 0.99},
        "lamb-5e-3": {"optimizer.name": "lamb", "optimizer.learning_rate": 5e-3},
        "muon-0.05": MUON,
        "muon-0.02": {"optimizer.name": "muon", "optimizer.learning_rate": 0.02},
        "warmup-0": {"optimizer.warmup_epochs": 0.0},
        "constant": {"optimizer.schedule": "constant"},
        "epochs-8": {"training.epochs": 8},
    },
    "cpc_cifar10": {
        "recipe": {},
        "muon-0.05": MUON,
        "muon-0.01": MUON | {"optimizer.learning_rate": 0.01},
        "muon-0.003": MUON | {"optimizer.learning_rate": 0.003},
        "muon-width-64": MUON | {"optimizer.learning_rate": 0.01, "encoder.width": 64},
        "muon-patch-16": MUON | {"encoder.patch": 16, "objective.steps": 2},
    },
    "cotraining_cifar10": {
        "recipe": {},
        "form-cpc": {"objective.form": "cpc"},
        "beta-0.25": {"objective.beta": 0.25},
        "logistic": {"objective.family": "logistic"},
        "rate-1e-3": {"optimizer.learning_rate": 1e-3},
    },
}


def run(entry: str, name: str) -> list[dict]:
    """Train and probe one trial; returns its rows."""
    changes = TRIALS[entry][name]
    base_changes = BASE_CHANGES.get(entry, {})
    path = HERE.parent / "models" / entry / "first.yaml"  # of an entry that was trained in two runs
    recipe = recipes.load(path if path.is_file() else path.with_name("recipe.yaml"), SHORT | base_changes | changes)
    folder = pretrain(recipe, HERE.parent / "runs" / "trials" / entry / name)
    last = read_log(folder)[-1]
    rows = evaluate.evaluate(
        folder,
        protocols=("mlp200",),
        endpoints=ENDPOINTS.get(entry, ["conv", "fc", "global"]),
        split="validation",
        entry=entry,
        command=f"python benchmarks/recipe_trials.py {entry} {name}",
    )
    described = {
        "trial": name,
        "base_changes": base_changes,
        "changes": changes,
        "training_seconds": last["seconds"],
        "log": last,
    }
    return [{**described, **dataclasses.asdict(row)} for row in rows]


def main(entry: str, names: list[str]) -> None:
    """Run the named trials of an entry, or all, and merge their rows into the result."""
    if unknown := sorted({entry} - set(TRIALS) or set(names) - set(TRIALS[entry])):
        known = TRIALS.get(entry, TRIALS)
        sys.exit(f"error: no {', '.join(unknown)}; there are {', '.join(known)}")
    for name in names or TRIALS[entry]:
        made = run(entry, name)
        with lock_file(RESULT):
            rows = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
            rows = [row for row in rows if (row["entry"], row["trial"]) != (entry, name)] + made
            files.write_json(RESULT, {"epochs": EPOCHS, "rows": rows})


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
