"""What `--set` takes: keys of a recipe and their values."""

from __future__ import annotations

import json
import shlex
from typing import Any

import yaml

from mizoo._tools import yaml_text
from mizoo.errors import UserError


def parse_changes(pairs: list[str]) -> dict[str, Any]:
    """Turn ["training.epochs=5"] into {"training.epochs": 5}; values are YAML.

    Raises:
        UserError: for what is not KEY=VALUE, or whose value is no YAML, with how to quote it.
    """
    changes = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"--set takes KEY=VALUE, such as training.epochs=5. Received: {pair!r}")
        try:
            changes[key] = yaml_text.parse(value)
        except yaml.YAMLError as error:
            quoted = shlex.quote(f"{key}={json.dumps(value, ensure_ascii=False)}")
            raise UserError(
                f"--set {key}: the value {value!r} is not YAML ({yaml_text.problem(error)}). If it is text, quote it "
                f"for YAML and for the shell: --set {quoted}"
            ) from error
    return changes
