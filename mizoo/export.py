"""Encoders as ONNX and SavedModel, with the proof that they compute what Keras computes.

Writing ONNX and SavedModel needs the TensorFlow backend. What is written is read back and compared, because the
converters log errors and write wrong graphs without raising.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo import files, sounds
from mizoo.errors import UserError
from mizoo.parity import TOLERANCE, check_tolerance, compare, compare_rms, run_keras, run_onnx
from mizoo.portable import half_precision, save_keras, to_float32
from mizoo.publish import publish

if TYPE_CHECKING:
    import keras

__all__ = [
    "compare",
    "export",
    "half_precision",
    "publish",
    "save_keras",
    "save_onnx",
    "save_saved_model",
    "to_float32",
]

OPSET = 15
PICTURES = 256
SOUNDS = 16
_INPUTS = {2: "samples", 3: "series", 4: "images"}  # by rank
_RANGES = {"samples": [-1, 1], "series": None, "images": [0, 255]}
_LIBRARIES = ("keras", "tensorflow", "onnx", "onnxruntime", "tf2onnx")


def save_onnx(encoder: keras.Model, path: str | os.PathLike, opset: int = OPSET) -> None:
    """Save an encoder as ONNX: input "images" float32 (batch, H, W, C) in 0..255, outputs named as the endpoints.

    An encoder of sounds has the input "samples" (batch, T) in -1..1, one of series "series" (batch, T, d); a length
    that is free in Keras stays free.

    The initialisers are the weights of the Keras model, one to one and under their paths ("conv1/kernel"); those
    that float16 holds exactly are stored in it, each followed by a Cast, which the runtime folds when it loads.
    Nothing is rounded here. The same encoder gives the same bytes. The file is written atomically.

    Args:
        encoder: a Functional `keras.Model` of one input with a dict of named outputs; `to_float32` is applied.
        path: the file to write.
        opset: version of ONNX's operators, 18 at most.

    Raises:
        UserError: another backend than TensorFlow, a missing package, or no such encoder.
    """
    _require_export()
    from mizoo._onnx_graph import finish

    encoder = to_float32(encoder)
    shapes = endpoint_shapes(encoder)
    weights = [*encoder.trainable_variables, *encoder.non_trainable_variables]
    with tempfile.TemporaryDirectory() as folder:
        raw = os.path.join(folder, "raw.onnx")
        _convert(encoder, weights, raw, opset)
        values = {variable.path: np.asarray(variable) for variable in weights}
        model = finish(raw, list(values.values()), list(values), shapes, input_name(encoder))
    with files.atomic(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def _convert(encoder: keras.Model, weights: list[Any], path: str, opset: int) -> None:
    """Convert with the weights as inputs "w0", "w1", ...

    As constants they would be multiplied into each other by the converter (a normalisation into the kernel before
    it), and the products are no longer the half-precision numbers that the Keras file holds.
    """
    import keras

    trainable = len(encoder.trainable_variables)

    class WithWeights(keras.Model):
        def call(self, inputs):
            images, *values = inputs
            outputs, _ = encoder.stateless_call(values[:trainable], values[trainable:], images, training=False)
            return outputs

    shape = encoder.inputs[0].shape[1:]
    model = WithWeights()
    model([_examples(encoder, 1)[0][:1], *(np.asarray(variable) for variable in weights)])
    signature = [keras.InputSpec(shape=(None, *shape), dtype="float32", name=input_name(encoder))]
    for i, variable in enumerate(weights):
        signature.append(keras.InputSpec(shape=variable.shape, dtype=variable.dtype, name=f"w{i}"))
    with _quiet("tf2onnx"):
        model.export(path, format="onnx", opset_version=opset, verbose=False, input_signature=[signature])


def save_saved_model(encoder: keras.Model, path: str | os.PathLike) -> None:
    """Save an encoder as a SavedModel with the signature `serve` (all endpoints) and one for each endpoint.

    Every signature takes `images`, float32 (batch, H, W, C) in 0..255 (`samples` or `series`, as of `save_onnx`), and
    returns a dict of named endpoints.

    Args:
        encoder: as for `save_onnx`.
        path: the folder to write.

    Raises:
        UserError: as for `save_onnx`.
    """
    _require_export()
    import keras
    import tensorflow as tf

    encoder = to_float32(encoder)
    signature = [tf.TensorSpec((None, *encoder.inputs[0].shape[1:]), tf.float32, name=input_name(encoder))]
    archive = keras.export.ExportArchive()
    archive.track(encoder)
    archive.add_endpoint("serve", lambda images: encoder(images, training=False), signature)
    for name in endpoint_shapes(encoder):
        archive.add_endpoint(name, lambda images, name=name: {name: encoder(images, training=False)[name]}, signature)
    with _quiet("tensorflow"):
        archive.write_out(os.fspath(path), verbose=False)


def export(
    encoder: str | os.PathLike | keras.Model,
    out: str | os.PathLike | None = None,
    images: np.ndarray | None = None,
    half: bool = True,
) -> dict[str, Any]:
    """Write `encoder.onnx`, `saved_model/` and `manifest.json`, once both are proven to compute what Keras computes.

    Both forms are read back and compared with Keras, endpoint by endpoint, by max|a - b| / max|b| over 256 real
    pictures (CIFAR-10's test split where it is prepared, otherwise cuttings of scikit-image's photographs). In the
    folder of a published entry `saved_model/` alone is written: the ONNX file is there already, byte for byte, and its
    manifest also tells how the weights were trained.

    Args:
        encoder: a published name, a `.keras` file, a run folder, or a Functional `keras.Model`.
        out: the folder to write into; `export/<name>` in the current folder if None.
        images: pictures (B, H, W, C) in 0..255 to compare on instead; sounds or series for an encoder of those, which
            is otherwise compared on made-up ones of two lengths.
        half: round the weights to half precision first; False keeps float32 at twice the size.

    Returns:
        The manifest: entry, endpoints, files (sha256, bytes), opset, versions, pictures, tolerance, `rounding` (what
        half precision changed: the largest difference, and `rounding_rms`) and `differences` of each form, by endpoint.

    Raises:
        UserError: an encoder that cannot be exported, or a difference above 1e-4; what was there before stays.
    """
    _require_export()
    model, name = _load(encoder)
    out = Path("export", name) if out is None else Path(out)
    with building(out) as folder:
        manifest = build(model, name, folder, images, half)
        if isinstance(encoder, (str, os.PathLike)) and len(model.inputs[0].shape) == 2:
            if rate := sounds.written_rate(encoder):
                manifest["input"]["sampling_rate"] = rate
        if _is_published(out / "encoder.onnx", manifest["files"]["encoder.onnx"]["sha256"]):
            whole = (out / "encoder.onnx").is_file() and manifest["files"]["encoder.onnx"] == file_facts(
                out / "encoder.onnx"
            )
            place(folder, out, ("saved_model",) if whole else ("encoder.onnx", "saved_model"))
        else:
            files.write_json(folder / "manifest.json", manifest)
            place(folder, out, ("encoder.onnx", "saved_model", "manifest.json"))
    return manifest


def build(
    model: keras.Model, name: str, folder: Path, images: np.ndarray | None = None, half: bool = True
) -> dict[str, Any]:
    """Write both forms into an empty folder and compare them with Keras; arguments, result and errors of `export`."""
    given = to_float32(model)
    model = half_precision(given) if half else given
    shapes = endpoint_shapes(model)
    batches = _inputs(model, images)
    save_onnx(model, folder / "encoder.onnx")
    save_saved_model(model, folder / "saved_model")

    found = []
    for batch in batches:
        reference, unrounded = run_keras(model, batch), run_keras(given, batch)
        found.append(
            {
                "onnx": compare(run_onnx(folder / "encoder.onnx", batch, list(shapes)), reference),
                "saved_model": _compare_saved_model(folder / "saved_model", input_name(model), batch, reference),
                "rounding": compare(reference, unrounded),
                "rounding_rms": compare_rms(reference, unrounded),
            }
        )
    differences = {form: {key: max(each[form][key] for each in found) for key in shapes} for form in found[0]}
    rounding, rounding_rms = differences.pop("rounding"), differences.pop("rounding_rms")
    for form, by_endpoint in differences.items():
        check_tolerance(name, form, by_endpoint)
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "entry": name,
        "input": {
            "name": input_name(model),
            "shape": list(model.inputs[0].shape[1:]),
            "range": _RANGES[input_name(model)],
        },
        "endpoints": {key: list(shape) for key, shape in shapes.items()},
        "files": {path.relative_to(folder).as_posix(): file_facts(path) for path in written},
        "signatures": ["serve", *shapes],
        "opset": OPSET,
        "versions": _versions(),
        "pictures": sum(map(len, batches)),
        "tolerance": TOLERANCE,
        "rounding": rounding,
        "rounding_rms": rounding_rms,
        "differences": differences,
    }


def input_name(encoder: keras.Model) -> str:
    """What the input is called in the exported forms: "images", "samples" of sounds, or "series".

    Raises:
        UserError: for an input of another rank than pictures, sounds or series have.
    """
    shape = tuple(encoder.inputs[0].shape)
    if len(shape) not in _INPUTS:
        raise UserError(
            "An exported encoder takes pictures (B, H, W, C), sounds (B, T) or series (B, T, d). Received: "
            f"{encoder.name!r}, which takes {shape}."
        )
    return _INPUTS[len(shape)]


def endpoint_shapes(encoder: keras.Model) -> dict[str, tuple[int | None, ...]]:
    """Shape of each endpoint of an encoder without the batch, the shallowest endpoint first.

    Keras sorts the keys of a dict of outputs, so the order in which it was written is lost.

    Raises:
        UserError: if the encoder has several inputs, or its output is not a dict of named endpoints.
    """
    import keras

    if len(encoder.inputs) != 1:
        raise UserError(f"An exported encoder has one input. {encoder.name!r} has {len(encoder.inputs)}.")
    if not isinstance(encoder.output, dict):
        raise UserError(
            f"An exported encoder returns a dict of named endpoints. Received: {encoder.name!r}, which returns "
            f"{type(encoder.output).__name__}. Build it with `keras.Model(images, {{'fc': ...}})`."
        )
    depths = {name: len(keras.Model(encoder.inputs, tensor).layers) for name, tensor in encoder.output.items()}
    return {name: tuple(encoder.output[name].shape[1:]) for name in sorted(depths, key=depths.get)}


@contextlib.contextmanager
def building(out: Path) -> Iterator[Path]:
    """Yield an empty folder inside `out`, removed at the end together with an `out` that stays empty."""
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=out))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not any(out.iterdir()):
            out.rmdir()


def place(folder: Path, out: Path, names: tuple[str, ...]) -> None:
    """Move finished files and folders from `folder` to `out`, on one file system, replacing what is there."""
    for name in names:
        if (out / name).is_dir():
            os.replace(out / name, folder / f"{name}.old")
        os.replace(folder / name, out / name)


def file_facts(path: Path) -> dict[str, Any]:
    """SHA-256 and size of a file, as manifests and the registry hold them."""
    return {"sha256": files.sha256(path), "bytes": path.stat().st_size}


def _load(encoder: Any) -> tuple[keras.Model, str]:
    import keras

    from mizoo import zoo

    if isinstance(encoder, keras.Model):
        return encoder, encoder.name
    path = Path(encoder).expanduser()
    if path.suffix == ".keras":
        name = path.absolute().parent.name if path.name == "encoder.keras" else path.stem
    else:
        name = path.absolute().name if path.is_dir() else str(encoder)
    return zoo.load(encoder), name


def _compare_saved_model(
    path: Path, argument: str, batch: np.ndarray, reference: dict[str, np.ndarray]
) -> dict[str, float]:
    """Differences by endpoint, the larger one of `serve` and of the endpoint's own signature."""
    import tensorflow as tf

    loaded = tf.saved_model.load(os.fspath(path))
    given = {argument: tf.constant(batch)}
    together = {name: value.numpy() for name, value in loaded.signatures["serve"](**given).items()}
    alone = {name: loaded.signatures[name](**given)[name].numpy() for name in reference}
    first, second = compare(together, reference), compare(alone, reference)
    return {name: max(first[name], second[name]) for name in reference}


def _inputs(model: keras.Model, images: np.ndarray | None) -> list[np.ndarray]:
    """Batches to compare on, float32."""
    from mizoo.pictures import check_images

    shape = tuple(model.inputs[0].shape[1:])
    if images is None:
        images = _examples(model, PICTURES if len(shape) == 3 else SOUNDS)
    else:
        images = [images]
    check = check_images if len(shape) == 3 else sounds.check_samples
    return [check(batch, shape) for batch in images]


def _examples(model: keras.Model, count: int) -> list[np.ndarray]:
    """Batches of up to `count` examples of what an encoder takes: pictures, or sounds or series of two lengths."""
    shape = tuple(model.inputs[0].shape[1:])
    if len(shape) in (1, 2):
        from mizoo._sample_sounds import sample_inputs

        return sample_inputs(count, shape)
    if count == 1:
        return [np.zeros((1, *shape), np.float32)]
    from mizoo._sample_pictures import sample_pictures

    return [sample_pictures(count, shape)]


def _is_published(path: Path, sha256: str) -> bool:
    """Whether a file is that of a published entry; refused where it is to be replaced by one of another hash."""
    from mizoo import zoo

    for name, entry in zoo.registry().items():
        pinned = entry["files"].get(path.name, {})
        if not pinned or zoo.locate(pinned["path"]).resolve() != path.resolve():
            continue
        if pinned["sha256"] != sha256:
            raise UserError(
                f"{path} is the published file of {name}, and these versions of the libraries write other bytes: "
                "replaced, it would be refused by its pinned hash. Choose another folder with `out` (--out)."
            )
        return True
    return False


def _require_export() -> None:
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UserError(f"Export runs on the TensorFlow backend. Received: {backend}. Set KERAS_BACKEND=tensorflow.")
    missing = [library for library in _LIBRARIES if importlib.util.find_spec(library) is None]
    if missing:
        raise UserError(f'Export needs {", ".join(missing)}: `pip install ".[tensorflow,export]"` in a clone of mizoo.')


def _versions() -> dict[str, str]:
    # TensorFlow is installed under several names: tensorflow, tensorflow-cpu, ...
    names = importlib.metadata.packages_distributions()
    return {library: importlib.metadata.version(names.get(library, [library])[0]) for library in _LIBRARIES}


@contextlib.contextmanager
def _quiet(logger: str) -> Iterator[None]:
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the converters' own use of NumPy
            yield
    finally:
        log.setLevel(level)
