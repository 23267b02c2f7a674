"""Rows -> Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from mizoo.evaluate.protocols import MEASURES, TABLE
from mizoo.evaluate.rows import FULL_PRECISION, Row
from mizoo.report.label_free_table import label_free_table
from mizoo.report.labels import papers
from mizoo.report.probe_table import probe_table
from mizoo.report.variant_table import CURVES, variant_of, variant_table

_WITH_VARIANTS = [name for name, protocol in TABLE.items() if name not in MEASURES and len(protocol.columns) > 1]
_LABEL_CURVES = (*CURVES, "labels_scratch")  # their variants differ in the number of training pictures


def table(rows: Iterable[Row], compare: bool = True) -> str:
    """Markdown tables of rows: of probes one for each data set, split, protocol and schedule, endpoints as columns, or
    the protocol's variants where it has some; of the measures without labels one for each data set, split and endpoint,
    measures as columns.

    Other data of the same name, another precision and other numbers of pictures make further tables.

    Args:
        rows: from `mizoo.evaluate` or a results file.
        compare: put the published rows of the papers below ours where the data set, by its name at TFDS, split and
            protocol are the same, and theirs of the measures in a table of their own.

    Returns:
        The tables, each under a line that names what it holds, or "" for no rows.
    """
    rows = list(rows)
    published = papers() if compare else []
    label_free = [row for row in rows if row.protocol in MEASURES]
    sources = _sources(rows)
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        if row.protocol not in MEASURES:
            train_size = 0 if row.protocol in _LABEL_CURVES else row.train_size
            key = (
                *(row.dataset, row.split, row.protocol, str(row.settings.get("schedule", ""))),
                "" if row.protocol in TABLE else str(row.settings.get("variant", "")),
                *(sources(row), row.precision or FULL_PRECISION, train_size, row.test_size),
            )
            groups.setdefault(key, []).append(row)
    order = list(TABLE)
    ranked = sorted(groups, key=lambda key: (key[:2], order.index(key[2]) if key[2] in order else len(order), key))
    written = []
    for key in ranked:
        if key[2] in _WITH_VARIANTS:
            tables = _without_clashes(groups[key], lambda row: (row.endpoint, variant_of(row)))
            written += [variant_table(one) for one in tables]
        else:
            written += [probe_table(one, published) for one in _without_clashes(groups[key], lambda row: row.endpoint)]
    measured: dict[tuple[str, str], list[Row]] = {}
    for row in label_free:
        measured.setdefault((sources(row), row.precision or FULL_PRECISION), []).append(row)
    for _, group in sorted(measured.items()):
        kinds = _without_clashes(
            group, lambda row: (row.dataset, row.split, row.endpoint, row.protocol, row.settings.get("variant"))
        )
        written += [label_free_table(one, published) for one in kinds]
    return "\n\n".join(written)


def _sources(rows: Iterable[Row]) -> Callable[[Row], str]:
    """Row -> its source; that of 0.1.0, which has none, counts for the latest version of the data set that is there."""
    latest: dict[str, str] = {}
    for row in rows:
        if row.source and row.tfds_name is not None:
            latest[row.tfds_name] = max(latest.get(row.tfds_name, ""), row.source)
    return lambda row: row.source or latest.get(row.tfds_name or "", "")


def _without_clashes(rows: Iterable[Row], column: Callable[[Row], Hashable]) -> list[list[Row]]:
    """The rows of one table; of further ones where two would stand in one cell."""
    tables: list[dict[tuple, Row]] = []
    for row in rows:
        cell = (row.entry, row.encoder, column(row))
        free = next((cells for cells in tables if cell not in cells), None)
        if free is None:
            tables.append(free := {})
        free[cell] = row
    return [list(cells.values()) for cells in tables]
