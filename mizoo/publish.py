"""A finished run as an entry of the zoo: both published files, the proof, and their hashes in the registry."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from mizoo import recipes
from mizoo._tools import files
from mizoo._tools.locks import lock_file
from mizoo.errors import UserError
from mizoo.evaluate.rows import keep_rows, read_rows
from mizoo.export.bundle import write_forms
from mizoo.export.keras_file import as_half, check_stock, half_precision, save_keras
from mizoo.runs.folder import ENCODER, RECIPE
from mizoo.runs.provenance import training_facts
from mizoo.zoo import entries, interface, patches
from mizoo.zoo.loading import read_keras

if TYPE_CHECKING:
    import keras

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_OUTSIDE = re.compile(r"[/\\~]|[A-Za-z]:[\\/]|\.\.|.*\\")  # what a path begins with that leads out of a clone
_MAX_ROUNDING = 1e-2
_FIELDS = ("summary", "objective", "dataset", "paper", "license")


def publish(
    run_folder: str | os.PathLike,
    name: str,
    *,
    licence: str | None = None,
    replace: bool = False,
    new_version: bool = False,
    root: str | os.PathLike | None = None,
    images: np.ndarray | None = None,
    **fields: str,
) -> dict[str, Any]:
    """Publish the encoder of a run folder in half precision and pin the hashes of its files.

    Writes `models/<name>/encoder.keras` and `recipe.yaml`, `export/<name>/encoder.onnx` and `manifest.json`, and the
    entry in `mizoo/zoo/registry.json`, last. Both forms hold the same rounded weights, which is checked.

    No path of this machine is published: data that were read from a path are described by the name that `dataset`
    gives them, also in the recipe, and any other path in it that leads out of the clone, such as an `init_from`, by the
    name of its file or folder.

    Args:
        run_folder: holds `encoder.keras` and `recipe.yaml`. A recipe that the entry has already stays as it is
            written when both mean the same.
        name: the entry, lower-case words joined by underscores.
        licence: of the weights, such as "CC-BY-4.0". An entry that is replaced keeps its own by default; a new one has
            none.
        replace: allow an entry that exists to be replaced. Its rows are of other weights then and are taken out of
            `models/<name>/results.json`, those of random weights too if the architecture is another; make them and
            the card again.
        new_version: let the encoder be the next version of an entry that exists, whose files move to
            `models/<name>/v1` and `export/<name>/v1`: `mizoo.load("<name>@1")` goes on to give the same numbers. Rows
            as of `replace`; the old ones go along.
        root: the clone to write into; the one that this package is imported from if None.
        images: pictures to compare the forms on, as for `mizoo.export.export`.
        **fields: summary, objective, dataset, paper: the fields of the registry entry that differ from what the recipe
            gives; `dataset` is needed for data that were read from a path. `license` is another spelling of `licence`.

    Returns:
        The entry as the registry holds it.

    Raises:
        UserError: an entry that exists, no licence, a path in the place of the data's name, a folder that is no run
            folder or no clone, an encoder that is not made of stock layers or has weights that are not finite, or forms
            that differ; nothing that was there before is changed.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"The name of an entry is lower-case words joined by underscores. Received: {name!r}")
    root = _check_root(root)
    run = check_run(run_folder)
    registry_file = root / entries.REGISTRY
    old_entry = _check_registry(registry_file, name, replace, new_version).get(name, {})
    recipe = recipes.load(run / RECIPE)
    description = describe(recipe, fields, licence, old_entry.get("license"))
    _check_teachers(name, recipe)
    public = public_recipe(recipe, description["dataset"])

    folder = root / "models" / name
    old_rows = read_rows(folder / "results.json") if (folder / "results.json").is_file() else []
    trained = read_keras(run / ENCODER)[0]
    check_stock(trained)
    _check_finite(trained, run / ENCODER)
    encoder = half_precision(trained)
    with files.temporary_folder(folder) as temporary:
        (temporary / "forms").mkdir()
        manifest = _write_files(encoder, trained, name, temporary, images)
        if rate := getattr(recipe.encoder, "sampling_rate", None):
            manifest["input"]["sampling_rate"] = rate
        manifest["trained"] = public_facts(training_facts(run, recipe.init_from))
        written_files = _written_files(temporary)
        destinations = {"encoder.keras": f"models/{name}/encoder.keras", "encoder.onnx": f"export/{name}/encoder.onnx"}
        entry = {
            **description,
            "input": {key: value for key, value in manifest["input"].items() if key != "name"},
            "endpoints": manifest["endpoints"],
            "files": {file: {"path": destinations[file], **files.facts(written_files[file])} for file in destinations},
        }
        (root / "export" / name).mkdir(parents=True, exist_ok=True)
        recipe_stays = _same_recipe(folder / RECIPE, public)
        baselines = _valid_baselines(folder / "encoder.keras", encoder) if old_rows else ()
        recipe_text = (run / RECIPE).read_text(encoding="utf-8") if public == recipe else public.dump()
        with lock_file(registry_file):
            registry = _check_registry(registry_file, name, replace, new_version)  # another process may have published
            if new_version:
                entry |= _keep_version(root, name, registry[name])
            elif "earlier" in old_entry:
                entry |= {key: old_entry[key] for key in ("version", "earlier")}
            for file, destination in destinations.items():
                os.replace(written_files[file], root / destination)
            write_patch(root / destinations["encoder.keras"], root / destinations["encoder.onnx"])
            if not recipe_stays:
                files.write_text(folder / RECIPE, recipe_text)
            if (folder / "results.json").is_file():
                keep_rows(folder / "results.json", lambda row: row.encoder in baselines)
            files.write_json(root / "export" / name / "manifest.json", manifest)
            files.write_json(registry_file, dict(sorted({**registry, name: entry}.items())))
    return entry


def _check_registry(registry_file: Path, name: str, replace: bool, new_version: bool) -> dict[str, Any]:
    """The registry, if the entry may be written into it."""
    registry = json.loads(registry_file.read_text(encoding="utf-8"))
    if replace and new_version:
        raise UserError(
            "`replace` puts other weights in the place of the old ones, `new_version` keeps both: give one."
        )
    if new_version and name not in registry:
        raise UserError(f"{name} is not published yet: its first version needs no `new_version` (--new-version).")
    if name in registry and not (replace or new_version):
        raise UserError(
            f"{name} is published already. To keep it loadable as {name}@{registry[name].get('version', 1)} beside the "
            "new one: new_version=True (--new-version). To put other weights in its place: replace=True (--replace)."
        )
    return registry


def write_patch(keras_file: Path, onnx_file: Path) -> Path:
    """Write, beside the Keras file of an entry, the patch that makes it of the ONNX file: what a wheel carries."""
    import onnx

    wanted, source = keras_file.read_bytes(), onnx_file.read_bytes()
    weights = onnx.load_from_string(source).graph.initializer
    content = patches.make(wanted, source, [onnx.numpy_helper.to_array(tensor).tobytes() for tensor in weights])
    path = keras_file.with_name(keras_file.name + patches.SUFFIX)
    with files.atomic(path) as temporary:
        temporary.write_bytes(content)
    return path


def _keep_version(root: Path, name: str, old: dict[str, Any]) -> dict[str, Any]:
    """Copy what belongs to an entry's newest version into its own folder; the new entry's `version` and `earlier`."""
    number = int(old.get("version", 1))
    described = {key: value for key, value in old.items() if key not in ("version", "earlier", "files")}
    pinned = {}
    for file, facts in old["files"].items():
        kept = Path(facts["path"]).parent / f"v{number}"
        pinned[file] = {**facts, "path": (kept / file).as_posix()}
        _copy(root / facts["path"], root / kept)
    for folder, file in (("models", "results.json"), ("models", RECIPE), ("export", "manifest.json")):
        if (root / folder / name / file).is_file():
            _copy(root / folder / name / file, root / folder / name / f"v{number}")
    earlier = {**old.get("earlier", {}), str(number): {**described, "files": pinned}}
    return {"version": number + 1, "earlier": earlier}


def _copy(file: Path, folder: Path) -> None:
    with files.atomic(folder / file.name) as temporary:
        shutil.copyfile(file, temporary)


def _check_root(root: str | os.PathLike | None) -> Path:
    clone = entries.require_clone("Entries are published") if root is None else Path(root)
    for name in ("models", "export", entries.REGISTRY):
        if not (clone / name).exists():
            raise UserError(f"Entries are published from a clone of mizoo. {clone} has no {name}")
    return clone


def check_run(run_folder: str | os.PathLike) -> Path:
    """The path of a folder, once it is that of a run.

    Raises:
        UserError: otherwise.
    """
    run = files.user_path(run_folder)
    for name in (ENCODER, RECIPE):
        if not (run / name).is_file():
            raise UserError(f"A run folder holds {ENCODER} and {RECIPE}. {run} has no {name}")
    return run


def describe(
    recipe: recipes.Recipe, given: dict[str, str], licence: str | None, old_licence: str | None = None
) -> dict[str, str]:
    """The descriptive fields of an entry, from its recipe and from what the caller gives.

    Raises:
        UserError: no licence, a path in the place of the data's name, an unknown or an empty field.
    """
    if unknown := sorted(set(given) - set(_FIELDS)):
        raise UserError(f"The registry has the fields {', '.join(_FIELDS)}. Received: {', '.join(unknown)}")
    if licence is not None and "license" in given:
        raise UserError("`licence` and `license` are the same field: give one.")
    chosen = given.get("license", licence if licence is not None else old_licence)
    if chosen is None:
        raise UserError(
            "An entry says under which licence its weights may be used, and that is yours to choose. Give one by "
            "licence= (--licence), such as CC-BY-4.0 or CC0-1.0."
        )
    described = given.get("dataset", recipe.data.source)
    if "dataset" not in given and is_path(described):
        raise UserError(
            f"The data of this run were read from {described!r}, a path and no data set of TFDS, which says nothing to "
            "others and would be published. Give the data a name by dataset= (--dataset-name), such as "
            '"my photographs".'
        )
    if "dataset" in given and _OUTSIDE.match(described):
        raise UserError(f"The name of the data is published and is no path. Received: {described!r}")
    fields = {
        "summary": recipe.summary,
        "objective": recipe.objective.name,
        "dataset": recipe.data.source,
        "paper": recipe.objective.paper,
        **given,
        "license": chosen,
    }
    if empty := [field for field in _FIELDS if not fields[field].strip()]:
        raise UserError(
            f"The registry has for every entry its {', '.join(_FIELDS)}. Empty: {', '.join(empty)}. Give a `summary` "
            "in the recipe, the others as arguments."
        )
    return fields


def is_path(source: str) -> bool:
    """Whether the `data.source` of a recipe is a path, and not the name of a TFDS data set, as "emnist/balanced" is.

    A name that TFDS does not have is that of a folder where the run was trained, whatever the current folder holds;
    without TFDS or TensorFlow, only names with a slash are taken for one.
    """
    if files.user_path(source).is_dir() or _OUTSIDE.match(source) or source.startswith(".") or source.endswith("/"):
        return True
    return not _known_to_tfds(source)


def _known_to_tfds(name: str) -> bool:
    try:
        import tensorflow_datasets as tfds

        builder_cls = tfds.builder_cls
    except (ImportError, AttributeError):  # not installed, or without TensorFlow, and then imported by half
        return "/" not in name
    base, *config = name.partition(":")[0].split("/")  # ":" begins a version
    try:
        return set(config) <= set(builder_cls(base).builder_configs)
    except Exception:  # one of several errors for a name that it does not have
        return False


def public_recipe(recipe: recipes.Recipe, dataset: str) -> recipes.Recipe:
    """The recipe as it is published: names in the place of paths of this machine, in whatever key they stand."""
    changes: dict[str, Any] = {}
    if is_path(recipe.data.source):
        changes["data"] = recipe.data.model_copy(update={"source": dataset})
    if recipe.watch and is_path(recipe.watch.source):  # it decides nothing, and nobody else has these pictures
        changes["watch"] = None
    if recipe.search and recipe.search.source and is_path(recipe.search.source):
        changes["search"] = None
    if recipe.init_from and _OUTSIDE.match(recipe.init_from):
        changes["init_from"] = f"runs/{_public_name(recipe.init_from)}"
    return _without_paths(recipe.model_copy(update=changes), kept=("summary",))  # which is prose


def _without_paths(value: Any, kept: Sequence[str] = ()) -> Any:
    """A value of a recipe, or a section of it, with names in the place of paths that lead out of a clone."""
    if isinstance(value, str):
        return _public_name(value) if _OUTSIDE.match(value) else value
    if isinstance(value, BaseModel):
        return value.model_copy(update={key: _without_paths(each) for key, each in value if key not in kept})
    if isinstance(value, dict):
        return {key: _without_paths(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_without_paths, value))
    return value


def _public_name(path: str) -> str:
    """What a path of any system is called where it does not exist: as of `mizoo.zoo.interface.encoder_name`."""
    return interface.encoder_name(PureWindowsPath(path).as_posix())


def public_facts(facts: dict[str, Any] | None) -> dict[str, Any] | None:
    """How an encoder was trained, with names in the place of paths of this machine, which teachers may have."""
    if facts is None:
        return None
    public = dict(facts)
    if "teachers" in facts:
        public["teachers"] = {_without_paths(name): digest for name, digest in facts["teachers"].items()}
    if "before" in facts:
        public["before"] = public_facts(facts["before"])
    return public


def _check_finite(encoder: keras.Model, file: Path) -> None:
    for variable in encoder.variables:
        if not np.isfinite(np.asarray(variable, dtype="float32")).all():
            raise UserError(f"The weights {variable.path} of {file} are not finite, and such an encoder is of no use.")


def _check_teachers(name: str, recipe: recipes.Recipe) -> None:
    """Refuse teachers that are not published, or that are the entry itself: nobody could train it again."""
    for teacher, _ in recipe.objective.teacher_endpoints:
        if entries.is_entry(teacher):
            entries.entry(teacher)  # refuses a version that it does not have
        if not entries.is_entry(teacher) or teacher == name:
            raise UserError(
                f"The teachers of an entry are other entries, or nobody could train it again. Received: {teacher!r}"
            )


def _same_recipe(file: Path, recipe: recipes.Recipe) -> bool:
    """Whether the entry has a recipe of the same meaning, which stays: a run's writes out every default."""
    return file.is_file() and recipes.load(file).identity() == recipe.identity()


def _valid_baselines(file: Path, encoder: keras.Model) -> tuple[str, ...]:
    """The baselines whose rows hold for the new weights as well.

    Raw pixels depend on the input alone, random weights on the architecture. A file that is missing or damaged, which
    is then replaced, shows neither.
    """
    try:
        old = read_keras(file)[0]
    except UserError:
        return ()
    if interface.input_shape(old) != interface.input_shape(encoder):
        return ()
    return ("pixels", "random") if _architecture(old) == _architecture(encoder) else ("pixels",)


def _architecture(encoder: keras.Model) -> list[tuple[str, dict[str, Any], list]]:
    """Each layer's kind, its settings but for names, precision and initialisers, and the shapes of its weights."""
    ignored = re.compile(r"name|dtype|build_config|.*_initializer")
    return [
        (
            type(layer).__name__,
            {key: value for key, value in layer.get_config().items() if not ignored.fullmatch(key)},
            [tuple(weight.shape) for weight in layer.weights],
        )
        for layer in encoder.layers
    ]


def _written_files(folder: Path) -> dict[str, Path]:
    return {"encoder.keras": folder / "encoder.keras", "encoder.onnx": folder / "forms" / "encoder.onnx"}


def _write_files(
    encoder: keras.Model, trained: keras.Model, name: str, folder: Path, images: np.ndarray | None
) -> dict[str, Any]:
    """Write and check all files of an entry in `folder`; the manifest lists the two that are published."""
    manifest = write_forms(trained, name, folder / "forms", images)
    rounding = manifest["rounding_rms"]
    worst = max(rounding, key=rounding.get)
    if not rounding[worst] <= _MAX_ROUNDING:
        raise UserError(
            f"Half precision changes endpoint {worst!r} of {name} by {rounding[worst]:.2g} of its size (root mean "
            f"square), where {_MAX_ROUNDING:g} is allowed: its weights differ too much in size to be published so."
        )
    published = _written_files(folder)
    save_keras(encoder, published["encoder.keras"])
    _check_same_weights(encoder, published["encoder.keras"], published["encoder.onnx"])
    return {**manifest, "files": {file: files.facts(path) for file, path in published.items()}}


def _check_same_weights(encoder: keras.Model, keras_file: Path, onnx_file: Path) -> None:
    """Read both files back and compare every weight, bit for bit."""
    import onnx

    expected = {variable.path: np.asarray(variable) for variable in encoder.weights}
    loaded = {v.path: np.asarray(v) for v in read_keras(keras_file)[0].weights}
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(os.fspath(onnx_file)).graph.initializer}
    for path, value in expected.items():
        forms = [loaded.get(path)]
        if path in stored:
            forms.append(stored[path])
        for form in forms:
            if form is None or not np.array_equal(form.astype(value.dtype), value):
                raise UserError(f"A published file does not hold the rounded weights of {path}: it is written wrongly.")
    for path, value in expected.items():
        if value.ndim > 1 and (path not in stored or stored[path].dtype != as_half(value).dtype):
            raise UserError(f"The ONNX file does not hold the weights of {path} in half precision.")
