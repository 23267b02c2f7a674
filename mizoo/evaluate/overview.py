"""What one chooses an entry by: its input, endpoints and size, its best accuracies, and its speed. No Keras."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from typing import Any

from mizoo._tools import markdown
from mizoo._tools.checks import check_choice
from mizoo.errors import UserError
from mizoo.evaluate.published import entry_rows
from mizoo.evaluate.rows import FULL_PRECISION, Row
from mizoo.evaluate.speed import KEY, read_manifest
from mizoo.zoo import entries

PROTOCOLS = ("linear", "knn")
_DESCRIBED = ("summary", "objective", "dataset", "license", "input", "endpoints")
_SORTS: dict[str, Callable[[dict[str, Any]], Any]] = {  # what sorts, the smallest first; None where it is not known
    "name": lambda each: each["name"],
    "size": lambda each: each["size"],
    "objective": lambda each: each["objective"],
    "linear": lambda each: each["linear"] and -each["linear"]["value"],
    "knn": lambda each: each["knn"] and -each["knn"]["value"],
    "speed": lambda each: each["speed"] and -each["speed"]["rate"],
}
SORTS = tuple(_SORTS)
"""What `overview` sorts by: names and sizes upwards, accuracies and speeds downwards."""


def overview(
    pattern: str = "*", sort: str = "name", warn: Callable[[str], object] = lambda message: None
) -> list[dict[str, Any]]:
    """The published entries, each with what one chooses by.

    Args:
        pattern: wildcards, as of `mizoo.list_models`.
        sort: one of `SORTS`; entries that lack it come last.
        warn: called with a line for each entry whose rows or manifest cannot be used, which then count as missing.

    Returns:
        A dict for each entry: name, summary, objective, dataset, license, input, endpoints (name -> shape) and `size`
        in bytes, as in the registry; `linear` and `knn`, the best of its endpoints by that protocol on the test split
        of the data that it was trained on (of several labels the hardest): value, endpoint, dataset, train_size and
        test_size; and `speed`, a `mizoo.evaluate.speed.Speed` as a dict. What was not measured is None.

    Raises:
        UserError: for an unknown `sort`.
    """
    check_choice(sort, "sort", SORTS)
    described = [_described(name, warn) for name in entries.list_models(pattern)]
    keyed = [(_SORTS[sort](each), each) for each in described]
    known = sorted((pair for pair in keyed if pair[0] is not None), key=lambda pair: (pair[0], pair[1]["name"]))
    return [each for _, each in known] + [each for key, each in keyed if key is None]


def _described(name: str, warn: Callable[[str], object]) -> dict[str, Any]:
    entry = entries.entry(name)
    rows, speed = [], None
    try:
        if entries.locate(f"models/{name}/results.json").is_file():
            rows = entry_rows(name)
        speed = read_manifest(name).get(KEY)
    except UserError as error:
        warn(f"{name}: {error}")
    sizes = {file: facts["bytes"] for file, facts in entry.get("files", {}).items()}
    return {
        "name": name,
        **{key: entry.get(key) for key in _DESCRIBED},
        "size": sizes.get("encoder.keras", max(sizes.values(), default=None)),
        **{protocol: best(rows, protocol, str(entry.get("dataset"))) for protocol in PROTOCOLS},
        "speed": speed,
    }


def best(rows: Iterable[Row], protocol: str, dataset: str) -> dict[str, Any] | None:
    """The best endpoint by one protocol, of published weights on the test split of a data set; None without rows.

    Args:
        rows: of one entry.
        protocol: of which a higher value is better.
        dataset: a name; of sounds with several labels, such as "spoken_digit/digit" and "spoken_digit/speaker", the one
            whose best endpoint is the worst counts.

    Returns:
        value, endpoint, dataset, train_size and test_size.
    """
    found: dict[str, Row] = {}
    for row in rows:
        whole = (row.protocol, row.encoder, row.split, row.precision or FULL_PRECISION)
        if whole != (protocol, "published", "test", FULL_PRECISION):
            continue
        if row.dataset != dataset and not row.dataset.startswith(f"{dataset}/"):
            continue
        if row.dataset not in found or row.value > found[row.dataset].value:
            found[row.dataset] = row
    if not found:
        return None
    row = min(found.values(), key=lambda each: each.value)
    keys = ("value", "endpoint", "dataset", "train_size", "test_size")
    return {key: getattr(row, key) for key in keys}


def recipes_alone(pattern: str = "*") -> list[str]:
    """The recipes that match, of folders without published weights: what `mizoo pretrain` takes and no other command.

    Args:
        pattern: wildcards, as of `mizoo.list_models`.
    """
    published = entries.registry()
    return [name for name in fnmatch.filter(entries.recipes(), pattern) if name.partition("/")[0] not in published]


HEAD = ("entry", "input", "endpoints", "size", "objective", "linear", "knn", "images/s")
"""Titles of the cells of a line."""


def cells(each: dict[str, Any]) -> list[str]:
    """One entry of `overview` as the cells of a line, "" for what is not known."""
    taken, speed = each["input"] or {}, each["speed"]
    rate = taken.get("sampling_rate")
    shape = "" if not taken.get("shape") else markdown.shape(taken["shape"])
    endpoints = (f"{key} {markdown.shape(value)}" for key, value in (each["endpoints"] or {}).items())
    return [
        each["name"],
        f"sound, {rate} Hz" if rate else shape,
        ", ".join(endpoints),
        "" if each["size"] is None else f"{each['size'] / 1e6:.1f} MB",
        each["objective"] or "",
        *(_accuracy(each[protocol]) for protocol in PROTOCOLS),
        "" if speed is None else f"{speed['rate']:,.0f}",
    ]


def _accuracy(found: dict[str, Any] | None) -> str:
    return "" if found is None else f"{found['value']:.2f} {found['endpoint']}"


def _data_of(listed: Iterable[dict[str, Any]]) -> set[str]:
    return {each["dataset"] for each in listed}


def legend(listed: Iterable[dict[str, Any]]) -> list[str]:
    """What the cells mean, in lines."""
    listed = list(listed)
    speeds = [each["speed"] for each in listed if each["speed"] is not None]
    lines = ["linear, knn: top-1 % of the best endpoint, on the test split of the data that it was trained on"]
    if labels := sorted({each["linear"]["dataset"] for each in listed if each["linear"]} - _data_of(listed)):
        lines[0] += f" (of several labels the hardest: {', '.join(labels)})"
    if speeds:
        where = "; ".join(sorted({each["hardware"] for each in speeds}))
        of_sounds = ", of sounds seconds a second" if any(each["unit"] != "pictures" for each in speeds) else ""
        lines.append(f"images/s: ONNX Runtime on {where}{of_sounds}")
    if unknown := [each["name"] for each in listed if each["speed"] is None]:
        lines.append(f"not timed yet: `mizoo speed {' '.join(unknown)}`")
    return lines
