"""All measured rows as one table of a page, that sorts and filters; published numbers in columns of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from mizoo.evaluate.protocols import TABLE
from mizoo.evaluate.rows import Row, public_command
from mizoo.report.labels import of_paper, papers
from mizoo.report.page import figures

_WEIGHTS = {"published": "trained", "random": "random weights", "pixels": "raw pixels"}
_FILTERS = ("data", "protocol", "endpoint", "weights")
_FIRST = "mlp200"  # the protocol that is shown first, of those that are there
_LABELS = "labels"  # what the protocols of accuracy against labels begin with; their variant is the share in percent


def results_table(rows: Sequence[Row]) -> str:
    """The table, with its filters above it; a line where there are no rows.

    A line is one number: of one encoder, its weights, data, protocol and endpoint. A published number stands in the
    column of its source, in the lines that measure the same data, split and endpoint by the same protocol.
    """
    if not rows:
        return '<p class="none">No rows yet: <code>mizoo evaluate</code> measures them.</p>'
    sources = _published_sources(rows)
    head = ["encoder", "value", "spread", "endpoint", "weights", "protocol", "data", "unit"]
    cells = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{escape(name)}</button></th>' for name in head
    )
    cells += "".join(
        f'<th scope="col" class="published" aria-sort="none"><button type="button">{escape(source)}</button>'
        f'<a href="{escape(url)}" rel="noreferrer">source</a></th>'
        for source, url in sources
    )
    largest = _largest(rows)
    body = "".join(_line(row, sources, largest) for row in rows)
    note = (
        "Numbers of different protocols are no comparison. A published column holds what its source reports for the "
        "same data, split, protocol and endpoint, by method."
    )
    return (
        f'<div class="filters">{_filters(rows)}<label>search <input type="search" id="search" '
        f'placeholder="encoder"></label><output id="count"></output></div>'
        f'<div class="scroll"><table id="results"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="note">{note}</p>'
    )


def label_curves(rows: Sequence[Row]) -> str:
    """Accuracy against the share of the labels, a drawing for each data set and protocol; "" without such rows."""
    groups: dict[tuple[str, str], dict[str, list[tuple[float, float, float]]]] = {}
    curves = [row for row in rows if row.protocol.startswith(_LABELS)]
    endpoints: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in curves:
        endpoints[row.entry, row.encoder, _data_label(row), row.protocol].add(row.endpoint)
    for row in curves:
        share = str(row.settings.get("variant", ""))
        if share.isdigit():
            name = row.entry if row.encoder == "published" else _WEIGHTS[row.encoder]
            if row.encoder == "random":
                name = f"{row.entry}, {name}"
            if len(endpoints[row.entry, row.encoder, _data_label(row), row.protocol]) > 1:
                name += f", {row.endpoint}"
            series = groups.setdefault((_data_label(row), row.protocol), {})
            series.setdefault(name, []).append((float(share), row.value, row.spread))
    drawn = "".join(
        f"<figure>{figures.label_curves(series, f'{protocol} on {data}')}<figcaption>{escape(protocol)} on "
        f"{escape(data)}</figcaption></figure>"
        for (data, protocol), series in groups.items()
    )
    return f'<h3>Accuracy against labels</h3><div class="wide">{drawn}</div>' if drawn else ""


def protocol_label(row: Row) -> str:
    """The protocol of a row with its schedule or variant."""
    more = row.settings.get("schedule", row.settings.get("variant"))
    return f"{row.protocol} ({more})" if more else row.protocol


def _data_label(row: Row) -> str:
    return row.dataset if row.split == "test" else f"{row.dataset}, {row.split}"


def _unit(row: Row) -> tuple[str, str]:
    """The unit of a row, and which way is better."""
    known = TABLE.get(row.protocol)
    if known is not None:
        return known.unit, known.better
    return str(row.settings.get("unit", "")), str(row.settings.get("better", ""))


def _key(row: Row) -> dict[str, str]:
    return {
        "data": _data_label(row),
        "protocol": protocol_label(row),
        "endpoint": row.endpoint,
        "weights": _WEIGHTS[row.encoder],
    }


def _largest(rows: Sequence[Row]) -> dict[tuple[str, str], float]:
    """The largest value of each data set and protocol: that of a full bar."""
    largest: dict[tuple[str, str], float] = {}
    for row in rows:
        key = (_data_label(row), protocol_label(row))
        percent = 100.0 if _unit(row)[0].endswith("%") else 0.0
        largest[key] = max(largest.get(key, percent), abs(row.value))
    return largest


def _line(row: Row, sources: Sequence[tuple[str, str]], largest: dict[tuple[str, str], float]) -> str:
    key, (unit, better) = _key(row), _unit(row)
    whole = largest[key["data"], key["protocol"]] or 1.0
    arrow = {"higher": " ↑", "lower": " ↓"}.get(better, "")
    name = "—" if row.encoder == "pixels" else row.entry
    data = " ".join(f'data-{name}="{escape(value)}"' for name, value in key.items())
    spread = f"{row.spread:.2f}" if row.seeds > 1 else ""
    cells = [
        f'<th scope="row" data-sort="{escape(row.entry)}">{escape(name)}</th>',
        f'<td class="number" data-sort="{row.value}" style="--bar:{100 * abs(row.value) / whole:.1f}%" '
        f'title="{escape(public_command(row))}">{row.value:.2f}</td>',
        f'<td class="number" data-sort="{row.spread if spread else -1}">{"± " + spread if spread else ""}</td>',
        *(f"<td>{escape(key[name])}</td>" for name in ("endpoint", "weights", "protocol", "data")),
        f"<td>{escape(unit)}{arrow}</td>",
        *(_published(row, source) for source, _ in sources),
    ]
    return f"<tr {data}>{''.join(cells)}</tr>"


def _filters(rows: Sequence[Row]) -> str:
    made = []
    for name in _FILTERS:
        values = list(dict.fromkeys(_key(row)[name] for row in rows))
        chosen = next((value for value in values if name == "protocol" and value.startswith(_FIRST)), "")
        options = '<option value="">all</option>' + "".join(
            f"<option{' selected' if value == chosen else ''}>{escape(value)}</option>" for value in values
        )
        made.append(f'<label>{name} <select data-filter="{name}">{options}</select></label>')
    return "".join(made)


def _published_sources(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(source, url) of the papers that have a number beside one of the rows."""
    found = {paper["source"]: paper["url"] for row in rows for paper, _ in _of(row)}
    return list(found.items())


def _of(row: Row) -> Iterable[tuple[dict[str, Any], list[tuple[str, float]]]]:
    """The papers' tables that a row stands beside, and their methods with a number of its endpoint."""
    for paper in papers():
        variant = paper.get("variant", row.settings.get("variant"))
        same = (paper["protocol"], paper["split"]) == (row.protocol, row.split)
        if not same or not of_paper(row, paper) or variant != row.settings.get("variant"):
            continue
        names = (row.endpoint, *(name for name in paper.get("extra_columns", ()) if name.startswith(row.endpoint)))
        numbers = [
            (f"{each['method']}{name.removeprefix(row.endpoint)}", each[name])
            for each in paper["rows"]
            for name in names
            if name in each
        ]
        if numbers:
            yield paper, numbers


def _published(row: Row, source: str) -> str:
    numbers = [pair for paper, pairs in _of(row) if paper["source"] == source for pair in pairs]
    if not numbers or row.encoder == "pixels":
        return '<td class="published" data-sort="-1"></td>'
    numbers.sort(key=lambda pair: -pair[1])
    method, best = numbers[0]
    rest = "".join(f"<li>{value:.2f} {escape(name)}</li>" for name, value in numbers[1:])
    more = f"<details><summary>{len(numbers) - 1} more</summary><ul>{rest}</ul></details>" if rest else ""
    return (
        f'<td class="published" data-sort="{best}"><span class="number">{best:.2f}</span> {escape(method)}{more}</td>'
    )
