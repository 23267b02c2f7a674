"""Encoder + pictures or sounds -> rows. One file a protocol, one table of protocols. Importing it imports no Keras."""

from mizoo._tools.lazy import submodules
from mizoo.evaluate.features import features, pixels, random_copy
from mizoo.evaluate.protocols import MEASURES, LeftOut, Options, Protocol, Score, Task
from mizoo.evaluate.protocols import PROBES as PROTOCOLS  # the default of `evaluate`
from mizoo.evaluate.rows import Row, merge_rows, read_rows
from mizoo.evaluate.run import evaluate

__all__ = [
    "MEASURES",
    "PROTOCOLS",
    "LeftOut",
    "Options",
    "Protocol",
    "Row",
    "Score",
    "Task",
    "evaluate",
    "features",
    "merge_rows",
    "pixels",
    "random_copy",
    "read_rows",
]

__getattr__ = submodules(__name__)
