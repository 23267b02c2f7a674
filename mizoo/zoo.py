"""Published encoders: list them, describe them, load them with their hash checked first.

The hashes are pinned in `registry.json` inside the package, not beside the files that they vouch for.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib.resources
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mizoo import files
from mizoo.errors import UserError, not_installed

if TYPE_CHECKING:
    import keras

    from mizoo.runtime import OnnxEncoder

RUNTIMES = ("keras", "onnx")
_FILES = {"keras": "encoder.keras", "onnx": "encoder.onnx"}
# The top-level folders that a clone tracks, and the packages as which they are installed.
_PACKAGES = {"models": "mizoo.models", "export": "mizoo.exported"}


def registry() -> dict[str, dict[str, Any]]:
    """All published entries: name -> summary, objective, dataset, paper, license, input, endpoints, files."""
    text = importlib.resources.files("mizoo").joinpath("registry.json").read_text(encoding="utf-8")
    return json.loads(text)


def locate(relative: str) -> Path:
    """Where a tracked file ("models/<entry>/encoder.keras", "export/...") lies in this installation, or should.

    Args:
        relative: the path as the registry gives it, from the root of a clone, with forward slashes.
    """
    top, _, rest = relative.partition("/")
    try:
        root = Path(str(importlib.resources.files(_PACKAGES[top])))
    except ModuleNotFoundError:  # a clone on the path that was never installed
        root = Path(__file__).resolve().parent.parent / top
    return root / rest


def clone() -> Path | None:
    """The root of the clone that this package is imported from; None for a package that was installed as a copy."""
    root = Path(__file__).resolve().parent.parent
    return root if all((root / needed).exists() for needed in ("models", "export", "setup.cfg")) else None


def needed_clone(what: str) -> Path:
    """`clone()`, or a `UserError` that says what needs it."""
    root = clone()
    if root is None:
        raise UserError(
            f"{what} in a clone of mizoo, and the mizoo in {Path(__file__).resolve().parent} is a copy. In the clone, "
            "`pip install -e .` makes it the one that is used."
        )
    return root


def list_models(pattern: str = "*") -> list[str]:
    """Names of the published encoders that match a shell pattern such as "dim_*", sorted."""
    return sorted(fnmatch.filter(registry(), pattern))


def info(name: str) -> dict[str, Any]:
    """What the registry says of one published encoder.

    Args:
        name: an entry of `list_models()`.

    Returns:
        dict with name, summary, objective, dataset, paper, license, input, endpoints (name -> shape) and files
        (file name -> path, sha256, bytes).

    Raises:
        UserError: for an unknown name, with the nearest ones.
    """
    return {"name": name, **_entry(name)}


def _entry(name: str) -> dict[str, Any]:
    entries = registry()
    if name in entries:
        return entries[name]
    if not entries:
        raise UserError(f"No encoder called {name!r}: this version publishes none. A path to an encoder loads as well.")
    near = difflib.get_close_matches(str(name).lower(), entries, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Published: {', '.join(sorted(entries))}."
    raise UserError(f"No published encoder and no file is called {str(name)!r}. {hint}")


def path(name: str, filename: str) -> Path:
    """Path of a published file, returned only once its SHA-256 equals the pinned one.

    Args:
        name: an entry of `list_models()`.
        filename: one of the entry's files, such as "encoder.keras" or "encoder.onnx".

    Raises:
        UserError: unknown name or file, a file that is missing, or one whose hash differs.
    """
    pinned = _entry(name)["files"]
    if filename not in pinned:
        raise UserError(f"{name} has no file {filename!r}. Its files: {', '.join(sorted(pinned))}.")
    relative, expected = pinned[filename]["path"], pinned[filename]["sha256"]
    file = locate(relative)
    remedy = f"Restore it: in a clone with `git checkout -- {relative}`, otherwise by installing this version again."
    if not file.is_file():
        raise UserError(f"The file of {name} is missing: {file}. {remedy}")
    found = files.sha256(file)
    if found != expected:
        raise UserError(
            f"{file} is not the published file and was not opened.\n"
            f"  expected SHA-256: {expected} ({pinned[filename]['bytes']:,} bytes)\n"
            f"  found SHA-256:    {found} ({file.stat().st_size:,} bytes)\n{remedy}"
        )
    return file


def load(
    name: str | os.PathLike, endpoint: str | None = None, runtime: Literal["keras", "onnx"] = "keras"
) -> keras.Model | OnnxEncoder:
    """Load an encoder. It takes decoded pictures (B, H, W, C) in 0..255, uint8 or float, and scales them itself.

    Args:
        name: a published entry, or the path of a `.keras` or `.onnx` file or of a folder that holds `encoder.keras`
            or `encoder.onnx` (a run folder, an export folder). Only published files have a pinned hash: load no other
            file that you do not trust.
        endpoint: one endpoint, returned as an array; all of them in a dict if None.
        runtime: "keras", or "onnx" for ONNX Runtime (no Keras import, ready at once, inference only).

    Returns:
        A Functional `keras.Model` of stock layers in float32, fit for `keras.Sequential([encoder, Dense(10)])` when
        `endpoint` is given; or a `mizoo.runtime.OnnxEncoder`, which is called alike.

    Raises:
        UserError: unknown name (with the nearest ones), endpoint (with the list) or runtime; a file that is missing,
            damaged or not the published one; no backend for Keras.
    """
    if runtime not in RUNTIMES:
        raise UserError(f"`runtime` must be one of {', '.join(map(repr, RUNTIMES))}. Received: {runtime!r}")
    entries = registry()
    if name in entries:
        _check_endpoint(endpoint, entries[name]["endpoints"], name)
    file = encoder_file(name, runtime)
    title = file.parent.name if file.name in _FILES.values() else file.stem
    if runtime == "onnx":
        from mizoo.runtime import OnnxEncoder

        return OnnxEncoder(file, endpoint, title)
    return _load_keras(file, endpoint, title)


def earlier_recipes(init_from: str | None) -> list[Path]:
    """The recipes of the runs that another recipe goes on from, where those runs are no entries themselves.

    Args:
        init_from: what the other recipe says under that key.

    Returns:
        Files beside the recipe.yaml of an entry, in the order in which they are trained: the last one's `name` is that
        of the run folder in `init_from`, and each goes on from the run of the one before it.
    """
    from mizoo import yaml_text

    found: list[Path] = []
    files = sorted(locate("models").glob("*/*.yaml")) if init_from else []
    known = {file: yaml_text.parse(file.read_text(encoding="utf-8")) for file in files if file.name != "recipe.yaml"}
    while init_from:
        named = [file for file in known if known[file].get("name") == Path(init_from).name and file not in found]
        found = named[:1] + found
        init_from = known[named[0]].get("init_from") if named else None
    return found


def encoder_file(name: str | os.PathLike, runtime: Literal["keras", "onnx"] = "keras") -> Path:
    """The file that `load` opens for `name`; errors as there, but for a damaged file of one's own."""
    return path(str(name), _FILES[runtime]) if name in registry() else _file(name, runtime)


def endpoints(model: keras.Model) -> dict[str, Any]:
    """Symbolic outputs of a Keras encoder by endpoint; a single output goes by the model's name for it.

    Raises:
        UserError: if the outputs are neither one tensor nor a dict of tensors.
    """
    if isinstance(model.output, dict):
        return dict(model.output)
    if len(model.outputs) == 1:
        return {model.output_names[0]: model.outputs[0]}
    raise UserError(f"The outputs of an encoder must be a dict of named endpoints. {model.name} returns a list.")


def _check_endpoint(endpoint: str | None, known: Any, title: str | os.PathLike) -> None:
    if endpoint is not None and endpoint not in known:
        raise UserError(f"{title} has no endpoint {endpoint!r}. Its endpoints: {', '.join(known)}.")


def _file(name: str | os.PathLike, runtime: str) -> Path:
    """The encoder file that a path stands for; a name that is no path is an unknown entry."""
    file = Path(name).expanduser()
    wanted = _FILES[runtime]
    if file.is_dir():
        if (file / wanted).is_file():
            return file / wanted
        other = [each for each in _FILES.values() if (file / each).is_file()]
        hint = _hint(runtime) if other else "Pass a run folder, an export folder or a file."
        raise UserError(f"The folder {file} holds no {wanted}. {hint}")
    if file.suffix.lower() not in (".keras", ".onnx"):
        if file.exists():
            raise UserError(f"{file} is no encoder: pass a .keras or .onnx file, or a folder that holds one.")
        if len(file.parts) > 1:
            raise UserError(f"There is no folder {file}. Pass a run folder, an export folder, a file or an entry.")
        _entry(str(name))
    if not file.exists():
        raise UserError(f"No such file: {file}")
    if file.suffix.lower() != Path(wanted).suffix:
        raise UserError(f"{file} is not a file for runtime={runtime!r}. {_hint(runtime)}")
    return file


def _hint(runtime: str) -> str:
    if runtime == "onnx":
        return 'Load it with runtime="keras", or make the ONNX form with `mizoo export`.'
    return 'Load it with runtime="onnx".'


def _load_keras(file: Path, endpoint: str | None, title: str) -> keras.Model:
    keras = _import_keras()
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
        outputs = endpoints(model)
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
        told = not_installed(error)
        if told is None:
            raise
        raise UserError(f'{told} Or load with runtime="onnx", which needs none.') from error
    return keras
