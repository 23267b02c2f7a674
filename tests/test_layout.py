"""The layout of the package: imports run downwards, light modules stay light, and every name in a page is there."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mizoo"

# Lowest floor first: what a file imports lies on its own floor or below it.
FLOORS = (
    {"errors", "_version", "_tools", "bounds"},
    {"augment", "critics", "encoders", "data"},
    {"densities", "optimizers", "zoo"},
    {"objectives", "mi", "export", "embed", "demo", "finetune", "search", "sklearn"},
    {"recipes", "evaluate"},
    {"teachers", "runs", "report"},
    {"publish", "pretrain", "callbacks", "deploy", "new", "classifier"},
    {"push", "integrations", "tuning"},
    {"commands"},
    {"cli"},
)
# An old public name that is resolved on use.
UPWARDS = {("mizoo.export", "mizoo.publish")}

# What needs a framework that is not among the test requirements.
NEED_OTHERS = ("mizoo.integrations.beam",)

# What needs Keras to be imported; everything else is read, listed and checked without it.
NEED_KERAS = (
    "mizoo.augment",
    "mizoo.bounds",
    "mizoo.callbacks",
    "mizoo.critics",
    "mizoo.data.batching",
    "mizoo.densities",
    "mizoo.encoders",
    "mizoo.evaluate.protocols.mine",
    "mizoo.evaluate.protocols.ndm",
    "mizoo.mi.crossfit",
    "mizoo.mi.fit",
    "mizoo.mi.gaussian",
    "mizoo.mi.models",
    "mizoo.mi.scoring",
    "mizoo.mi.starts",
    "mizoo.mi._jax",
    "mizoo.mi._tensorflow",
    "mizoo.objectives",
    "mizoo.optimizers",
    "mizoo.pretrain",
    "mizoo.recipes.schedules",
    "mizoo.tuning.hyper",
    "mizoo.tuning.tuner",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imports(name: str) -> Iterator[str]:
    """The modules of the package that a module imports, at the top or inside a function."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body.clear()
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "mizoo")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: imports are absolute"
            if (node.module or "").split(".")[0] == "mizoo":
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner in MODULES else node.module


GRAPH = {name: set(imports(name)) - {name} for name in MODULES}


def floor(name: str) -> int:
    """The number of the floor that a module lies on; the face of the whole package is above all."""
    room = name.split(".")[1] if "." in name else None
    return next((i for i, rooms in enumerate(FLOORS) if room in rooms), len(FLOORS))


def test_every_room_has_a_floor():
    rooms = {name.split(".")[1] for name in MODULES if "." in name}
    assert rooms == set().union(*FLOORS)


def test_imports_run_downwards():
    upwards = {(a, b) for a, targets in GRAPH.items() for b in targets if floor(b) > floor(a)}
    assert upwards == UPWARDS


def test_nothing_inside_imports_the_face_of_the_package():
    assert not [name for name, targets in GRAPH.items() if "mizoo" in targets]


def test_there_is_no_circle_of_imports():
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in sorted(GRAPH[name]):
                if (name, target) not in UPWARDS:
                    visit(target, (*path, name))
            done.add(name)

    for name in GRAPH:
        visit(name, ())


def test_private_attributes_of_other_objects_stand_in_one_file():
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                inner = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "layers")
                assert inner or name == "mizoo._tools.keras_private", f"{name}:{node.lineno} {ast.unparse(node)}"


IMPORT_ONE_BY_ONE = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
    heavy = {"keras", "tensorflow", "jax", "torch"} & set(sys.modules)
    if heavy:
        sys.exit(f"importing {name} imports {', '.join(sorted(heavy))}")
"""


def test_what_reads_files_and_checks_recipes_loads_no_keras():
    light = [name for name in MODULES if not any(name == heavy or name.startswith(f"{heavy}.") for heavy in NEED_KERAS)]
    light = [name for name in light if name not in NEED_OTHERS]
    assert {"mizoo.zoo", "mizoo.recipes", "mizoo.report", "mizoo.evaluate", "mizoo.runs.folder"} <= set(light)
    command = [sys.executable, "-c", IMPORT_ONE_BY_ONE, json.dumps(light)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


DOTTED = re.compile(r"(?<![\w/.])mizoo(?:\.[A-Za-z_]\w*)+")
# The folders `models/` and `export/`, as they are installed, and what needs Beam.
NO_NAMES = re.compile(r"mizoo\.(models|exported|beam|integrations\.beam)\b")


def dotted_names() -> dict[str, str]:
    """Every dotted name that a page, a docstring or a message holds, and where."""
    texts = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in [ROOT / "README.md"]}
    texts |= {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")}
    for name, tree in TREES.items():
        constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        texts[name] = "\n".join(value for value in constants if isinstance(value, str))
    return {
        found: where for where, text in texts.items() for found in DOTTED.findall(text) if not NO_NAMES.match(found)
    }


RESOLVE = """
import json, sys
import mizoo
missing = []
for name in json.loads(sys.argv[1]):
    value = mizoo
    for attribute in name.split(".")[1:]:
        try:
            value = getattr(value, attribute)
        except AttributeError:
            missing.append(name)
            break
print(json.dumps(missing))
"""


def test_every_name_that_pages_and_messages_use_resolves_after_import_mizoo():
    names = dotted_names()
    assert {"mizoo.load", "mizoo.mi.estimate", "mizoo.data.pictures.square"} <= set(names)
    command = [sys.executable, "-c", RESOLVE, json.dumps(sorted(names))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    missing = json.loads(done.stdout.splitlines()[-1])
    assert not missing, {name: names[name] for name in missing}


@pytest.mark.parametrize("name", sorted(name for name, path in MODULES.items() if path.name == "__init__.py"))
def test_what_a_face_lists_is_there(name):
    if name == "mizoo":
        pytest.skip("its names are tested with the command line")
    tree = TREES[name]
    listed = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    bound = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    bound |= {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    bound |= {ast.unparse(target) for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}
    for names in listed:
        assert set(names) <= bound


WITHOUT_INSTALLATION = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name in ("mizoo.models", "mizoo.exported"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
import mizoo
print(mizoo.recipes.load("cpc_cifar10").name, mizoo.zoo.locate("models/cpc_cifar10/recipe.yaml").is_file())
"""


def test_a_clone_on_the_path_that_was_never_installed_finds_its_recipes():
    done = subprocess.run([sys.executable, "-c", WITHOUT_INSTALLATION], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["cpc_cifar10", "True"], done.stderr[-2000:]
