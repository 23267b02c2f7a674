"""A finished run as an entry of the zoo: both published files, the proof, and their hashes in the registry."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo import files
from mizoo.errors import UserError
from mizoo.portable import as_half, check_stock, half_precision, save_keras

if TYPE_CHECKING:
    import keras

    from mizoo import recipes

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_MAX_ROUNDING = 1e-2
_FIELDS = ("summary", "objective", "dataset", "paper", "license")
_LICENSE = "CC-BY-4.0"
_PAPERS = {  # by objective and number of views
    ("deep_infomax", 1): "Hjelm et al. 2018, Learning deep representations by mutual information estimation and "
    "maximization, arXiv:1808.06670",
    ("deep_infomax", 2): "Bachman et al. 2019, Learning representations by maximizing mutual information across views, "
    "arXiv:1906.00910",
    ("simclr", 2): "Chen et al. 2020, A simple framework for contrastive learning of visual representations, "
    "arXiv:2002.05709",
    ("distillation", 1): "Tian et al. 2020, Contrastive representation distillation, arXiv:1910.10699",
    ("deep_co_training", 2): "McAllester 2018, Information theoretic co-training, arXiv:1802.07572",
    (
        "cpc",
        1,
    ): "van den Oord et al. 2018, Representation learning with contrastive predictive coding, arXiv:1807.03748",
}


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
    entry in `mizoo/registry.json`, last. Both forms hold the same rounded weights, which is checked.

    Args:
        run_folder: holds `encoder.keras` and `recipe.yaml`. A recipe that the entry has already stays as it is
            written when it says the same.
        name: the entry, lower-case words joined by underscores.
        replace: allow an entry that exists to be replaced. Its rows are of other weights then and are taken out of
            `models/<name>/results.json`, those of random weights too if the architecture is another; make them and
            the card anew.
        root: the clone to write into; the one that this package is imported from if None.
        images: pictures to compare the forms on, as for `mizoo.export.export`.
        **fields: summary, objective, dataset, paper, license: what the registry says of the entry, where it differs
            from what the recipe says.

    Returns:
        The entry as the registry holds it.

    Raises:
        UserError: an entry that exists, a folder that is no run folder or no clone, an encoder that is not made of
            stock layers, or forms that differ; nothing that was there before is changed.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"The name of an entry is lower-case words joined by underscores. Received: {name!r}")
    root = _clone(root)
    run_folder = Path(run_folder)
    for needed in ("encoder.keras", "recipe.yaml"):
        if not (run_folder / needed).is_file():
            raise UserError(f"A run folder holds encoder.keras and recipe.yaml. {run_folder} has no {needed}")
    registry_file = root / "mizoo" / "registry.json"
    if name in json.loads(registry_file.read_text(encoding="utf-8")) and not replace:
        raise UserError(f"{name} is published already. To put other weights in its place: replace=True (--replace).")
    from mizoo import recipes

    recipe = recipes.load(run_folder / "recipe.yaml")
    described = _describe(recipe, fields)
    _check_teachers(name, recipe)

    import keras

    from mizoo.evaluate.rows import keep_rows, read_rows
    from mizoo.export import building, file_facts

    old = root / "models" / name
    measured = read_rows(old / "results.json") if (old / "results.json").is_file() else []
    given = keras.saving.load_model(run_folder / "encoder.keras", compile=False)
    check_stock(given)
    encoder = half_precision(given)
    with building(root / "models" / name) as folder:
        (folder / "forms").mkdir()
        manifest = _build(encoder, given, name, folder, images)
        if rate := getattr(recipe.encoder, "sampling_rate", None):
            manifest["input"]["sampling_rate"] = rate
        places = {
            "encoder.keras": f"models/{name}/encoder.keras",
            "encoder.onnx": f"export/{name}/encoder.onnx",
        }
        sources = {"encoder.keras": folder / "encoder.keras", "encoder.onnx": folder / "forms" / "encoder.onnx"}
        manifest["trained"] = _trained(run_folder, recipe.init_from)
        entry = {
            **described,
            "input": {key: value for key, value in manifest["input"].items() if key != "name"},
            "endpoints": manifest["endpoints"],
            "files": {file: {"path": places[file], **file_facts(sources[file])} for file in places},
        }
        (root / "export" / name).mkdir(parents=True, exist_ok=True)
        keeps_recipe = _says_the_same(old / "recipe.yaml", recipe)
        same_input, same = _compared(old / "encoder.keras", encoder) if measured else (False, False)
        for file, place in places.items():
            os.replace(sources[file], root / place)
        if not keeps_recipe:
            files.write_text(old / "recipe.yaml", (run_folder / "recipe.yaml").read_text(encoding="utf-8"))
        if measured:
            kept = {"pixels": same_input, "random": same}
            keep_rows(old / "results.json", lambda row: kept.get(row.encoder, False))
    files.write_json(root / "export" / name / "manifest.json", manifest)
    registry = json.loads(registry_file.read_text(encoding="utf-8"))
    files.write_json(registry_file, dict(sorted({**registry, name: entry}.items())))
    return entry


def _describe(recipe: recipes.Recipe, given: dict[str, str]) -> dict[str, str]:
    """What the registry says of an entry, from its recipe and from what the caller knows better."""
    if unknown := sorted(set(given) - set(_FIELDS)):
        raise UserError(f"The registry has the fields {', '.join(_FIELDS)}. Received: {', '.join(unknown)}")
    said = {
        "summary": recipe.summary,
        "objective": recipe.objective.name,
        "dataset": recipe.data.source,
        "paper": _PAPERS.get((recipe.objective.name, recipe.objective.views), ""),
        "license": _LICENSE,
        **given,
    }
    if empty := [field for field in _FIELDS if not said[field].strip()]:
        raise UserError(
            f"The registry says of every entry its {', '.join(_FIELDS)}. Empty: {', '.join(empty)}. Give a `summary` "
            "in the recipe, the others as arguments."
        )
    return said


def _check_teachers(name: str, recipe: recipes.Recipe) -> None:
    """A recipe that ships names teachers that ship, and none that it replaces."""
    from mizoo import zoo

    for teacher, _ in getattr(recipe.objective, "teachers", ()):
        if teacher not in zoo.registry() or teacher == name:
            raise UserError(
                f"The teachers of an entry are other entries, or nobody could train it again. Received: {teacher!r}"
            )


def _trained(run_folder: Path, init_from: str | None = None) -> dict[str, Any] | None:
    """How long the run took and on what, by its log, and the same of what it went on from; None without a log."""
    from mizoo.pretrain import LOG, MACHINE, read_log

    if not (run_folder / LOG).is_file():
        return None
    last = read_log(run_folder)[-1]
    machine = run_folder / MACHINE
    known = json.loads(machine.read_text(encoding="utf-8")) if machine.is_file() else {}
    took = {"epochs": int(last["epoch"]), "seconds": round(last["seconds"]), **known}
    return {**took, "before": _before(init_from)} if init_from else took


def _before(init_from: str) -> dict[str, Any]:
    """The hash of the encoder that a run went on from, and how long that one was trained as far as it is known.

    A published encoder is known by its hash wherever it lies: also the one that is about to be replaced. What a run
    folder itself went on from is told too, unless it is gone.
    """
    from mizoo import recipes, zoo

    try:
        file = zoo.encoder_file(init_from)
    except UserError as error:
        raise UserError(
            f"`init_from`: {error} The manifest records the hash of the encoder that a run went on from: put it back, "
            "or publish where it is."
        ) from error
    digest = files.sha256(file)
    took = _trained(file.parent) or {}
    if took and (file.parent / "recipe.yaml").is_file():
        further = recipes.load(file.parent / "recipe.yaml").init_from
        with contextlib.suppress(UserError):
            took |= {"before": _before(further)} if further else {}
    for name, entry in zoo.registry().items():
        if entry["files"]["encoder.keras"]["sha256"] == digest:
            manifest = json.loads(zoo.locate(f"export/{name}/manifest.json").read_text(encoding="utf-8"))
            took = manifest.get("trained") or {}
    return {"sha256": digest, **took}


def _says_the_same(file: Path, recipe: recipes.Recipe) -> bool:
    """Whether the entry's own recipe is there and may stay: a run writes out every default, it is the better read."""
    from mizoo import recipes

    return file.is_file() and recipes.load(file).deciding() == recipe.deciding()


def _compared(file: Path, encoder: keras.Model) -> tuple[bool, bool]:
    """Whether the encoder in a file takes the same input, and whether it is the same network but for its weights."""
    import keras

    try:
        old = keras.saving.load_model(file, compile=False)
    except (OSError, ValueError, TypeError, KeyError):  # none, or a damaged one, which is what is to be replaced
        return False, False
    same_input = old.input_shape == encoder.input_shape
    return same_input, same_input and _layers(old) == _layers(encoder)


def _layers(encoder: keras.Model) -> list[tuple[str, dict[str, Any], list]]:
    """What each layer is: its kind, its settings but for names, precision and how weights begin, and their shapes."""
    passing = re.compile(r"name|dtype|build_config|.*_initializer")
    return [
        (
            type(layer).__name__,
            {key: value for key, value in layer.get_config().items() if not passing.fullmatch(key)},
            [tuple(weight.shape) for weight in layer.weights],
        )
        for layer in encoder.layers
    ]


def _build(
    encoder: keras.Model, given: keras.Model, name: str, folder: Path, images: np.ndarray | None
) -> dict[str, Any]:
    """Write and check all files of an entry in `folder`; the manifest lists the two that are published."""
    from mizoo.export import build, file_facts

    manifest = build(given, name, folder / "forms", images)
    rounding = manifest["rounding_rms"]
    worst = max(rounding, key=rounding.get)
    if not rounding[worst] <= _MAX_ROUNDING:
        raise UserError(
            f"Half precision changes endpoint {worst!r} of {name} by {rounding[worst]:.2g} of its size (root mean "
            f"square), where {_MAX_ROUNDING:g} is allowed: its weights differ too much in size to be published so."
        )
    save_keras(encoder, folder / "encoder.keras")
    _check_same_weights(encoder, folder / "encoder.keras", folder / "forms" / "encoder.onnx")
    published = {"encoder.keras": folder / "encoder.keras", "encoder.onnx": folder / "forms" / "encoder.onnx"}
    return {**manifest, "files": {file: file_facts(path) for file, path in published.items()}}


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


def _clone(root: str | os.PathLike | None) -> Path:
    from mizoo import zoo

    root = zoo.needed_clone("Entries are published") if root is None else Path(root)
    for needed in ("models", "export", "mizoo/registry.json"):
        if not (root / needed).exists():
            raise UserError(f"Entries are published from a clone of mizoo. {root} has no {needed}")
    return root
