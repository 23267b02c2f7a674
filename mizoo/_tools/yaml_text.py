"""Recipes and their values as text."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML in which 3e-4 is a number, as people write it; the standard asks for 3.0e-4."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse(text: str) -> Any:
    """The content of a recipe's text, or of one of its values."""
    return yaml.load(text, Loader=_Loader)
