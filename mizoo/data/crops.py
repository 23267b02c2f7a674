"""Overlapping crops of a picture that is much larger than what an encoder sees."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from mizoo.data.resizing import Size, both_sides, fit
from mizoo.errors import UserError

MOST = 16
"""Crops along each side."""
_LARGEST = 1 << 27  # pixels of a picture that is resized to be cut: 400 MB


@dataclass(frozen=True)
class Grid:
    """`count` rows of `count` crops each, evenly spread over the whole picture.

    The picture is resized, with antialiasing, to just cover (`count` + 1) / 2 times the size of a crop in both
    directions. The crops of a square picture then overlap by half; along the longer side of another they overlap less,
    and those of a very long one leave gaps.

    Attributes:
        count: crops along each side; 1 is the middle, as of `fit`.
    """

    count: int

    def __str__(self) -> str:
        return f"grid:{self.count}"

    def cut(self, image: np.ndarray, size: Size) -> np.ndarray:
        """The crops of a picture.

        Args:
            image: uint8 (H, W, C).
            size: height and width of each crop, in pixels; one number for a square.

        Returns:
            uint8 (count * count, height, width, C), row by row from the top left.

        Raises:
            UserError: as of `mizoo.data.resizing.fit`; for a picture so long that it would fill the memory.
        """
        if self.count == 1:
            return fit(image, size)[None]
        height, width = both_sides(size)
        times = (self.count + 1) / 2
        scale = max(height * times / image.shape[0], width * times / image.shape[1])
        whole = tuple(math.ceil(round(side * scale, 6)) for side in image.shape[:2])
        if math.prod(whole) > _LARGEST:
            raise UserError(
                f"{image.shape[1]} x {image.shape[0]} pixels are too long for {self}, which resizes them to "
                f"{whole[1]:,} x {whole[0]:,}. Cut the picture first."
            )
        large = fit(image, whole)
        tops, lefts = (
            np.rint(np.linspace(0, all_ - part, self.count)).astype(int) for all_, part in zip(whole, (height, width))
        )
        return np.stack([large[top : top + height, left : left + width] for top in tops for left in lefts])


def parse(text: str | None) -> Grid | None:
    """What "grid:3" names; None for None.

    Raises:
        UserError: for another text, or a number that is not 1 to `MOST`.
    """
    if text is None:
        return None
    found = re.fullmatch(r"grid:(\d+)", text) if isinstance(text, str) else None
    if found is None or not 1 <= int(found[1]) <= MOST:
        raise UserError(f'`crops` is "grid:N", N x N overlapping crops with N from 1 to {MOST}. Received: {text!r}')
    return Grid(int(found[1]))
