"""How encoders and values are written in tables."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterable, Sequence
from typing import Any

from mizoo._tools import markdown
from mizoo.evaluate.rows import CONTENT, ENCODERS, FULL_PRECISION, UNKNOWN, Row


def encoder_label(entry: str, encoder: str) -> str:
    """First cell of an encoder's line."""
    name = markdown.code(entry)
    return {"published": f"**{name}**", "random": f"{name}, random weights", "pixels": "raw pixels"}[encoder]


def data_label(rows: Sequence[Row]) -> str:
    """How a title names the data of its rows: by name, and by version or hash where all rows have the same."""
    first, sources = rows[0], {row.source for row in rows}
    name = markdown.plain(first.dataset)
    if first.tfds_name is None:
        name += f" (not of TFDS: SHA-256 `{first.source.removeprefix(CONTENT)[:12]}`)"
    elif len(sources) == 1 and (version := first.source.rpartition("/")[2]) not in ("", UNKNOWN):
        name += f" (version {markdown.plain(version)})"
    return name if first.precision in ("", FULL_PRECISION) else f"{name}, features in {markdown.code(first.precision)}"


def of_paper(row: Row, paper: dict[str, Any]) -> bool:
    """Whether a paper's table is about the data of a row: the TFDS data set of that name."""
    return row.tfds_name is not None and paper["dataset"] == row.dataset


def encoders_in_order(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """(entry, encoder) of the lines of a table: published weights first, then random ones, then raw pixels."""
    return sorted({(row.entry, row.encoder) for row in rows}, key=lambda key: (ENCODERS.index(key[1]), key[0]))


def paper_label(paper: dict[str, Any], row: dict[str, Any]) -> str:
    """First cell of a published line: the method, and its source as a link."""
    return f"{row['method']} ([{paper['source']}]({paper['url']}))"


def papers() -> list[dict[str, Any]]:
    """The papers' tables: source, url, dataset, split, protocol and rows (method, then endpoint -> value)."""
    text = importlib.resources.files("mizoo.report").joinpath("papers.json").read_text(encoding="utf-8")
    return json.loads(text)


def alternatives(values: Iterable[int]) -> str:
    """Numbers as they are written in a title: "1,000 or 2,000"."""
    return " or ".join(f"{value:,}" for value in sorted(set(values)))


def usual_order(names: Sequence[str]) -> list[str]:
    """Endpoints as columns: those that every encoder shares first, raw pixels last, the others as they come."""
    usual = ["local", "conv", "fc", "global"]
    seen = list(dict.fromkeys(names))
    first = [name for name in usual if name in seen]
    rest = [name for name in seen if name not in usual and name != "pixels"]
    return first + rest + ["pixels"] * ("pixels" in seen)
