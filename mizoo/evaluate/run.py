"""`evaluate`: one loop over the protocols and the tasks of an encoder; every number is a row."""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mizoo._tools.files import user_path
from mizoo._tools.hardware import hardware
from mizoo._tools.progress import Progress
from mizoo._version import __version__
from mizoo.errors import UserError
from mizoo.evaluate.cache import FeatureCache, identity, open_cache
from mizoo.evaluate.label_free import LabelFreeTasks, load_pictures
from mizoo.evaluate.loop import Loop
from mizoo.evaluate.protocols import PROBES, TABLE, Protocol, choose
from mizoo.evaluate.rows import ENCODERS, FULL_PRECISION, Row, merge_rows, read_rows
from mizoo.evaluate.source import data_source
from mizoo.evaluate.tasks import PictureTasks, sound_tasks
from mizoo.evaluate.unfinished import Unfinished
from mizoo.zoo import entries, interface
from mizoo.zoo.copies import random_copy
from mizoo.zoo.loading import load_hashed

_SPLITS = ("test", "validation")
_FROM_NEW = {"finetune": "scratch", "labels_finetune": "labels_scratch"}


def evaluate(
    name_or_encoder: Any,
    dataset: Any = None,
    protocols: Sequence[str | Protocol] = PROBES,
    endpoints: Sequence[str] | None = None,
    encoder: str = "published",
    split: str = "test",
    train_split: str = "train",
    seeds: int = 3,
    schedule: Any = "fast",
    entry: str | None = None,
    command: str | None = None,
    progress: bool = True,
    rows: str | os.PathLike | Callable[[Row], None] | None = None,
    cache: bool | str | os.PathLike | FeatureCache | None = None,
    depth: int | None = None,
) -> list[Row]:
    """Measure an encoder: by probes of frozen features, by training it, or without labels (`docs/results.md`).

    Args:
        name_or_encoder: name of an entry, path of a `.keras` or `.onnx` file or of a run folder, or a Keras model.
        dataset: pictures, as `mizoo.data.load` takes them, with labels for the probes; "cifar10" by default. For an
            encoder of sounds "spoken_digit", whose digits and speakers are two tasks.
        protocols: any of `mizoo.evaluate.protocols.TABLE`, by default `linear`, `mlp200` and `knn`; `measures` for the
            six of `docs/measures.md`. One of your own is a `mizoo.evaluate.Protocol`, or its import path
            "mypackage.module:my_protocol".
        endpoints: endpoints to measure; by default all for the probes, `global` alone without labels, and one,
            `Protocol.endpoints`, for what trains the encoder many times.
        encoder: `published` (the weights as they are), `random` (the same architecture, new weights) or `pixels` (no
            encoder at all).
        split: `test`: fit on the whole of `train_split`, score on the test split. `validation`: fit on all but the
            last 5,000 pictures of `train_split` (all but a fifth where that is less), score on those; the test split
            is not read. Pictures that lie sorted by class are shuffled before. Measures of data of one split take that
            whole.
        train_split: the training split.
        seeds: number of `mlp200` probes; the other protocols run once, with a fixed seed.
        schedule: of `mlp200`: `fast`, `paper` for the published one, or a `mizoo.evaluate.protocols.mlp200.Schedule`.
        entry: name written into the rows; by default that of the entry or of the run folder.
        command: command line written into the rows; by default that of `mizoo evaluate` with these arguments.
        progress: show progress on standard error.
        rows: a results file into which each row is merged as soon as it is measured, so that what interrupts takes one
            row at most; or a function that is called with each.
        cache: where features are kept, and the rows of an evaluation that is interrupted, which the next one with the
            same arguments takes over: a folder; by default that of `MIZOO_CACHE`, or one in the user's folder of
            caches; False for none (`mizoo.evaluate.cache`); or a `FeatureCache`.
        depth: bits of the values of deep files, of a folder of pictures, as of `mizoo.data.load`. Rows of another depth
            are of other data.

    Returns:
        One row for each protocol and endpoint; one for each of its variants, told apart by `settings["variant"]`, for a
        protocol that has some, such as the shares of `labels`. Of data of one's own, `settings["test_in_train"]` counts
        the scored pictures that were fitted on too, where there are some, and a line says so.

    Raises:
        UserError: for an unknown protocol, encoder, split, schedule or endpoint, a probe of data without labels, or
            `rows` that is a file of another kind.
    """
    chosen = choose(protocols)
    _check_choice("encoder", encoder, ENCODERS)
    _check_choice("split", split, _SPLITS)
    schedule_name = _schedule_name(schedule)
    keep = _keeper(rows)
    model, provenance = _load_model(name_or_encoder, encoder)
    facts = {"entry": entry or interface.encoder_name(name_or_encoder), "encoder": encoder}
    kind, size = interface.kind(model), interface.picture_shape(model)
    labelled = [protocol for protocol in chosen if protocol.labelled]
    label_free = [protocol for protocol in chosen if not protocol.labelled]
    if kind == "sounds":
        for what, given in (("pixels", encoder == "pixels"), ("depth", depth is not None)):
            if given:
                raise UserError(f"`{what}` is of pictures, and {facts['entry']} takes sounds.")
        of_pictures = [each.name for each in chosen if not each.labelled or "encoder" in each.takes]
        if of_pictures:
            names = ", ".join(each.name for each in TABLE.values() if each.labelled and "encoder" not in each.takes)
            raise UserError(f"Encoders of sounds take the protocols {names}. Received: {', '.join(of_pictures)}")
    if encoder == "pixels":
        model = None
    trained = [protocol.name for protocol in chosen if "encoder" in protocol.takes and not protocol.renews]
    if encoder == "random" and trained:
        raise UserError(
            f"`{trained[0]}` goes on from the encoder's weights. Training from new ones is "
            f"`{_FROM_NEW.get(trained[0], 'scratch')}`, of the published encoder."
        )
    if dataset is None:
        dataset = "spoken_digit" if kind == "sounds" else "cifar10"
    facts["command"] = command or _command(
        name_or_encoder, dataset, protocols, endpoints, encoder, split, train_split, seeds, schedule_name, depth
    )
    facts |= {"version": __version__, "hardware": hardware(), "precision": _precision(model)}
    store = open_cache(cache)
    with Progress(progress, keep=True) as display:
        asked = ([each.name for each in chosen], list(endpoints or ()), encoder, split, train_split, seeds, depth)
        unfinished = Unfinished(store.folder, (identity(model), *asked, repr(schedule)))
        loop = Loop({"seeds": seeds, "schedule": schedule}, facts, provenance, display, keep, unfinished, dataset)
        if kind == "sounds":
            tasks = sound_tasks(model, dataset, split, train_split, endpoints, display)
            loop.begin(data_source(dataset, display))
            for _, of_dataset in itertools.groupby(tasks, key=lambda task: task.dataset):
                dataset_tasks = list(of_dataset)
                for protocol in labelled:
                    loop.run(protocol, dataset_tasks)
        elif labelled:
            pictures = PictureTasks(model, dataset, split, train_split, size, endpoints, store, display, depth)
            loop.begin(data_source(dataset, display, depth))
            for protocol in labelled:
                loop.run(protocol, pictures.for_protocol(protocol))
        if label_free:
            fitted = any(protocol.fits for protocol in label_free)
            without_labels = load_pictures(dataset, split, train_split, size, fitted, depth)
            if not labelled:
                loop.begin(data_source(dataset, display, depth))
            unlabelled = LabelFreeTasks(model, without_labels, label_free, endpoints, store, display)
            for protocol in label_free:
                loop.run(protocol, unlabelled.for_protocol(protocol))
        if store.corrupted:
            count = len(store.corrupted)
            display.print(f"made anew, as they were damaged: {count} file{'s' * (count > 1)} of the cache of features")
        unfinished.clear()
    return loop.rows


def _load_model(name_or_encoder: Any, encoder: str) -> tuple[Any, dict[str, Any]]:
    """The model to measure and the settings that identify its weights."""
    model, provenance = name_or_encoder, {}
    if isinstance(name_or_encoder, (str, os.PathLike)):
        name = os.fspath(name_or_encoder)
        runtime = "onnx" if name.endswith(".onnx") else "keras"
        model, digest = load_hashed(name, None, runtime)
        if encoder == "published":
            provenance = {"weights": digest}
            if name in entries.registry():
                provenance["trained_on"] = entries.info(name)["dataset"]
    if encoder == "random":
        return random_copy(model, seed=0), {"encoder_seed": 0}
    return model, provenance


def _keeper(rows: str | os.PathLike | Callable[[Row], None] | None) -> Callable[[Row], object]:
    """What is called with each row; a file that rows cannot be merged into is refused before anything is measured."""
    if rows is None:
        return lambda row: None
    if callable(rows):
        return rows
    path = user_path(rows)
    if path.exists():
        read_rows(path)
    return lambda row: merge_rows(path, [row])


def _precision(model: Any) -> str:
    """In which precision a model computes: that of its layers, float32 for everything that is no Keras model."""
    kinds = {layer.compute_dtype for layer in getattr(model, "layers", ()) if layer.weights}
    return "+".join(sorted(kinds)) or FULL_PRECISION


def _check_choice(argument: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise UserError(f"`{argument}` takes {', '.join(known)}. Received: {given!r}")


def _schedule_name(schedule: Any) -> str:
    from mizoo.evaluate.protocols import mlp200

    return mlp200.resolve(schedule)[1]


def _command(
    name_or_encoder: Any,
    dataset: Any,
    protocols: Sequence[str | Protocol],
    endpoints: Sequence[str] | None,
    encoder: str,
    split: str,
    train_split: str,
    seeds: int,
    schedule: str,
    depth: int | None,
) -> str:
    objects = [protocol.name for protocol in protocols if isinstance(protocol, Protocol)]
    in_python = [f"the protocols {', '.join(objects)}"] if objects else []
    if train_split != "train":
        in_python.append(f"train_split={train_split!r}")
    if in_python:
        return f"mizoo.evaluate.evaluate in Python, with {' and '.join(in_python)}"
    named = isinstance(name_or_encoder, (str, os.PathLike))
    words = ["mizoo", "evaluate", os.fspath(name_or_encoder) if named else interface.encoder_name(name_or_encoder)]
    if isinstance(dataset, os.PathLike):  # whose `name` is its last component alone
        given = os.fspath(dataset)
    else:
        given = "array" if isinstance(dataset, np.ndarray) else getattr(dataset, "name", dataset)
    words += ["--dataset", str(given)]
    if tuple(protocols) != PROBES:
        words += [word for protocol in protocols for word in ("--protocol", str(protocol))]
    words += [word for endpoint in endpoints or () for word in ("--endpoint", endpoint)]
    for option, value, default in (
        ("--encoder", encoder, "published"),
        ("--split", split, "test"),
        ("--seeds", seeds, 3),
        ("--schedule", schedule, "fast"),
        ("--depth", depth, None),
    ):
        if value != default:
            words += [option, str(value)]
    return shlex.join(words)
