"""A finished run as an entry of the zoo: both published files, the proof, and their hashes in the registry."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo import recipes
from mizoo._tools import files
from mizoo.errors import UserError
from mizoo.evaluate.rows import keep_rows, read_rows
from mizoo.export.bundle import write_forms
from mizoo.export.keras_file import as_half, check_stock, half_precision, save_keras
from mizoo.runs.folder import ENCODER, RECIPE
from mizoo.runs.provenance import training_facts
from mizoo.zoo import entries, interface

if TYPE_CHECKING:
    import keras

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_MAX_ROUNDING = 1e-2
_FIELDS = ("summary", "objective", "dataset", "paper", "license")
_LICENSE = "CC-BY-4.0"


def publish(
    run_folder: str | os.PathLike,
    name: str,
    *,
    replace: bool = False,
    root: str | os.PathLike | None = None,
    images: np.ndarray | None = None,
    **fields: str,
) -> dict[str, Any]:
    """Publish the encoder of a run folder in half precision and pin the hashes of its files.

    Writes `models/<name>/encoder.keras` and `recipe.yaml`, `export/<name>/encoder.onnx` and `manifest.json`, and the
    entry in `mizoo/zoo/registry.json`, last. Both forms hold the same rounded weights, which is checked.

    Args:
        run_folder: holds `encoder.keras` and `recipe.yaml`. A recipe that the entry has already stays as it is
            written when both mean the same.
        name: the entry, lower-case words joined by underscores.
        replace: allow an entry that exists to be replaced. Its rows are of other weights then and are taken out of
            `models/<name>/results.json`, those of random weights too if the architecture is another; make them and
            the card again.
        root: the clone to write into; the one that this package is imported from if None.
        images: pictures to compare the forms on, as for `mizoo.export.export`.
        **fields: summary, objective, dataset, paper, license: the fields of the registry entry that differ from what
            the recipe gives.

    Returns:
        The entry as the registry holds it.

    Raises:
        UserError: an entry that exists, a folder that is no run folder or no clone, an encoder that is not made of
            stock layers, or forms that differ; nothing that was there before is changed.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"The name of an entry is lower-case words joined by underscores. Received: {name!r}")
    root = _check_root(root)
    run = _check_run(Path(run_folder))
    registry_file = root / entries.REGISTRY
    if name in json.loads(registry_file.read_text(encoding="utf-8")) and not replace:
        raise UserError(f"{name} is published already. To put other weights in its place: replace=True (--replace).")
    recipe = recipes.load(run / RECIPE)
    description = _describe(recipe, fields)
    _check_teachers(name, recipe)

    import keras

    folder = root / "models" / name
    old_rows = read_rows(folder / "results.json") if (folder / "results.json").is_file() else []
    trained = keras.saving.load_model(run / ENCODER, compile=False)
    check_stock(trained)
    encoder = half_precision(trained)
    with files.temporary_folder(folder) as temporary:
        (temporary / "forms").mkdir()
        manifest = _write_files(encoder, trained, name, temporary, images)
        if rate := getattr(recipe.encoder, "sampling_rate", None):
            manifest["input"]["sampling_rate"] = rate
        manifest["trained"] = training_facts(run, recipe.init_from)
        written_files = _written_files(temporary)
        destinations = {"encoder.keras": f"models/{name}/encoder.keras", "encoder.onnx": f"export/{name}/encoder.onnx"}
        entry = {
            **description,
            "input": {key: value for key, value in manifest["input"].items() if key != "name"},
            "endpoints": manifest["endpoints"],
            "files": {file: {"path": destinations[file], **files.facts(written_files[file])} for file in destinations},
        }
        (root / "export" / name).mkdir(parents=True, exist_ok=True)
        recipe_stays = _same_recipe(folder / RECIPE, recipe)
        baselines = _valid_baselines(folder / "encoder.keras", encoder) if old_rows else ()
        for file, destination in destinations.items():
            os.replace(written_files[file], root / destination)
        if not recipe_stays:
            files.write_text(folder / RECIPE, (run / RECIPE).read_text(encoding="utf-8"))
        if old_rows:
            keep_rows(folder / "results.json", lambda row: row.encoder in baselines)
    files.write_json(root / "export" / name / "manifest.json", manifest)
    registry = json.loads(registry_file.read_text(encoding="utf-8"))
    files.write_json(registry_file, dict(sorted({**registry, name: entry}.items())))
    return entry


def _check_root(root: str | os.PathLike | None) -> Path:
    clone = entries.require_clone("Entries are published") if root is None else Path(root)
    for name in ("models", "export", entries.REGISTRY):
        if not (clone / name).exists():
            raise UserError(f"Entries are published from a clone of mizoo. {clone} has no {name}")
    return clone


def _check_run(run: Path) -> Path:
    for name in (ENCODER, RECIPE):
        if not (run / name).is_file():
            raise UserError(f"A run folder holds {ENCODER} and {RECIPE}. {run} has no {name}")
    return run


def _describe(recipe: recipes.Recipe, given: dict[str, str]) -> dict[str, str]:
    """The descriptive fields of an entry, from its recipe and from what the caller gives."""
    if unknown := sorted(set(given) - set(_FIELDS)):
        raise UserError(f"The registry has the fields {', '.join(_FIELDS)}. Received: {', '.join(unknown)}")
    fields = {
        "summary": recipe.summary,
        "objective": recipe.objective.name,
        "dataset": recipe.data.source,
        "paper": recipe.objective.paper,
        "license": _LICENSE,
        **given,
    }
    if empty := [field for field in _FIELDS if not fields[field].strip()]:
        raise UserError(
            f"The registry has for every entry its {', '.join(_FIELDS)}. Empty: {', '.join(empty)}. Give a `summary` "
            "in the recipe, the others as arguments."
        )
    return fields


def _check_teachers(name: str, recipe: recipes.Recipe) -> None:
    """Refuse teachers that are not published, or that are the entry itself: nobody could train it again."""
    for teacher, _ in recipe.objective.teacher_endpoints:
        if teacher not in entries.registry() or teacher == name:
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
    import keras

    try:
        old = keras.saving.load_model(file, compile=False)
    except (OSError, ValueError, TypeError, KeyError):
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
    import keras
    import onnx

    expected = {variable.path: np.asarray(variable) for variable in encoder.weights}
    loaded = {v.path: np.asarray(v) for v in keras.saving.load_model(keras_file, compile=False).weights}
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
