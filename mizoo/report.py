"""Rows -> tables, and the blocks of the README that hold them. Model cards: `mizoo.cards`."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mizoo import benchmark_tables
from mizoo.cards import card, write_card
from mizoo.errors import UserError
from mizoo.evaluate.protocols import ALL, MEASURES, PROBES
from mizoo.evaluate.rows import Row, read_rows
from mizoo.files import write_text
from mizoo.markdown import markdown, number
from mizoo.measures_table import measures_table
from mizoo.zoo import needed_clone

__all__ = [
    "card",
    "entry_rows",
    "published",
    "report",
    "table",
    "write_card",
]

_BLOCK = re.compile(r"(<!-- table: (?P<name>[^>]*?) -->\n)(?P<body>.*?)(<!-- /table -->)", re.DOTALL)
_OPENING = re.compile(r"<!-- table: ")


def table(rows: Iterable[Row], compare: bool = True) -> str:
    """Markdown tables of rows: of probes one for each data set, split, protocol and schedule, endpoints as columns; of
    the measures without labels one for each data set, split and endpoint, measures as columns.

    Args:
        rows: from `mizoo.evaluate` or a results file.
        compare: put the published rows of the papers below ours where data set, split and protocol are the same, and
            theirs of the measures in a table of their own.

    Returns:
        The tables, each under a line that names what it holds, or "" for no rows.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    rows = list(rows)
    measured = [row for row in rows if row.protocol in MEASURES]
    for row in rows:
        if row.protocol in MEASURES:
            continue
        key = (row.dataset, row.split, row.protocol, str(row.settings.get("schedule", "")))
        groups.setdefault(key, []).append(row)
    order = list(PROBES)
    ranked = sorted(groups, key=lambda key: (key[:2], order.index(key[2]) if key[2] in order else len(order), key))
    written = [_one_table(groups[key], compare) for key in ranked]
    if measured:
        written.append(measures_table(measured, published() if compare else ()))
    return "\n\n".join(written)


def published() -> list[dict[str, Any]]:
    """The papers' tables: source, url, dataset, split, protocol and rows (method, then endpoint -> value)."""
    return json.loads(importlib.resources.files("mizoo").joinpath("published.json").read_text(encoding="utf-8"))


def entry_rows(name: str) -> list[Row]:
    """The rows of one entry.

    Raises:
        UserError: for an unknown entry, one without results, or results of weights that are not the published ones.
    """
    from mizoo import zoo

    pinned = zoo.info(name)["files"].get("encoder.keras", {}).get("sha256", "")
    rows = read_rows(zoo.locate(f"models/{name}/results.json"))
    for row in rows:
        weights = row.settings.get("weights")
        if weights is not None and weights != pinned:
            raise UserError(
                f"The rows of {name} were measured on other weights than the published ones. Make them again: "
                f"`{row.command}`"
            )
    return rows


def report(root: str | os.PathLike | None = None) -> list[Path]:
    """Write the marked tables in README.md and docs/*.md again.

    A block starts with `<!-- table: NAME -->` and ends with `<!-- /table -->`, each on its own line. NAME is
    `<protocol> <dataset>` (such as `mlp200 cifar10`, with `measures` for all that take no labels), `entries`,
    `probe schedule`, `augment cost`, `spoken digit`, or `trials <entry>`.

    Args:
        root: the clone; the one this package is imported from by default.

    Returns:
        The files that hold a block, whether their text changed or not.

    Raises:
        UserError: for an unknown NAME, a block without an end, or rows that are missing; no file is changed then.
    """
    root = needed_clone("Tables are written") if root is None else Path(root)
    pages = [page for page in [root / "README.md", *sorted((root / "docs").glob("*.md"))] if page.is_file()]
    if not pages:
        raise UserError(f"Tables are written into the README.md of a clone of mizoo. {root} has none")
    texts = {}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        if len(_OPENING.findall(text)) != len(_BLOCK.findall(text)):
            raise UserError(f"A table block in {page} has no end. Close it with a line `<!-- /table -->`")
        if _OPENING.search(text):
            texts[page] = (text, _BLOCK.sub(lambda found: _filled(found, root), text))
    for page, (before, after) in texts.items():
        if after != before:
            write_text(page, after)
    return list(texts)


def _one_table(rows: list[Row], compare: bool) -> str:
    first = rows[0]
    papers = [
        paper
        for paper in (published() if compare else [])
        if (paper["dataset"], paper["split"], paper["protocol"]) == (first.dataset, first.split, first.protocol)
    ]
    # Numbers that a source took by a rule of its own ("beside") stand in columns of their own.
    columns = _columns(rows) + [column for paper in papers for column in paper.get("beside", ())]
    body = []
    for entry, encoder in sorted({(r.entry, r.encoder) for r in rows}, key=lambda key: (encoder_rank(key[1]), key[0])):
        cells = {
            r.endpoint: number(r.value, r.spread if r.seeds > 1 else None)
            for r in rows
            if (r.entry, r.encoder) == (entry, encoder)
        }
        body.append([encoder_label(entry, encoder), *(cells.get(column, "") for column in columns)])
    for paper in papers:
        for row in paper["rows"]:
            label = f"{row['method']} ([{paper['source']}]({paper['url']}))"
            body.append([label, *(number(row[column]) if column in row else "" for column in columns)])
    return _title(rows) + "\n\n" + markdown(["encoder", *columns], body)


def _title(rows: list[Row]) -> str:
    first = rows[0]
    sizes = sorted({(row.train_size, row.test_size) for row in rows})
    what = "clips" if first.dataset.startswith("spoken_digit/") else "pictures"
    counts = " or ".join(f"{train:,} training and {test:,} scored {what}" for train, test in sizes)
    text = f"{ALL[first.protocol].about if first.protocol in ALL else f'`{first.protocol}`'}"
    if "schedule" in first.settings:
        text += f", schedule `{first.settings['schedule']}`"
    seeds = sorted({row.seeds for row in rows})
    if seeds[-1] > 1:
        text += f"; mean ± standard deviation over {' or '.join(map(str, seeds))} seeds"
    return f"Top-1 accuracy in % on {first.dataset}, {first.split} split ({counts}). Protocol {text}."


def _columns(rows: list[Row]) -> list[str]:
    # Python keeps the order of first sight: that of the encoder when rows come from `evaluate`, so a fixed order is
    # imposed only on the names that every encoder shares.
    usual = ["local", "conv", "fc", "global"]
    seen = list(dict.fromkeys(row.endpoint for row in rows))
    named = [name for name in usual if name in seen]
    return named + [name for name in seen if name not in usual and name != "pixels"] + ["pixels"] * ("pixels" in seen)


def encoder_rank(encoder: str) -> int:
    """Place of a kind of encoder in a table: the published one stands first."""
    return ("published", "random", "pixels").index(encoder)


def encoder_label(entry: str, encoder: str) -> str:
    """First cell of an encoder's line."""
    return {"published": f"**`{entry}`**", "random": f"`{entry}`, random weights", "pixels": "raw pixels"}[encoder]


def _filled(found: re.Match, root: Path) -> str:
    return f"{found[1]}{_block(found['name'], root)}\n{found[4]}"


def _block(name: str, root: Path) -> str:
    from mizoo import zoo

    if name == "probe schedule":
        return benchmark_tables.schedule(root / "benchmarks" / "probe_schedule.json")
    if name == "entries":
        return _entries_table()
    if name == "augment cost":
        return benchmark_tables.augment(root / "benchmarks" / "augment_cost.json")
    if name == "spoken digit":
        return benchmark_tables.spoken_digit(root / "benchmarks" / "spoken_digit.json")
    if name.startswith("trials "):
        return benchmark_tables.trials(root / "benchmarks" / "recipe_trials.json", name.removeprefix("trials "))
    protocol, _, dataset = name.partition(" ")
    if protocol not in (*PROBES, "measures") or not dataset:
        raise UserError(
            f"No table is called {name!r}. There are: entries, probe schedule, augment cost, spoken digit, trials "
            f"<entry>, and <protocol> <dataset> with protocol one of {', '.join(PROBES)}, measures"
        )
    rows = [row for entry in zoo.list_models() for row in entry_rows(entry)]
    names = MEASURES if protocol == "measures" else (protocol,)
    rows = [r for r in rows if r.protocol in names and (r.dataset, r.split) == (dataset, "test")]
    if not rows:
        raise UserError(f"No entry has rows of {protocol} on the test split of {dataset}. Run `mizoo evaluate` first")
    return table(rows)


def _entries_table() -> str:
    from mizoo import zoo

    body = []
    for name in zoo.list_models():
        info = zoo.info(name)
        size = info["files"]["encoder.keras"]["bytes"] / 1e6
        ends = ", ".join(f"`{k}` {'x'.join(map(str, v))}" for k, v in info["endpoints"].items())
        body.append([f"[`{name}`](models/{name}/README.md)", info["summary"], ends, f"{size:.1f} MB"])
    return markdown(["entry", "what it is", "endpoints", "size"], body)
