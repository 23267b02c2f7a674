"""Pictures of an index that are nearly the same, in groups."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from mizoo._tools.checks import check_real
from mizoo._tools.progress import bar
from mizoo.search.index import PictureIndex

SIMILAR = 0.97
"""Cosine of the features from which on pictures count as near-duplicates."""

_NEIGHBOURS = 20
_STEP = 500


def near_duplicates(
    index: PictureIndex, threshold: float = SIMILAR, exact: bool = False, progress: bool = True
) -> list[list[Path]]:
    """Groups of pictures that are linked by a cosine of at least `threshold`, the largest groups first.

    Each picture is compared with its 20 nearest, and linked to those that are near enough; a group is what is linked,
    directly or through others.

    Args:
        index: of the pictures.
        threshold: above 0, at most 1.
        exact: compare with all pictures although there is a graph.
        progress: show a bar.

    Raises:
        UserError: for another threshold.
    """
    check_real(threshold, "threshold", above=0, maximum=1)
    parents = np.arange(len(index))

    def root(row: int) -> int:
        """The first picture of the group that a picture is in."""
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = int(parents[row])
        return row

    with bar("comparing pictures", len(index), progress, unit="pictures") as advance:
        for start in range(0, len(index), _STEP):
            vectors = index.vectors[start : start + _STEP]
            rows, cosines = index.nearest(vectors, _NEIGHBOURS, exact)
            for offset, other in np.argwhere(cosines >= threshold - 1e-3):
                pair = sorted((root(start + int(offset)), root(int(rows[offset, other]))))
                parents[pair[1]] = pair[0]
            advance(len(vectors))
    groups: dict[int, list[Path]] = defaultdict(list)
    for row, path in enumerate(index.paths):
        groups[root(row)].append(path)
    return sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)
