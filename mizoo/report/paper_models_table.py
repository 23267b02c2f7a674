"""Runs of `benchmarks/paper_models.py` -> Markdown tables: the objectives of a paper on one encoder."""

from __future__ import annotations

import os
from typing import Any

from mizoo._tools import markdown
from mizoo._tools.markdown import number
from mizoo.evaluate.protocols import MEASURES
from mizoo.evaluate.rows import Row
from mizoo.report.benchmark_tables import read_benchmark
from mizoo.report.label_free_table import label_free_table
from mizoo.report.labels import papers, usual_order
from mizoo.report.probe_table import mark, probe_title

_SCRIPT = "paper_models.py"
_BESIDE = "mlp200"  # the protocol of the paper's table, whose columns stand beside ours
_SOURCE = "Hjelm et al. 2018, Table 1"
_EPOCHS = 1000  # of the paper's encoders


def paper_models_tables(path: str | os.PathLike) -> str:
    """What recipes cost and how their encoders do, as Markdown tables: one for each kind of probe, one of measures.

    The columns of the paper's probe have the paper's own numbers beside them, for the objectives that it has. A recipe
    that is not trained or measured yet has a line with what is known of it.

    Args:
        path: what `benchmarks/paper_models.py` wrote.

    Raises:
        UserError: if the file is not there or is damaged.
    """
    content = read_benchmark(path, _SCRIPT)
    rows = [(row["recipe"], Row(**{key: row[key] for key in row if key != "recipe"})) for row in content["rows"]]
    by_recipe = {name: [row for owner, row in rows if owner == name] for name in content["recipes"]}
    written = [_costs(content)]
    for protocol in dict.fromkeys(row.protocol for _, row in rows if row.protocol not in MEASURES):
        written.append(_probes(content, by_recipe, protocol))
    if label_free := [row for _, row in rows if row.protocol in MEASURES]:
        written.append(label_free_table(label_free, papers()))
    return "\n\n".join(written)


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


def _probes(content: dict[str, Any], by_recipe: dict[str, list[Row]], protocol: str) -> str:
    """The recipes by one probe, and the paper's numbers in columns of their own."""
    cells = {name: {row.endpoint: row for row in rows if row.protocol == protocol} for name, rows in by_recipe.items()}
    measured = [row for rows in cells.values() for row in rows.values()]
    columns = usual_order([row.endpoint for row in measured])
    theirs = _published(measured[0], columns)
    head = ["recipe", *map(markdown.plain, columns), *(f"the paper's {each}" for each in columns if theirs)]
    body = []
    for name, facts in content["recipes"].items():
        line = [_label(name, facts)]
        for column in columns:
            row = cells[name].get(column)
            line.append("" if row is None else number(row.value, row.spread if row.seeds > 1 else None) + mark(row))
        if theirs:
            paper = theirs.get(facts["paper"], {})
            line += [number(paper[column]) if column in paper else "" for column in columns]
        body.append(line)
    title = probe_title(measured)
    if theirs:
        title += (
            f" The paper's ({_SOURCE}): the same probe by its own schedule, after {_EPOCHS:,} epochs, so that numbers "
            "compare within a column."
        )
    return f"{title}\n\n{markdown.table(head, body)}"


def _published(row: Row, columns: list[str]) -> dict[str, dict[str, float]]:
    """Method -> endpoint -> value of the paper's table, where it is about the data, split and protocol of a row."""
    about = (row.dataset, row.split, row.protocol)
    if row.protocol != _BESIDE or row.tfds_name is None:
        return {}
    return {
        line["method"]: {key: line[key] for key in columns if key in line}
        for paper in papers()
        if paper["source"] == _SOURCE and (paper["dataset"], paper["split"], paper["protocol"]) == about
        for line in paper["rows"]
    }
