"""Does the fast schedule of `mlp200` agree with the paper's? Writes benchmarks/probe_schedule.json.

    python benchmarks/probe_schedule.py runs/NAME --endpoint fc --endpoint conv --seeds 4

Both schedules are fitted on the same frozen features of CIFAR-10's training split but for its last 5,000 pictures, and
scored on those; the test split is not read. A pair that the file already holds for the same weights and settings is not
measured again, so an interrupted run resumes. `mizoo tables` turns the file into a table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

from mizoo import __version__, data
from mizoo._tools import files
from mizoo._tools.hardware import hardware
from mizoo.evaluate import features, random_copy
from mizoo.evaluate.protocols import mlp200
from mizoo.zoo.loading import read_keras

OUT = Path(__file__).with_name("probe_schedule.json")


def measure(train, test, train_x, test_x, schedule: str, seeds: int) -> dict:
    """One schedule on one endpoint: accuracies and what they cost."""
    wall, cpu = time.perf_counter(), time.process_time()
    scores, settings = mlp200.fit_score(train_x, train.labels, test_x, test.labels, 10, schedule, seeds)
    return {
        "mean": round(float(scores.mean()), 3),
        "spread": round(float(scores.std(ddof=1)), 3),
        "scores": [round(float(score), 3) for score in scores],
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "settings": settings,
    }


def main() -> None:
    """Measure what the file does not hold yet, and write after each number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path, help="a .keras file, or a run folder that holds encoder.keras")
    parser.add_argument("--label", default="trained", help="what the encoder is called in the table")
    parser.add_argument("--random", action="store_true", help="the same architecture with new weights")
    parser.add_argument("--endpoint", action="append", help="repeatable; global, fc and conv by default")
    parser.add_argument("--schedule", action="append", help="repeatable; fast and paper by default")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()

    path = options.encoder / "encoder.keras" if options.encoder.is_dir() else options.encoder
    encoder, weights = read_keras(path)
    label = "random" if options.random else options.label
    encoder = random_copy(encoder) if options.random else encoder
    endpoints = options.endpoint or ["global", "fc", "conv"]
    train, test = data.load("cifar10", "train[:-5000]"), data.load("cifar10", "train[-5000:]")
    train_x = features(encoder, train.images, endpoints=endpoints)
    test_x = features(encoder, test.images, endpoints=endpoints)

    content = {"seeds": options.seeds, "hardware": hardware(), "version": __version__, "rows": []}
    if options.out.exists():
        old = json.loads(options.out.read_text(encoding="utf-8"))
        if old["seeds"] != options.seeds:
            parser.error(
                f"{options.out} holds rows of {old['seeds']} seeds: pass --seeds {old['seeds']}, or another --out"
            )
        content["rows"] = old["rows"]
    for endpoint in endpoints:
        for schedule in options.schedule or ["fast", "paper"]:
            plan = dataclasses.asdict(mlp200.resolve(schedule, train_x[endpoint].shape[1])[0])
            key = {"encoder": label, "endpoint": endpoint, "schedule": schedule, "weights": weights}
            if any(_same(row, key, plan) for row in content["rows"]):
                continue
            row = key | measure(train, test, train_x[endpoint], test_x[endpoint], schedule, options.seeds)
            row_key = [row[name] for name in ("encoder", "endpoint", "schedule")]
            content["rows"] = [
                other for other in content["rows"] if [other[n] for n in ("encoder", "endpoint", "schedule")] != row_key
            ] + [row]
            files.write_json(options.out, content)
            print(f"{label} {endpoint} {schedule}: {row['mean']:.2f} ± {row['spread']:.2f}, {row['cpu_seconds']} CPU s")


def _same(row: dict, key: dict, plan: dict) -> bool:
    plan = plan | {"drops": list(plan["drops"])}
    return all(row[k] == v for k, v in key.items()) and all(row["settings"][k] == v for k, v in plan.items())


if __name__ == "__main__":
    main()
