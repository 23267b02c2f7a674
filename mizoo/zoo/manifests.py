"""The `manifest.json` beside the exported forms of an encoder, and whether they are of the Keras file there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mizoo._tools.files import sha256
from mizoo.errors import UserError
from mizoo.zoo import interface

FILE = "manifest.json"
SOURCE = "source"
"""What a manifest calls the hash of the Keras file that its forms were made of."""


def read(path: Path) -> dict[str, Any]:
    """The content of a manifest; {} where there is none.

    Raises:
        UserError: for one that is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}. Restore it.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no object. Restore it.")
    return content


def why_stale(folder: Path) -> str | None:
    """That the ONNX form in a folder was made of another Keras file than the one beside it, as a clause; else None.

    It is trusted where there is no Keras file, and where no manifest says what it was made of, as that of an entry.

    Raises:
        UserError: for a damaged manifest.
    """
    keras, onnx = (folder / interface.FILES[runtime] for runtime in ("keras", "onnx"))
    if not (keras.is_file() and onnx.is_file()):
        return None
    source = read(folder / FILE).get(SOURCE)
    if not isinstance(source, dict) or source.get("sha256") in (None, sha256(keras)):
        return None
    return f"{onnx} was made of another {keras.name} than the one that is beside it now"
