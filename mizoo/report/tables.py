"""Rows -> Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable

from mizoo.errors import UserError
from mizoo.evaluate.protocols import LABEL_FREE, PROBES
from mizoo.evaluate.rows import Row, read_rows
from mizoo.report.label_free_table import label_free_table
from mizoo.report.labels import papers
from mizoo.report.probe_table import probe_table
from mizoo.zoo import entries


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
    rows = list(rows)
    published = papers() if compare else []
    label_free = [row for row in rows if row.protocol in LABEL_FREE]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.protocol not in LABEL_FREE:
            key = (row.dataset, row.split, row.protocol, str(row.settings.get("schedule", "")))
            groups.setdefault(key, []).append(row)
    order = list(PROBES)
    ranked = sorted(groups, key=lambda key: (key[:2], order.index(key[2]) if key[2] in order else len(order), key))
    written = [probe_table(groups[key], published) for key in ranked]
    if label_free:
        written.append(label_free_table(label_free, published))
    return "\n\n".join(written)


def entry_rows(name: str) -> list[Row]:
    """The rows of one entry.

    Raises:
        UserError: for an unknown entry, one without results, or results of weights that are not the published ones.
    """
    pinned = entries.info(name)["files"].get("encoder.keras", {}).get("sha256", "")
    rows = read_rows(entries.locate(f"models/{name}/results.json"))
    for row in rows:
        weights = row.settings.get("weights")
        if weights is not None and weights != pinned:
            raise UserError(
                f"The rows of {name} were measured on other weights than the published ones. Make them again: "
                f"`{row.command}`"
            )
    return rows
