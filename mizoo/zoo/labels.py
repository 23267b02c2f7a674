"""The names of the classes of a classifier, which stand beside its file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mizoo._tools.files import user_path


def sidecar(classifier: Path) -> Path:
    """The file that holds what is known about a classifier: `classifier.json` beside `classifier.keras`."""
    return classifier.with_suffix(".json")


def class_names(encoder: str | os.PathLike) -> list[str] | None:
    """The classes of a classifier that `mizoo finetune` wrote, in the order of its columns; None for anything else."""
    names = _recorded(encoder).get("classes")
    return [str(name) for name in names] if isinstance(names, list) else None


def recorded_depth(encoder: str | os.PathLike) -> int | None:
    """The `depth` that `mizoo finetune` was given for a classifier's pictures; None for anything else."""
    settings = _recorded(encoder).get("settings")
    return settings.get("depth") if isinstance(settings, dict) else None


def _recorded(encoder: str | os.PathLike) -> dict[str, Any]:
    """What the sidecar of a classifier holds, or nothing."""
    path = user_path(encoder)
    file = sidecar(path)
    if path.suffix != ".keras" or not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
