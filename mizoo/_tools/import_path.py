"""Objects named by import path, such as "mypackage.objectives:MyObjective"."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from mizoo.errors import UserError


def is_import_path(name: str) -> bool:
    """Whether a name is an import path, "module:object", and not that of something built in."""
    return ":" in name


def import_object(path: str) -> Any:
    """The object that an import path names.

    Args:
        path: "package.module:object". The module is imported.

    Raises:
        UserError: for a path of another form, a module that is not there, or one without the object.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute.isidentifier():
        raise UserError(f"An import path is 'package.module:object'. Received: {path!r}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise  # the module is there, and something that it needs is not
        raise UserError(
            f"There is no module {module_name!r}, which {path!r} names. It is looked for where Python imports from: "
            "the installed packages and the current folder."
        ) from error
    if not hasattr(module, attribute):
        raise UserError(f"The module {module_name!r} has no {attribute!r}, which {path!r} names.")
    return getattr(module, attribute)


def check_arguments(function: Callable[..., Any], path: str, arguments: Iterable[str]) -> None:
    """Refuse keyword arguments that the object of an import path does not take.

    Raises:
        UserError: naming them, and those that it takes.
    """
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters]
    if unknown := sorted(set(arguments) - set(known)):
        raise UserError(f"{path!r} takes the arguments {', '.join(known)}. Received: {', '.join(unknown)}")
