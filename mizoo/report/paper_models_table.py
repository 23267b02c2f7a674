"""Runs of `benchmarks/paper_models.py` -> Markdown tables: the objectives of a paper on one encoder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mizoo._tools import markdown
from mizoo._tools.markdown import number
from mizoo.evaluate.protocols import MEASURES
from mizoo.evaluate.rows import Row
from mizoo.report.benchmark_tables import read_benchmark
from mizoo.report.label_free_table import label_free_table
from mizoo.report.labels import encoder_label, encoders_in_order, papers
from mizoo.report.probe_table import mark, papers_lines, papers_of, probe_title, with_papers_columns

_SCRIPT = "paper_models.py"
_BESIDE = "mlp200"  # the protocol of the paper's table, whose columns stand beside ours
_PAPER = "Hjelm et al. 2018"
_EPOCHS = 1000  # of the paper's encoders


def paper_models_tables(path: str | os.PathLike, untrained: Sequence[Row] = ()) -> str:
    """What recipes cost and how their encoders do, as Markdown tables: one for each kind of probe, one of measures.

    The columns of the paper's probe have the paper's own numbers beside them, for the objectives that it has; where its
    extended comparison has another protocol, its lines stand below. A recipe that is not trained or measured yet has a
    line with what is known of it.

    Args:
        path: what `benchmarks/paper_models.py` wrote.
        untrained: rows of the same network with random weights, and of raw pixels; those that were measured as the
            recipes were get lines of their own.

    Raises:
        UserError: if the file is not there or is damaged.
    """
    content = read_benchmark(path, _SCRIPT)
    rows = [(row["recipe"], Row(**{key: row[key] for key in row if key != "recipe"})) for row in content["rows"]]
    beside = _measured_alike(untrained, [row for _, row in rows])
    by_recipe = {name: [row for owner, row in rows if owner == name] for name in content["recipes"]}
    written = [_costs(content)]
    for protocol in dict.fromkeys(row.protocol for _, row in rows if row.protocol not in MEASURES):
        written.append(_probes(content, by_recipe, protocol, [row for row in beside if row.protocol == protocol]))
    if label_free := [row for _, row in rows if row.protocol in MEASURES]:
        label_free += [row for row in beside if row.protocol in MEASURES]
        written.append(label_free_table(label_free, papers()))
    return "\n\n".join(written)


def _measured_alike(untrained: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Those of `untrained` that stand beside `rows`: the same data, protocol and endpoints, or pixels for these."""

    def kind(row: Row) -> tuple:
        """What has to be the same for two rows to share a table."""
        about = (row.settings.get("schedule"), row.settings.get("variant"), row.train_size, row.test_size)
        return (row.tfds_name, row.dataset, row.split, row.protocol, *about)

    kinds, endpoints = {kind(row) for row in rows}, {(row.protocol, row.endpoint) for row in rows}
    return [
        row
        for row in untrained
        if kind(row) in kinds and (row.encoder == "pixels" or (row.protocol, row.endpoint) in endpoints)
    ]


def _label(name: str, facts: dict[str, Any]) -> str:
    """How a line names a recipe: what it is, where the file says that, and what `mizoo pretrain` takes."""
    return markdown.code(name) if facts["label"] == name else f"{markdown.plain(facts['label'])}, {markdown.code(name)}"


def _costs(content: dict[str, Any]) -> str:
    """What each recipe is and takes."""
    machines = {name: facts.get("hardware", content["hardware"]) for name, facts in content["recipes"].items()}
    kinds = dict.fromkeys(machines.values())
    body = [
        [
            _label(name, facts),
            *(str(facts[key]) for key in ("epochs", "batch_size")),
            f"{facts['step_ms']:.0f}",
            *(f"{facts[key]:.1f}" if key in facts else "" for key in ("cpu_minutes", "train_minutes")),
            *([machines[name]] if len(kinds) > 1 else []),
        ]
        for name, facts in content["recipes"].items()
    ]
    title = (
        "CPU time of a step, the median of a few, and of the whole training, and minutes by the clock, with whatever "
        f"else the machine did meanwhile. {'Times compare on one machine.' if len(kinds) > 1 else ''.join(kinds) + '.'}"
    )
    head = ["recipe", "epochs", "batch", "step, CPU ms", "training, CPU minutes", "by the clock"]
    return f"{title}\n\n{markdown.table([*head, *(['machine'] if len(kinds) > 1 else [])], body)}"


def _probes(content: dict[str, Any], by_recipe: dict[str, list[Row]], protocol: str, untrained: Sequence[Row]) -> str:
    """The recipes by one probe, random weights below, and the paper's numbers: in columns of their own, or in lines.

    Its Table 1 has the same objectives; those of its extended comparison are not all told apart by their bound.
    """
    cells = {name: {row.endpoint: row for row in rows if row.protocol == protocol} for name, rows in by_recipe.items()}
    measured = [row for rows in cells.values() for row in rows.values()]
    theirs = papers_of(measured[0], [paper for paper in papers() if paper["source"].startswith(_PAPER)])
    title, below, beside = probe_title([*measured, *untrained]), theirs, {}
    if protocol == _BESIDE and theirs:
        below, beside = [], {line["method"]: line for paper in theirs for line in paper["rows"]}
        title += (
            f" The paper's ({theirs[0]['source']}): the same probe by its own schedule, after {_EPOCHS:,} epochs, so "
            "that numbers compare within a column."
        )
    columns = with_papers_columns([row.endpoint for row in [*measured, *untrained]], below)
    papers_columns = [each for each in columns if any(each in line for line in beside.values())]
    lines = [(_label(name, facts), cells[name], facts["paper"]) for name, facts in content["recipes"].items()]
    for key in encoders_in_order(untrained):
        own = {row.endpoint: row for row in untrained if (row.entry, row.encoder) == key}
        lines.append((encoder_label(*key), own, ""))
    body = []
    for label, by_endpoint, method in lines:
        found, paper = [by_endpoint.get(column) for column in columns], beside.get(method, {})
        line = [label]
        line += [number(row.value, row.spread if row.seeds > 1 else None) + mark(row) if row else "" for row in found]
        body.append(line + [number(paper[column]) if column in paper else "" for column in papers_columns])
    head = ["recipe", *map(markdown.plain, columns), *(f"the paper's {each}" for each in papers_columns)]
    return f"{title}\n\n{markdown.table(head, body + papers_lines(below, columns))}"
