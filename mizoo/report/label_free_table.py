"""Rows without labels -> tables: a line for each encoder, a column for each protocol, the paper's apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mizoo._tools import markdown
from mizoo.evaluate.protocols import MEASURES, TABLE
from mizoo.evaluate.rows import Row
from mizoo.report.labels import (
    alternatives,
    data_label,
    encoder_label,
    encoders_in_order,
    of_paper,
    paper_label,
)

# Why the paper's numbers get a table of their own.
_DIFFERENCES = (
    "Not on the scale of ours: a neural estimate of a large or infinite quantity is decided by its network and budget. "
    "In the authors' code the discriminator of NDM has our layers (1000, 200) but sees Y as it is, not standardised, "
    "in batches of 10,000 and hundreds of epochs; of MINE we know no code of theirs; and their encoders "
    "ran 1,000 epochs. NDM without a sigmoid is given for the three of DIM alone. "
    "What can be compared is the order of encoders within each table."
)


def label_free_table(rows: Sequence[Row], papers: Sequence[dict[str, Any]] = ()) -> str:
    """Markdown tables of rows without labels: one for each data set, split and endpoint.

    Args:
        rows: rows whose protocol is one of `mizoo.evaluate.protocols.MEASURES`.
        papers: the papers' tables (`mizoo.report.papers`); those of the same data and endpoint follow below ours.

    Returns:
        The tables, each under a line that describes its columns, or "" for no rows.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.split, row.endpoint), []).append(row)
    written = []
    for (_, _, endpoint), group in sorted(groups.items()):
        written.append(_our_table(group))
        theirs = _papers_table([paper for paper in papers if of_paper(group[0], paper)], endpoint, group)
        if theirs:
            written.append(theirs)
    return "\n\n".join(written)


def _our_table(rows: Sequence[Row]) -> str:
    first = rows[0]
    columns = _columns({(row.protocol, _variant(row)) for row in rows})
    body = []
    for entry, encoder in encoders_in_order(rows):
        cells = {(r.protocol, _variant(r)): _cell(r) for r in rows if (r.entry, r.encoder) == (entry, encoder)}
        body.append([encoder_label(entry, encoder), *(cells.get(column, "") for column in columns)])
    scored = alternatives(row.test_size for row in rows)
    fitted = alternatives(row.train_size for row in rows if row.train_size)
    sizes = f"{scored} scored pictures" + (f"; critics fitted on {fitted} others" if fitted else "")
    split = "all pictures" if first.split == "whole" else f"{markdown.plain(first.split)} split"
    present = {row.protocol for row in rows}
    about = "; ".join(protocol.about for name, protocol in TABLE.items() if name in present)
    name = markdown.code(first.endpoint)
    title = f"Measures without labels of {name} on {data_label(rows)}, {split} ({sizes}). {about}."
    if any(row.settings.get("standard_error") is not None for row in rows):
        title += " ± is the standard error over the scored pictures, with one fitted critic on one pretraining run."
    return title + "\n\n" + markdown.table(["encoder", *columns.values()], body)


def _papers_table(papers: Sequence[dict[str, Any]], endpoint: str, rows: Sequence[Row]) -> str:
    present = {(row.protocol, _variant(row)) for row in rows}
    cells: dict[str, dict[tuple[str, str], str]] = {}
    for paper in papers:
        key = (paper["protocol"], paper.get("variant", ""))
        if paper["protocol"] in MEASURES and key in present:
            for row in paper["rows"]:
                if endpoint in row:
                    cells.setdefault(paper_label(paper, row), {})[key] = f"{row[endpoint]:.2f}"
    if not cells:
        return ""
    columns = _columns({key for values in cells.values() for key in values})
    body = [[label, *(values.get(column, "") for column in columns)] for label, values in cells.items()]
    return f"The paper's. {_DIFFERENCES}\n\n" + markdown.table(["encoder", *columns.values()], body)


def _columns(keys: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """(protocol, variant) -> head, of those among `keys`, in the order of the protocols."""
    return {
        (name, variant): head
        for name, protocol in TABLE.items()
        for variant, head in protocol.columns
        if (name, variant) in keys
    }


def _variant(row: Row) -> str:
    return str(row.settings.get("variant", ""))


def _cell(row: Row) -> str:
    """The value, with the standard error of the critic's value where there is one."""
    digits = 3 if row.protocol == "prior_fit" else 2
    error, gaussian = row.settings.get("standard_error"), row.settings.get("gaussian_nats")
    text = f"{row.value:.{digits}f}" + ("" if error is None else f" ± {error:.2f}")
    return text + (f" ({gaussian:.{digits}f})" if gaussian and gaussian > 2 * row.value else "")
