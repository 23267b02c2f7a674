"""The HTML page of `mizoo report`: rows, logs and cached features -> one file. Importing it imports no Keras."""

from mizoo._tools.lazy import submodules
from mizoo.report.page.build import report

__all__ = ["report"]

__getattr__ = submodules(__name__)
