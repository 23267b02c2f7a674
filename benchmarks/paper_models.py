"""The objectives of the Deep InfoMax paper on one encoder: trains the recipes of models/paper_cifar10, measures them.

    taskset -c 0 python benchmarks/paper_models.py [RECIPE ...] [--plan] [--epochs 3 | --minutes 10]

First a few steps of each recipe are timed (`--plan` stops there and says how long the rest takes). Then the cheapest is
trained, in runs/paper, and measured on the test split, which decides nothing: `linear`, `mlp200` (schedule `fast`, 3
seeds) and `knn` of `conv`, `fc` and `global`, and MINE, NDM, the fit to the priors and reconstruction from `global`.
Then the next. Writes benchmarks/paper_models.json after each number, with the SHA-256 of each encoder; what it holds is
not made again, and a training that was interrupted goes on. `--epochs` shortens each run, `--minutes` to what fits
into so much CPU time; such numbers go into a file of their own (`--out`). `mizoo tables` writes the tables. Other
recipes go by their names as well:

    python benchmarks/paper_models.py dim_local_mnist --protocol linear --protocol knn \\
        --endpoint fc --endpoint global --out benchmarks/dim_local_mnist.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import keras

from mizoo import __version__, data, recipes
from mizoo._tools import files
from mizoo._tools.hardware import hardware
from mizoo._tools.keras_backend import dtype_policy
from mizoo.evaluate import evaluate
from mizoo.evaluate.protocols import TABLE
from mizoo.pretrain import pretrain
from mizoo.pretrain.inputs import prepare
from mizoo.runs.folder import ENCODER, SavedState, read_log

HERE = Path(__file__).parent
OUT = HERE / "paper_models.json"
RUNS = HERE.parent / "runs" / "paper"
FOLDER = "paper_cifar10/"
# Recipe -> how the table calls it, and the method of the paper's Table 1 beside it, in the order of the table.
FAMILY = {
    "supervised": ("with the labels", "Fully supervised"),
    "vae": ("VAE", "VAE"),
    "aae": ("AAE", "AAE"),
    "dim_global": ("DIM(G), InfoNCE", "DIM(G)"),
    "dim_local_jsd": ("DIM(L), JSD", "DIM(L) JSD"),
    "dim_local_dv": ("DIM(L), Donsker-Varadhan", ""),
    "dim_local_infonce": ("DIM(L), InfoNCE", "DIM(L) InfoNCE"),
    "dim_local_no_prior": ("DIM(L), InfoNCE, without prior", ""),
    "dim_local_coordinates": ("DIM(L), InfoNCE, coordinates", ""),
    "dim_local_occlusion_coordinates": ("DIM(L), InfoNCE, occlusion and coordinates", ""),
    "dim_local_concat": ("DIM(L), InfoNCE, concat-and-convolve critic", ""),
    "dim_local_global": ("DIM(L+G), InfoNCE", ""),
    "cotraining": ("deep co-training", ""),
}
PROBES, MEASURES = ("linear", "mlp200", "knn"), ("mine", "ndm", "prior_fit", "reconstruct")
ENDPOINTS = ("conv", "fc", "global")
STEPS = 6  # that are timed, after as many that are not
CPU = "cpu_seconds.json"


class Timer(keras.callbacks.Callback):
    """Notes the CPU seconds of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_train_batch_begin(self, batch: int, logs=None) -> None:
        """Note the start."""
        self.began = time.process_time()

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        """Note the end, once the numbers of the step are there."""
        float((logs or {}).get("loss", 0.0))
        self.seconds.append(time.process_time() - self.began)


class EpochCost(keras.callbacks.Callback):
    """Keeps the CPU seconds of each epoch in the run folder, so that an interrupted run counts them as well."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.file, self.began = folder / CPU, time.process_time()

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Add the epoch."""
        now = time.process_time()
        files.write_json(self.file, read_cost(self.file) | {str(epoch): round(now - self.began, 1)})
        self.began = now


def read_cost(file: Path) -> dict[str, float]:
    """Epoch -> CPU seconds, as far as they are known."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def step_seconds(name: str) -> float:
    """CPU seconds of a training step of a recipe, the median of a few."""
    whole = recipes.load(name)
    recipe = recipes.load(name, {"data.split": f"train[:{STEPS * whole.training.batch_size}]"})
    with tempfile.TemporaryDirectory() as folder:
        job = prepare(recipe, Path(folder), SavedState(), 1)
    timer = Timer()
    with dtype_policy(job.training.precision):
        model = job.objective(job.phases[0], job.encoder(0))
        batches = job.batches(model.noise_size, 0)
        model.compile(job.optimizer(batches.steps_per_epoch), jit_compile=False)
    model.fit(batches, epochs=2, verbose=0, callbacks=[timer])
    keras.backend.clear_session()
    return statistics.median(timer.seconds[STEPS:])


def shortened(name: str, options: argparse.Namespace, step: float, pictures: int) -> recipes.Recipe:
    """The recipe of a run: whole, or as `--epochs`, `--minutes` and `--split` ask for."""
    training = recipes.load(name).training
    epochs = options.epochs or training.epochs
    if options.minutes:
        fits = int(60 * options.minutes / (step * (pictures // training.batch_size)))
        epochs = max(1, min(training.epochs, fits))
    return recipes.load(name, {"training.epochs": epochs, "data.split": options.split})


def wanted(options: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    """Protocol -> the endpoints that it measures."""
    probes = tuple(options.endpoint or ENDPOINTS)
    chosen = options.protocol or (*PROBES, *MEASURES)
    return {protocol: probes if TABLE[protocol].labelled else ("global",) for protocol in chosen}


class Results:
    """The file: facts of each recipe and rows, written after each change."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = path
        self.content = {"about": about, "hardware": hardware(), "version": __version__, "recipes": {}, "rows": []}
        if path.exists():
            self.content = json.loads(path.read_text(encoding="utf-8"))
            if self.content["about"] != about:
                raise SystemExit(
                    f"error: {path} holds runs of {self.content['about']}, and these are {about}: pass another --out"
                )

    def note(self, name: str, **facts: Any) -> None:
        """Add facts of a recipe."""
        self.content["recipes"].setdefault(name, {}).update(facts)
        files.write_json(self.path, self.content)

    def add(self, name: str, row: Any) -> None:
        """Add a row."""
        self.content["rows"].append({"recipe": name, **dataclasses.asdict(row)})
        files.write_json(self.path, self.content)
        print(f"{name} {row.protocol} {row.settings.get('variant', '')} {row.endpoint} {row.value:.2f}", flush=True)

    def missing(self, name: str, protocol: str, endpoints: tuple[str, ...]) -> list[str]:
        """The endpoints of which a recipe lacks a row of the protocol, or of one of its variants."""
        rows = [row for row in self.content["rows"] if (row["recipe"], row["protocol"]) == (name, protocol)]
        found = {(row["endpoint"], row["settings"].get("variant", "")) for row in rows}
        return [each for each in endpoints if {(each, variant) for variant in TABLE[protocol].variants} - found]


def run(name: str, recipe: recipes.Recipe, results: Results, options: argparse.Namespace) -> None:
    """Train a recipe, unless its run is whole, and measure what the file lacks."""
    targets = wanted(options).items()
    if not any(results.missing(name, protocol, endpoints) for protocol, endpoints in targets):
        print(f"{name}: all of it is in {results.path.name}", flush=True)
        return
    kind = "_".join(f"{key}_{value:g}" for key in ("epochs", "minutes") if (value := getattr(options, key)))
    stem = name.removeprefix(FOLDER)
    folder = options.runs / (f"{stem}_{kind}" if kind else stem)
    pretrain(recipe, folder, callbacks=[EpochCost(folder)])
    log, cost = read_log(folder), read_cost(folder / CPU)
    facts: dict[str, Any] = {"epochs": len(log), "batch_size": recipe.training.batch_size}
    facts |= {"hardware": json.loads((folder / "machine.json").read_text(encoding="utf-8"))["hardware"]}
    facts |= {"train_minutes": round(log[-1]["seconds"] / 60, 1), "weights": files.sha256(folder / ENCODER)}
    if len(cost) == len(log):  # known of every epoch
        facts["cpu_minutes"] = round(sum(cost.values()) / 60, 1)
    known = results.content["recipes"][name].get("weights")
    if known not in (None, facts["weights"]):
        raise SystemExit(f"error: {folder} is another run than that of {results.path}. Pass another --out, or move it")
    results.note(name, **facts, log={key: value for key, value in log[-1].items() if key != "epoch"})
    command = f"python benchmarks/paper_models.py {name}"
    together: dict[tuple[str, ...], list[str]] = {}  # endpoints -> the protocols that lack them: data are read once
    for protocol, endpoints in targets:
        if lacking := results.missing(name, protocol, endpoints):
            together.setdefault(tuple(lacking), []).append(protocol)
    for lacking, protocols in together.items():
        evaluate(
            folder,
            recipe.data.source,
            protocols,
            lacking,
            train_split=options.split,
            entry=name,
            command=command,
            rows=lambda row: results.add(name, row),
        )


def main(arguments: list[str] | None = None) -> None:
    """Time, train and measure what the file does not hold yet, the cheapest first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="*", help="all of models/paper_cifar10 by default")
    parser.add_argument("--plan", action="store_true", help="only time the steps")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int)
    length.add_argument("--minutes", type=float)
    parser.add_argument("--split", default="train", help="of the training pictures, as in train[:2000]")
    parser.add_argument("--protocol", action="append", help="repeatable; three probes and four measures by default")
    parser.add_argument("--endpoint", action="append", help="of the probes, repeatable; conv, fc and global by default")
    parser.add_argument("--runs", type=Path, default=RUNS, help="the folder of the runs")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    short = FOLDER.rstrip("/")
    names = [f"{FOLDER}{name}" if name in FAMILY else name for name in options.recipe or FAMILY]
    if unknown := sorted(set(names) - set(recipes.names())):
        parser.error(f"no recipe {', '.join(unknown)}; there are those of models/{short}: {', '.join(FAMILY)}")
    about = {"epochs": options.epochs, "minutes": options.minutes, "split": options.split}
    results = Results(options.out, about)

    plan: dict[str, float] = {}
    pictures: dict[str, int] = {}
    for name in names:
        recipe = recipes.load(name)
        label, paper = FAMILY.get(name.removeprefix(FOLDER), (name, ""))
        if "step_ms" not in results.content["recipes"].get(name, {}):
            results.note(name, label=label, paper=paper, step_ms=round(1000 * step_seconds(name), 1))
        step, source = results.content["recipes"][name]["step_ms"] / 1000, recipe.data.source
        if source not in pictures:
            pictures[source] = len(data.load(source, options.split).images)
        epochs = shortened(name, options, step, pictures[source]).training.epochs
        plan[name] = step * epochs * (pictures[source] // recipe.training.batch_size) / 60
        results.note(name, epochs=epochs, batch_size=recipe.training.batch_size)
        print(f"{name}: {epochs} epochs, {1000 * step:.0f} ms a step, {plan[name]:.0f} CPU minutes", flush=True)
    print(f"all: {sum(plan.values()) / 60:.1f} CPU hours, and the measurements", flush=True)
    for name in [] if options.plan else sorted(plan, key=lambda name: plan[name]):
        source = recipes.load(name).data.source
        step = results.content["recipes"][name]["step_ms"] / 1000
        run(name, shortened(name, options, step, pictures[source]), results, options)


if __name__ == "__main__":
    main()
