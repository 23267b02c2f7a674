"""What encoders are worth on a folder of photographs: runs of one's own beside entries, new weights and raw pixels.

    python benchmarks/own_pictures.py PHOTOS runs/my [runs/other ...] [--entry simclr_views_cifar10 ...]

PHOTOS has class folders in `train` and `test`. Every encoder is measured by `linear` and `knn` of one endpoint, fitted
on `train` and scored once on `test`: each run, what it began with (new weights, or those that its `init_from` names,
before any training), the entries at their own size, and the raw pixels at that of the first run. Writes
benchmarks/own_pictures.json after each; what the file holds is not measured again. `mizoo tables` writes the table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mizoo import __version__, recipes, zoo
from mizoo._tools import files
from mizoo._tools.hardware import hardware
from mizoo.data import pictures
from mizoo.evaluate import evaluate, random_copy
from mizoo.recipes.starting_weights import copy_weights
from mizoo.runs.folder import RECIPE, read_log
from mizoo.zoo import interface

OUT = Path(__file__).with_name("own_pictures.json")
ENTRIES = ("simclr_views_cifar10@1", "simclr_views_cifar10", "simclr_cifar10", "dim_views_cifar10")
PROTOCOLS = ("linear", "knn")


def start(run: Path) -> tuple[dict[str, Any], Any]:
    """What the table calls the weights that a run began with, and an encoder that has them."""
    recipe = recipes.load(run / RECIPE)
    encoder = recipe.encoder.build()
    if recipe.init_from is None:
        return {"encoder": "new weights", "begins_with": ""}, random_copy(encoder)
    copy_weights(recipe, encoder)
    return {"encoder": recipe.init_from, "begins_with": ""}, encoder


def trained(run: Path) -> tuple[dict[str, Any], Any]:
    """What the table calls a run, and its encoder."""
    recipe = recipes.load(run / RECIPE)
    hardware_of_run = json.loads((run / "machine.json").read_text(encoding="utf-8"))["hardware"]
    named = {"encoder": recipe.name, "begins_with": recipe.init_from or "new weights"}
    named |= {"epochs": len(read_log(run)), "hardware": hardware_of_run}
    return named, zoo.load(str(run))


def measure(folder: Path, encoder: Any, endpoint: str, kind: str) -> dict[str, Any]:
    """Top-1 % by each protocol, the encoder's side, and how many pictures were scored."""
    endpoints = None if kind == "pixels" else [endpoint]
    rows = evaluate(encoder, str(folder), PROTOCOLS, endpoints, encoder=kind, entry="x", command="x")
    shape = interface.picture_shape(encoder)
    return {"side": shape[0], "test": rows[0].test_size, **{row.protocol: round(row.value, 2) for row in rows}}


def main(arguments: list[str] | None = None) -> None:
    """Measure what the file does not hold yet, and write after each encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--entry", action="append", help="repeatable; those of CIFAR-10 in the table by default")
    parser.add_argument("--endpoint", default="fc")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)

    about = {"pictures": len(pictures.find(options.photos / "train")), "endpoint": options.endpoint}
    content = about | {"hardware": hardware(), "version": __version__, "rows": []}
    if options.out.exists():
        content = json.loads(options.out.read_text(encoding="utf-8"))
        if {key: content[key] for key in about} != about:
            parser.error(f"{options.out} holds rows of other pictures or another endpoint: pass another --out")

    def keep(named: dict[str, Any], encoder: Any, kind: str = "published") -> None:
        """Measure an encoder unless the file has it, and write the row."""
        key = (*(named[part] for part in ("encoder", "begins_with")), interface.picture_shape(encoder)[0])
        if key in {(row["encoder"], row["begins_with"], row["side"]) for row in content["rows"]}:
            return
        content["rows"].append(named | measure(options.photos, encoder, options.endpoint, kind))
        print(content["rows"][-1], flush=True)
        files.write_json(options.out, content)

    for run in options.runs:
        named, encoder = trained(run)
        if run == options.runs[0]:
            keep({"encoder": "raw pixels", "begins_with": ""}, encoder, "pixels")
        keep(*start(run))
        keep(named, encoder)
    for entry in options.entry or ENTRIES:
        keep({"encoder": entry, "begins_with": ""}, zoo.load(entry))


if __name__ == "__main__":
    main()
