"""Rows -> tables, model cards and the blocks of pages that hold them. Importing it imports no Keras."""

from mizoo._tools.lazy import submodules
from mizoo.evaluate.published import entry_rows
from mizoo.report.cards import card, write_card
from mizoo.report.labels import papers
from mizoo.report.pages import write_tables
from mizoo.report.tables import table

__all__ = ["card", "entry_rows", "papers", "table", "write_card", "write_tables"]

__getattr__ = submodules(__name__)
