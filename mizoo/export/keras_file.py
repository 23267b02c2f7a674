"""An encoder as a file that stock Keras loads anywhere: float32, stock layers, half-precision weights."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo._tools import files, keras_private
from mizoo.errors import UserError
from mizoo.zoo import interface

if TYPE_CHECKING:
    import h5py
    import keras

_NO_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold: equal content gives equal bytes
_REDUCED = ("bfloat16", "float16", "mixed_bfloat16", "mixed_float16")


def to_float32(encoder: keras.Model) -> keras.Model:
    """Rebuild an encoder under the float32 policy, as it is published.

    An encoder trained in mixed precision reloads with bfloat16 outputs, and a synchronised BatchNormalization does not
    run on JAX: both belong to the training and stay behind, as does a compiled optimiser.

    Args:
        encoder: a Functional or Sequential `keras.Model`. It is not changed.

    Returns:
        A new, uncompiled model with the same layers, names and weights, whose variables and outputs are float32.

    Raises:
        UserError: if `encoder` is no Functional or Sequential model.
    """
    if not keras_private.is_functional(encoder):
        interface.outputs(encoder)  # which says what to do about a model that is only a wrapper around an encoder
        raise UserError(
            "An encoder is a Functional or Sequential `keras.Model`, which can be rebuilt from its configuration. "
            f"Received: {type(encoder).__name__}. Make one with `keras.Model(inputs, outputs)`."
        )
    config = _mapped(encoder.get_config(), _float32_setting)
    rebuilt = type(encoder).from_config(config)
    rebuilt.set_weights([_as_float32(weight) for weight in encoder.get_weights()])
    return rebuilt


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


def _as_float32(weight: np.ndarray) -> np.ndarray:
    # ml_dtypes gives bfloat16 the kind "V", which numpy's own floats never have.
    return weight.astype(np.float32) if weight.dtype.kind in "fV" else weight


def _mapped(value: Any, change: Callable[[str, Any], Any], key: str = "") -> Any:
    """A copy of a nested configuration with `change(key, value)` applied to every value, outside in."""
    value = change(key, value)
    if isinstance(value, dict):
        return {name: _mapped(item, change, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(item, change) for item in value)
    return value


def _float32_setting(key: str, value: Any) -> Any:
    if key == "synchronized":
        return False
    if key == "dtype":
        name = value.get("config", {}).get("name") if isinstance(value, dict) else value
        return "float32" if name in _REDUCED else value
    return value


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

    return json.dumps(_mapped(json.loads(config), renumber)).encode()


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
