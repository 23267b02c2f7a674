"""`mizoo report`: entries, runs and all rows on one page that needs nothing but itself."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from mizoo._tools.files import user_path, write_text
from mizoo._tools.progress import Progress
from mizoo._version import __version__
from mizoo.evaluate.published import entry_rows
from mizoo.evaluate.rows import Row
from mizoo.report.page import pictures
from mizoo.report.page.kept import Arrays, digest
from mizoo.report.page.results import label_curves, results_table
from mizoo.report.page.sections import section, titles
from mizoo.report.page.study import study
from mizoo.report.page.subject import Subject, find
from mizoo.zoo import entries

# Nothing is fetched, whatever a name or a row may hold.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'"


def report(
    encoders: Sequence[str | os.PathLike] = (),
    out: str | os.PathLike = "report",
    dataset: str | os.PathLike | None = None,
    endpoint: str = "global",
    cache: str | os.PathLike | None = None,
    progress: bool = True,
    depth: int | None = None,
) -> Path:
    """Write a page about the zoo, and about the encoders that are named: what `mizoo report` does.

    Args:
        encoders: entries, run folders or `.keras` files: a section for each, with its verdict on top. The table
            below them has the rows of all entries.
        out: the folder of the page.
        dataset: pictures that the encoders are shown on, a TFDS name or a folder; by default those that each was
            trained on (their test split, or a fifth).
        endpoint: of the features that are shown.
        cache: folder that keeps what was computed from an encoder and its pictures, by their content; `cache` in `out`
            by default. A page made from it loads no encoder.
        progress: show progress on standard error.
        depth: bits of the values of deep files of `dataset`, as of `mizoo.data.load`.

    Returns:
        The page, `index.html` in `out`: one file with all its drawings and pictures, which fetches nothing.

    Raises:
        UserError: for an encoder or pictures that are not there, and if a library that is needed is not installed.
    """
    folder = user_path(out)
    kept_in = user_path(cache) if cache is not None else folder / "cache"
    with Progress(progress) as display:
        subjects = [find(each, dataset, display, depth) for each in dict.fromkeys(str(each) for each in encoders)]
        studies = [study(each, endpoint, kept_in, display) for each in subjects]
        line = display.start("page", len(subjects) + 1)
        sheets, styles = _sheets(studies)
        sections = []
        for subject, arrays, sheet in zip(subjects, studies, sheets):
            sections.append(section(subject, arrays, sheet))
            line.advance()
        page = _page(subjects, sections, _rows(), styles)
        line.advance()
    path = folder / "index.html"
    write_text(path, page)
    return path


def _rows() -> list[Row]:
    measured = [name for name in entries.list_models() if entries.locate(f"models/{name}/results.json").is_file()]
    return [row for name in measured for row in entry_rows(name)]


def _sheets(studies: Sequence[Arrays]) -> tuple[list[str], str]:
    """The class that shows the pictures of each study, "" without any, and the styles: a sprite for each set of them.

    Studies of one source may show others: without some files, or as another encoder takes them.
    """
    styles: dict[str, str] = {}
    sheets = []
    for arrays in studies:
        if not arrays:
            sheets.append("")
            continue
        thumbnails = arrays["thumbnails"]
        name = f"s{digest({'thumbnails': thumbnails})[:16]}"
        if name not in styles:
            rows = -(-len(thumbnails) // pictures.COLUMNS)
            styles[name] = f".{name}{{background-image:url({pictures.sprite(thumbnails)});--rows:{rows}}}"
        sheets.append(name)
    return sheets, "".join(styles.values())


def _page(subjects: Sequence[Subject], sections: Sequence[str], rows: Sequence[Row], sprites: str) -> str:
    here = importlib.resources.files("mizoo.report.page")
    style, script = (here.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    names = ", ".join(each.name for each in subjects)
    title = f"mizoo report: {names}" if names else "mizoo report"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{style}
{sprites}
</style>
</head>
<body>
<header class="top"><p class="brand">mizoo report</p>
<nav>{titles(subjects)}<a href="#zoo">All results</a></nav></header>
<main>
{"".join(sections)}
<section id="zoo"><header><h2>All results</h2><p>Every measured number of the zoo, one a line</p></header>
{results_table(rows)}
{label_curves(rows)}
</section>
</main>
<footer>mizoo {escape(__version__)}. The rules of the verdicts: docs/report.md.</footer>
<script>
{script}
</script>
</body>
</html>
"""
