"""Encoder + labelled data -> numbers. One file a protocol; every number is a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mizoo.errors import UserError
from mizoo.evaluate.features import features, pixels, random_copy
from mizoo.evaluate.rows import ENCODERS, Row, hardware, merge_rows, read_rows

__all__ = ["PROTOCOLS", "Row", "evaluate", "features", "merge_rows", "pixels", "random_copy", "read_rows"]

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
    schedule: str = "fast",
    entry: str | None = None,
    command: str | None = None,
    progress: bool = True,
) -> list[Row]:
    """Measure frozen features by probes: top-1 accuracy for each protocol and endpoint.

    Args:
        name_or_encoder: name of an entry, path of a `.keras` or `.onnx` file or of a run folder, or a Keras model.
        dataset: name, folder or packed folder of labelled pictures, as `mizoo.data.load` takes it.
        protocols: any of `linear`, `mlp200`, `knn`.
        endpoints: endpoints to measure; all of them by default.
        encoder: `published`, `random` (same architecture, new weights) or `pixels` (no encoder at all).
        split: `test`: fit on the whole of `train_split`, score on the test split. `validation`: fit on all but the
            last 5,000 pictures of `train_split`, score on those; the test split is not read.
        train_split: the training split.
        seeds: number of `mlp200` probes; the other protocols are deterministic.
        schedule: of `mlp200`: `fast`, or `paper` for the published one.
        entry: name written into the rows; by default that of the entry or of the run folder.
        command: command line written into the rows; by default that of `mizoo evaluate` with these arguments.
        progress: show a progress bar.

    Returns:
        One row for each protocol and endpoint.

    Raises:
        UserError: for an unknown protocol, encoder, split, schedule or endpoint, or data without labels.
    """
    import mizoo
    from mizoo.evaluate import mlp200

    _check_choice("protocols", protocols, PROTOCOLS)
    _check_choice("encoder", (encoder,), ENCODERS)
    _check_choice("split", (split,), ("test", "validation"))
    mlp200.resolve(schedule)

    entry = entry or _entry_name(name_or_encoder)
    command = command or _command(name_or_encoder, dataset, protocols, endpoints, encoder, split, seeds, schedule)
    train, test = _labelled(dataset, split, train_split)
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    provenance = {}
    model = None
    if encoder != "pixels":
        model = open_encoder(name_or_encoder)
        if encoder == "random":
            model = random_copy(model, seed=0)
            provenance["encoder_seed"] = 0

    made: list[Row] = []
    with _bar(progress) as bar:
        train_x = _extract(model, train.images, endpoints, bar, "features, training")
        test_x = _extract(model, test.images, endpoints, bar, "features, scoring")
        where = hardware()
        for protocol in protocols:
            for endpoint in list(train_x):
                task = bar.start(f"{protocol}, {endpoint}")
                started, cpu = time.perf_counter(), time.process_time()
                fit = _PROTOCOLS[protocol]
                scores, settings = fit(
                    train_x[endpoint],
                    train.labels,
                    test_x[endpoint],
                    test.labels,
                    classes,
                    seeds=seeds,
                    schedule=schedule,
                    task=task,
                )
                settings = settings | provenance | {"cpu_seconds": round(time.process_time() - cpu, 1)}
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
                    settings=settings,
                    command=command,
                    version=getattr(mizoo, '__version__', '0'),
                    hardware=where,
                    seconds=round(time.perf_counter() - started, 1),
                )
                task.finish(f"{row.value:.2f} %")
                made.append(row)
    return made


def open_encoder(name_or_encoder: Any) -> Any:
    """The encoder itself, or the one a name or a path stands for.

    Args:
        name_or_encoder: as in `evaluate`.

    Returns:
        A callable from pictures to endpoints, a `keras.Model` for everything but an `.onnx` file.
    """
    if not isinstance(name_or_encoder, (str, Path)):
        return name_or_encoder
    path = Path(name_or_encoder)
    if path.is_dir():
        path = path / "encoder.keras"
    if path.suffix == ".keras" and path.exists():
        import keras

        return keras.saving.load_model(path, compile=False)
    from mizoo import zoo

    return zoo.load(str(name_or_encoder), runtime="onnx" if path.suffix == ".onnx" else "keras")


def _linear(train_x, train_y, test_x, test_y, classes, seeds, schedule, task):
    from mizoo.evaluate import linear

    task.total(linear.ROUNDS)
    return linear.fit_score(train_x, train_y, test_x, test_y, classes, advance=task.advance)


def _mlp200(train_x, train_y, test_x, test_y, classes, seeds, schedule, task):
    from mizoo.evaluate import mlp200

    task.total(mlp200.resolve(schedule)[0].epochs)
    return mlp200.fit_score(train_x, train_y, test_x, test_y, classes, schedule, seeds, advance=task.advance)


def _knn(train_x, train_y, test_x, test_y, classes, seeds, schedule, task):
    from mizoo.evaluate import knn

    task.total(len(test_x))
    return knn.fit_score(train_x, train_y, test_x, test_y, classes, advance=task.advance)


_PROTOCOLS: dict[str, Callable] = {"linear": _linear, "mlp200": _mlp200, "knn": _knn}


def _extract(model, images, endpoints, bar, title):
    task = bar.start(title)
    task.total(len(images))
    if model is None:
        if endpoints not in (None, ["pixels"], ("pixels",)):
            raise UserError(f"Raw pixels have the one endpoint `pixels`. Received: {', '.join(endpoints)}")
        task.advance(len(images))
        return pixels(images)
    found = features(model, images, endpoints=endpoints, advance=task.advance)
    task.finish("")
    return found


def _labelled(dataset, split, train_split):
    import mizoo.data

    if split == "validation":
        if "[" in train_split:
            raise UserError(
                'With split="validation" the last 5,000 pictures of `train_split` are scored, so it has to be a whole '
                f"split. Received: {train_split!r}"
            )
        parts = (f"{train_split}[:-{VALIDATION_SIZE}]", f"{train_split}[-{VALIDATION_SIZE}:]")
    else:
        parts = (train_split, "test")
    loaded = [mizoo.data.load(dataset, part) for part in parts]
    for part, data in zip(parts, loaded, strict=True):
        if data.labels is None:
            raise UserError(f"A probe needs labels, and split {part!r} of {data.name} has none")
    return loaded


def _check_choice(argument: str, given: Sequence[str], known: Sequence[str]) -> None:
    given = [given] if isinstance(given, str) else list(given)
    unknown = [value for value in given if value not in known]
    if unknown or not given:
        raise UserError(f"`{argument}` takes {', '.join(known)}. Received: {', '.join(map(repr, unknown)) or 'nothing'}")


def _entry_name(name_or_encoder: Any) -> str:
    if not isinstance(name_or_encoder, (str, Path)):
        return str(getattr(name_or_encoder, "name", "encoder"))
    path = Path(name_or_encoder)
    if path.suffix in (".keras", ".onnx"):
        return path.resolve().parent.name if path.stem == "encoder" else path.stem
    return path.name


def _command(name_or_encoder, dataset, protocols, endpoints, encoder, split, seeds, schedule) -> str:
    name = name_or_encoder if isinstance(name_or_encoder, (str, Path)) else _entry_name(name_or_encoder)
    words = ["mizoo evaluate", str(name), "--dataset", str(getattr(dataset, "name", dataset))]
    if tuple(protocols) != PROTOCOLS:
        words += ["--protocols", ",".join(protocols)]
    if endpoints:
        words += ["--endpoints", ",".join(endpoints)]
    for option, value, default in (
        ("--encoder", encoder, "published"),
        ("--split", split, "test"),
        ("--seeds", seeds, 3),
        ("--schedule", schedule, "fast"),
    ):
        if value != default:
            words += [option, str(value)]
    return " ".join(words)


class _bar:
    """A rich progress display with one line a step, or nothing at all."""

    def __init__(self, shown: bool):
        self._progress = None
        if shown:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[outcome]}"),
            )

    def __enter__(self) -> _bar:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def start(self, title: str) -> _task:
        return _task(self._progress, title)


class _task:
    """One line of the progress display."""

    def __init__(self, progress: Any, title: str):
        self._progress = progress
        self._id = None if progress is None else progress.add_task(title, total=None, outcome="")

    def total(self, steps: int) -> None:
        if self._progress is not None:
            self._progress.update(self._id, total=steps)

    def advance(self, steps: int) -> None:
        if self._progress is not None:
            self._progress.advance(self._id, steps)

    def finish(self, outcome: str) -> None:
        if self._progress is not None:
            task = self._progress.tasks[self._id]
            self._progress.update(self._id, completed=task.total, outcome=outcome)
