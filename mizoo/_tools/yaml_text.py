"""Recipes and their values as text."""

from __future__ import annotations

import re
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """YAML in which 3e-4 is a number, as people write it; the standard asks for 3.0e-4. A key stands in it once."""

    def compose_mapping_node(self, anchor):
        """A mapping as it is written; refused if a key of it stands there twice."""
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if (key.tag, key.value) in keys:
                    problem = f"the key {key.value!r} stands here for the second time"
                    raise yaml.MarkedYAMLError("in a mapping", node.start_mark, problem, key.start_mark)
                keys.add((key.tag, key.value))
        return node

    def construct_object(self, node, deep=False):
        """The value of a node; refused if it is none of the kind that it looks like."""
        try:
            return super().construct_object(node, deep)
        except (
            ValueError,
            LookupError,
            AttributeError,
            OverflowError,
        ) as error:  # of PyYAML, which checks the form alone
            kind = node.tag.rpartition(":")[2]
            problem = f"{node.value!r} is no {kind}; in quotes it is text"
            raise yaml.MarkedYAMLError(None, None, problem, node.start_mark) from error


class _Dumper(yaml.SafeDumper):
    """Writes in quotes what `_Loader` would read as a number."""


for each in (_Loader, _Dumper):
    each.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )


def parse(text: str) -> Any:
    """The content of a recipe's text, or of one of its values.

    Raises:
        yaml.YAMLError: for text that is no YAML, a key that stands twice in a mapping, and a value that is none of its
            kind, such as the date 2024-13-45.
    """
    return yaml.load(text, Loader=_Loader)


def dump(value: Any, **style: Any) -> str:
    """The text from which `parse` reads a value back.

    Args:
        value: dicts, lists, texts, numbers, booleans and None.
        style: as of `yaml.dump`.
    """
    return yaml.dump(value, Dumper=_Dumper, **style)


def problem(error: yaml.YAMLError) -> str:
    """What is wrong in a text that `parse` refuses, and where, on one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
