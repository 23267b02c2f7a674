"""Encoder + pictures or sounds -> numbers. One file a protocol; every number is a row."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mizoo
from mizoo.errors import UserError
from mizoo.evaluate import heard, knn, linear, measured, mlp200
from mizoo.evaluate._progress import Steps
from mizoo.evaluate.features import features, pixels, random_copy
from mizoo.evaluate.parts import fitted_and_scored
from mizoo.evaluate.protocols import ALL, MEASURES, PROBES, chosen
from mizoo.evaluate.rows import ENCODERS, Row, merge_rows, read_rows
from mizoo.evaluate.task import Task
from mizoo.machine import hardware

if TYPE_CHECKING:
    from mizoo.data import Dataset

__all__ = [
    "MEASURES",
    "PROTOCOLS",
    "Row",
    "evaluate",
    "features",
    "merge_rows",
    "pixels",
    "random_copy",
    "read_rows",
]

PROTOCOLS = PROBES  # what is measured unless something else is asked for


def evaluate(
    name_or_encoder: Any,
    dataset: Any = None,
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
    """Measure frozen features: by probes (top-1 accuracy), or by measures that take no labels (`docs/measures.md`).

    Args:
        name_or_encoder: name of an entry, path of a `.keras` or `.onnx` file or of a run folder, or a Keras model.
        dataset: pictures, as `mizoo.data.load` takes them, with labels for the probes; "cifar10" by default. For an
            encoder of sounds "spoken_digit", whose digits and speakers are two tasks (`mizoo.evaluate.heard`).
        protocols: any of `linear`, `mlp200`, `knn` (the default: probes), and of `mine`, `ndm`, `prior_fit`,
            `effective_rank`, `alignment`, `uniformity` (`measures` for all six).
        endpoints: endpoints to measure; by default all for the probes, and `global` alone for the measures where the
            encoder has it: fitting a critic to thousands of columns is slow.
        encoder: `published` (the weights as they are), `random` (the same architecture, new weights) or `pixels` (no
            encoder at all).
        split: `test`: fit on the whole of `train_split`, score on the test split. `validation`: fit on all but the
            last 5,000 pictures of `train_split` (all but a fifth where that is less), score on those; the test split
            is not read. Measures of data of one split take that whole (`mizoo.evaluate.measured.pictures`).
        train_split: the training split.
        seeds: number of `mlp200` probes; the other protocols run once, with a fixed seed.
        schedule: of `mlp200`: `fast`, or `paper` for the published one.
        entry: name written into the rows; by default that of the entry or of the run folder.
        command: command line written into the rows; by default that of `mizoo evaluate` with these arguments.
        progress: show progress on standard error.

    Returns:
        One row for each protocol and endpoint; two, told apart by `settings["variant"]`, for `ndm` (with and without
        sigmoid) and `prior_fit` (mean and worst coordinate).

    Raises:
        UserError: for an unknown protocol, encoder, split, schedule or endpoint, or a probe of data without labels.
    """
    wanted = chosen(protocols)
    _check_choice("encoder", [encoder], ENCODERS)
    _check_choice("split", [split], ("test", "validation"))
    mlp200.resolve(schedule)
    common = {
        "entry": entry or _entry_name(name_or_encoder),
        "encoder": encoder,
        "version": mizoo.__version__,
        "hardware": hardware(),
    }
    model, provenance = _open(name_or_encoder, encoder)
    hears, side = heard.takes_sounds(model), _side(model)
    if encoder == "pixels":
        if hears:
            raise UserError(f"`pixels` is a baseline of pictures, and {common['entry']} takes sounds.")
        model = None
    if dataset is None:
        dataset = "spoken_digit" if hears else "cifar10"
    common["command"] = command or _command(
        name_or_encoder, dataset, protocols, endpoints, encoder, split, seeds, schedule
    )
    probes = [protocol for protocol in wanted if protocol in PROBES]
    measures = [protocol for protocol in wanted if protocol in MEASURES]
    if hears and measures:
        raise UserError(f"Of sounds there are the probes, {', '.join(PROBES)}. Received: {', '.join(measures)}")
    rows: list[Row] = []
    with Steps(progress) as steps:
        found = []
        if probes:
            if hears:
                found = heard.tasks(model, dataset, split, train_split, endpoints, steps)
            else:
                train, test = fitted_and_scored(dataset, split, train_split, side)
                found = [_picture_task(model, train, test, endpoints, steps)]
        for task in found:
            common |= {"dataset": task.dataset, "split": split}
            sizes = (len(task.train_y), len(task.test_y))
            for protocol in probes:
                for endpoint in task.train_x:
                    started, cpu = time.perf_counter(), time.process_time()
                    data = (task.train_x[endpoint], task.train_y, task.test_x[endpoint], task.test_y, task.classes)
                    title = f"{protocol}, {task.dataset}, {endpoint}" if hears else f"{protocol}, {endpoint}"
                    scores, settings = _PROTOCOLS[protocol](data, seeds, schedule, steps, title)
                    seconds = (time.perf_counter() - started, time.process_time() - cpu)
                    rows.append(
                        _row(common, protocol, endpoint, scores, settings | provenance, sizes, seconds, digits=3)
                    )
        if measures:
            fitted = any(ALL[protocol].fits for protocol in measures)
            pictures = measured.pictures(dataset, split, train_split, side, fitted)
            common |= {"dataset": pictures.name, "split": pictures.split}
            for protocol, endpoint, value, settings, sizes, seconds in measured.measure(
                model, pictures, measures, endpoints, steps
            ):
                settings |= provenance
                rows.append(_row(common, protocol, endpoint, np.array([value]), settings, sizes, seconds, digits=4))
    return rows


def _row(
    common: dict[str, Any],
    protocol: str,
    endpoint: str,
    scores: np.ndarray,
    settings: dict[str, Any],
    sizes: tuple[int, int],
    seconds: tuple[float, float],
    digits: int,
) -> Row:
    return Row(
        **common,
        protocol=protocol,
        endpoint=endpoint,
        value=round(float(np.mean(scores)), digits),
        spread=round(float(np.std(scores, ddof=1)), digits) if len(scores) > 1 else 0.0,
        seeds=len(scores),
        train_size=sizes[0],
        test_size=sizes[1],
        settings=settings | {"cpu_seconds": round(seconds[1], 1)},
        seconds=round(seconds[0], 1),
    )


def _open(name_or_encoder: Any, encoder: str) -> tuple[Any, dict[str, Any]]:
    """The model to measure and the settings that say which weights it has."""
    model, provenance = name_or_encoder, {}
    if isinstance(name_or_encoder, (str, os.PathLike)):
        from mizoo import zoo
        from mizoo.files import sha256

        name = os.fspath(name_or_encoder)
        runtime = "onnx" if name.endswith(".onnx") else "keras"
        model = zoo.load(name, runtime=runtime)
        if encoder == "published":
            provenance = {"weights": sha256(zoo.encoder_file(name, runtime))}
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
    step = steps.start(title, len(images))
    return measured.extract(model, images, endpoints, step.advance)


def _side(model: Any) -> int | None:
    """Height of the pictures that a model takes, or None where it takes any."""
    shape = getattr(model, "input_shape", None)
    return shape[1] if isinstance(shape, tuple) and len(shape) == 4 else None


def _picture_task(model: Any, train: Dataset, test: Dataset, endpoints: Sequence[str] | None, steps: Steps) -> Task:
    """The task of labelled pictures."""
    for part, use in ((train, "fitted on"), (test, "scored")):
        if part.labels is None:
            raise UserError(
                f"A probe needs labels, and the part of {part.name} that is {use} has none. Without labels there are "
                'the measures: protocols=("measures",), on the command line `--protocol measures`'
            )
    fitted, scored = set(train.labels.tolist()), set(test.labels.tolist())
    if len(fitted) < 2:
        raise UserError(f"A probe tells classes apart, and the labels of {train.name} are all of one.")
    if unseen := sorted(scored - fitted):
        names = [train.classes[label] if label < len(train.classes) else str(label) for label in unseen]
        raise UserError(
            f"The part of {train.name} that is fitted on holds no picture of {', '.join(names)}, which the scored part "
            "has: no probe can tell what it never saw. Put some there, or leave them out of both."
        )
    return Task(
        dataset=train.name,
        train_x=_extract(model, train.images, endpoints, steps, "features to fit on"),
        train_y=train.labels,
        test_x=_extract(model, test.images, endpoints, steps, "features to score"),
        test_y=test.labels,
        classes=max(len(train.classes), int(train.labels.max()) + 1),
    )


def _check_choice(argument: str, given: Sequence[str], known: Sequence[str]) -> None:
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
    if isinstance(dataset, os.PathLike):  # whose `name` is its last part alone
        given = os.fspath(dataset)
    else:
        given = "array" if isinstance(dataset, np.ndarray) else getattr(dataset, "name", dataset)
    words += ["--dataset", str(given)]
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
