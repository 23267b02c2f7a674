"""Names and paths -> encoders, on Keras or on ONNX Runtime."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from mizoo._tools import yaml_text
from mizoo.errors import UserError, not_installed
from mizoo.zoo import entries, interface

if TYPE_CHECKING:
    import keras

    from mizoo.zoo.onnx_encoder import OnnxEncoder

RUNTIMES = ("keras", "onnx")


@overload
def load(name: str | os.PathLike, endpoint: str | None = None, runtime: Literal["keras"] = "keras") -> keras.Model: ...


@overload
def load(name: str | os.PathLike, endpoint: str | None = None, *, runtime: Literal["onnx"]) -> OnnxEncoder: ...


@overload
def load(name: str | os.PathLike, endpoint: str | None, runtime: str) -> Any: ...


def load(name: str | os.PathLike, endpoint: str | None = None, runtime: str = "keras") -> keras.Model | OnnxEncoder:
    """Load an encoder. It takes decoded pictures (B, H, W, C) in 0..255, uint8 or float, and scales them itself.

    Args:
        name: a published entry, or the path of a `.keras` or `.onnx` file or of a folder that holds `encoder.keras`
            or `encoder.onnx` (a run folder, an export folder). Only published files have a pinned hash: load no other
            file that you do not trust.
        endpoint: one endpoint, returned as an array; all of them in a dict if None.
        runtime: "keras", or "onnx" for ONNX Runtime (no Keras import, ready at once, inference only).

    Returns:
        A Functional `keras.Model` of stock layers in float32, fit for `keras.Sequential([encoder, Dense(10)])` when
        `endpoint` is given; or a `mizoo.zoo.OnnxEncoder`, which is called the same way.

    Raises:
        UserError: unknown name (with the nearest ones), endpoint (with the list) or runtime; a file that is missing,
            damaged or not the published one; no backend for Keras.
    """
    if runtime not in RUNTIMES:
        raise UserError(f"`runtime` must be one of {', '.join(map(repr, RUNTIMES))}. Received: {runtime!r}")
    published = entries.registry()
    if name in published:
        _check_endpoint(endpoint, published[name]["endpoints"], name)
    file = encoder_file(name, runtime)
    title = interface.encoder_name(file)
    if runtime == "onnx":
        from mizoo.zoo.onnx_encoder import OnnxEncoder

        return OnnxEncoder(file, endpoint, title)
    return _load_keras(file, endpoint, title)


def encoder_file(name: str | os.PathLike, runtime: str = "keras") -> Path:
    """The file that `load` opens for `name`; errors as there, but for a damaged file of one's own."""
    return (
        entries.path(str(name), interface.FILES[runtime]) if name in entries.registry() else _local_file(name, runtime)
    )


def sampling_rate(name: str | os.PathLike) -> int:
    """The sampling rate, in Hz, that an encoder of sounds takes.

    Args:
        name: a published entry, an export folder or a run folder, or a file in one of them.

    Raises:
        UserError: if none is recorded there.
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
    if name in entries.registry():
        return entries.info(str(name))["input"].get("sampling_rate")
    path = Path(name).expanduser()
    folder = path if path.is_dir() else path.parent
    if (folder / "manifest.json").is_file():
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if rate := manifest.get("input", {}).get("sampling_rate"):
            return rate
    if (folder / "recipe.yaml").is_file():
        content = yaml_text.parse((folder / "recipe.yaml").read_text(encoding="utf-8"))
        return content.get("encoder", {}).get("sampling_rate")
    return None


def _check_endpoint(endpoint: str | None, known: Any, title: str | os.PathLike) -> None:
    if endpoint is not None and endpoint not in known:
        raise UserError(f"{title} has no endpoint {endpoint!r}. Its endpoints: {', '.join(known)}.")


def _local_file(name: str | os.PathLike, runtime: str) -> Path:
    """The encoder file that a path stands for; a name that is no path is an unknown entry."""
    file = Path(name).expanduser()
    wanted = interface.FILES[runtime]
    if file.is_dir():
        if (file / wanted).is_file():
            return file / wanted
        other = [each for each in interface.FILES.values() if (file / each).is_file()]
        hint = _runtime_hint(runtime) if other else "Pass a run folder, an export folder or a file."
        raise UserError(f"The folder {file} holds no {wanted}. {hint}")
    if file.suffix.lower() not in (".keras", ".onnx"):
        if file.exists():
            raise UserError(f"{file} is no encoder: pass a .keras or .onnx file, or a folder that holds one.")
        if len(file.parts) > 1:
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
    return 'Load it with runtime="onnx".'


def _load_keras(file: Path, endpoint: str | None, title: str) -> keras.Model:
    keras = _import_keras()
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
        outputs = interface.outputs(model)
    except UserError:
        raise
    except Exception as error:  # zipfile, h5py and Keras raise many kinds on a damaged or foreign file
        raise UserError(f"{file} cannot be loaded as a Keras encoder: {error}") from error
    if endpoint is None:
        return model
    _check_endpoint(endpoint, outputs, title)
    return keras.Model(model.input, outputs[endpoint], name=f"{model.name}_{endpoint}")


def _import_keras() -> Any:
    """Keras, or the extra to install: Keras itself leaves the choice of a backend to the user."""
    try:
        import keras
    except ModuleNotFoundError as error:
        advice = not_installed(error)
        if advice is None:
            raise
        raise UserError(f'{advice} Or load with runtime="onnx", which needs none.') from error
    return keras
