"""What an encoder brings over training from scratch, by the number of labels. Writes benchmarks/label_budgets.json.

    python benchmarks/label_budgets.py [--data cifar10 --data mnist --data PHOTOS] [--draws 2]

A draw is a stratified part of the training split; smaller parts of a draw are contained in larger ones. With each, a
linear layer is trained on the frozen encoder, then with the encoder, then the same architecture from new weights: the
same steps, rates and augmentation for all three and for any number of labels (`mizoo.finetune`; the budget stands in
the file). A tenth of the labelled pictures chooses which step's weights are kept. The test split is scored once for
each training and decides nothing. `--data` is a TFDS set or a folder with `train` and `test`, or `NAME=FOLDER` to call
it NAME; pictures of another size are resized. A draw is measured on all sets before the next one, about 10 minutes of
one core for the two, so that what an interrupted run leaves is a table; what the file holds is not measured again.
`mizoo tables` writes the table.
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
from mizoo._tools.progress import Progress
from mizoo.data.sampling import stratified
from mizoo.finetune import MODES, Budget, finetune
from mizoo.zoo import interface
from mizoo.zoo.loading import read_keras

OUT = Path(__file__).with_name("label_budgets.json")
LABELS = (100, 1000, 5000)
BUDGET = Budget(steps=200, batch_size=64, warmup=20, check_every=50, patience=4)


def measure(encoder, train, test, mode: str, labels: int, draw: int, budget: Budget, advance=None) -> dict:
    """One training with `labels` labels of a draw: accuracy on `test` in percent, the step kept, CPU seconds."""
    began = time.process_time()
    rows = stratified(train.labels, labels, draw)
    done = finetune(
        encoder,
        train.images[rows],
        train.labels[rows],
        classes=int(train.labels.max()) + 1,
        mode=mode,
        budget=budget,
        seed=draw,
        advance=advance,
    )
    return {
        "value": round(done.accuracy(test.images, test.labels), 3),
        "kept_step": done.step,
        "precision": done.settings["precision"],
        "test_size": len(test.labels),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure what the file does not hold yet, and write after each number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="dim_views_cifar10", help="an entry, a run folder or a .keras file")
    parser.add_argument("--data", action="append", help="repeatable; cifar10 and mnist by default")
    parser.add_argument("--labels", type=int, action="append", help="repeatable; 100, 1000 and 5000 by default")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--steps", type=int, default=BUDGET.steps)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)

    encoder, weights = read_keras(options.encoder)
    sources = dict(_named(source) for source in options.data or ["cifar10", "mnist"])
    budget = dataclasses.replace(BUDGET, steps=options.steps)
    about = {"encoder": options.encoder, "weights": weights, "budget": dataclasses.asdict(budget)}
    content = about | {"hardware": hardware(), "version": __version__, "rows": []}
    if options.out.exists():
        content = json.loads(options.out.read_text(encoding="utf-8"))
        if {key: content[key] for key in about} != about:
            parser.error(f"{options.out} holds rows of another encoder or budget: pass another --out")
    measured = {_key(row) for row in content["rows"]}
    wanted = [
        {"data": name, "labels": labels, "mode": mode, "draw": draw}
        for draw in range(options.draws)
        for name in sources
        for labels in options.labels or LABELS
        for mode in MODES
    ]
    shape, loaded = interface.input_shape(encoder), {}
    with Progress() as progress:
        for case in (case for case in wanted if _key(case) not in measured):
            name = case["data"]
            if name not in loaded:
                loaded[name] = [data.load(sources[name], split, size=shape) for split in ("train", "test")]
            line = progress.start(f"{name}, {case['labels']} labels, {case['mode']}, draw {case['draw']}", budget.steps)
            row = case | measure(
                encoder, *loaded[name], case["mode"], case["labels"], case["draw"], budget, line.advance
            )
            line.finish(f"{row['value']:.2f} %")
            content["rows"].append(row)
            files.write_json(options.out, content)
            progress.print(f"{name} {case['labels']} {case['mode']} draw {case['draw']}: {row['value']:.2f} %")


def _named(source: str) -> tuple[str, str]:
    name, equals, folder = source.partition("=")
    return (name, folder) if equals else (source, source)


def _key(row: dict) -> tuple:
    return tuple(row[name] for name in ("data", "labels", "mode", "draw"))


if __name__ == "__main__":
    main()
