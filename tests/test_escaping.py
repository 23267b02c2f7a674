"""Whatever recipes, rows and file names hold, pages stay whole."""

from __future__ import annotations

import dataclasses
import re

import pytest
from test_row_identity import ROW

from mizoo import report
from mizoo._tools import markdown
from mizoo.errors import UserError
from mizoo.evaluate import merge_rows
from mizoo.report.benchmark_tables import trials_table

WILD = "a | b <!-- /table --> `c|d`\n\n# e <script> [f](g) \\| ` 1"


def cells(line: str) -> list[str]:
    """The cells of a line as GitHub splits it: at bars without a backslash of their own."""
    return re.sub(r"\\.", "_", line.strip()).strip("|").split("|")


@pytest.mark.parametrize("write", [markdown.plain, markdown.code])
@pytest.mark.parametrize(
    "text", [WILD, "a\\|b", "||", "`", "\r\n|", "x\u2028y", "-->", "<!--", " ", "# a", "1. a", "- a"]
)
def test_text_from_elsewhere_stays_in_its_cell(write, text):
    written = write(text)
    assert len(cells(f"| {written} | x |")) == 2
    assert "\n" not in written and "\r" not in written and "<!--" not in written and "<script" not in written
    assert not re.match(r"\s*([#>-] |1\. )", written)


@pytest.mark.parametrize("text", ["CIFAR-10, the paper's", "arXiv:1808.06670", "mixed_bfloat16", "-0.5", "`k`: 2 (x)"])
def test_usual_text_stays_as_it_is(text):
    assert markdown.plain(text) == text


def test_code_that_holds_fences_stays_one_block():
    block = markdown.fenced(["a", "```", "b\n# c"])
    assert block == "````\na\n```\nb # c\n````"


def test_a_page_stays_whole_whatever_a_summary_and_rows_hold(fake_zoo):
    info = {"files": {"encoder.keras": {"sha256": "", "bytes": 1}}, "endpoints": {WILD: [2]}, "summary": WILD}
    fake_zoo.register({"dim": info})
    rows = [dataclasses.replace(ROW, entry=WILD), dataclasses.replace(ROW, endpoint=WILD)]
    merge_rows(fake_zoo.root / "models/dim/results.json", rows)
    page = fake_zoo.root / "README.md"
    page.write_text("a\n<!-- table: entries -->\n<!-- /table -->\nb\n<!-- table: knn cifar10 -->\n<!-- /table -->\nc\n")
    report.write_tables()
    once = page.read_text()
    report.write_tables()
    assert page.read_text() == once
    assert once.count("<!-- /table -->") == 2 and once.startswith("a\n") and once.endswith("-->\nc\n")
    tables = [line for line in once.splitlines() if line.startswith("|")]
    assert {len(cells(line)) for line in tables[:3]} == {4}
    assert len({len(cells(line)) for line in tables[3:]}) == 1


def test_a_title_stays_one_line_whatever_a_protocol_says():
    custom = dataclasses.replace(ROW, protocol="mine", dataset=WILD, settings={"about": WILD, "unit": WILD})
    text = report.table([custom])
    assert len(text.splitlines()) == 5 and "<!--" not in text


def test_a_benchmark_that_was_not_run_is_named(tmp_path):
    with pytest.raises(UserError, match=r"benchmarks/recipe_trials.py` writes it"):
        trials_table(tmp_path / "recipe_trials.json", "dim")
