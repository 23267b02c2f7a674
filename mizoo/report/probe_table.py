"""Rows of one probe -> a table: a line for each encoder, a column for each endpoint, the papers' lines below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mizoo._tools import markdown
from mizoo.evaluate.protocols import TABLE
from mizoo.evaluate.rows import Row
from mizoo.report.labels import (
    alternatives,
    data_label,
    encoder_label,
    encoders_in_order,
    of_paper,
    paper_label,
    usual_order,
)


def probe_table(rows: Sequence[Row], papers: Sequence[dict[str, Any]] = ()) -> str:
    """A Markdown table of rows of one data set, split, protocol and schedule, under a line that describes it.

    Args:
        rows: the rows.
        papers: the papers' tables (`mizoo.report.papers`); those of the same data set, split and protocol follow.
    """
    theirs = papers_of(rows[0], papers)
    columns = with_papers_columns([row.endpoint for row in rows], theirs)
    body = []
    for entry, encoder in encoders_in_order(rows):
        cells = {
            row.endpoint: markdown.number(row.value, row.spread if row.seeds > 1 else None) + mark(row)
            for row in rows
            if (row.entry, row.encoder) == (entry, encoder)
        }
        body.append([encoder_label(entry, encoder), *(cells.get(column, "") for column in columns)])
    body += papers_lines(theirs, columns)
    return probe_title(rows) + "\n\n" + markdown.table(["encoder", *map(markdown.plain, columns)], body)


def papers_of(row: Row, papers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The papers' tables of the data set, split and protocol of a row."""
    key = (row.split, row.protocol)
    return [paper for paper in papers if of_paper(row, paper) and (paper["split"], paper["protocol"]) == key]


def with_papers_columns(endpoints: Sequence[str], papers: Sequence[dict[str, Any]]) -> list[str]:
    """The columns of endpoints, and those of papers; numbers measured by another rule have columns of their own."""
    extra = [column for paper in papers for column in paper.get("extra_columns", ())]
    theirs = [name for paper in papers for row in paper["rows"] for name in row if name not in ("method", *extra)]
    return usual_order([*endpoints, *theirs]) + extra


def papers_lines(papers: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[list[str]]:
    """A line for each method of the papers."""
    return [
        [paper_label(paper, row), *(markdown.number(row[column]) if column in row else "" for column in columns)]
        for paper in papers
        for row in paper["rows"]
    ]


def probe_title(rows: Sequence[Row]) -> str:
    """The line above a table of rows of one data set, split, protocol and schedule: what they measure, and how."""
    first = rows[0]
    what = "clips" if first.dataset.startswith("spoken_digit/") else "pictures"
    sizes = sorted({(row.train_size, row.test_size) for row in rows})
    counts = " or ".join(
        (f"{train:,} training and " if train else "") + f"{test:,} scored {what}" for train, test in sizes
    )
    split = "all pictures" if first.split == "whole" else f"{markdown.plain(first.split)} split"
    protocol = TABLE.get(first.protocol)
    about = protocol.about if protocol else markdown.plain(first.settings.get("about") or f"`{first.protocol}`")
    unit = protocol.unit if protocol else markdown.plain(first.settings.get("unit", ""))
    quantity = "Top-1 accuracy in %" if unit in ("top-1 %", "") else unit[0].upper() + unit[1:]
    text = f"{quantity} on {data_label(rows)}, {split} ({counts}). {_transfer(rows)}Protocol {about}"
    if "schedule" in first.settings:
        text += f", schedule {markdown.code(first.settings['schedule'])}"
    if protocol is None and "variant" in first.settings:
        text += f", variant {markdown.code(first.settings['variant'])}"
    seeds = sorted({row.seeds for row in rows})
    if seeds[-1] > 1:
        text += f"; mean ± standard deviation over {alternatives(seeds)} seeds of the probe, on one pretraining run"
    if any(map(mark, rows)):
        text += "; †: the best L2 stands at the end of those tried, or the last fit did not converge"
    return text + "."


def _transfer(rows: Sequence[Row]) -> str:
    """A sentence where the published encoders were trained on other data than these."""
    others = {str(row.settings.get("trained_on", row.dataset)) for row in rows if row.encoder == "published"}
    of_labels = rows[0].dataset.partition("/")[0]  # sounds with several labels: spoken_digit/speaker of spoken_digit
    if not others or {rows[0].dataset, of_labels} & others:
        return ""
    return f"Transfer: the encoders were trained on {', '.join(map(markdown.plain, sorted(others)))}. "


def mark(row: Row) -> str:
    """A dagger behind a value of `linear` whose fit leaves something to be said."""
    if row.protocol != "linear" or "l2" not in row.settings:
        return ""
    # Rows of before the path went on beyond its ends do not say whether it stopped there.
    at_end = row.settings.get("l2_at_end", row.settings["l2"] in (1e-1, 1e-4))
    return "†" if at_end or not row.settings.get("converged", True) else ""
