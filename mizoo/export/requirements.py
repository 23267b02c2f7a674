"""What writing ONNX and SavedModel needs, and how their converters are kept quiet."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import warnings
from collections.abc import Iterator

from mizoo.errors import UserError

_LIBRARIES = ("keras", "tensorflow", "onnx", "onnxruntime", "tf2onnx")


def require_export() -> None:
    """Refuse another backend than TensorFlow, and a missing package."""
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UserError(f"Export runs on the TensorFlow backend. Received: {backend}. Set KERAS_BACKEND=tensorflow.")
    missing = [library for library in _LIBRARIES if importlib.util.find_spec(library) is None]
    if missing:
        raise UserError(f'Export needs {", ".join(missing)}: `pip install ".[tensorflow,export]"` in a clone of mizoo.')


def library_versions() -> dict[str, str]:
    """Name -> version of what the exported forms were written with."""
    # TensorFlow is installed under several names: tensorflow, tensorflow-cpu, ...
    names = importlib.metadata.packages_distributions()
    return {library: importlib.metadata.version(names.get(library, [library])[0]) for library in _LIBRARIES}


@contextlib.contextmanager
def quiet(logger: str) -> Iterator[None]:
    """Show errors alone of a library's logger, and no warning of its own use of NumPy."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the converters' own use of NumPy
            yield
    finally:
        log.setLevel(level)
