"""Rows -> tables, and the blocks of the README that hold them. Model cards: `mizoo.cards`."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mizoo.cards import card, write_card
from mizoo.errors import UserError
from mizoo.evaluate.protocols import ALL, MEASURES, PROBES
from mizoo.evaluate.rows import Row, read_rows
from mizoo.files import write_text
from mizoo.measures_table import measures_table

__all__ = [
    "augment_table",
    "card",
    "entry_rows",
    "published",
    "report",
    "schedule_table",
    "table",
    "trials_table",
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
    `probe schedule`, `augment cost`, or `trials <entry>`.

    Args:
        root: the clone; the one this package is imported from by default.

    Returns:
        The files that hold a block, whether their text changed or not.

    Raises:
        UserError: for an unknown NAME, a block without an end, or rows that are missing; no file is changed then.
    """
    root = Path(__file__).resolve().parent.parent if root is None else Path(root)
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


def schedule_table(path: str | os.PathLike) -> str:
    """How the schedules of `mlp200` agree, as a markdown table.

    Args:
        path: what `benchmarks/probe_schedule.py` wrote.
    """
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    by_key: dict[tuple[str, str], dict[str, dict]] = {}
    for row in content["rows"]:
        by_key.setdefault((row["encoder"], row["endpoint"]), {})[row["schedule"]] = row
    body = []
    for (encoder, endpoint), found in by_key.items():
        if {"paper", "fast"} <= set(found):
            paper, fast = found["paper"], found["fast"]
            body.append(
                [
                    encoder,
                    endpoint,
                    _number(paper["mean"], paper["spread"]),
                    _number(fast["mean"], fast["spread"]),
                    f"{fast['mean'] - paper['mean']:+.2f}",
                    f"{paper['cpu_seconds']:.0f}",
                    f"{fast['cpu_seconds']:.0f}",
                ]
            )
    head = ["encoder", "endpoint", "paper", "fast", "difference", "paper, CPU s", "fast, CPU s"]
    title = (
        "Top-1 % of `mlp200` on the last 5,000 pictures of the CIFAR-10 training split, mean ± standard deviation "
        f"over {content['seeds']} seeds. {content['hardware']}."
    )
    return title + "\n\n" + markdown(head, body)


def trials_table(path: str | os.PathLike, entry: str) -> str:
    """What single changes of an entry's recipe are worth in short runs, as a markdown table.

    Args:
        path: what `benchmarks/recipe_trials.py` wrote.
        entry: the entry whose recipe was changed.

    Raises:
        UserError: if no trial of the entry was run, or its own recipe was not.
    """
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    rows = [row for row in content["rows"] if row["entry"] == entry]
    trials: dict[str, dict[str, dict]] = {}
    for row in rows:
        trials.setdefault(row["trial"], {})[row["endpoint"]] = row
    if "recipe" not in trials:
        raise UserError(
            f"The trials of {entry} have no row of its own recipe: `benchmarks/recipe_trials.py {entry} recipe`"
        )
    own = trials.pop("recipe")
    ends = list(own)

    def line(name: str, found: dict[str, dict]) -> list[str]:
        cells = []
        for end in ends:
            cell = _number(found[end]["value"], found[end]["spread"])
            cells.append(cell if found is own else f"{cell} ({found[end]['value'] - own[end]['value']:+.1f})")
        return [name, *cells]

    def named(changes: dict) -> str:
        return ", ".join(f"`{key}: {json.dumps(value)}`" for key, value in changes.items())

    body = [line("the recipe", own), *(line(named(found[ends[0]]["changes"]), found) for found in trials.values())]
    title = (
        f"Top-1 % of `mlp200` on the last 5,000 pictures of the CIFAR-10 training split after {content['epochs']} "
        "epochs on the others unless the change says otherwise, mean ± standard deviation over "
        f"{rows[0]['seeds']} seeds of the probe, and the difference from the recipe. {rows[0]['hardware']}."
    )
    return title + "\n\n" + markdown(["change", *ends], body)


def augment_table(path: str | os.PathLike) -> str:
    """What augmentations cost beside a training step, as a markdown table.

    Args:
        path: what `benchmarks/augment_cost.py` wrote.
    """
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    body = [
        [
            f"`{row['entry']}`",
            f"`{row['augment']}`, {row['views']} of {row['batch_size']} pictures",
            f"{row['step_ms']:.0f}",
            f"{row['augment_ms']:.1f}",
            f"{100 * row['share']:.1f} %",
        ]
        for row in content["rows"]
    ]
    title = f"Medians. {content['hardware']}, {content['backend']} backend."
    return title + "\n\n" + markdown(["recipe", "augmentation", "step, ms", "augmentation, ms", "share"], body)


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A markdown table; all columns but the first are aligned to the right."""
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(['---'] + ['--:'] * (len(head) - 1))}|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in body])


def _one_table(rows: list[Row], compare: bool) -> str:
    first = rows[0]
    papers = [
        paper
        for paper in (published() if compare else [])
        if (paper["dataset"], paper["split"], paper["protocol"]) == (first.dataset, first.split, first.protocol)
    ]
    columns = _columns(rows)
    body = []
    for entry, encoder in sorted({(r.entry, r.encoder) for r in rows}, key=lambda key: (encoder_rank(key[1]), key[0])):
        cells = {
            r.endpoint: _number(r.value, r.spread if r.seeds > 1 else None)
            for r in rows
            if (r.entry, r.encoder) == (entry, encoder)
        }
        body.append([encoder_label(entry, encoder), *(cells.get(column, "") for column in columns)])
    for paper in papers:
        for row in paper["rows"]:
            label = f"{row['method']} ([{paper['source']}]({paper['url']}))"
            body.append([label, *(_number(row[column]) if column in row else "" for column in columns)])
    return _title(rows) + "\n\n" + markdown(["encoder", *columns], body)


def _title(rows: list[Row]) -> str:
    first = rows[0]
    sizes = sorted({(row.train_size, row.test_size) for row in rows})
    counts = " or ".join(f"{train:,} training and {test:,} scored pictures" for train, test in sizes)
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


def _number(value: float, spread: float | None = None) -> str:
    return f"{value:.2f}" if spread is None else f"{value:.2f} ± {spread:.2f}"


def _filled(found: re.Match, root: Path) -> str:
    return f"{found[1]}{_block(found['name'], root)}\n{found[4]}"


def _block(name: str, root: Path) -> str:
    from mizoo import zoo

    if name == "probe schedule":
        return schedule_table(root / "benchmarks" / "probe_schedule.json")
    if name == "entries":
        return _entries_table()
    if name == "augment cost":
        return augment_table(root / "benchmarks" / "augment_cost.json")
    if name.startswith("trials "):
        return trials_table(root / "benchmarks" / "recipe_trials.json", name.removeprefix("trials "))
    protocol, _, dataset = name.partition(" ")
    if protocol not in (*PROBES, "measures") or not dataset:
        raise UserError(
            f"No table is called {name!r}. There are: entries, probe schedule, augment cost, trials <entry>, and "
            f"<protocol> <dataset> with protocol one of {', '.join(PROBES)}, measures"
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
