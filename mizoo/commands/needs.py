"""What the commands need beyond the core installation, for whoever misses a part of it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mizoo.errors import NotInstalled

# A command -> the extras that its options ever take, beside a backend of Keras; `export` brings TensorFlow itself.
EXTRAS = {
    "pretrain": "train",
    "evaluate": "train",
    "finetune": "train",
    "tune": "tune",
    "report": "train,report",
    "export": "export,train,demo",
    "data": "train",
    "mi": "mi",
}
_NO_BACKEND = ("export",)


def advice(missing: NotInstalled, arguments: Sequence[str]) -> str:
    """What is missing, and what installs all that a command takes, so that the next thing is not missing then.

    Args:
        missing: the error of the first thing.
        arguments: of the command line, the command among them.
    """
    command = next((each for each in arguments if not each.startswith("-")), "")
    if command not in EXTRAS:
        return str(missing)
    backend = "jax" if os.environ.get("KERAS_BACKEND") == "jax" else "tensorflow"
    extras = EXTRAS[command] if command in _NO_BACKEND else f"{backend},{EXTRAS[command]}"
    return f'{missing} All that `mizoo {command}` needs comes with `pip install ".[{extras}]"`.'
