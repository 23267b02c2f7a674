"""`mizoo finetune`: a classifier from an encoder and labelled pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mizoo.finetune import MODES


def finetune(
    encoder: Annotated[str, typer.Argument(help="An entry of the zoo, a run folder, or a .keras file.")],
    data: Annotated[str, typer.Option(help="Folder with a subfolder for each class, or with `train` and `test`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The classifier.")] = Path("classifier.keras"),
    mode: Annotated[str, typer.Option(help=f"What is trained: {', '.join(MODES)}.")] = "unfrozen",
    endpoint: Annotated[str | None, typer.Option(help="What it is put on; fc or global by default.")] = None,
    class_weights: Annotated[str, typer.Option(help="none, or balanced: rare classes count as much.")] = "none",
    steps: Annotated[int, typer.Option(min=1, help="At most; fewer where the validation part gains no more.")] = 1500,
    batch_size: Annotated[int, typer.Option(min=2)] = 128,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = 1e-3,
    augment: Annotated[str, typer.Option(help="Of the training pictures: dim, amdim, views, simclr or none.")] = "dim",
    held_out: Annotated[float, typer.Option(help="Share of the labelled pictures that chooses the weights.")] = 0.1,
    depth: Annotated[int | None, typer.Option(min=8, max=32, help="Bits of 16-bit grey files that hold fewer.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train a classifier on an encoder, score it on the test folder if there is one, and write it as one file."""
    from mizoo.classifier import train
    from mizoo.finetune import Budget

    budget = Budget(
        steps=steps,
        batch_size=batch_size,
        rate=rate,
        warmup=min(100, steps // 10),
        check_every=min(100, max(1, steps // 10)),
        held_out=held_out,
        augment=augment,
    )
    weights = None if class_weights == "none" else class_weights
    done = train(encoder, data, output, mode, endpoint, budget, weights, depth, seed)
    for note in done.notes:
        print(note, file=sys.stderr)
    print(done)
    print(f"Deploy it: mizoo export {output} --out exported")
