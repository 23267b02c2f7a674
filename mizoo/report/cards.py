"""The model card of an entry, written from its registry entry, recipe, rows and manifest."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mizoo import recipes
from mizoo._tools import markdown, yaml_text
from mizoo._tools.files import write_text
from mizoo._tools.locks import lock_file
from mizoo.errors import UserError
from mizoo.evaluate.published import entry_rows
from mizoo.evaluate.rows import Row, public_command
from mizoo.report.card_metadata import front_matter, metadata
from mizoo.report.tables import table
from mizoo.zoo import entries, interface

_OUR_LICENCE = "CC-BY-4.0"  # whose text is LICENSE-WEIGHTS
_GLOBAL = {  # matched prior -> what `global` is then
    "uniform": "\n\n`global` is the representation before the sigmoid that the prior sees.",
    "gaussian": "\n\n`global` is the representation that the Gaussian prior sees, without a sigmoid.",
}
SECTIONS = (
    "What it is",
    "Load it",
    "Endpoints",
    "Training",
    "Results",
    "Files",
    "Make it again",
    "Limits",
    "Licence",
    "Citation",
)


def card(name: str, address: str | None = None) -> str:
    """The model card of an entry as markdown, headed by the YAML block that the Hugging Face hub reads.

    Args:
        name: an entry of `mizoo.list_models()`, or one of its versions, such as "simclr_cifar10@1".
        address: what `mizoo.load` takes in the examples, such as "hf://owner/name"; the name if None.

    Returns:
        The text of models/<entry>/README.md, of an earlier version that of models/<entry>/v1/README.md.

    Raises:
        UserError: for an unknown entry, or one whose recipe, results or manifest is missing or of other weights.
    """
    info, folder = entries.info(name), entries.folder(name)
    if "/" not in folder:  # the newest version, by whatever name
        name = folder
    recipe = _yaml(entries.locate(f"models/{folder}/recipe.yaml"))
    manifest = _json(entries.locate(f"export/{folder}/manifest.json"))
    earlier = [f"models/{file.parent.name}/{file.name}" for file in recipes.ancestors(recipe.get("init_from"))]
    _check_hashes(folder, info, manifest)
    rows = entry_rows(name)
    written = describe(address or name, info, recipe, manifest.get("trained"), rows, earlier)
    written["Files"] = _files(info, manifest)
    if name == folder:  # the commands below make the newest version
        written["Make it again"] = _reproduce(name, recipe["name"], rows, earlier, _speed_command(manifest))
    return page(name, info, rows, written)


def describe(
    address: str,
    info: dict[str, Any],
    recipe: dict[str, Any],
    trained: dict[str, Any] | None,
    rows: list[Row],
    earlier: Sequence[str] = (),
) -> dict[str, str]:
    """Title -> text of the sections of a card that any encoder has.

    Args:
        address: what `mizoo.load` takes.
        info: summary, objective, dataset, paper, license, input, endpoints and files, as in the registry; of the files
            the names are enough.
        recipe: the content of its recipe.yaml.
        trained: how long and on what it was trained, as in a manifest.
        rows: its rows; none are possible.
        earlier: the recipes of the runs before it.
    """
    return {
        "What it is": _summary(info, _labels_used(recipe, trained)),
        "Load it": _example(address, info),
        "Endpoints": _endpoints(info, recipe),
        "Training": _training(recipe, trained, list(earlier)),
        **({"Results": _results(rows)} if rows else {}),
        "Limits": _limits(info, rows),
        "Licence": _licence(info),
        "Citation": _citation(info),
    }


def page(name: str, info: dict[str, Any], rows: list[Row], written: dict[str, str]) -> str:
    """A whole card: its head for the hub, its title, and its sections in their order."""
    head = front_matter(metadata(name, _kind(info), info, rows))
    sections = [
        f"{head}\n# {name}",
        "Written by `mizoo card`: change the recipe, the rows or the registry, not this page.",
    ]
    sections += [f"## {title}\n\n{written[title]}" for title in SECTIONS if title in written]
    return "\n\n".join(sections) + "\n"


def write_card(name: str) -> Path:
    """Write the model card of an entry beside its encoder and return its path; arguments and errors as for `card`."""
    clone = entries.require_clone("Cards are written")
    with lock_file(clone / "README.md"):
        path = entries.locate(f"models/{entries.folder(name)}/README.md")
        write_text(path, card(name))
    return path


def _check_hashes(folder: str, info: dict[str, Any], manifest: dict[str, Any]) -> None:
    for file, pinned in info["files"].items():
        described = manifest.get("files", {}).get(file, {}).get("sha256")
        if described != pinned["sha256"]:
            raise UserError(
                f"export/{folder}/manifest.json describes another {file} than the published one. Bring it back from "
                "the history of the clone, or publish the run again."
            )


def _objective(recipe: dict[str, Any]) -> recipes.objectives.ObjectiveSettings | None:
    """The objective of the content of a recipe; None for a class of somebody's own."""
    section = recipe.get("objective") or {}
    kind = recipes.OBJECTIVES.get(section.get("name", recipes.objectives.DEFAULT))
    return kind.model_validate(section) if kind else None


def _labels_used(recipe: dict[str, Any], trained: dict[str, Any] | None) -> bool:
    """Whether a run, or one whose weights it went on from, was trained with the labels of its data."""
    objective = _objective(recipe)
    if objective is not None and objective.takes_labels:
        return True
    while trained:
        if trained.get("labels"):
            return True
        trained = trained.get("before")
    return False


def _summary(info: dict[str, Any], labels: bool) -> str:
    return (
        f"{markdown.plain(info['summary'])}. A Keras model that turns {_inputs(info)} into features. Objective: "
        f"{markdown.plain(info['objective'])}. Trained on {markdown.plain(info['dataset'])} "
        f"{'with' if labels else 'without'} labels. Paper: {markdown.plain(info['paper'])}."
    )


def _inputs(info: dict[str, Any]) -> str:
    """What goes in: "sounds (samples in -1 to 1 at 8000 Hz)"."""
    kind, shape = _kind(info), info["input"]["shape"]
    if kind == "sounds":
        rate = info["input"].get("sampling_rate")
        return f"sounds (samples in -1 to 1{f' at {rate} Hz' if rate else ''})"
    if kind == "series":
        return f"series ({_values(shape)} a step)"
    size = "of any size" if None in shape else markdown.shape(shape)
    return f"pictures ({size}, decoded values {info['input']['range'][0]} to {info['input']['range'][1]})"


def _values(shape: list[int | None]) -> str:
    """How many numbers a step of a series has."""
    return f"{shape[1]} value{'' if shape[1] == 1 else 's'}"


def _example(name: str, info: dict[str, Any]) -> str:
    first = next(key for key in ("fc", "global", *info["endpoints"]) if key in info["endpoints"])
    kind = _kind(info)
    what, given = {"pictures": ("pictures", "images"), "sounds": ("samples", "samples")}.get(kind, (kind, kind))
    fast = f'fast = mizoo.load("{name}", runtime="onnx")     # the same call without Keras\n'
    return f"""```python
import mizoo

encoder = mizoo.load("{name}")                  # a keras.Model: {what} in, a dict of endpoints out
features = encoder({given})["{first}"]

one = mizoo.load("{name}", endpoint="{first}")  # a keras.Model with one output, to fine-tune
{fast if interface.FILES["onnx"] in info["files"] else ""}```

`encoder.keras` also loads with `keras.saving.load_model` alone: it is made of stock layers."""


def _endpoints(info: dict[str, Any], recipe: dict[str, Any]) -> str:
    body = [
        [markdown.code(name), markdown.shape(shape, " x "), _value_count(shape)]
        for name, shape in info["endpoints"].items()
    ]
    text = markdown.table(["endpoint", "shape", "values"], body)
    if _kind(info) == "sounds" and {"local", "context", "global"} <= set(info["endpoints"]):
        text += "\n\n`local` are the frames, `context` sums up the past at each, and `global` is the mean of `context`."
    elif "global" in info["endpoints"] and (objective := _objective(recipe)) is not None:
        text += _GLOBAL.get(objective.matched_prior, "")
    return text


def _value_count(shape: list[int | None]) -> str:
    """How many numbers an endpoint has, by frame or by position of a map where their number is free."""
    values = math.prod(size for size in shape if size)
    return f"{values:,} a {'position' if shape.count(None) > 1 else 'frame'}" if None in shape else f"{values:,}"


def _training(recipe: dict[str, Any], trained: dict[str, Any] | None, earlier: list[str]) -> str:
    body = [["`init_from`", markdown.plain(recipe["init_from"])]] if recipe.get("init_from") else []
    for section, keys in recipe.items():
        if isinstance(keys, dict):
            body += [[markdown.code(f"{section}.{key}"), markdown.plain(_value(value))] for key, value in keys.items()]
    data = recipe.get("data", {})
    split, source = markdown.code(data.get("split")), markdown.plain(data.get("source"))
    objective = _objective(recipe)
    used = "its labels are the targets" if objective and objective.takes_labels else "labels are not used"
    text = f"Data: split {split} of {source}; {used}. "
    if trained:
        text += _duration(trained) + ". " + _teachers(trained)
        subject, ancestor = "The run", trained.get("before")
        while ancestor:
            duration = f" ({_duration(ancestor)})" if "epochs" in ancestor else ""
            text += (
                f"{subject} started with the weights of the encoder with the SHA-256 `{ancestor['sha256']}`{duration}. "
            )
            text += _teachers(ancestor)
            text += "It was trained with labels. " if ancestor.get("labels") else ""
            subject, ancestor = "That one", ancestor.get("before")
    if len(earlier) == 1:
        text += f"The recipe of that encoder is {markdown.code(earlier[0])}. "
    elif earlier:
        named = ", ".join(map(markdown.code, earlier))
        text += f"The recipes of the earlier runs are, in this order, {named}. "
    return text + "The recipe (`recipe.yaml`):\n\n" + markdown.table(["key", "value"], body)


def _duration(trained: dict[str, Any]) -> str:
    where = ""
    if "hardware" in trained:
        where = f" on {markdown.plain(trained['hardware'])}, {markdown.plain(trained['backend'])} backend"
    return f"{trained['epochs']} epochs took {trained['seconds'] / 60:.0f} minutes{where}"


def _teachers(trained: dict[str, Any]) -> str:
    named = [f"{markdown.code(name)} (SHA-256 `{digest}`)" for name, digest in trained.get("teachers", {}).items()]
    return f"The teachers were {' and '.join(named)}. " if named else ""


def _results(rows: list[Any]) -> str:
    hardware = sorted({row.hardware for row in rows})
    versions = sorted({row.version for row in rows})
    seconds = sum(row.seconds for row in rows)
    made = f"{markdown.plain(', '.join(versions))} on {markdown.plain('; '.join(hardware))}"
    return (
        table(rows)
        + "\n\nEvery number is a row of `results.json`, with its settings, command and time. Made with mizoo "
        f"{made}, in {seconds / 60:.0f} minutes of fitting and scoring."
    )


def _files(info: dict[str, Any], manifest: dict[str, Any]) -> str:
    body = [[f"`{f['path']}`", f"{f['bytes'] / 1e6:.1f} MB", f"`{f['sha256']}`"] for f in info["files"].values()]
    text = markdown.table(["file", "size", "SHA-256"], body)
    text += "\n\nBoth hold the same weights, stored in half precision."
    worst = [
        f"{markdown.code(endpoint)} {difference:.1e}"
        for endpoint, difference in _largest(manifest.get("differences", {})).items()
    ]
    if worst:
        text += (
            f" Largest difference from Keras over {manifest['pictures']} {_kind(manifest)}, relative to the largest "
            f"value: {', '.join(worst)}."
        )
    if speed := manifest.get("speed"):
        where = f"on {markdown.plain(speed['hardware'])}, in batches of {speed['batch_size']}"
        text += f" ONNX Runtime encodes {speed['rate']:,.0f} {speed['unit']} a second {where}."
    return text


def _reproduce(name: str, run: str, rows: list[Any], earlier: list[str], speed: list[str]) -> str:
    commands = list(dict.fromkeys(public_command(row) for row in sorted(rows, key=lambda r: r.encoder != "published")))
    lines = [f"mizoo pretrain {file}" for file in earlier]
    lines += [f"mizoo pretrain {name}", f"mizoo publish runs/{run} {name} --replace", *commands]
    lines += [*speed, f"mizoo card {name}"]
    return (
        "In a clone, with the data set in `TFDS_DATA_DIR`:\n\n" + markdown.fenced(lines) + "\n\n"
        "The order of the data, the augmentation and the noise are functions of (seed, epoch, step); weights agree "
        "between machines only as far as their arithmetic does."
    )


def _speed_command(manifest: dict[str, Any]) -> list[str]:
    return [manifest["speed"]["command"]] if "speed" in manifest else []


def _kind(described: dict[str, Any]) -> str:
    """What an entry takes, from its registry entry or its manifest; old manifests do not give it, and take pictures."""
    return interface.kind_of(described.get("input", {}).get("shape", (0, 0, 0)))


def _limits(info: dict[str, Any], rows: list[Row]) -> str:
    kind, shape, rate = _kind(info), info["input"]["shape"], info["input"].get("sampling_rate")
    if rate:
        scope = (
            f"- It covers frequencies up to {rate // 2} Hz; sounds of another sampling rate have to be resampled to "
            f"{rate} Hz.\n"
        )
    elif kind == "sounds":
        scope = "- The sampling rate of its sounds is not recorded; at another one its features mean nothing.\n"
    elif kind == "series":
        scope = f"- It takes series of {_values(shape)} a step, in the order and on the scale of its training.\n"
    elif None in shape:
        scope = "- It takes pictures of any size; objects of another size than in its training may go unrecognised.\n"
    else:
        scope = (
            f"- It takes {shape[0]}x{shape[1]} pixels: larger pictures are resized and cropped, and detail below that "
            "is lost.\n"
        )
    accuracies = "The accuracies above are" if rows else "Accuracies, where they are given, are"
    return (
        scope
        + f"- It was trained on {markdown.plain(info['dataset'])} alone; on other kinds of {kind} its features may be "
        "no better than those of random weights. Measure before relying on them.\n"
        f"- {accuracies} of probes fitted with labels of the same data set; no number above is about "
        f"fairness or about robustness to corrupted or adversarial {kind}.\n"
        f"- Features are not a way of making {kind} anonymous."
    )


def _licence(info: dict[str, Any]) -> str:
    where = " (`LICENSE-WEIGHTS`)" if info["license"] == _OUR_LICENCE else ""
    return f"Weights: {markdown.plain(info['license'])}{where}. Code: Apache-2.0 (`LICENSE`)."


def _citation(info: dict[str, Any]) -> str:
    return f"The method: {markdown.plain(info['paper'])}. This implementation: `CITATION.cff`."


def _largest(differences: dict[str, Any]) -> dict[str, float]:
    """Endpoint -> largest difference over the exported forms; takes {form: {endpoint: x}} or {endpoint: x}."""
    largest: dict[str, float] = {}
    for key, value in differences.items():
        for endpoint, difference in value.items() if isinstance(value, dict) else [(key, value)]:
            largest[endpoint] = max(largest.get(endpoint, 0.0), difference)
    return largest


def _value(value: Any) -> str:
    if not isinstance(value, (list, tuple)):
        return str(value)
    return ", ".join(f"({_value(item)})" if isinstance(item, (list, tuple)) else str(item) for item in value)


def _yaml(path: Path) -> dict[str, Any]:
    return yaml_text.parse(_text(path))


def _json(path: Path) -> dict[str, Any]:
    return json.loads(_text(path))


def _text(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"A model card needs {path}, which is not there. Publish, export and evaluate the entry first")
    return path.read_text(encoding="utf-8")
