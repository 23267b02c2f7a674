"""Modules are found under the paths of version 0.1.0 as well, with a warning."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

from mizoo._tools.moved import MOVED

IMPORT = """
import importlib, json, sys, warnings
import mizoo
found = {}
for old, new in json.loads(sys.argv[1]).items():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = importlib.import_module(old)
    said = [str(w.message) for w in caught if issubclass(w.category, DeprecationWarning) and old in str(w.message)]
    same = module is importlib.import_module(new) and module.__spec__.name == module.__name__ == new
    found[old] = [same, len(said)]
    value = mizoo
    for part in old.split(".")[1:]:
        value = getattr(value, part)
    assert value is module, old
print(json.dumps(found))
"""


def test_every_old_path_is_the_module_of_the_new_one_and_warns():
    done = subprocess.run([sys.executable, "-c", IMPORT, json.dumps(MOVED)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {old: [True, 1] for old in MOVED}


def test_a_path_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match=r"mizoo\.nothing"):
        importlib.import_module("mizoo.nothing")
