"""An encoder as ONNX and SavedModel, with the proof that they compute what Keras computes.

Writing ONNX and SavedModel needs the TensorFlow backend. What is written is read back and compared, because the
converters log errors and write wrong graphs without raising.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo._tools import files
from mizoo.data.pictures import check_images
from mizoo.data.sound_files import check_samples
from mizoo.errors import UserError
from mizoo.export.keras_file import half_precision, to_float32, with_endpoints
from mizoo.export.onnx import OPSET, endpoint_shapes, save_onnx
from mizoo.export.parity import TOLERANCE, check_tolerance, compare, compare_rms, run_keras, run_onnx
from mizoo.export.requirements import library_versions, require_export
from mizoo.export.resized import compare_encoded, compare_resized
from mizoo.export.samples import sample_inputs
from mizoo.export.saved_model import ENCODED, further_signatures, run_saved_model, save_saved_model
from mizoo.zoo import entries, interface, manifests
from mizoo.zoo.labels import class_names
from mizoo.zoo.loading import read_keras, recorded_sampling_rate

if TYPE_CHECKING:
    import keras

PICTURES = 256
SOUNDS = 16


def export(
    encoder: str | os.PathLike | keras.Model,
    out: str | os.PathLike | None = None,
    images: np.ndarray | None = None,
    half: bool = True,
    resize: bool = False,
) -> dict[str, Any]:
    """Write `encoder.onnx`, `saved_model/` and `manifest.json`, once both are proven to compute what Keras computes.

    Both forms are read back and compared with Keras, endpoint by endpoint, by max|a - b| / max|b| over 256 real
    pictures (CIFAR-10's test split where it is prepared, otherwise cuttings of scikit-image's photographs). In the
    folder of a published entry `saved_model/` alone is written: the ONNX file is there already, byte for byte, and its
    manifest also describes how the weights were trained.

    Args:
        encoder: a published name, a `.keras` file, a run folder, or a Functional or Sequential `keras.Model`. A
            single output becomes an endpoint called as the layer that gives it.
        out: the folder to write into; `export/<name>` in the current folder if None, with `_any_size` behind it for
            `resize`.
        images: pictures (B, H, W, C) in 0..255 to compare on instead; sounds or series for an encoder of those, which
            is otherwise compared on made-up ones of two lengths.
        half: round the weights to half precision first; False keeps float32 at twice the size.
        resize: write forms that take pictures of any size and resize them inside, with antialiasing, as `mizoo embed`
            does. They are compared with it at four sizes (`mizoo.export.resized`).

    Returns:
        The manifest: entry, endpoints, of a classifier its classes, files (sha256, bytes), `source` (sha256 of the
        Keras file, unless a model was given), opset, versions, pictures, tolerance, `rounding` (what half precision
        changed: the largest difference, and `rounding_rms`) and `differences` of each form, by endpoint; with `resize`
        also `resized`, its sizes, tolerance and differences; with the signature `serve_encoded` also `encoded`, how far
        its features of JPEG files of four sizes are from those of `mizoo embed`.

    Raises:
        UserError: an encoder that cannot be exported, or a difference above 1e-4 (0.02 where pictures were resized);
            what was there before stays.
    """
    require_export()
    import keras

    model, digest = (encoder, None) if isinstance(encoder, keras.Model) else read_keras(encoder)
    name = interface.encoder_name(encoder)
    out = Path("export", f"{name}_any_size" if resize else name) if out is None else files.user_path(out)
    with files.temporary_folder(out) as folder:
        manifest = write_forms(model, name, folder, images, half, resize)
        if isinstance(encoder, (str, os.PathLike)) and interface.kind(model) == "sounds":
            if rate := recorded_sampling_rate(encoder):
                manifest["input"]["sampling_rate"] = rate
        if isinstance(encoder, (str, os.PathLike)) and (classes := class_names(encoder)):
            manifest["classes"] = classes
        if digest is not None:
            manifest[manifests.SOURCE] = {"sha256": digest}
        if is_published(out / "encoder.onnx", manifest["files"]["encoder.onnx"]["sha256"]):
            unchanged = (out / "encoder.onnx").is_file() and manifest["files"]["encoder.onnx"] == files.facts(
                out / "encoder.onnx"
            )
            files.move_into(folder, out, ("saved_model",) if unchanged else ("encoder.onnx", "saved_model"))
        else:
            files.write_json(folder / "manifest.json", manifest)
            files.move_into(folder, out, ("encoder.onnx", "saved_model", "manifest.json"))
    return manifest


def write_forms(
    model: keras.Model,
    name: str,
    folder: Path,
    images: np.ndarray | None = None,
    half: bool = True,
    resize: bool = False,
) -> dict[str, Any]:
    """Write both forms into an empty folder and compare them with Keras; arguments, result and errors of `export`."""
    exact = with_endpoints(to_float32(model))
    model = plain = half_precision(exact) if half else exact
    if resize:
        from mizoo.encoders.resizing import any_size

        model, exact = any_size(plain), any_size(exact)
    shapes = endpoint_shapes(model)
    batches = _comparison_batches(plain, images)  # of its own size, which resizing leaves as they are
    argument = interface.input_name(model)
    save_onnx(model, folder / "encoder.onnx")
    save_saved_model(model, folder / "saved_model")

    by_batch = []
    for batch in batches:
        reference, unrounded = run_keras(model, batch), run_keras(exact, batch)
        by_signature = run_saved_model(folder / "saved_model", argument, batch, list(shapes))
        served = [compare(values, reference) for values in by_signature]
        by_batch.append(
            {
                "onnx": compare(run_onnx(folder / "encoder.onnx", batch, list(shapes)), reference),
                "saved_model": {key: max(each[key] for each in served) for key in shapes},
                "rounding": compare(reference, unrounded),
                "rounding_rms": compare_rms(reference, unrounded),
            }
        )
    differences = {form: {key: max(each[form][key] for each in by_batch) for key in shapes} for form in by_batch[0]}
    rounding, rounding_rms = differences.pop("rounding"), differences.pop("rounding_rms")
    for form, by_endpoint in differences.items():
        check_tolerance(name, form, by_endpoint)
    further = {"resized": compare_resized(plain, model, folder, name)} if resize else {}
    if ENCODED in further_signatures(model):
        further["encoded"] = compare_encoded(model, folder, name)
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "entry": name,
        "input": {
            "name": argument,
            "shape": list(model.inputs[0].shape[1:]),
            "range": interface.input_range(model),
        },
        "endpoints": {key: list(shape) for key, shape in shapes.items()},
        "files": {path.relative_to(folder).as_posix(): files.facts(path) for path in written},
        "signatures": ["serve", *shapes, *further_signatures(model)],
        "opset": OPSET,
        "versions": library_versions(),
        "pictures": sum(map(len, batches)),
        "tolerance": TOLERANCE,
        "rounding": rounding,
        "rounding_rms": rounding_rms,
        "differences": differences,
        **further,
    }


def _comparison_batches(model: keras.Model, images: np.ndarray | None) -> list[np.ndarray]:
    """Batches to compare on, float32."""
    of_pictures = interface.kind(model) == "pictures"
    if images is None:
        batches = sample_inputs(model, PICTURES if of_pictures else SOUNDS)
    else:
        batches = [images]
    check = check_images if of_pictures else check_samples
    return [check(batch, interface.input_shape(model)) for batch in batches]


def is_published(path: Path, sha256: str) -> bool:
    """Whether a file is that of a published entry, or lies where it would.

    Args:
        path: of the file.
        sha256: of what is to replace it.

    Raises:
        UserError: where it is, and the new file has another hash than the pinned one.
    """
    for name, entry in entries.registry().items():
        pinned = entry["files"].get(path.name, {})
        if not pinned or entries.locate(pinned["path"]).resolve() != path.resolve():
            continue
        if pinned["sha256"] != sha256:
            raise UserError(
                f"{path} is the published file of {name}, and what would be written now has other bytes: replaced, it "
                "would be refused by its pinned hash. Choose another folder with `out` (--out)."
            )
        return True
    return False
