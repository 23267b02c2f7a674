"""Rows of a protocol with variants -> a table: a line for each encoder and endpoint, a column for each variant."""

from __future__ import annotations

from collections.abc import Sequence

from mizoo._tools import markdown
from mizoo.evaluate.protocols import TABLE
from mizoo.evaluate.rows import Row
from mizoo.evaluate.utility import Utility, utility
from mizoo.report.labels import alternatives, data_label, encoder_label, encoders_in_order, usual_order

CURVES = ("labels", "labels_finetune")
"""The protocols whose curves the utility of pretraining is read from, against `labels_scratch`."""


def variant_table(rows: Sequence[Row]) -> str:
    """A Markdown table of rows of one data set, split and protocol, under a line that describes it.

    Args:
        rows: rows of a protocol of `mizoo.evaluate.protocols.TABLE` that has variants.
    """
    first, protocol = rows[0], TABLE[rows[0].protocol]
    present = {variant_of(row) for row in rows}
    columns = [(variant, head) for variant, head in protocol.columns if variant in present]
    body = []
    for entry, encoder in encoders_in_order(rows):
        own = [row for row in rows if (row.entry, row.encoder) == (entry, encoder)]
        for endpoint in usual_order([row.endpoint for row in own]):
            cells = {variant_of(row): row for row in own if row.endpoint == endpoint}
            values = [_cell(cells[variant]) if variant in cells else "" for variant, _ in columns]
            body.append([encoder_label(entry, encoder), markdown.code(endpoint), *values])
    quantity = "Top-1 accuracy in %" if protocol.unit == "top-1 %" else f"{protocol.unit[0].upper()}{protocol.unit[1:]}"
    split = "all pictures" if first.split == "whole" else f"{markdown.plain(first.split)} split"
    fitted = max(row.train_size for row in rows)
    title = (
        f"{quantity} on {data_label(rows)}, {split} ({alternatives(row.test_size for row in rows)} scored pictures, "
        f"{fitted:,} training ones). Protocol {protocol.about}."
    )
    seeds = sorted({row.seeds for row in rows} - {1})
    if seeds:
        title += f" ± is the standard deviation over {alternatives(seeds)} draws."
    return title + "\n\n" + markdown.table(["encoder", "endpoint", *(head for _, head in columns)], body, 2)


def utility_table(rows: Sequence[Row]) -> str:
    """The utility of pretraining as a Markdown table, from the label curves of one data set and split.

    Args:
        rows: rows of `labels`, `labels_finetune` and `labels_scratch`; encoders without a curve of training from
            scratch of their own architecture are left out.

    Returns:
        The table under a line that describes it, or "" where no encoder has both curves.
    """
    measured = {variant_of(row) for row in rows if row.protocol in CURVES}
    shares = [each for each in TABLE["labels"].columns if each[0] in measured]
    body = []
    for entry, _ in encoders_in_order([row for row in rows if row.encoder == "published"]):
        own = [row for row in rows if row.entry == entry]
        new: dict[str, dict[int, float]] = {}
        for row in own:
            if row.protocol == "labels_scratch":
                new.setdefault(row.endpoint, {})[row.train_size] = row.value
        for protocol in CURVES:
            curve = [row for row in own if row.protocol == protocol and row.encoder == "published"]
            for endpoint in usual_order([row.endpoint for row in curve]):
                points = {row.train_size: row for row in curve if row.endpoint == endpoint}
                scratch = new.get(endpoint) or next(iter(new.values()), {})
                if len(scratch) < 2 or not points:
                    continue
                found = utility({labels: row.value for labels, row in points.items()}, scratch)
                cells = {variant_of(points[each.labels]): each for each in found}
                values = [_needed(cells[variant]) if variant in cells else "" for variant, _ in shares]
                name = f"{markdown.code(protocol)} of {markdown.code(endpoint)}"
                body.append([encoder_label(entry, "published"), name, *values])
    if not body:
        return ""
    title = (
        f"Utility of pretraining on {data_label(rows)} (Newell and Deng 2020): with each share of the labels, how many "
        "labels the same architecture trained from scratch takes to be as accurate, and in brackets U, the labels that "
        "pretraining saves for each one that is used. Interpolated in the logarithm of the number of labels; > and < "
        "where the curve from scratch ends before."
    )
    return title + "\n\n" + markdown.table(["encoder", "curve", *(head for _, head in shares)], body, 2)


def variant_of(row: Row) -> str:
    """The variant of its protocol that a row is of."""
    return str(row.settings.get("variant", ""))


def _cell(row: Row) -> str:
    return markdown.number(row.value, row.spread if row.seeds > 1 else None)


def _needed(each: Utility) -> str:
    return f"{each.bound}{each.needed:,.0f} ({each.bound}{each.value:.1f})"
