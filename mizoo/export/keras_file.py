"""An encoder as a file that stock Keras loads anywhere: float32, stock layers, half-precision weights."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo._tools import files
from mizoo.errors import UserError
from mizoo.zoo import interface
from mizoo.zoo.copies import mapped, to_float32

if TYPE_CHECKING:
    import h5py
    import keras

_NO_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold: equal content gives equal bytes


def with_endpoints(encoder: keras.Model) -> keras.Model:
    """An encoder that returns a dict: itself, or a model of the same layers that names the single output.

    Args:
        encoder: a Functional or Sequential `keras.Model`.

    Raises:
        UserError: if the outputs are neither one tensor nor a dict of tensors.
    """
    import keras

    if interface.endpoint_names(encoder) and not isinstance(encoder, keras.Sequential):
        return encoder
    return keras.Model(encoder.inputs[0], interface.outputs(encoder), name=encoder.name)


def half_precision(encoder: keras.Model) -> keras.Model:
    """Round the weights of an encoder to float16 and hold the rounded values in float32.

    Args:
        encoder: as for `to_float32`. It is not changed.

    Returns:
        A new float32 model whose weights `save_keras` and `save_onnx` store in half precision without further loss.

    Raises:
        UserError: if a weight is NaN or too large for float16.
    """
    rounded = to_float32(encoder)
    for variable in rounded.variables:
        value = np.asarray(variable)
        if value.dtype != np.float32:
            continue
        with np.errstate(over="ignore"):
            half = value.astype(np.float16)
        if not np.isfinite(half).all():
            largest = np.max(np.abs(value), initial=0, where=~np.isnan(value))
            raise UserError(
                f"Half precision holds finite numbers up to 65504. Received: {variable.path} with "
                f"{np.isnan(value).sum()} NaN and values up to {largest:.4g}. Did the training diverge?"
            )
        variable.assign(half.astype(np.float32))
    return rounded


def as_half(value: np.ndarray) -> np.ndarray:
    """The float16 form of a float32 array if it holds every value exactly, otherwise the array itself."""
    if value.dtype != np.float32:
        return value
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), value) else value


def check_stock(encoder: keras.Model) -> None:
    """Check that Keras alone can rebuild an encoder.

    Raises:
        UserError: naming the layers or functions that come from elsewhere, and Lambda layers, which hold code.
    """
    foreign = sorted(set(_foreign_names(encoder.get_config())))
    if foreign:
        raise UserError(
            "A published encoder has stock Keras layers only, so that it loads without this package. "
            f"Received: {', '.join(foreign)}. Express them with layers of keras.layers."
        )


def save_keras(encoder: keras.Model, path: str | os.PathLike) -> None:
    """Save an encoder as a `.keras` file that `keras.saving.load_model` loads on any backend, into float32 variables.

    Weights that float16 holds exactly are stored in it, which is all of them after `half_precision`; nothing is
    rounded here. The same encoder gives the same bytes. The file is written atomically.

    Args:
        encoder: as for `to_float32`, which is applied.
        path: the file, with the suffix ".keras".

    Raises:
        UserError: wrong suffix, or no Functional or Sequential model.
    """
    path = files.user_path(path)
    if path.suffix != ".keras":
        raise UserError(f"Keras recognises its format by the suffix '.keras'. Received: {path}")
    model = to_float32(encoder)
    with files.atomic(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members["metadata.json"] = _undated(members["metadata.json"])
        members["config.json"] = _renumbered(members["config.json"])
        members["model.weights.h5"] = _half_datasets(members["model.weights.h5"])
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(members):
                archive.writestr(zipfile.ZipInfo(name, _NO_DATE), members[name])


def _foreign_names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        name, module = value.get("class_name"), value.get("module")
        # Plain functions are written as {"class_name": "function", "config": <name>}.
        if name and "module" in value:
            label = value.get("registered_name") or value["config"] if name == "function" else name
            if not (module or "builtins").startswith(("keras.", "builtins")) and module != "keras":
                yield f"{label} (of {module})"
            elif module is None and value.get("registered_name"):
                yield str(value["registered_name"])
            elif name == "Lambda":
                yield "Lambda"
        for item in value.values():
            yield from _foreign_names(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _foreign_names(item)


def _undated(metadata: bytes) -> bytes:
    return json.dumps({**json.loads(metadata), "date_saved": "1980-01-01@00:00:00"}).encode()


def _renumbered(config: bytes) -> bytes:
    """Number shared objects in order of appearance: Keras takes their addresses in memory."""
    numbers: dict[int, int] = {}

    def renumber(key: str, value: Any) -> Any:
        """Shared objects numbered by first sight, so that equal models have equal files."""
        return numbers.setdefault(value, len(numbers)) if key == "shared_object_id" else value

    return json.dumps(mapped(json.loads(config), renumber)).encode()


def _half_datasets(weights: bytes) -> bytes:
    """Copy an HDF5 file of weights with the same layout, each dataset as `as_half` gives it."""
    import h5py

    written = io.BytesIO()
    with h5py.File(io.BytesIO(weights), "r") as source, h5py.File(written, "w") as target:
        _copy_group(source, target)
    return written.getvalue()


def _copy_group(source: h5py.Group, target: h5py.Group) -> None:
    import h5py

    target.attrs.update(source.attrs)
    for name in sorted(source):
        item = source[name]
        if isinstance(item, h5py.Group):
            _copy_group(item, target.create_group(name))
        else:
            copy = target.create_dataset(name, data=as_half(item[()]), track_times=False)
            copy.attrs.update(item.attrs)
