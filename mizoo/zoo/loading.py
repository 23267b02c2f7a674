"""Names and paths -> encoders, on Keras or on ONNX Runtime."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import yaml

from mizoo._tools import keras_private, yaml_text
from mizoo._tools.checks import check_name
from mizoo._tools.files import user_path
from mizoo.errors import NotInstalled, UserError, not_installed
from mizoo.zoo import copies, entries, hub, interface, manifests, reading
from mizoo.zoo.reading import EncoderFile

if TYPE_CHECKING:
    import keras

    from mizoo.zoo.onnx_encoder import OnnxEncoder

RUNTIMES = ("keras", "onnx")
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]")  # what no name of a layer holds on every backend


@overload
def load(
    encoder: str | os.PathLike,
    endpoint: str | None = None,
    runtime: Literal["keras"] = "keras",
    *,
    name: str | None = None,
    resize: bool = False,
) -> keras.Model: ...


@overload
def load(
    encoder: str | os.PathLike,
    endpoint: str | None = None,
    *,
    runtime: Literal["onnx"],
    name: str | None = None,
    resize: bool = False,
) -> OnnxEncoder: ...


@overload
def load(
    encoder: str | os.PathLike | None = None,
    endpoint: str | None = None,
    runtime: str = "keras",
    *,
    name: str | None = None,
    resize: bool = False,
) -> Any: ...


def load(
    encoder: str | os.PathLike | None = None,
    endpoint: str | None = None,
    runtime: str = "keras",
    *,
    name: str | None = None,
    resize: bool = False,
) -> keras.Model | OnnxEncoder:
    """Load an encoder. It takes decoded pictures (B, H, W, C) in 0..255, uint8 or float, and scales them itself.

    The file is read once, and what is loaded is what was hashed. A file of one's own is measured before Keras opens
    it: `mizoo.zoo.reading` says how large it may be, and how to allow more.

    Args:
        encoder: a published entry, or the path of a `.keras` or `.onnx` file or of a folder that holds
            `encoder.keras` or `encoder.onnx` (a run folder, an export folder); "name@1" is the first version of an
            entry, and "hf://owner/name" a folder on the Hugging Face hub (`mizoo.zoo.hub`). Only published files have
            a pinned hash: load no other file that you do not trust.
        endpoint: one endpoint, returned as an array; all of them in a dict if None.
        runtime: "keras", or "onnx" for ONNX Runtime (no Keras import, ready at once, inference only).
        name: what the model is called; that of the entry, or of the folder or file, with `_<endpoint>` if one was
            chosen, unless it is given. Layers of one model have different names.
        resize: take pictures of any size, all of a batch of the same one, and resize them inside, with antialiasing, as
            `mizoo embed` does (`mizoo.data.pictures.fit`): features agree within 2 % of the largest value. A Keras
            model then has a layer of this package (`mizoo.encoders.resizing`) in front.

    Returns:
        A Functional or Sequential `keras.Model` in float32, also where the file is of another precision (of stock
        layers, if it is published), fit for `keras.Sequential([encoder, Dense(10)])` when `endpoint` is given; or a
        `mizoo.zoo.OnnxEncoder`, which is called the same way.

    Raises:
        UserError: unknown name (with the nearest ones), endpoint (with the list) or runtime; a file that is missing,
            damaged, above the limits, not the published one, or no encoder; an ONNX form in a folder that was made
            of another Keras file than the one beside it; no backend for Keras; `resize` for an encoder of sounds or of
            pictures of any size.
    """
    if encoder is None:
        encoder, name = name, None  # `load(name=...)`, as that argument was called in version 0.1.0
    otherwise = ' Or load with runtime="onnx", which needs none.'
    return load_hashed(encoder, endpoint, runtime, name, resize, otherwise)[0]


def load_hashed(
    encoder: Any,
    endpoint: str | None = None,
    runtime: str = "keras",
    name: str | None = None,
    resize: bool = False,
    otherwise: str = "",
) -> tuple[Any, str]:
    """The encoder as `load` gives it, and the SHA-256 of the bytes that it was loaded from; errors as there.

    Where Keras is missing, its error ends with `otherwise`.
    """
    _check_text("endpoint", endpoint, "the name of one endpoint, or None for all of them")
    check_name(name)
    published = _is_published(encoder, runtime)
    if published:
        _check_endpoint(endpoint, entries.entry(encoder).get("endpoints", ()), encoder)
    file = read_encoder(encoder, runtime)
    title = interface.encoder_name(encoder if published or hub.is_address(encoder) else file.path)
    if runtime == "onnx":
        from mizoo.zoo.onnx_encoder import OnnxEncoder

        return OnnxEncoder(file, endpoint, name or title, resize=resize), file.sha256
    _import_keras(otherwise)
    model = reading.load_keras_bytes(file, trusted=published)
    outputs = _outputs(file.path, model)
    if not published and keras_private.is_functional(model) and not copies.computes_in_float32(model):
        model = copies.to_float32(model)
        outputs = _outputs(file.path, model)
    called = name or _NO_NAME.sub("_", title if endpoint is None else f"{title}_{endpoint}").lstrip("_-") or "encoder"
    if endpoint is None:
        model.name = called
    else:
        _check_endpoint(endpoint, outputs, title)
        import keras

        model = keras.Model(model.inputs[0], outputs[endpoint], name=called)
    if resize:
        from mizoo.encoders.resizing import any_size

        model = any_size(model)
    return model, file.sha256


def read_keras(encoder: str | os.PathLike) -> tuple[keras.Model, str]:
    """The Keras model of an encoder under the name that it was saved with, and the SHA-256 of what was loaded.

    This is what exporting and publishing begin with: the name is a part of what they write.

    Args:
        encoder: as for `load`.

    Raises:
        UserError: as `load`.
    """
    file = read_encoder(encoder)
    _import_keras()
    model = reading.load_keras_bytes(file, trusted=_is_published(encoder))
    _outputs(file.path, model)
    return model, file.sha256


def read_encoder(encoder: str | os.PathLike, runtime: str = "keras") -> EncoderFile:
    """The bytes of the file that `load` opens for `encoder`, and their hash; errors as there."""
    if _is_published(encoder, runtime):
        return entries.read(os.fspath(encoder), interface.FILES[runtime])
    return reading.read_checked(_local_file(_here(encoder, runtime), runtime))


def encoder_file(encoder: str | os.PathLike, runtime: str = "keras") -> Path:
    """The file that `load` opens for `encoder`; errors as there, but for a damaged file of one's own."""
    if _is_published(encoder, runtime):
        return entries.path(os.fspath(encoder), interface.FILES[runtime])
    return _local_file(_here(encoder, runtime), runtime)


def _here(encoder: str | os.PathLike, runtime: str) -> str | os.PathLike:
    """The path of an encoder: that of what was downloaded, if it is an address on the hub."""
    return hub.fetch(encoder, interface.FILES[runtime]) if hub.is_address(encoder) else encoder


def _is_published(encoder: Any, runtime: str = "keras") -> bool:
    """Whether this is the name of an entry; what is neither a name nor a path is refused, as is another runtime."""
    if not isinstance(encoder, (str, os.PathLike)) or not os.fspath(encoder):
        raise UserError(
            "`encoder` is the name of an entry, or the path of a .keras or .onnx file or of a folder that holds one. "
            f"Received: {type(encoder).__name__ if hasattr(encoder, 'predict') else repr(encoder)}"
        )
    if runtime not in RUNTIMES:
        raise UserError(f"`runtime` must be one of {', '.join(map(repr, RUNTIMES))}. Received: {runtime!r}")
    return entries.is_entry(encoder)


def _check_text(argument: str, value: Any, meaning: str) -> None:
    if value is not None and not isinstance(value, str):
        raise UserError(f"`{argument}` is {meaning}. Received: {value!r}")


def _outputs(file: Path, model: Any) -> dict[str, Any]:
    """The symbolic outputs of a model that was loaded; the error for one that has none names the file."""
    try:
        interface.input_shape(model)
        return interface.outputs(model)
    except UserError as error:
        raise UserError(f"{file} holds no encoder. {error}") from error


def sampling_rate(name: str | os.PathLike) -> int:
    """The sampling rate, in Hz, that an encoder of sounds takes.

    Args:
        name: a published entry, an export folder or a run folder, or a file in one of them.

    Raises:
        UserError: if none is recorded there, or its manifest or recipe is damaged.
    """
    rate = recorded_sampling_rate(name)
    if rate is None:
        raise UserError(
            f"No sampling rate is recorded for {name}: it is in the manifest.json or recipe.yaml in the folder of "
            "an encoder of sounds. Give it with `sampling_rate` (--sampling-rate)."
        )
    return rate


def recorded_sampling_rate(name: str | os.PathLike) -> int | None:
    """The same as `sampling_rate`, or None if none is recorded."""
    if _is_published(name):
        return entries.entry(str(name)).get("input", {}).get("sampling_rate")
    path = hub.fetch(name) if hub.is_address(name) else user_path(name)
    folder = path if path.is_dir() else path.parent
    if rate := _rate_of(manifests.read(folder / manifests.FILE), "input"):
        return rate
    recipe = folder / "recipe.yaml"
    try:
        content = yaml_text.parse(recipe.read_text(encoding="utf-8", errors="replace")) if recipe.is_file() else None
    except yaml.YAMLError as error:
        raise UserError(f"{recipe} is not YAML: {yaml_text.problem(error)}. Restore it.") from error
    return _rate_of(content, "encoder")


def _rate_of(content: Any, section: str) -> int | None:
    """The sampling rate in a section of what was read; None where it or the section is missing or empty."""
    within = content.get(section) if isinstance(content, dict) else None
    return within.get("sampling_rate") if isinstance(within, dict) else None


def _check_endpoint(endpoint: str | None, known: Any, title: str | os.PathLike) -> None:
    if endpoint is not None and endpoint not in known:
        raise UserError(f"{title} has no endpoint {endpoint!r}. Its endpoints: {', '.join(known)}.")


def _local_file(name: str | os.PathLike, runtime: str) -> Path:
    """The encoder file that a path stands for; a name that is no path is an unknown entry."""
    file = user_path(name)
    wanted = interface.FILES[runtime]
    if file.is_dir():
        if (file / wanted).is_file():
            if runtime == "onnx" and (stale := manifests.why_stale(file)):
                folder = shlex.quote(str(file))
                raise UserError(
                    f"{stale}. Make it again with `mizoo export {folder} --out {folder}`, load the newer one with "
                    f'runtime="keras", or name {file / wanted} itself to load the older one.'
                )
            return file / wanted
        other = [each for each in interface.FILES.values() if (file / each).is_file()]
        hint = _runtime_hint(runtime) if other else "Pass a run folder, an export folder or a file."
        raise UserError(f"The folder {file} holds no {wanted}. {hint}")
    if file.suffix.lower() not in (".keras", ".onnx"):
        if file.exists():
            raise UserError(f"{file} is no encoder: pass a .keras or .onnx file, or a folder that holds one.")
        if len(file.parts) > 1 and str(name) not in entries.recipes():
            raise UserError(f"There is no folder {file}. Pass a run folder, an export folder, a file or an entry.")
        entries.entry(str(name))
    if not file.exists():
        raise UserError(f"No such file: {file}")
    if file.suffix.lower() != Path(wanted).suffix:
        raise UserError(f"{file} is not a file for runtime={runtime!r}. {_runtime_hint(runtime)}")
    return file


def _runtime_hint(runtime: str) -> str:
    if runtime == "onnx":
        return 'Load it with runtime="keras", or make the ONNX form with `mizoo export`.'
    return (
        'An ONNX form is loaded with runtime="onnx"; what trains or exports an encoder takes the Keras file that it '
        "was made of."
    )


def _import_keras(otherwise: str = "") -> Any:
    """Keras, or the extra to install and what to do `otherwise`: Keras leaves the choice of a backend to the user."""
    try:
        import keras
    except ModuleNotFoundError as error:
        advice = not_installed(error)
        if advice is None:
            raise
        raise NotInstalled(f"{advice}{otherwise}") from error
    return keras
