"""The YAML block at the head of a model card, as the Hugging Face hub reads it.

Its keys are those of huggingface_hub's `ModelCardData`; `model-index` holds a metric for each row of the entry.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import yaml

from mizoo.evaluate.protocols import PROBES
from mizoo.evaluate.rows import TFDS, Row
from mizoo.recipes import OBJECTIVES
from mizoo.zoo import interface

REQUIRED = ("license", "library_name", "tags", "datasets", "metrics", "pipeline_tag")
"""Keys that the card of every published entry has, beside `model-index`."""

# Licences of weights that the hub knows by an identifier; any other is called "other" there, with its name beside it.
_LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "openrail")
_IDENTIFIER = re.compile(r"[\w.-]+(/[\w.-]+)?")  # of a data set; "my photographs" is none
_TASKS = {
    "pictures": ("image-feature-extraction", "image-classification"),
    "sounds": ("feature-extraction", "audio-classification"),
    "series": ("feature-extraction", "time-series-classification"),
}


def metadata(name: str, kind: str, info: dict[str, Any], rows: Iterable[Row]) -> dict[str, Any]:
    """The content of the block.

    Args:
        name: what the model is called.
        kind: "pictures", "sounds" or "series".
        info: license, objective, dataset and files, as in the registry.
        rows: of the entry; those of random weights and of raw pixels are not of this model, and left out.
    """
    rows = [row for row in rows if row.encoder == "published" and math.isfinite(row.value)]
    licence = info["license"].lower()
    known = {"license": licence} if licence in _LICENCES else {"license": "other", "license_name": info["license"]}
    onnx = ["onnx"] if interface.FILES["onnx"] in info["files"] else []
    block = {
        **known,
        "library_name": "keras",
        "pipeline_tag": _TASKS[kind][0],
        "tags": ["mizoo", "keras", *onnx, *_method(info["objective"]), info["objective"]],
        **({"datasets": [info["dataset"]]} if _IDENTIFIER.fullmatch(info["dataset"]) else {}),
        "metrics": list(dict.fromkeys(map(_metric, rows))) or ["accuracy"],
    }
    if rows:
        block["model-index"] = [{"name": name, "results": _results(rows, _TASKS[kind])}]
    return block


def _method(objective: str) -> tuple[str, ...]:
    """Tags of the kind of training."""
    known = OBJECTIVES.get(objective)
    if known is not None and known.takes_labels:
        return ("supervised-learning",)
    return ("mutual-information", "self-supervised-learning")


def front_matter(block: dict[str, Any]) -> str:
    """The block as the head of a Markdown page."""
    text = yaml.safe_dump(block, sort_keys=False, allow_unicode=True, default_flow_style=None, width=4000)
    return f"---\n{text}---\n"


def _metric(row: Row) -> str:
    return "accuracy" if row.protocol in PROBES else row.protocol


def _results(rows: list[Row], tasks: tuple[str, str]) -> list[dict[str, Any]]:
    """One result for each task and data, with a metric for each row."""
    results: dict[tuple, dict[str, Any]] = {}
    for row in rows:
        extraction, classification = tasks
        data = {"type": row.tfds_name or row.dataset, "name": row.dataset, "split": row.split}
        if config := row.dataset.removeprefix(data["type"]).strip("/"):
            data["config"] = config
        if row.source.startswith(TFDS):
            data["revision"] = row.source.rpartition("/")[2]
        task = classification if row.protocol in PROBES else extraction
        result = {"task": {"type": task}, "dataset": data, "metrics": []}
        results.setdefault((task, *data.values()), result)["metrics"].append(_entry(row))
    return list(results.values())


def _entry(row: Row) -> dict[str, Any]:
    schedule = row.settings.get("schedule") or row.settings.get("variant")
    called = f"{row.protocol} ({schedule})" if schedule else row.protocol
    arguments = {"endpoint": row.endpoint, "protocol": row.protocol, "spread": row.spread, "seeds": row.seeds}
    sizes = {"train_size": row.train_size, "test_size": row.test_size}
    metric = {"type": _metric(row), "value": row.value, "name": f"{called} of {row.endpoint}"}
    return {**metric, "args": {**arguments, **sizes, **({"schedule": schedule} if schedule else {})}}
