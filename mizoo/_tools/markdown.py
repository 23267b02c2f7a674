"""Markdown tables, and text from elsewhere in them: of recipes, rows and file names, which may hold any character."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_SPAN = re.compile(r"(?<!`)(`[^`\n]+`)(?!`)")
_NEW_LINE = re.compile(r"\s*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+\s*")
_MEANS_SOMETHING = re.compile(r"[\\`*\[\]|]")
_STARTS_A_BLOCK = re.compile(r"^(\s*)([#>]|[-+=~]+(?=\s|$)|\d+(?=[.)](?:\s|$)))")
_ENTITY = re.compile(r"&(?=#?\w+;)")


def table(head: Sequence[str], body: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A markdown table; the first `text_columns` are aligned to the left, the others, numbers, to the right."""
    rule = ["---"] * text_columns + ["--:"] * (len(head) - text_columns)
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in body])


def plain(text: object) -> str:
    """Text from elsewhere as it reads, in one line: nothing in it starts a cell, HTML, a link or a block.

    Names in backticks stay `code`.
    """
    parts = _SPAN.split(_NEW_LINE.sub(" ", str(text)).strip())
    return "".join(code(part[1:-1]) if i % 2 else _escaped(part, first=not i) for i, part in enumerate(parts))


def _escaped(text: str, first: bool) -> str:
    text = _MEANS_SOMETHING.sub(r"\\\g<0>", _ENTITY.sub("&amp;", text)).replace("<", "&lt;")
    if first and (start := _STARTS_A_BLOCK.match(text)):
        end = start.end() if start[2].isdigit() else start.start(2)  # "1\\." and "\\#"
        text = f"{text[:end]}\\{text[end:]}"
    return text


def code(text: object) -> str:
    """A name from elsewhere as code, in one line: `name`, or HTML where Markdown has no way to write it so."""
    line = _NEW_LINE.sub(" ", str(text))
    if not line.strip() or re.search(r"[`|\\]|<!--|-->", line) or line != line.strip():
        escaped = html.escape(line, quote=False)
        for character in "`|\\*_[]":
            escaped = escaped.replace(character, f"&#{ord(character)};")
        return f"<code>{escaped}</code>"
    return f"`{line}`"


def fenced(lines: Iterable[object]) -> str:
    """Lines from elsewhere as a block of code, one line each."""
    written = [_NEW_LINE.sub(" ", str(line)) for line in lines]
    longest = max((len(run) for line in written for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *written, fence])


def number(value: float, spread: float | None = None) -> str:
    """A value to two digits, with its standard deviation where there is one."""
    return f"{value:.2f}" if spread is None else f"{value:.2f} ± {spread:.2f}"


def shape(sizes: Iterable[int | None], times: str = "x") -> str:
    """The shape of an endpoint without the batch; a length that is free reads "any"."""
    names = ["any" if size is None else str(size) for size in sizes]
    return (" x " if "any" in names else times).join(names)
