"""Published entries: names -> descriptions and files, returned only once their hash is checked.

The hashes are pinned in `registry.json` inside the package, not next to the files that they guard. A file that is not
installed is looked up in the cache, and downloaded into it (`mizoo.zoo.fetching`).

`name` is the newest version of an entry, and `name@1` its first one, whose files stay what they were.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import importlib.resources
import json
from pathlib import Path
from typing import Any

from mizoo._tools import yaml_text
from mizoo.errors import UserError
from mizoo.zoo import patches
from mizoo.zoo.fetching import Wanted, fetch, keep
from mizoo.zoo.reading import EncoderFile, read_checked

# The top-level folders that a clone tracks, and the packages as which they are installed.
_PACKAGES = {"models": "mizoo.models", "export": "mizoo.exported"}
REGISTRY = "mizoo/zoo/registry.json"
"""Where the registry lies in a clone."""
RECIPE = "recipe.yaml"
_HERE = Path(__file__).resolve().parents[2]  # the clone, or the folder of an installed copy
_root: Path | None = None  # another clone instead, which the tests set


def registry() -> dict[str, dict[str, Any]]:
    """All published entries: name -> summary, objective, dataset, paper, license, input, endpoints, files.

    Raises:
        UserError: for a file that is missing or damaged.
    """
    return read_registry(_root / REGISTRY if _root else Path(__file__).with_name("registry.json"))


def read_registry(path: Path) -> dict[str, dict[str, Any]]:
    """The entries in a registry file; errors as of `registry`."""
    try:
        entries = json.loads(path.read_bytes())
        if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            raise ValueError("it is no object of entries")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"The registry {path} is damaged: {error}. {_remedy(REGISTRY)}") from error
    return entries


def locate(relative: str) -> Path:
    """Where a tracked file ("models/<entry>/encoder.keras", "export/...") lies in this installation, or would lie.

    Args:
        relative: the path as the registry gives it, from the root of a clone, with forward slashes.

    Raises:
        UserError: for a path that leads out of the folders of the entries.
    """
    parts = relative.split("/")
    if parts[0] not in _PACKAGES or {"", ".", ".."} & set(parts) or "\\" in relative or ":" in relative:
        raise UserError(
            f"Files of entries lie below {' or '.join(_PACKAGES)}, which this path leaves: {relative!r}. "
            f"{_remedy(REGISTRY)}"
        )
    if root := clone():  # also one on the path that was never installed, and beside an installed copy
        return root / relative
    top, _, rest = relative.partition("/")
    return Path(str(importlib.resources.files(_PACKAGES[top]))) / rest


def clone() -> Path | None:
    """The root of the clone that this package is imported from; None for a package that was installed as a copy."""
    root = _root or _HERE
    return root if all((root / needed).exists() for needed in ("models", "export", "setup.cfg")) else None


def require_clone(what: str) -> Path:
    """`clone()`, or a `UserError` that names what needs one: "Cards are written"."""
    root = clone()
    if root is None:
        raise UserError(
            f"{what} in a clone of mizoo, and the mizoo in {_HERE / 'mizoo'} is a copy. In the clone, "
            "`pip install -e .` makes it the one that is used."
        )
    return root


def _remedy(relative: str) -> str:
    return f"Restore it: in a clone with `git checkout -- {relative}`, otherwise by installing this version again."


def recipes() -> dict[str, Path]:
    """The recipes of `models/` by their names, sorted: FOLDER of a `recipe.yaml`, FOLDER/FILE of every other one."""
    found = sorted(locate("models").glob("*/*.yaml"))
    return {file.parent.name if file.name == RECIPE else f"{file.parent.name}/{file.stem}": file for file in found}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the published encoders that match a shell pattern such as "dim_*", sorted."""
    if not isinstance(pattern, str):
        raise UserError(f"`pattern` is text such as 'dim_*'. Received: {pattern!r}")
    return sorted(fnmatch.filter(registry(), pattern))


def info(name: str) -> dict[str, Any]:
    """The description of one published encoder.

    Args:
        name: an entry of `list_models()`, or one of its versions, such as "simclr_cifar10@1".

    Returns:
        dict with name, summary, objective, dataset, paper, license, input, endpoints (name -> shape) and files
        (file name -> path, sha256, bytes); `version` and `earlier` (number -> the same of an earlier version) where
        there are several.

    Raises:
        UserError: for an unknown name, with the nearest ones, that of a recipe without weights, or an unknown version.
    """
    return {"name": name, **entry(name)}


def is_entry(name: Any) -> bool:
    """Whether this is the name of an entry, with or without a version; the version need not exist."""
    return isinstance(name, str) and name.partition("@")[0] in registry()


def entry(name: str) -> dict[str, Any]:
    """The registry's dict of one published encoder, without its name; arguments and errors as of `info`."""
    if not isinstance(name, str):
        raise UserError(f"An entry is called by its name, such as those of `list_models()`. Received: {name!r}")
    entries = registry()
    base, at, version = name.partition("@")
    if base in entries:
        return _version(entries[base], base, version) if at else entries[base]
    if name in (own := recipes()):
        raise UserError(
            f"{name} is a recipe without published weights: `mizoo pretrain {name}` trains them, and the encoder is "
            f"then called {_run_of(own[name])}. Published: {', '.join(sorted(entries)) or 'none'}."
        )
    if not entries:
        raise UserError(f"No encoder called {name!r}: this version publishes none. A path to an encoder loads as well.")
    near = difflib.get_close_matches(name.lower(), entries, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Published: {', '.join(sorted(entries))}."
    raise UserError(f"No published encoder and no file is called {name!r}. {hint}")


def _run_of(recipe: Path) -> str:
    """The folder that a recipe is trained into."""
    content = yaml_text.parse(recipe.read_text(encoding="utf-8"))
    return f"runs/{content.get('name', recipe.stem)}"


def folder(name: str) -> str:
    """Where the files of an entry lie below `models` and `export`: "a", or "a/v1" of a version that is not the newest.

    Arguments and errors as of `info`.
    """
    entry(name)
    base, _, version = name.partition("@")
    return base if version in ("", str(entry(base).get("version", 1))) else f"{base}/v{version}"


def _version(newest: dict[str, Any], name: str, version: str) -> dict[str, Any]:
    """One version of an entry; an entry that was published once has version 1."""
    versions = {**newest.get("earlier", {}), str(newest.get("version", 1)): newest}
    if version not in versions:
        known = ", ".join(f"{name}@{each}" for each in sorted(versions, key=int))
        raise UserError(f"{name} has no version {version!r}. Its versions: {known}.")
    return versions[version]


def path(name: str, filename: str) -> Path:
    """Path of a published file, returned only once its SHA-256 equals the pinned one.

    Args:
        name: an entry of `list_models()`.
        filename: one of the entry's files, such as "encoder.keras" or "encoder.onnx".

    Raises:
        UserError: unknown name or file, a file that is missing and cannot be downloaded, or one whose hash differs.
    """
    found = read(name, filename)
    if found.path.is_file():
        return found.path
    return keep(wanted(name, filename), found.content)


def wanted(name: str, filename: str) -> Wanted:
    """What the registry pins of a published file; arguments and errors as of `path`."""
    return _wanted(name, filename)[1]


def read(name: str, filename: str) -> EncoderFile:
    """The bytes of a published file, whose SHA-256 equals the pinned one; arguments and errors as of `path`."""
    relative, wanted = _wanted(name, filename)
    file = locate(relative)
    if not file.is_file():
        if made := _patched(name, file, wanted):
            return made
        missing = f"The file of {name} is missing: {file}. {_remedy(relative)}"
        return read_checked(fetch(wanted, missing), wanted.sha256)
    found = read_checked(file)
    if found.sha256 != wanted.sha256:
        raise UserError(
            f"{file} is not the published file and was not opened.\n"
            f"  expected SHA-256: {wanted.sha256} ({wanted.size:,} bytes)\n"
            f"  found SHA-256:    {found.sha256} ({len(found.content):,} bytes)\n{_remedy(relative)}"
        )
    return found


def _patched(name: str, file: Path, wanted: Wanted) -> EncoderFile | None:
    """The Keras file that a wheel holds as a patch of the ONNX file, if it does; in memory, called as `file`."""
    patch, source = file.with_name(file.name + patches.SUFFIX), entry(name)["files"].get("encoder.onnx")
    if not patch.is_file() or not source or not locate(source["path"]).is_file():
        return None
    content = patches.apply(patch.read_bytes(), read(name, "encoder.onnx").content)
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        raise UserError(f"{patch} does not make the published file and was not used. Install this version again.")
    return EncoderFile(file, content, wanted.sha256)


def _wanted(name: str, filename: str) -> tuple[str, Wanted]:
    """Where a published file lies in a clone, and what is pinned of it."""
    pinned = entry(name).get("files")
    if not isinstance(pinned, dict):
        raise UserError(f"The registry is damaged: {name} has no files. {_remedy(REGISTRY)}")
    if not isinstance(filename, str) or filename not in pinned:
        raise UserError(f"{name} has no file {filename!r}. Its files: {', '.join(sorted(pinned))}.")
    try:
        relative, expected = str(pinned[filename]["path"]), str(pinned[filename]["sha256"])
        size = int(pinned[filename]["bytes"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"The registry is damaged: {filename} of {name} has no path. {_remedy(REGISTRY)}") from error
    return relative, Wanted(name.partition("@")[0], filename, expected, size)
