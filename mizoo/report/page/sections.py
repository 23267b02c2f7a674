"""The section of a page about one encoder: verdict, curves, map, neighbours, filters, distribution, mistakes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from mizoo.report.page import figures, pictures
from mizoo.report.page.kept import Arrays
from mizoo.report.page.study import class_name
from mizoo.report.page.subject import Subject
from mizoo.report.page.verdict import FEWEST_PICKS, Agreement, Evidence, Verdict, judge

_MISTAKES = 16
_CONFUSED = 20  # classes that a matrix has room for
_TONES = {"healthy": "good", "cannot tell": "unknown", "at its ceiling": "fair", "no better": "fair"}
_WORDS = {
    "good": ("still rising", "level", "not collapsed", "better", "generalises", "below its ceiling"),
    "bad": ("diverging", "stuck", "collapsed", "worse", "memorises"),
    "unknown": ("cannot tell",),
}


def evidence_of(subject: Subject, arrays: Arrays) -> Evidence:
    """What is known of an encoder, for its verdict."""
    if not arrays:
        return Evidence(lines=subject.steady_lines)
    rank, spread, coordinates = arrays["state"]
    few = len(arrays["labels"]) < FEWEST_PICKS  # whose rank says more about their number
    trained, others, picked = arrays["picks"]
    hits = arrays["hits"]
    compared: dict[str, object] = {}
    if len(hits):
        compared["accuracy"] = tuple(float(100 * each.mean()) for each in hits)
        for name, other in zip(("random", "pixels", "start"), hits[1:]):
            compared[name] = Agreement(int(np.sum(hits[0] & ~other)), int(np.sum(other & ~hits[0])))
    return Evidence(
        lines=subject.steady_lines,
        coordinates=int(coordinates),
        pictures=len(arrays["labels"]),
        rank=None if few else float(rank),
        relative_spread=None if few else float(spread),
        picks=(float(trained), float(others)) if picked > 0 else None,
        picked=max(0, int(picked)),
        **compared,  # type: ignore[arg-type]
    )


def section(subject: Subject, arrays: Arrays, sheet: str) -> str:
    """The section of one encoder.

    Args:
        subject: the encoder.
        arrays: of its study; {} without pictures.
        sheet: class of the sprite that holds the thumbnails.
    """
    verdict = judge(evidence_of(subject, arrays))
    blocks = [_verdict(verdict), _copies(arrays)]
    if subject.lines:
        panels = "".join(f"<figure>{each}</figure>" for each in figures.curve_panels(subject.lines, subject.name))
        blocks.append(f'<h3>Learning curves</h3><div class="panels">{panels}</div>')
    if arrays:
        blocks += [
            _map(subject, arrays, sheet),
            _neighbours(arrays, sheet),
            _mistakes(arrays, sheet),
            _confusion(arrays),
            _weights(subject, arrays),
        ]
    kind = "entry of the zoo" if subject.published else "run"
    about = f"{kind}, SHA-256 {subject.sha256[:12]}"
    if arrays:
        bank, shown = arrays["sizes"]
        about += f"; endpoint {arrays['endpoint']} on {shown:,} pictures of {_short(subject.dataset)}"
    return (
        f'<section class="encoder" id="{escape(anchor(subject))}"><header><h2>{escape(subject.name)}</h2>'
        f"<p>{escape(about)}</p></header>{''.join(block for block in blocks if block)}</section>"
    )


def _copies(arrays: Arrays) -> str:
    """A warning where the comparisons are of pictures that kNN may have in its bank."""
    if not arrays or not arrays["copied"]:
        return ""
    return (
        f"<p><b>{arrays['copied']:,} of the {len(arrays['labels']):,} pictures are among the training pictures "
        "too</b>: kNN may find the very same picture in its bank, so what is compared by it says little about new "
        "pictures. Keep one copy of each; <code>mizoo evaluate</code> names one.</p>"
    )


def anchor(subject: Subject) -> str:
    """The id of a subject's section."""
    return "e-" + "".join(each if each.isalnum() else "-" for each in subject.name) + "-" + subject.sha256[:6]


def _short(dataset: str) -> str:
    """A TFDS name, or the last name of a path: a page goes to others."""
    return Path(dataset).name if dataset.startswith((".", "/", "~")) or Path(dataset).is_dir() else dataset


def _verdict(verdict: Verdict) -> str:
    tone = _TONES.get(verdict.word, "bad")
    items = "".join(
        f'<li class="{next((tone for tone, words in _WORDS.items() if each.word in words), "fair")}">'
        f'<span class="question">{escape(each.question)}</span> <b>{escape(each.word)}</b>'
        f"<p>{escape(each.why)}.{_advice(each.advice)}</p></li>"
        for each in verdict.findings
    )
    return (
        f'<div class="verdict {tone}"><p class="word">{escape(verdict.word)}</p>'
        f'<p class="sentence">{escape(verdict.sentence)}</p></div><ul class="findings">{items}</ul>'
    )


def _advice(text: str) -> str:
    """What to try; keys of recipes, in backticks, as code."""
    if not text:
        return ""
    parts = escape(text).split("`")
    return " <i>" + "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts)) + "</i>"


def _thumb(sheet: str, index: int, side: int, label: str = "", kind: str = "") -> str:
    row, column = divmod(int(index), pictures.COLUMNS)
    place = f"--x:{column};--y:{row}"
    return f'<i class="t {sheet} {kind}" style="{place}" role="img" aria-label="{escape(label)}"></i>'


def _map(subject: Subject, arrays: Arrays, sheet: str) -> str:
    labels, classes = arrays["labels"], list(arrays["classes"])
    count = int(max(labels.max(), arrays["taken_for"].max())) + 1 if labels.max() >= 0 else 0
    names = [class_name(classes, i) for i in range(count)]
    data = {
        "place": pictures.packed(arrays["place"].ravel()),
        "labels": labels.tolist() if names else [],
        "taken": arrays["taken_for"].tolist() if names else [],
        "classes": names,
        "columns": pictures.COLUMNS,
    }
    legend = "".join(
        f'<button type="button" data-class="{i}" aria-pressed="false"><span style="--c:{colour(i, len(names))}"></span>'
        f"{escape(name)}</button>"
        for i, name in enumerate(names[:30])
    )
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f"<h3>Map</h3><p>{len(labels):,} pictures, near where their features are near (t-SNE). Point at a dot to see "
        f"its picture{'; a class of the legend stands out when it is chosen' if legend else ''}.</p>"
        f'<div class="map" data-colours="{escape(json.dumps([colour(i, len(names)) for i in range(len(names))]))}">'
        f'<canvas width="1400" height="1000" tabindex="0" aria-label="Map of {len(labels):,} pictures"></canvas>'
        f'<div class="card" hidden><i class="t big {sheet}"></i><span></span></div>'
        f'<script type="application/json">{text}</script></div><div class="legend">{legend}</div>'
    )


def colour(i: int, count: int) -> str:
    """The colour of a class: ten that are told apart in light and dark, or as many hues as there are."""
    ten = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#9c755f", "#ff7fb0", "#8a8a8a", "#c3a400", "#17a2b8")
    return ten[i] if count <= len(ten) else f"hsl({360 * i / count:.0f} 60% 52%)"


def _neighbours(arrays: Arrays, sheet: str) -> str:
    labels, classes = arrays["labels"], list(arrays["classes"])
    known = labels.max() >= 0
    side = arrays["thumbnails"].shape[1]
    strips = []
    for query, others in zip(arrays["queries"], arrays["neighbours"]):
        name = class_name(classes, int(labels[query])) if known else ""
        row = [_thumb(sheet, query, side, name, "query")]
        for other in others:
            kind = ("same" if labels[other] == labels[query] else "other") if known else ""
            row.append(_thumb(sheet, other, side, class_name(classes, int(labels[other])) if known else "", kind))
        strips.append(f'<div class="strip">{"".join(row)}<span>{escape(name)}</span></div>')
    more = ", one of another class with a red line below" if known else ""
    return f"<h3>Nearest neighbours</h3><p>A picture, and the nearest others{more}.</p>{''.join(strips)}"


def _mistakes(arrays: Arrays, sheet: str) -> str:
    labels, taken, classes = arrays["labels"], arrays["taken_for"], list(arrays["classes"])
    if labels.max() < 0:
        return ""
    wrong = np.flatnonzero(labels != taken)
    share = 100 * (1 - len(wrong) / len(labels))
    surest = wrong[np.argsort(-arrays["certainty"][wrong], kind="stable")][:_MISTAKES]
    side = arrays["thumbnails"].shape[1]
    cards = "".join(
        f"<figure>{_thumb(sheet, i, side, class_name(classes, int(labels[i])))}<figcaption>"
        f"{escape(class_name(classes, int(labels[i])))}<b>{escape(class_name(classes, int(taken[i])))}</b></figcaption>"
        "</figure>"
        for i in surest
    )
    bank = int(arrays["sizes"][0])
    return (
        f"<h3>Mistakes</h3><p>kNN, with a bank of {bank:,} pictures of the training split, is right on {share:.1f} % "
        f"of these {len(labels):,} pictures. Where it is surest and wrong: what it is, and <b>what it was taken "
        "for</b>.</p>"
        f'<div class="mistakes">{cards}</div>'
    )


def _confusion(arrays: Arrays) -> str:
    labels, taken, classes = arrays["labels"], arrays["taken_for"], list(arrays["classes"])
    if labels.max() < 0:
        return ""
    count = int(max(labels.max(), taken.max())) + 1
    matrix = np.zeros((count, count), int)
    np.add.at(matrix, (labels, taken), 1)
    names = [class_name(classes, i) for i in range(count)]
    if count > _CONFUSED:
        pairs = [(matrix[i, j], i, j) for i in range(count) for j in range(count) if i != j and matrix[i, j]]
        pairs.sort(key=lambda each: (-each[0], each[1:]))
        items = "".join(f"<li>{escape(names[i])} for {escape(names[j])}: {n}</li>" for n, i, j in pairs[:_CONFUSED])
        return f"<h3>Confusions</h3><p>The most frequent of {count} classes.</p><ol>{items}</ol>"
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escape(names[i])}</th>'
        + "".join(
            f'<td class="{"right" if i == j else ""}" style="--a:{shares[i, j]:.3f}">{matrix[i, j] or ""}</td>'
            for j in range(count)
        )
        + "</tr>"
        for i in range(count)
    )
    return (
        "<h3>Confusion matrix</h3><p>Rows: what it is; columns: what kNN takes it for; in pictures.</p>"
        f'<div class="scroll"><table class="confusion"><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def _weights(subject: Subject, arrays: Arrays) -> str:
    """First-layer filters, and the distribution of the coordinates beside the prior."""
    prior = subject.prior
    drawing = figures.histogram(arrays["histogram"], prior, subject.name)
    about = f"The {prior} prior of its objective is the dashed line." if prior else "Its objective has no prior."
    parts = [
        f"<div><h3>Distribution of {escape(str(arrays['endpoint']))}</h3><p>{about}</p><figure>{drawing}</figure></div>"
    ]
    if len(arrays["filters"]):
        address, width, height = pictures.filter_sheet(arrays["filters"])
        parts.append(
            f"<div><h3>First-layer filters</h3><p>{len(arrays['filters'])} kernels, each scaled by its largest "
            f'weight.</p><img class="filters" src="{address}" width="{width}" height="{height}" '
            'alt="First-layer filters"></div>'
        )
    return f'<div class="pair">{"".join(parts)}</div>'


def titles(subjects: Sequence[Subject]) -> str:
    """Links to the sections, for the head of the page."""
    return "".join(f'<a href="#{escape(anchor(each))}">{escape(each.name)}</a>' for each in subjects)
