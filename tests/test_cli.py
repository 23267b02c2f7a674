"""The command line and the cost of the import, as a user meets them."""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mizoo
from mizoo import cli
from mizoo.commands import needs
from mizoo.errors import NotInstalled

ROOT = Path(__file__).resolve().parents[1]


def mizoo_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "mizoo.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, **environment},
    )


def test_importing_mizoo_imports_nothing_heavy():
    code = (
        "import sys, time; t = time.process_time(); import mizoo; print(time.process_time() - t);"
        "print([m for m in ('keras', 'tensorflow', 'jax', 'onnxruntime', 'pydantic', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy = done.stdout.split("\n")[:2]
    assert heavy == "[]"
    assert float(seconds) < 0.1


def test_every_public_name_resolves():
    for name in mizoo.__all__:
        assert getattr(mizoo, name) is not None
    if importlib.util.find_spec("apache_beam") is None:
        assert "beam" not in mizoo.__all__
        with pytest.raises(mizoo.UserError, match=r"needs apache_beam(.|\n)*\[beam\]"):
            mizoo.beam  # noqa: B018
    assert set(mizoo.__all__) <= set(dir(mizoo))
    with pytest.raises(AttributeError, match="nothing"):
        getattr(mizoo, "nothing")  # noqa: B009


WITHOUT = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
HIDDEN = sys.argv[1:]
sys.meta_path.insert(0, Hide())
import inspect, mizoo
assert len(inspect.getmembers(mizoo)) > 10
missing = []
for name in set(mizoo._PUBLIC) - set(mizoo.__all__) - {"beam"}:
    try:
        getattr(mizoo, name)
    except mizoo.UserError:
        missing.append(name)
assert sorted(missing) == sorted(set(mizoo._PUBLIC) - set(mizoo.__all__) - {"beam"}) and missing, missing
exec("from mizoo import *", {})
"""


def test_what_is_listed_without_the_extras_is_what_can_be_had():
    hidden = ["keras", "pydantic", "sklearn"]
    done = subprocess.run([sys.executable, "-c", WITHOUT, *hidden], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["info", "dim_lokal_cifar10"], "dim_local_cifar10"),
        (["pretrain", "nowhere.yaml"], "nowhere.yaml"),
        (["pretrain", "dim_local_cifar10", "--set", "training.epoch=3"], "training.epoch"),
        (["pretrain", "dim_local_cifar10", "--set", "epochs"], "KEY=VALUE"),
        (["pretrain", "dim_local_cifar10", "--set", "summary=a: b: c"], """--set 'summary="a: b: c"'"""),
        (["embed", "dim_local_cifar10", "no_such_file.png"], "no_such_file.png"),
        (["evaluate", "no_such_entry"], "no_such_entry"),
        (["evaluate", "runs/no_such_run"], "There is no folder runs/no_such_run"),
        (["data", "pack", "./no_such_folder", "--out", "x"], "no_such_folder"),
    ],
)
def test_a_mistake_is_one_clear_line_and_status_2(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["mizoo", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    printed = capsys.readouterr().err
    assert stopped.value.code == 2, printed[-2000:]
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and words in printed
    assert not list(tmp_path.iterdir())


def test_a_mistake_in_a_process_of_its_own_shows_no_traceback():
    done = mizoo_command("info", "dim_lokal_cifar10")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "dim_local_cifar10" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_name_that_is_not_utf8_is_printed(tmp_path):
    code = "import sys; from mizoo import cli; sys.argv = ['mizoo', '--version']\n"
    code += "try:\n    cli.main()\nexcept SystemExit:\n    print('caf\\udce9.png')"
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=strict)
    assert done.stdout.splitlines()[-1] == r"caf\udce9.png", done.stderr


def test_list_info_and_version():
    assert mizoo_command("--version").stdout.strip() == mizoo.__version__
    listed = mizoo_command("list", "dim_*").stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["entry", *mizoo.list_models("dim_*")]
    assert "dim_local_cifar10" in listed
    assert '"sha256"' in mizoo_command("info", "dim_local_cifar10").stdout


@pytest.mark.parametrize("command", sorted(needs.EXTRAS))
def test_all_that_a_command_needs_is_named_by_extras_that_there_are(command, monkeypatch):
    known = configparser.ConfigParser()
    known.read(ROOT / "setup.cfg")
    for backend in ("tensorflow", "jax"):
        monkeypatch.setenv("KERAS_BACKEND", backend)
        said = needs.advice(NotInstalled("No x."), ["--verbose", command, "name"])
        (extras,) = re.findall(r'pip install "\.\[(.*)\]"', said)
        assert said.startswith("No x. ") and f"`mizoo {command}`" in said
        assert set(extras.split(",")) <= set(known["options.extras_require"])
        assert (backend in extras.split(",")) is (command != "export")
    assert command in {each.name or each.callback.__name__ for each in cli.app.registered_commands} | {"data", "mi"}
    assert needs.advice(NotInstalled("No x."), ["list"]) == "No x."


def test_without_a_backend_load_names_the_extra(tmp_path):
    """A machine with Keras and no backend: both are hidden from the import system."""
    for backend in ("tensorflow", "jax", "torch"):
        missing = f"raise ModuleNotFoundError(\"No module named '{backend}'\", name='{backend}')"
        (tmp_path / f"{backend}.py").write_text(missing)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    environment.pop("KERAS_BACKEND", None)
    for arguments in (("evaluate", "dim_local_cifar10"), ("pretrain", "dim_local_cifar10")):
        done = mizoo_command(*arguments, PYTHONPATH=str(tmp_path), KERAS_BACKEND="tensorflow")
        assert done.returncode == 2 and done.stderr.startswith("error: Keras found no backend"), done.stderr[-2000:]
        assert done.stderr.count("\n") == 1 and '".[tensorflow]"' in done.stderr
        assert '".[tensorflow,train]"' in done.stderr and "runtime=" not in done.stderr
    code = "import mizoo; mizoo.load('dim_local_cifar10')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert "NotInstalled" in done.stderr and "[tensorflow]" in done.stderr, done.stderr[-2000:]
    assert 'runtime="onnx"' in done.stderr
    code = (
        "import mizoo, numpy; images = numpy.ones((1, 32, 32, 3), 'uint8');"
        "print(mizoo.load('dim_local_cifar10', runtime='onnx')(images)['fc'].shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.strip() == "(1, 1024)", done.stderr[-2000:]
