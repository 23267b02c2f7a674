"""Forms of an encoder for serving, beside those of `mizoo export`: inputs of bytes, 8-bit weights, LiteRT.

What is in 8 bits is written only if a probe on its features keeps its accuracy.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo._tools import files
from mizoo._tools.checks import check_choice
from mizoo._tools.progress import Progress
from mizoo.data import packed
from mizoo.errors import UserError
from mizoo.export import quantization
from mizoo.export.bundle import is_published
from mizoo.export.onnx import save_onnx
from mizoo.export.parity import check_tolerance, compare, run_keras
from mizoo.export.samples import sample_inputs
from mizoo.zoo import interface, manifests
from mizoo.zoo.labels import class_names, recorded_depth
from mizoo.zoo.loading import read_keras
from mizoo.zoo.onnx_encoder import OnnxEncoder

if TYPE_CHECKING:
    import keras

FORMS, INPUTS, QUANTIZED = ("onnx", "litert"), ("float32", "uint8"), ("none", "int8")
LARGEST_LOSS = 0.5
"""Points of accuracy that a probe may lose by 8 bits."""
CALIBRATION, PROBE_TRAIN, PROBE_TEST = 256, 8000, 5000
_PREFERRED = ("fc", "global")  # the endpoint that is probed, if the encoder has it; otherwise the last
_COMPARED = 64

Run = Callable[[np.ndarray], Any]  # from pictures to a dict of endpoints


def deploy(
    encoder: str | os.PathLike | keras.Model,
    out: str | os.PathLike,
    form: str = "onnx",
    inputs: str = "float32",
    quantize: str = "none",
    dataset: Any = None,
    progress: bool = True,
    depth: int | None = None,
) -> dict[str, Any]:
    """Write one file for serving an encoder of pictures, once it is shown to compute what the encoder computes.

    Without quantisation every endpoint agrees with Keras within the tolerance of `mizoo.export.export`. With "int8" it
    cannot; instead a logistic regression is fitted on features of the float32 form and scored on those of both, all
    from the training split of labelled data, of which no picture is used twice: 256 to calibrate the ranges, 8,000 to
    fit on and the last 5,000 to score, or a tenth, a half and a quarter of fewer. Of a classifier that `mizoo finetune`
    wrote its own predictions are scored in the place of the regression's, on up to 5,000 pictures of the others.

    A `manifest.json` in the folder that describes the file with another hash, of an earlier `mizoo.export.export`, is
    removed. Beside an "encoder.onnx" without one, a `manifest.json` says of which Keras file it was made.

    Args:
        encoder: as for `mizoo.export.export`.
        out: the folder; the file is called "encoder.onnx", "encoder.uint8.onnx", "encoder.int8.onnx",
            "encoder.int8.uint8.onnx", "encoder.tflite" or "encoder.int8.tflite".
        form: "onnx" or "litert".
        inputs: "float32", or "uint8" of ONNX.
        quantize: "none" or "int8".
        dataset: the labelled pictures for "int8", as for `mizoo.data.load`: "cifar10" if None, and for a classifier
            pictures of its classes, which have to be given.
        progress: show a bar.
        depth: bits of the values of deep files of `dataset`, as of `mizoo.data.load`; those that a classifier was
            trained with, if None.

    Returns:
        dict with `file`, `sha256`, `bytes`, of a classifier `classes`; `differences` by endpoint, relative to the
        largest value; and with "int8" `probe`: endpoint, dataset, accuracy of `float32` and `int8` in percent, `train`
        and `test` sizes, and of a classifier `agreement`, the percentage of pictures that both put into one class.

    Raises:
        UserError: for an encoder of sounds or series, a form that differs, pictures for the probe that are too few or
            of one class, none of a classifier's classes, a probe that loses more than 0.5 point, or a file that would
            replace a published one by other bytes; nothing is written then.
    """
    check_choice(form, "form", FORMS)
    check_choice(inputs, "inputs", INPUTS)
    check_choice(quantize, "quantize", QUANTIZED)
    if form == "litert" and inputs != "float32":
        raise UserError("`inputs='uint8'` (--input uint8) is for ONNX. Received: form='litert'")
    import keras

    model, digest = (encoder, None) if isinstance(encoder, keras.Model) else read_keras(encoder)
    quantization.check_pictures(model)
    name = interface.encoder_name(encoder)
    parts = ["encoder", *(["int8"] if quantize == "int8" else []), *(["uint8"] if inputs == "uint8" else [])]
    target = files.user_path(out) / f"{'.'.join(parts)}.{'tflite' if form == 'litert' else 'onnx'}"
    classes = class_names(encoder) if isinstance(encoder, (str, os.PathLike)) else None
    data = _split(dataset, model, classes, depth or _depth(encoder, dataset)) if quantize == "int8" else None
    with tempfile.TemporaryDirectory(prefix="mizoo-") as folder, Progress(progress) as display:
        plain, written = Path(folder) / "plain.onnx", Path(folder) / target.name
        line = display.start(f"writing {target.name}")
        save_onnx(model, plain)
        _write(form, inputs, model, plain, written, None if data is None else data["calibration"])
        run = _runner(form, written)
        facts: dict[str, Any] = {"file": str(target), **files.facts(written)}
        if classes:
            facts["classes"] = classes
        pictures = np.round(sample_inputs(model, _COMPARED)[0]).astype(np.uint8)
        reference = run_keras(quantization.as_exported(model), pictures.astype(np.float32))
        facts["differences"] = compare(run(pictures), reference)
        if data is None:
            check_tolerance(name, target.name, facts["differences"])
        else:
            score = _own_classes if classes else _probe
            facts["probe"] = score(OnnxEncoder(plain).predict, run, data, line)
            _check_probe(name, facts["probe"])
        published = is_published(target, facts["sha256"])
        _forget_manifest(target, facts["sha256"])
        with files.atomic(target) as temporary:
            temporary.write_bytes(written.read_bytes())
        if digest is not None and target.name == interface.FILES["onnx"] and not published:
            _name_source(target, name, digest)
    return facts


def _forget_manifest(target: Path, sha256: str) -> None:
    """Remove the manifest of an export whose file, as it describes it, is about to be replaced by another."""
    manifest = target.with_name(manifests.FILE)
    try:
        described = manifests.read(manifest)["files"][target.name]["sha256"]
    except (UserError, KeyError, TypeError):  # none, none of this file, or no manifest of an encoder
        return
    if described != sha256:
        manifest.unlink()


def _name_source(target: Path, name: str, digest: str) -> None:
    """Say in the manifest beside an ONNX file, made where there is none, of which Keras file it is."""
    path = target.with_name(manifests.FILE)
    try:
        described: dict[str, Any] = manifests.read(path) if path.is_file() else {"entry": name, "files": {}}
    except UserError:
        described = {}
    if not isinstance(described.get("files"), dict):  # a manifest of something else is left alone
        return
    if target.name not in described["files"]:
        described["files"] = {**described["files"], target.name: files.facts(target)}
    files.write_json(path, {**described, manifests.SOURCE: {"sha256": digest}})


def _write(form: str, inputs: str, model: Any, plain: Path, written: Path, calibration: np.ndarray | None) -> None:
    """Write the one form that is wanted."""
    if form == "litert":
        quantization.save_litert(model, written, calibration)
        return
    source = plain
    if calibration is not None:
        source = plain.with_name("int8.onnx")
        quantization.quantize_onnx(plain, source, calibration)
    if inputs == "uint8":
        quantization.take_uint8(source, written)
    else:
        written.write_bytes(source.read_bytes())


def _runner(form: str, path: Path) -> Run:
    if form == "litert":
        return lambda pictures: quantization.run_litert(path, pictures)
    return OnnxEncoder(path).predict


def _depth(encoder: Any, dataset: Any) -> int | None:
    """The bits that a classifier's pictures were read with, of a folder of such files."""
    paths = isinstance(encoder, (str, os.PathLike)) and isinstance(dataset, (str, os.PathLike))
    folder = files.user_path(dataset) if paths else None
    return recorded_depth(encoder) if folder and folder.is_dir() and not packed.is_packed(folder) else None


def _split(dataset: Any, model: Any, classes: list[str] | None, depth: int | None) -> dict[str, Any]:
    """Pictures to calibrate on, to fit on and to score, of the training split; labels are a classifier's columns.

    Raises:
        UserError: for data without labels, too few pictures, a single class among those to fit on, or classes that the
            classifier does not have.
    """
    from mizoo import data

    if classes and dataset is None:
        raise UserError(
            f"8 bits of a classifier are checked on pictures of its classes ({_some(classes)}): pass a `dataset` "
            "(--dataset) of them, such as the folder that it was trained on."
        )
    whole = data.load("cifar10" if dataset is None else dataset, "train", interface.picture_shape(model), depth)
    if whole.labels is None:
        raise UserError(f"8 bits are checked by a probe, which takes labels. {whole.name} has none: pass `dataset`.")
    labels = _columns(whole, classes) if classes else whole.labels
    order = np.random.default_rng(0).permutation(len(whole))
    limits, shares = (CALIBRATION, PROBE_TRAIN, PROBE_TEST), (0.1, 0.0, 0.9) if classes else (0.1, 0.5, 0.25)
    sizes = [min(most, int(len(order) * share)) for most, share in zip(limits, shares, strict=True)]
    if min(sizes[0], sizes[2]) < 1:
        raise UserError(f"8 bits are checked by a probe, for which {len(order)} pictures are too few.")
    parts = np.split(order, np.cumsum(sizes))[:3]
    calibration, train, test = ((whole.images[part], labels[part]) for part in parts)
    if not classes and (found := len(np.unique(train[1]))) < 2:
        raise UserError(
            f"8 bits are checked by a probe, which tells classes apart. The {len(train[1])} pictures of {whole.name} "
            f"that it is fitted on are of {found} class: pass a `dataset` (--dataset) of several."
        )
    return {"name": whole.name, "calibration": calibration[0], "train": train, "test": test}


def _columns(whole: Any, classes: list[str]) -> np.ndarray:
    """The column of a classifier for each picture."""
    names = whole.classes or tuple(str(i) for i in range(int(whole.labels.max()) + 1))
    if unknown := [name for name in names if name not in classes]:
        raise UserError(
            f"8 bits of a classifier are checked on pictures of its classes ({_some(classes)}). {whole.name} has "
            f"others: {_some(unknown)}. Pass a `dataset` (--dataset) of its own."
        )
    return np.array([classes.index(name) for name in names])[whole.labels]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _own_classes(exact: Run, run: Run, data: dict[str, Any], line: Any) -> dict[str, Any]:
    """Accuracy of a classifier's own predictions in both forms."""
    pictures, labels = data["test"]
    line.resize(2 * len(pictures))
    predicted = {}
    for form, each in (("float32", exact), ("int8", run)):
        ((endpoint, probabilities),) = each(pictures).items()
        predicted[form] = probabilities.argmax(axis=-1)
        line.advance(len(pictures), f"classes by {endpoint}")
    accuracies = {form: round(100 * float((found == labels).mean()), 2) for form, found in predicted.items()}
    agreement = round(100 * float((predicted["float32"] == predicted["int8"]).mean()), 2)
    about = {"endpoint": endpoint, "dataset": data["name"], **accuracies, "agreement": agreement}
    return {**about, "train": 0, "test": len(pictures)}


def _probe(exact: Run, run: Run, data: dict[str, Any], line: Any) -> dict[str, Any]:
    """Accuracy of one classifier, fitted on exact features, on those of both forms."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (train_x, train_y), (test_x, test_y) = data["train"], data["test"]
    line.resize(len(train_x) + 2 * len(test_x))
    found = exact(train_x)
    endpoint = next((each for each in _PREFERRED if each in found), list(found)[-1])
    line.advance(len(train_x), f"probe on {endpoint}")
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    classifier.fit(found[endpoint].reshape(len(train_x), -1), train_y)
    accuracies = {}
    for form, each in (("float32", exact), ("int8", run)):
        features = each(test_x)[endpoint].reshape(len(test_x), -1)
        accuracies[form] = round(100 * float(classifier.score(features, test_y)), 2)
        line.advance(len(test_x))
    return {"endpoint": endpoint, "dataset": data["name"], **accuracies, "train": len(train_x), "test": len(test_x)}


def _check_probe(name: str, probe: dict[str, Any]) -> None:
    lost = probe["float32"] - probe["int8"]
    if not lost <= LARGEST_LOSS:
        raise UserError(
            f"In 8 bits {name} loses {lost:.2f} points of accuracy by {probe['endpoint']!r} ({probe['float32']:.2f} to "
            f"{probe['int8']:.2f} % on {probe['dataset']}), where {LARGEST_LOSS} is allowed: nothing was written. "
            "Serve it in float32, or calibrate on pictures like those that it will get (`dataset`)."
        )
