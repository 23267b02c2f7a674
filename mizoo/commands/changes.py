"""What `--set` takes: keys of a recipe and their values."""

from __future__ import annotations

from typing import Any

from mizoo._tools import yaml_text
from mizoo.errors import UserError


def parse_changes(pairs: list[str]) -> dict[str, Any]:
    """Turn ["training.epochs=5"] into {"training.epochs": 5}; values are YAML.

    Raises:
        UserError: for what is not KEY=VALUE.
    """
    changes = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"--set takes KEY=VALUE, such as training.epochs=5. Received: {pair!r}")
        changes[key] = yaml_text.parse(value)
    return changes
