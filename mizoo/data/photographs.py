"""Photographs with free licences that are installed with other packages: nothing has to be fetched for a demo."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

# Folder inside the package that holds its photographs.
_FOLDERS = (("skimage", "data"), ("sklearn", "datasets/images"))


def installed(file: str) -> Path | None:
    """The path of "package/folder/file" in this installation, or None. The package is located, not imported."""
    package, _, inside = file.partition("/")
    spec = find_spec(package)
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).parent / inside
    return path if path.exists() else None


def folders() -> list[Path]:
    """The folders of photographs of scikit-image and scikit-learn, as far as they are installed."""
    return [path for package, folder in _FOLDERS if (path := installed(f"{package}/{folder}")) is not None]
