"""Which encoders know the same things: mutual information between the leading components of their features.

    python benchmarks/shared_information.py [--rows 3000]    # writes benchmarks/shared_information.json
    mizoo tables                                             # and this the table of docs/measures.md

Each encoder's `global` of the test pictures of CIFAR-10 is reduced to its leading principal components, which are
functions of the features and hold less than they do. InfoNCE, by `mizoo.mi.estimate` at its defaults, bounds from below
what those of one encoder say of those of another, of an encoder with random weights, of the pictures' own leading
components, and of the class. All numbers are compared with the most that these rows let InfoNCE report. Pairs that the
file holds of the same weights are not measured again.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

import mizoo
from mizoo import data, zoo
from mizoo._tools import files
from mizoo._tools.hardware import hardware
from mizoo._tools.progress import Progress, bar
from mizoo.evaluate.features import features as encode
from mizoo.evaluate.features import random_copy

HERE = Path(__file__).parent
COMPONENTS = 8
ENDPOINT = "global"
RANDOM = "random weights"
PIXELS = "pixels"
CLASSES = "class"


def leading(features: np.ndarray) -> np.ndarray:
    """The leading principal components (N, COMPONENTS) of features (N, D)."""
    centred = features.astype("float64") - features.mean(axis=0, dtype="float64")
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return centred @ directions[:COMPONENTS].T


def sides(names: list[str], rows: int) -> dict[str, np.ndarray]:
    """What is compared: arrays (rows, columns) by name."""
    test = data.load("cifar10", "test")
    images, labels = test.images[:rows], test.labels[:rows]
    encoders = {name: mizoo.load(name) for name in names}
    encoders[RANDOM] = random_copy(mizoo.load(names[0]), seed=0)
    found = {}
    with Progress() as display:
        for name, encoder in encoders.items():
            line = display.start(name, len(images), "pictures")
            found[name] = leading(encode(encoder, images, 500, [ENDPOINT], line.advance)[ENDPOINT])
    found[PIXELS] = leading(images.reshape(len(images), -1) / 255.0)
    return found | {CLASSES: np.eye(10)[labels]}


def measure(names: list[str], rows: int, known: dict[tuple[str, str], dict]) -> list[dict]:
    """A row for each pair: of `known`, or measured."""
    compared, measured = sides(names, rows), []
    pairs = list(itertools.combinations(compared, 2))
    with bar("pairs", len(pairs)) as advance:
        for one, other in pairs:
            if (one, other) in known:
                measured.append(known[one, other])
                advance(1)
                continue
            found = mizoo.mi.estimate(compared[one], compared[other], progress=False)
            row = {"one": one, "other": other, "nats": found.nats, "error": found.standard_error}
            measured.append(row | {"ceiling": found.ceiling, "rows": rows})
            advance(1)
    return measured


def unchanged(content: dict, rows: int, weights: dict[str, str]) -> dict[tuple[str, str], dict]:
    """The rows, by their pairs, that a file holds of so many pictures and of encoders that are what they were."""
    before = content.get("weights", {})
    changed = {name for name in {*before, *weights} if before.get(name) != weights.get(name)}
    if before and next(iter(weights)) in changed:  # whose network the random weights have
        changed.add(RANDOM)
    return {
        (row["one"], row["other"]): row
        for row in content["rows"]
        if before and row["rows"] == rows and changed.isdisjoint((row["one"], row["other"]))
    }


def main() -> None:
    """Measure what the file does not hold yet, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=HERE / "shared_information.json")
    given = parser.parse_args()
    names = [name for name, entry in zoo.registry().items() if entry["dataset"] == "cifar10"]
    weights = {name: zoo.registry()[name]["files"]["encoder.keras"]["sha256"] for name in names}
    before = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {"rows": []}
    measured = measure(names, given.rows, unchanged(before, given.rows, weights))
    content = {"version": mizoo.__version__, "hardware": hardware(), "endpoint": ENDPOINT, "components": COMPONENTS}
    files.write_json(given.out, content | {"weights": weights, "rows": measured})


if __name__ == "__main__":
    main()
