"""The Python of the pages, README.md and docs/*.md, as it is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))


def blocks(page: str) -> list[str]:
    """The blocks of Python of a page, such as "docs/tuning.md"."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def run(code: str, page: str, names: dict[str, Any], *changes: tuple[str, str]) -> dict[str, Any]:
    """Run a block of a page with some names given, and return all names.

    Each change is an (old, new) text of it, such as smaller data; all that is left is as printed.
    """
    for old, new in changes:
        assert old in code, f"{page} does not say {old!r} any more"
        code = code.replace(old, new)
    exec(compile(code, page, "exec", dont_inherit=True), names)
    return names
