"""mizoo: encoders trained by maximising mutual information. Importing it imports neither Keras nor a runtime."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from mizoo._tools.moved import MOVED, find_old_paths
from mizoo._version import __version__

find_old_paths()

# Public name -> (module, attribute); None for the module itself. Resolved on first use.
_PUBLIC = {
    "load": ("mizoo.zoo", "load"),
    "list_models": ("mizoo.zoo", "list_models"),
    "info": ("mizoo.zoo", "info"),
    "AAE": ("mizoo.objectives", "AAE"),
    "CPC": ("mizoo.objectives", "CPC"),
    "DeepCoTraining": ("mizoo.objectives", "DeepCoTraining"),
    "DeepInfoMax": ("mizoo.objectives", "DeepInfoMax"),
    "Distillation": ("mizoo.objectives", "Distillation"),
    "InformationMaximization": ("mizoo.objectives", "InformationMaximization"),
    "SimCLR": ("mizoo.objectives", "SimCLR"),
    "Supervised": ("mizoo.objectives", "Supervised"),
    "UserError": ("mizoo.errors", "UserError"),
    "VAE": ("mizoo.objectives", "VAE"),
    "augment": ("mizoo.augment", None),
    "beam": ("mizoo.integrations.beam", None),
    "bounds": ("mizoo.bounds", None),
    "callbacks": ("mizoo.callbacks", None),
    "classifier": ("mizoo.classifier", None),
    "critics": ("mizoo.critics", None),
    "data": ("mizoo.data", None),
    "demo": ("mizoo.demo", None),
    "deploy": ("mizoo.deploy", None),
    "densities": ("mizoo.densities", None),
    "embed": ("mizoo.embed", None),
    "encoders": ("mizoo.encoders", None),
    "evaluate": ("mizoo.evaluate", None),
    "export": ("mizoo.export", None),
    "finetune": ("mizoo.finetune", None),
    "mi": ("mizoo.mi", None),
    "new": ("mizoo.new", None),
    "objectives": ("mizoo.objectives", None),
    "optimizers": ("mizoo.optimizers", None),
    "pictures": ("mizoo.data.pictures", None),  # where it was in version 0.1.0
    "pretrain": ("mizoo.pretrain", None),
    "publish": ("mizoo.publish", None),
    "push": ("mizoo.push", None),
    "recipes": ("mizoo.recipes", None),
    "report": ("mizoo.report", None),
    "runs": ("mizoo.runs", None),
    "search": ("mizoo.search", None),
    "sklearn": ("mizoo.sklearn", None),
    "teachers": ("mizoo.teachers", None),
    "tuning": ("mizoo.tuning", None),
    "zoo": ("mizoo.zoo", None),
}

# What an extra brings -> the public names that cannot be had without it.
_NEEDED_BY = {
    "apache_beam": {"beam"},
    "keras": {
        *("AAE", "CPC", "DeepCoTraining", "DeepInfoMax", "Distillation", "InformationMaximization", "SimCLR"),
        *("Supervised", "VAE", "augment", "bounds", "callbacks", "critics", "densities", "encoders", "objectives"),
        *("optimizers", "pretrain"),
    },
    "pydantic": {"new", "pretrain", "publish", "push", "recipes", "report", "tuning"},
    "sklearn": {"sklearn"},
}


def _installed() -> list[str]:
    """The public names whose packages are there, found without importing them: what `import *` and `help` look up."""
    missing: set[str] = set()
    for package, names in _NEEDED_BY.items():
        try:
            found = importlib.util.find_spec(package)
        except (ImportError, ValueError):  # of a finder, or of a module that was put in its place
            found = None
        if found is None:
            missing |= names
    return [name for name in _PUBLIC if name not in missing]


__all__ = ["__version__", *_installed()]

if TYPE_CHECKING:
    from mizoo import (  # noqa: F401
        augment,
        bounds,
        callbacks,
        classifier,
        critics,
        data,
        demo,
        densities,
        deploy,
        embed,
        encoders,
        evaluate,
        export,
        finetune,
        mi,
        new,
        objectives,
        optimizers,
        pretrain,
        publish,
        push,
        recipes,
        report,
        runs,
        search,
        sklearn,
        teachers,
        tuning,
        zoo,
    )
    from mizoo.data import pictures  # noqa: F401
    from mizoo.errors import UserError  # noqa: F401
    from mizoo.objectives import (  # noqa: F401
        AAE,
        CPC,
        VAE,
        DeepCoTraining,
        DeepInfoMax,
        Distillation,
        InformationMaximization,
        SimCLR,
        Supervised,
    )
    from mizoo.zoo import info, list_models, load  # noqa: F401


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC and f"mizoo.{name}" in MOVED:
        return importlib.import_module(f"mizoo.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mizoo' has no attribute {name!r}")
    module_name, attribute = _PUBLIC[name]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        from mizoo.errors import not_installed

        advice = not_installed(error)
        if advice is None:
            raise
        raise advice from error
    value = getattr(module, attribute) if attribute else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
