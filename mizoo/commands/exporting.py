"""`mizoo export`: the forms of an encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mizoo.errors import UserError


def export(
    name: Annotated[str, typer.Argument(help="An entry of the zoo, a run folder, or a .keras file.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; export/<entry> by default.")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="One file alone: onnx or litert. By default ONNX, SavedModel and manifest."),
    ] = None,
    inputs: Annotated[
        str, typer.Option("--input", help="Of ONNX: float32, or uint8 for pictures as bytes.")
    ] = "float32",
    quantize: Annotated[
        str, typer.Option(help="int8: a quarter of the size; refused if a probe on labelled pictures loses.")
    ] = "none",
    dataset: Annotated[
        str | None,
        typer.Option(help="Of int8: labelled pictures to calibrate and probe on; cifar10 unless it is a classifier."),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(min=8, max=32, help="Of int8: bits of the values of 16-bit files of --dataset that hold fewer."),
    ] = None,
    resize: Annotated[
        bool,
        typer.Option("--resize", help="Pictures of any size go in and are resized inside."),
    ] = False,
) -> None:
    """Write ONNX and SavedModel, reload both, and compare every endpoint with Keras; or one file for serving."""
    if resize and (form is not None or inputs != "float32" or quantize != "none"):
        raise UserError("--resize is of ONNX and SavedModel together: leave out --format, --input and --quantize.")
    if form is None and inputs == "float32" and quantize == "none":
        from mizoo.export import export as run

        print(json.dumps(run(name, out, resize=resize), indent=2))
        return
    from mizoo.deploy import deploy
    from mizoo.zoo.interface import encoder_name

    folder = Path("export", encoder_name(name)) if out is None else out
    print(json.dumps(deploy(name, folder, form or "onnx", inputs, quantize, dataset, depth=depth), indent=2))
