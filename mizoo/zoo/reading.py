"""The one door for files of encoders: read once, hashed, measured, and only then opened by a library.

A file is read into memory, so that what is hashed is what is loaded. What a `.keras` file unpacks to and what its
configuration asks for are compared with limits before anything of that size is allocated; an ONNX file may not refer
to other files.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mizoo._tools import keras_private
from mizoo.errors import UserError

MAX_UNPACKED = 2 << 30
"""Bytes that the file of an encoder, what it unpacks to, or what it makes Keras allocate may have: 2 GiB.

The environment variable `MIZOO_MAX_UNPACKED`, in bytes, sets another limit.
"""
MAX_CONFIG = 32 << 20
"""Bytes that the `config.json` in a `.keras` file may have: 32 MiB. `MIZOO_MAX_CONFIG` sets another limit."""

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"  # the names that Keras gives them
_SPARSE = 100  # an HDF5 dataset that claims this many times what is stored for it is none that Keras wrote
_SMALL = 1 << 20  # bytes below which nothing is compared
_ADVICE = {  # part of what Keras says -> what to do
    "Could not locate class": " An encoder with classes of your own loads once they are imported and registered; of a "
    "model of your own around an encoder, save the encoder: `model.encoder.save('encoder.keras')`.",
    "stateless scope": " (A file is measured before it is loaded, which needs layers that make their variables from "
    "initializers and not from arrays.)",
}
_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # how Keras stores and compresses


class EncoderFile(NamedTuple):
    """The bytes of a file and their hash.

    Attributes:
        path: where it was read.
        content: its bytes.
        sha256: of `content`, 64 hexadecimal digits.
    """

    path: Path
    content: bytes
    sha256: str


def limit(name: str) -> int:
    """The limit "MAX_UNPACKED" or "MAX_CONFIG", in bytes: that of the environment, or that of this module.

    Raises:
        UserError: if the environment holds no positive whole number.
    """
    given = os.environ.get(f"MIZOO_{name}")
    if given is None:
        return globals()[name]
    if not given.strip().isdecimal() or int(given) < 1:
        raise UserError(f"MIZOO_{name} is a number of bytes, such as {globals()[name]}. Received: {given!r}")
    return int(given)


def read_checked(path: str | os.PathLike, sha256: str | None = None) -> EncoderFile:
    """Read a file once and hash what was read.

    Args:
        path: the file.
        sha256: what the hash must be, if that is known.

    Raises:
        UserError: no regular file, one that cannot be read, is larger than `MAX_UNPACKED`, or has another hash.
    """
    path = Path(path)
    largest = limit("MAX_UNPACKED")
    try:
        # A pipe would block while it is opened.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path} is no file: pass a .keras or .onnx file, or a folder that holds one.")
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size <= largest:
                content = stream.read(size + 1)  # a buffer of `largest` would be asked for at once
            else:
                content = None
    except FileNotFoundError as error:
        raise UserError(f"No such file: {path}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    if content is None or len(content) > largest:
        raise _too_much(path, "it is larger than")
    actual = hashlib.sha256(content).hexdigest()
    if sha256 is not None and actual != sha256:
        raise UserError(
            f"{path} is not the file that was expected and was not opened.\n"
            f"  expected SHA-256: {sha256}\n  found SHA-256:    {actual} ({len(content):,} bytes)"
        )
    return EncoderFile(path, content, actual)


def load_keras_bytes(file: EncoderFile, trusted: bool = False) -> Any:
    """The Keras model in a `.keras` file that was read, uncompiled and under the name that it was saved with.

    Classes of this package that an encoder can hold, augmentations and `mizoo.encoders.resizing.Fit`, are found.

    Args:
        file: as `read_checked` gives it.
        trusted: whether its hash is a pinned one; otherwise it is measured first, see `check_keras`.

    Raises:
        UserError: a damaged or foreign file, or one above the limits.
    """
    import keras

    # Keras finds these by the names that they are registered under, once their modules are imported.
    import mizoo.augment
    import mizoo.encoders.resizing  # noqa: F401

    try:
        if not trusted:
            check_keras(file)
        # Keras takes a path alone. Nobody else can exchange a file in this folder, which has the mode 0700.
        with tempfile.TemporaryDirectory(prefix="mizoo-") as folder:
            private = os.path.join(folder, "encoder.keras")
            with open(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(file.content)
            return keras.saving.load_model(private, compile=False, safe_mode=True)
    except UserError:
        raise
    except Exception as error:  # zipfile, h5py and Keras raise many kinds on a damaged or foreign file
        advice = next((text for part, text in _ADVICE.items() if part in str(error)), "")
        raise UserError(f"{file.path} cannot be loaded as a Keras encoder: {error}{advice}") from error


def check_keras(file: EncoderFile) -> None:
    """Look at the directory of a `.keras` file, at its weights and at its configuration, and allocate none of it.

    Raises:
        UserError: for members that unpack to more than `MAX_UNPACKED`, weights that claim more than is stored, and a
            configuration that asks for other numbers than the weights are; or for a saved objective.
    """
    config = json.loads(_check_members(file))
    _check_is_encoder(file.path, config)
    with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
        stored = _stored_numbers(file.path, archive.read(_WEIGHTS))
    variables = keras_private.declared_variables(config)
    needed = sum(math.prod(shape) for shape, _ in variables)
    if sum(math.prod(shape) * size for shape, size in variables) > limit("MAX_UNPACKED"):
        raise _too_much(file.path, f"its configuration asks for {needed:,} numbers, more than")
    if needed > stored + _SMALL:
        raise UserError(
            f"{file.path} was not opened: its configuration asks for {needed:,} numbers and its weights are {stored:,}."
            " It is damaged or made to fill the memory: save the encoder again."
        )


def _check_members(file: EncoderFile) -> bytes:
    """Check the directory of a `.keras` file; its `config.json`."""
    with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if missing := [name for name in (_CONFIG, _WEIGHTS) if name not in names]:
            raise UserError(f"{file.path} cannot be loaded as a Keras encoder: it holds no {' and no '.join(missing)}.")
        if len(set(names)) < len(names) or any(_leaves(name) for name in names):
            raise UserError(f"{file.path} was not opened: names in it are used twice or lead out of it.")
        if any(member.compress_type not in _PLAIN for member in members):
            raise UserError(f"{file.path} was not opened: Keras compresses by deflation alone. Save it with Keras.")
        unpacked = sum(member.file_size for member in members)
        if unpacked > limit("MAX_UNPACKED"):
            raise _too_much(file.path, f"it unpacks to {unpacked:,} bytes, more than")
        size = archive.getinfo(_CONFIG).file_size
        if size > limit("MAX_CONFIG"):
            raise _too_much(file.path, f"its {_CONFIG} has {size:,} bytes, more than", "MAX_CONFIG")
        return archive.read(_CONFIG)


def _leaves(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]


def _check_is_encoder(path: Path, config: Any) -> None:
    """Refuse a saved objective by name: its encoder is inside."""
    registered = str(config.get("registered_name")) if isinstance(config, dict) else ""
    if registered.startswith("mizoo>"):
        raise UserError(
            f"{path} holds a saved objective, {registered.removeprefix('mizoo>')}, and no encoder. Take the encoder "
            "out of it: `import keras, mizoo.objectives, mizoo.encoders.resizing`, then "
            "`model = keras.saving.load_model(path, compile=False)` and `model.encoder.save('encoder.keras')`."
        )


def _stored_numbers(path: Path, weights: bytes) -> int:
    """How many numbers the datasets of an HDF5 file hold, each counted once and none read."""
    import h5py

    numbers, claimed = 0, 0

    def visit(name: str, item: Any) -> None:
        """Count one dataset."""
        nonlocal numbers, claimed
        if not isinstance(item, h5py.Dataset):
            return
        count = math.prod(item.shape or (0,))
        size = max(count, math.prod(item.chunks or (0,))) * item.dtype.itemsize  # a chunk is unpacked as a whole
        stored = item.id.get_storage_size()
        if size > _SPARSE * stored + _SMALL:
            raise UserError(
                f"{path} was not opened: {name} in its weights claims {size:,} bytes, and {stored:,} are stored. It is "
                "damaged or made to fill the memory: save the encoder again."
            )
        numbers, claimed = numbers + count, claimed + size

    with h5py.File(io.BytesIO(weights), "r") as file:
        file.visititems(visit)
    if claimed > limit("MAX_UNPACKED"):
        raise _too_much(path, f"its weights claim {claimed:,} bytes, more than")
    return numbers


def _too_much(path: Path, what: str, name: str = "MAX_UNPACKED") -> UserError:
    return UserError(
        f"{path} was not opened: {what} the {limit(name):,} bytes that are allowed. If you trust it, set the "
        f"environment variable MIZOO_{name} to a larger number of bytes."
    )


# --- ONNX: which fields of which message hold tensors, or messages that do (onnx/onnx.proto)

_INSIDE = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor that is stored outside the file


def check_onnx(file: EncoderFile) -> None:
    """Check that an ONNX file holds all of its tensors: bytes in memory have no folder that others could lie in.

    Raises:
        UserError: for a tensor that is stored in another file, or a damaged file.
    """
    try:
        external = _refers_outside(memoryview(file.content), "Model")
    except (IndexError, ValueError, RecursionError) as error:
        raise UserError(f"{file.path} cannot be opened as an ONNX encoder: it is damaged.") from error
    if external:
        raise UserError(
            f"{file.path} was not opened: its weights are in another file. Save it as one file: "
            "`onnx.save(onnx.load(path), path, save_as_external_data=False)`."
        )


def _refers_outside(message: memoryview, kind: str) -> bool:
    """Whether a tensor in a serialised message is stored in another file."""
    if kind == "Tensor":
        return any(field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value) for field, value in _fields(message))
    inside = _INSIDE[kind]
    return any(
        isinstance(value, memoryview) and _refers_outside(value, inside[field])
        for field, value in _fields(message)
        if field in inside
    )


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a protocol buffer."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        wire, value = key & 7, 0
        if wire == 0:
            value, at = _number(message, at)
            yield key >> 3, value
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"no field of ONNX is of wire type {wire}")
        size, at = _number(message, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
        if at + size > len(message):
            raise ValueError("the message ends within a field")
        yield key >> 3, message[at : at + size]
        at += size


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """A number of variable length, and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number has more than ten bytes")
