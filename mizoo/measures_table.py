"""Rows of the measures -> tables: one line for each encoder, one column for each measure, the paper's apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mizoo.evaluate.protocols import ALL, MEASURES
from mizoo.evaluate.rows import Row

# Why the paper's numbers get a table of their own.
_DIFFERENCES = (
    "Not on the scale of ours: a neural estimate of a large or infinite quantity is decided by its network and budget. "
    "In the authors' code the discriminator of NDM has our layers (1000, 200) but sees Y as it is, not standardised, "
    "in batches of 10,000 and hundreds of epochs; of MINE we know no code of theirs; and their encoders "
    "ran 1,000 epochs. What can be compared is the order of encoders within each table."
)


def measures_table(rows: Sequence[Row], papers: Sequence[dict[str, Any]] = ()) -> str:
    """Markdown tables of the rows of measures: one for each data set, split and endpoint.

    Args:
        rows: rows whose protocol is one of `mizoo.evaluate.protocols.MEASURES`.
        papers: the papers' tables (`mizoo.report.published`); those of the same data and endpoint follow below ours.

    Returns:
        The tables, each under a line that says what its columns are, or "" for no rows.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.split, row.endpoint), []).append(row)
    written = []
    for (dataset, _, endpoint), found in sorted(groups.items()):
        written.append(_ours(found))
        theirs = _theirs([paper for paper in papers if paper["dataset"] == dataset], endpoint, found)
        if theirs:
            written.append(theirs)
    return "\n\n".join(written)


def _ours(rows: Sequence[Row]) -> str:
    from mizoo.report import encoder_label, encoder_rank, markdown

    first = rows[0]
    columns = _columns({(row.protocol, _variant(row)) for row in rows})
    body = []
    for entry, encoder in sorted({(r.entry, r.encoder) for r in rows}, key=lambda key: (encoder_rank(key[1]), key[0])):
        cells = {(r.protocol, _variant(r)): _text(r) for r in rows if (r.entry, r.encoder) == (entry, encoder)}
        body.append([encoder_label(entry, encoder), *(cells.get(column, "") for column in columns)])
    scored = " or ".join(f"{size:,}" for size in sorted({row.test_size for row in rows}))
    fitted = " or ".join(f"{size:,}" for size in sorted({row.train_size for row in rows if row.train_size}))
    sizes = f"{scored} scored pictures" + (f"; critics fitted on {fitted} others" if fitted else "")
    split = "all pictures" if first.split == "whole" else f"{first.split} split"
    present = {row.protocol for row in rows}
    about = "; ".join(protocol.about for name, protocol in ALL.items() if name in present)
    title = f"Measures without labels of `{first.endpoint}` on {first.dataset}, {split} ({sizes}). {about}."
    return title + "\n\n" + markdown(["encoder", *columns.values()], body)


def _theirs(papers: Sequence[dict[str, Any]], endpoint: str, rows: Sequence[Row]) -> str:
    from mizoo.markdown import markdown

    present = {(row.protocol, _variant(row)) for row in rows}
    cells: dict[str, dict[tuple[str, str], str]] = {}
    for paper in papers:
        key = (paper["protocol"], paper.get("variant", ""))
        if paper["protocol"] in MEASURES and key in present:
            for row in paper["rows"]:
                if endpoint in row:
                    label = f"{row['method']} ([{paper['source']}]({paper['url']}))"
                    cells.setdefault(label, {})[key] = f"{row[endpoint]:.2f}"
    if not cells:
        return ""
    columns = _columns({key for found in cells.values() for key in found})
    body = [[label, *(found.get(column, "") for column in columns)] for label, found in cells.items()]
    return f"The paper's. {_DIFFERENCES}\n\n" + markdown(["encoder", *columns.values()], body)


def _columns(keys: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """(protocol, variant) -> head, of those among `keys`, in the order of the protocols."""
    return {
        (name, variant): head
        for name, protocol in ALL.items()
        for variant, head in protocol.columns
        if (name, variant) in keys
    }


def _variant(row: Row) -> str:
    return str(row.settings.get("variant", ""))


def _text(row: Row) -> str:
    """The value, with the standard error of the critic's value where there is one."""
    digits = 3 if row.protocol == "prior_fit" else 2
    error, gaussian = row.settings.get("standard_error"), row.settings.get("gaussian_nats")
    text = f"{row.value:.{digits}f}" + ("" if error is None else f" ± {error:.2f}")
    return text + (f" ({gaussian:.{digits}f})" if gaussian and gaussian > 2 * row.value else "")
