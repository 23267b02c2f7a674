"""Encoder + labelled data -> numbers. One file a protocol; every number is a row."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mizoo
from mizoo.errors import UserError
from mizoo.evaluate import knn, linear, mlp200
from mizoo.evaluate._progress import Steps
from mizoo.evaluate.features import features, pixels, random_copy
from mizoo.evaluate.rows import ENCODERS, Row, hardware, merge_rows, read_rows

__all__ = [
    "PROTOCOLS",
    "Row",
    "evaluate",
    "features",
    "merge_rows",
    "pixels",
    "random_copy",
    "read_rows",
]

PROTOCOLS = ("linear", "mlp200", "knn")
VALIDATION_SIZE = 5000


def evaluate(
    name_or_encoder: Any,
    dataset: Any = "cifar10",
    protocols: Sequence[str] = PROTOCOLS,
    endpoints: Sequence[str] | None = None,
    encoder: str = "published",
    split: str = "test",
    train_split: str = "train",
    seeds: int = 3,
    schedule: str | mlp200.Schedule = "fast",
    entry: str | None = None,
    command: str | None = None,
    progress: bool = True,
) -> list[Row]:
    """Measure frozen features by probes: top-1 accuracy for each protocol and endpoint.

    Args:
        name_or_encoder: name of an entry, path of a `.keras` or `.onnx` file or of a run folder, or a Keras model.
        dataset: labelled pictures, as `mizoo.data.load` takes them.
        protocols: any of `linear`, `mlp200`, `knn`.
        endpoints: endpoints to measure; all of them by default.
        encoder: `published` (the weights as they are), `random` (the same architecture, new weights) or `pixels` (no
            encoder at all).
        split: `test`: fit on the whole of `train_split`, score on the test split. `validation`: fit on all but the
            last 5,000 pictures of `train_split`, score on those; the test split is not read.
        train_split: the training split.
        seeds: number of `mlp200` probes; the other protocols are deterministic.
        schedule: of `mlp200`: `fast`, or `paper` for the published one.
        entry: name written into the rows; by default that of the entry or of the run folder.
        command: command line written into the rows; by default that of `mizoo evaluate` with these arguments.
        progress: show progress on standard error.

    Returns:
        One row for each protocol and endpoint.

    Raises:
        UserError: for an unknown protocol, encoder, split, schedule or endpoint, or data without labels.
    """
    _check_choice("protocols", protocols, PROTOCOLS)
    _check_choice("encoder", [encoder], ENCODERS)
    _check_choice("split", [split], ("test", "validation"))
    mlp200.resolve(schedule)
    entry = entry or _entry_name(name_or_encoder)
    command = command or _command(name_or_encoder, dataset, protocols, endpoints, encoder, split, seeds, schedule)

    model, provenance = _open(name_or_encoder, encoder)
    train, test = _labelled(dataset, split, train_split, _side(model))
    classes = max(len(train.classes), int(train.labels.max()) + 1)
    rows: list[Row] = []
    with Steps(progress) as steps:
        train_x = _extract(model, train.images, endpoints, steps, "features to fit on")
        test_x = _extract(model, test.images, endpoints, steps, "features to score")
        for protocol in protocols:
            for endpoint in train_x:
                started, cpu = time.perf_counter(), time.process_time()
                data = (train_x[endpoint], train.labels, test_x[endpoint], test.labels, classes)
                scores, settings = _PROTOCOLS[protocol](data, seeds, schedule, steps, f"{protocol}, {endpoint}")
                row = Row(
                    entry=entry,
                    encoder=encoder,
                    dataset=train.name,
                    endpoint=endpoint,
                    protocol=protocol,
                    value=round(float(np.mean(scores)), 3),
                    spread=round(float(np.std(scores, ddof=1)), 3) if len(scores) > 1 else 0.0,
                    seeds=len(scores),
                    split=split,
                    train_size=len(train.labels),
                    test_size=len(test.labels),
                    settings=settings | provenance | {"cpu_seconds": round(time.process_time() - cpu, 1)},
                    command=command,
                    version=mizoo.__version__,
                    hardware=hardware(),
                    seconds=round(time.perf_counter() - started, 1),
                )
                rows.append(row)
    return rows


def _open(name_or_encoder: Any, encoder: str) -> tuple[Any, dict[str, Any]]:
    """The model to measure, None for raw pixels, and the settings that say which weights it has."""
    if encoder == "pixels":
        return None, {}
    model, provenance = name_or_encoder, {}
    if isinstance(name_or_encoder, (str, os.PathLike)):
        from mizoo import zoo
        from mizoo.files import sha256

        name = os.fspath(name_or_encoder)
        model = zoo.load(name, runtime="onnx" if name.endswith(".onnx") else "keras")
        if encoder == "published":
            file = zoo.path(name, "encoder.keras") if name in zoo.registry() else Path(name)
            provenance = {"weights": sha256(file / "encoder.keras" if file.is_dir() else file)}
    if encoder == "random":
        return random_copy(model, seed=0), {"encoder_seed": 0}
    return model, provenance


def _linear(data: tuple, seeds: int, schedule: Any, steps: Steps, title: str) -> tuple[np.ndarray, dict]:
    step = steps.start(title, linear.ROUNDS)
    return _finished(step, linear.fit_score(*data, advance=step.advance))


def _mlp200(data: tuple, seeds: int, schedule: Any, steps: Steps, title: str) -> tuple[np.ndarray, dict]:
    step = steps.start(title, mlp200.resolve(schedule)[0].epochs)
    return _finished(step, mlp200.fit_score(*data, schedule=schedule, seeds=seeds, advance=step.advance))


def _knn(data: tuple, seeds: int, schedule: Any, steps: Steps, title: str) -> tuple[np.ndarray, dict]:
    step = steps.start(title, len(data[2]))
    return _finished(step, knn.fit_score(*data, advance=step.advance))


_PROTOCOLS: dict[str, Callable] = {"linear": _linear, "mlp200": _mlp200, "knn": _knn}


def _finished(step: Any, result: tuple[np.ndarray, dict]) -> tuple[np.ndarray, dict]:
    step.finish(f"{np.mean(result[0]):.2f} %")
    return result


def _extract(
    model: Any, images: np.ndarray, endpoints: Sequence[str] | None, steps: Steps, title: str
) -> dict[str, np.ndarray]:
    if model is None:
        if endpoints is not None and list(endpoints) != ["pixels"]:
            raise UserError(f"Raw pixels have the one endpoint `pixels`. Received: {', '.join(endpoints)}")
        return pixels(images)
    step = steps.start(title, len(images))
    return features(model, images, endpoints=endpoints, advance=step.advance)


def _side(model: Any) -> int | None:
    """Height of the pictures that a model takes, or None where it takes any or there is none."""
    shape = getattr(model, "input_shape", None)
    return shape[1] if isinstance(shape, tuple) and len(shape) == 4 else None


def _labelled(dataset: Any, split: str, train_split: str, size: int | None) -> list[Any]:
    """The two data sets: to fit on and to score."""
    from mizoo import data

    parts = (train_split, "test")
    if split == "validation":
        if "[" in train_split:
            raise UserError(
                'With split="validation" the last 5,000 pictures of `train_split` are scored, so it has to be a whole '
                f"split. Received: {train_split!r}"
            )
        parts = (f"{train_split}[:-{VALIDATION_SIZE}]", f"{train_split}[-{VALIDATION_SIZE}:]")
    loaded = [data.load(dataset, part, size=size) for part in parts]
    for part, found in zip(parts, loaded, strict=True):
        if found.labels is None:
            raise UserError(f"A probe needs labels, and split {part!r} of {found.name} has none")
    return loaded


def _check_choice(argument: str, given: Sequence[str], known: Sequence[str]) -> None:
    if isinstance(given, str):
        raise UserError(f"`{argument}` takes a sequence, such as ({given!r},). Received: {given!r}")
    unknown = [value for value in given if value not in known]
    if unknown or not given:
        raise UserError(
            f"`{argument}` takes {', '.join(known)}. Received: {', '.join(map(repr, unknown)) or 'nothing'}"
        )


def _entry_name(name_or_encoder: Any) -> str:
    if not isinstance(name_or_encoder, (str, os.PathLike)):
        return str(getattr(name_or_encoder, "name", "encoder"))
    path = Path(name_or_encoder)
    if path.suffix in (".keras", ".onnx"):
        return path.resolve().parent.name if path.stem == "encoder" else path.stem
    return path.name


def _command(
    name_or_encoder: Any,
    dataset: Any,
    protocols: Sequence[str],
    endpoints: Sequence[str] | None,
    encoder: str,
    split: str,
    seeds: int,
    schedule: Any,
) -> str:
    named = isinstance(name_or_encoder, (str, os.PathLike))
    words = ["mizoo evaluate", os.fspath(name_or_encoder) if named else _entry_name(name_or_encoder)]
    words += ["--dataset", str(getattr(dataset, "name", dataset))]
    if tuple(protocols) != PROTOCOLS:
        words += [f"--protocol {protocol}" for protocol in protocols]
    words += [f"--endpoint {endpoint}" for endpoint in endpoints or ()]
    for option, value, default in (
        ("--encoder", encoder, "published"),
        ("--split", split, "test"),
        ("--seeds", seeds, 3),
        ("--schedule", mlp200.resolve(schedule)[1], "fast"),
    ):
        if value != default:
            words.append(f"{option} {value}")
    return " ".join(words)
