"""TensorFlow without the lines that it writes on standard error when it starts; its errors stay."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_NOISY = "tensorflow"
_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# What the C++ library writes while it is imported comes before any level is read. A process of its own reads it, so
# that nothing is lost if the import ends in a crash. Of levels I (information) and W (warning) nothing is passed on.
_FILTER = r"""
import re, sys
line = rb"\d{4} [\d:.]+ +\d+ \S+:\d+\] "
noise = rb"WARNING: All log messages before absl::InitializeLog|[IW]" + line
if sys.argv[1:] == ["no-gpu"]:
    noise += rb"|E" + line + rb"failed call to cuInit"
noise = re.compile(noise)
for line in sys.stdin.buffer:
    if not noise.match(line):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""


def quieten_tensorflow() -> None:
    """Keep information and warnings of TensorFlow off standard error from now on; it must not be imported yet.

    A level that the environment sets already (`TF_CPP_MIN_LOG_LEVEL`) is left as it is.
    """
    if _NOISY in sys.modules or any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    os.environ.setdefault(_LEVEL, "2")  # from errors on
    sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds TensorFlow once, as everything else does, and imports it quietly."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of TensorFlow with a loader that is quiet; None for any other module."""
        if name != _NOISY:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            _make_quiet(spec.loader)
        return spec


def _make_quiet(loader: Any) -> None:
    run = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        """As that of the loader, with the noise filtered."""
        with _filtered_stderr():
            run(module)
            if not _may_have_gpu():
                module.config.list_physical_devices()  # which says at its first call that there is none
        # After the import: absl makes the logger of its name, of a class of its own.
        for name in (_NOISY, "absl"):
            logging.getLogger(name).setLevel(logging.ERROR)

    loader.exec_module = exec_module


def _may_have_gpu() -> bool:
    """Whether there may be a GPU: without a driver on Linux there is none, and errors of CUDA tell nothing."""
    return sys.platform != "linux" or any(os.path.exists(path) for path in ("/proc/driver/nvidia", "/dev/dxg"))


@contextlib.contextmanager
def _filtered_stderr() -> Iterator[None]:
    """Send what is written to the file of standard error through the filter, until the block ends."""
    try:
        sys.stderr.flush()
        kept = os.dup(2)
        arguments = [] if _may_have_gpu() else ["no-gpu"]
        command = [sys.executable, "-S", "-E", "-c", _FILTER, *arguments]
        reader = subprocess.Popen(command, stdin=subprocess.PIPE)
    except (OSError, AttributeError, ValueError):  # no standard error, or no other process: then with its noise
        yield
        return
    assert reader.stdin is not None
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        with contextlib.suppress(subprocess.TimeoutExpired):
            reader.wait(timeout=5)
