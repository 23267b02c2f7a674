"""The one exception that a user's mistake raises, and the advice for a package that is not installed."""

from __future__ import annotations

import importlib.util

_BACKENDS = ("tensorflow", "jax", "torch")
# What the extras of setup.cfg bring, by the name that is imported.
_EXTRAS = {
    "keras": "tensorflow",
    "h5py": "tensorflow",
    "pydantic": "train",
    "sklearn": "train",
    "tensorflow_datasets": "train",
    "array_record": "train",
    "grain": "train",
    "onnx": "export",
    "tf2onnx": "export",
    "soundfile": "sound",
    "apache_beam": "beam",
    "scipy": "mi",
    "tifffile": "tiff",
    "matplotlib": "demo",
    "skimage": "demo",
    "tensorboard": "tensorboard",
    "huggingface_hub": "hub",
    "ai_edge_litert": "litert",
    "keras_tuner": "tune",
    "pooch": "fetch",
    "usearch": "search",
}


class UserError(ValueError):
    """A mistake that the caller can correct: the message names the rule, what was received and what to do.

    The command line prints it as `error: ...` and exits with status 2; anything else is a defect of mizoo and keeps
    its traceback.
    """


class Diverged(UserError):
    """A training whose loss or weights stopped being finite."""


class NotInstalled(UserError):
    """A package is missing that an extra of mizoo, or a backend of Keras, brings."""


def not_installed(error: ModuleNotFoundError) -> NotInstalled | None:
    """What to install for the module that was not found; None if no extra of mizoo brings it.

    Keras leaves the choice of a backend to its user, so one of those may be there already under another name.
    """
    name = error.name
    if name in _EXTRAS:
        return NotInstalled(
            f'This needs {name}, which is not installed: `pip install ".[{_EXTRAS[name]}]"` in a clone.'
        )
    if name not in _BACKENDS:
        return None
    present = [other for other in _BACKENDS if other != name and importlib.util.find_spec(other)]
    switch = f" Or set KERAS_BACKEND={present[0]} to use the one that is installed." if present else ""
    extra = "jax" if name == "jax" else "tensorflow"
    return NotInstalled(
        f"Keras found no backend: {name} is not installed. Install one with "
        f'`pip install ".[{extra}]"` in a clone of mizoo.{switch}'
    )
