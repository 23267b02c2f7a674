"""Real pictures to compare two forms of an encoder on: a prepared CIFAR-10, or cuttings of free photographs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mizoo.errors import UserError

_FOLDERS = (("skimage", "data"), ("sklearn", "datasets/images"))
_CUT = 96  # pixels on a side: small enough for hundreds of cuttings, large enough to show something


def sample_pictures(count: int, shape: Sequence[int | None]) -> np.ndarray:
    """Pictures of any shape, always the same ones.

    Args:
        count: how many at most.
        shape: (H, W, C) with H = W and C = 1 or 3. A free size gives 32.

    Returns:
        uint8 array (count, H, W, C) from CIFAR-10's test split where TFDS holds it (nothing is fetched), otherwise from
        the photographs that scikit-image and scikit-learn install.

    Raises:
        UserError: for another shape, or if none of these is installed.
    """
    height, width, channels = (*shape, None, None)[:3] if len(shape) != 3 else shape
    if len(shape) != 3 or height != width or channels not in (1, 3):
        raise UserError(
            f"There are no sample pictures for the input shape {tuple(shape)}: pass `images`, a batch of real inputs."
        )
    from mizoo.pictures import square

    size = height or 32
    pictures = np.stack([square(picture, size) for picture in _cifar10(count) or _photographs(count)])
    if channels == 1:
        pictures = np.round(pictures.mean(axis=-1, keepdims=True)).astype(np.uint8)
    return pictures


def _cifar10(count: int) -> list[np.ndarray]:
    # Asking TFDS for data that are not prepared would start a download.
    folder = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser() / "cifar10"
    if not folder.is_dir() or importlib.util.find_spec("tensorflow_datasets") is None:
        return []
    from mizoo import data

    return list(data.load("cifar10", f"test[:{count}]").images)


def _photographs(count: int) -> list[np.ndarray]:
    from mizoo.pictures import find, read

    photographs = []
    for package, folder in _FOLDERS:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin and (Path(spec.origin).parent / folder).is_dir():
            found = find([Path(spec.origin).parent / folder])
            # The other suffixes are volumes and multi-page files.
            photographs += [read(path) for path in found if path.suffix in (".png", ".jpg")]
    cuttings = [
        photograph[top : top + _CUT, left : left + _CUT]
        for photograph in photographs
        for top in range(0, photograph.shape[0] - _CUT + 1, _CUT)
        for left in range(0, photograph.shape[1] - _CUT + 1, _CUT)
    ]
    if len(cuttings) < count:
        raise UserError(
            "There are no pictures to compare on: set TFDS_DATA_DIR to a folder that holds CIFAR-10, install "
            "scikit-image (`pip install scikit-image`), or pass `images`."
        )
    # Evenly spread over all photographs.
    return [cuttings[i] for i in np.linspace(0, len(cuttings) - 1, count).astype(int)]
