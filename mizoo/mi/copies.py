"""Which rows are copies of others, and which are equal because their values are frequent."""

from __future__ import annotations

import numpy as np

from mizoo.errors import UserError

MOST_UNDECIDED = 0.05
"""Share of the rows up to which it does not matter whether they are copies or frequent values."""
MORE_THAN_FREQUENCIES = 3.0
"""How many times as often rows of one group are equal as rows of different groups where frequencies do not explain it:
what depends on the group, such as several answers of one person, stays below."""
LEAST_SURPRISE = 14.0
"""-ln of the chance, one in a million, below which equal rows are no accident."""


def coinciding(x: np.ndarray, y: np.ndarray) -> int:
    """How many rows equal another in all columns of x and y, where a column of continuous values says that it is no
    accident. A value that also other rows have in that column is a point mass, not a copy.
    """
    both = np.concatenate([x, y], axis=1)
    _, row, copies = np.unique(both, axis=0, return_inverse=True, return_counts=True)
    copies = copies[row.reshape(-1)]
    if copies.max() == 1:
        return 0
    copied = np.zeros(len(both), bool)
    for column in both.T:
        distinct, place, counts = np.unique(column, return_inverse=True, return_counts=True)
        if _continuous(distinct):
            copied |= (counts[place] == copies) & (copies > 1) & (copies < len(both) / 4)
    return int(copied.sum())


def _continuous(distinct: np.ndarray) -> bool:
    """Whether the different values of a column, in order, are continuous: the gaps between them are nearly all of
    another size. Whole numbers and decimals have few sizes of gaps.
    """
    gaps = np.unique(np.round(np.diff(distinct) / (np.ptp(distinct) or 1.0), 9))
    return len(distinct) >= 20 and len(gaps) > 0.5 * (len(distinct) - 1)


def without_copies(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The rows, in order, that are left when each copy of a row within its group is left out.

    In turn, equal rows of a group are copies

    - if every group holds one row only, and chance would not do that;
    - if each row stands a multiple of r > 1 times in its group: all but one of r are left out;
    - if a column says so whose values are continuous or all of one group only: each of its values that occurs several
      times within one group comes with the same row. What is measured once for each group comes with different rows,
      and a value that several groups have is frequent: such rows are equal because values are;
    - if rows of different groups are equal far less often, hardly any are nearly equal, and a column has values most
      of which one group only has.

    Args:
        x, y: (N, d_x) and (N, d_y).
        groups: (N,) int from 0 on.

    Raises:
        UserError: for many equal rows of which it cannot be told whether they are copies.
    """
    both = np.column_stack([np.unique(column, return_inverse=True)[1] for column in (*x.T, *y.T)])
    entry, counts = _entries(both, groups)
    if counts.max() == 1:
        return np.arange(len(both))
    times = _times(both, groups, entry, counts)
    number = _number_of_copy(entry)  # 0 for the first of its kind in its group, 1 for the second
    kept = np.flatnonzero(number < (counts // times)[entry])
    return kept[_undivided(np.concatenate([x, y], axis=1)[kept], both[kept], groups[kept], len(both))]


def _entries(both: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of each row of both (N, d) among the different rows of all groups, (N,), and how often each occurs."""
    _, entry, counts = np.unique(np.column_stack([groups, both]), axis=0, return_inverse=True, return_counts=True)
    return entry.reshape(-1), counts


def _number_of_copy(entry: np.ndarray) -> np.ndarray:
    """How many rows before each have its entry, (N,)."""
    order = np.argsort(entry, kind="stable")
    first = np.searchsorted(entry[order], entry[order])
    number = np.empty(len(entry), int)
    number[order] = np.arange(len(entry)) - first
    return number


def _times(both: np.ndarray, groups: np.ndarray, entry: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How many times the data hold each entry because all rows were copied, (E,): 1 where that cannot be said."""
    sizes = np.bincount(groups)
    spare = len(counts) - np.count_nonzero(sizes)
    if not spare:
        # Of n rows with the frequencies p all are equal with probability sum p^n <= (sum p^2)^(n / 2).
        _, across = _how_often_equal(both, groups)
        surprise = -np.log(max(across, 1 / len(both) ** 2)) * sizes[sizes > 1].sum() / 2
        return counts if surprise > LEAST_SURPRISE else np.ones_like(counts)
    divisor = np.gcd.reduce(counts)
    return np.full_like(counts, divisor if spare * np.log(2) > LEAST_SURPRISE else 1)


def _how_often_equal(both: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """The share of the pairs of rows (N, d) of one group that are equal, and that of pairs of different groups."""
    rows = len(both)
    of_groups = np.square(np.bincount(groups).astype("float64")).sum()
    in_group = np.square(_entries(both, groups)[1].astype("float64")).sum()
    anywhere = np.square(np.unique(both, axis=0, return_counts=True)[1].astype("float64")).sum()
    return (in_group - rows) / max(of_groups - rows, 1), (anywhere - in_group) / max(rows**2 - of_groups, 1)


def _undivided(values: np.ndarray, both: np.ndarray, groups: np.ndarray, rows: int) -> np.ndarray:
    """Which of the rows are left where not all were copied equally often.

    Args:
        values: (K, d).
        both: (K, d) int, the ranks of the values.
        groups: (K,) int.
        rows: that were received.
    """
    entry, counts = _entries(both, groups)
    copies = counts[entry]
    later = _number_of_copy(entry) > 0
    copied = _copies_by_column(values, groups, copies)
    left = len(values) - int((copied & later).sum())
    undecided = int(((copies > 1) & ~copied).sum())
    if undecided <= MOST_UNDECIDED * left:
        return np.flatnonzero(~(copied & later))
    if (copied & later).mean() > MOST_UNDECIDED:
        raise _undecidable(undecided, rows)
    decided = _copies_by_frequency(both, groups)
    if decided is None:
        raise _undecidable(undecided, rows)
    return np.flatnonzero(~((copied | decided) & later))


def _undecidable(undecided: int, rows: int) -> UserError:
    return UserError(
        "`x` and `y` hold equal rows within `groups` of which it cannot be told whether they are copies or frequent "
        "values, such as the zeros of a ReLU or repeated measurements that were rounded. If they are copies, leave all "
        "but one of each out first; if not, add noise below the step of the rounding to the values; or take a bound "
        f"with a critic, such as 'infonce'. Received: {undecided} such rows among {rows}."
    )


def _copies_by_column(both: np.ndarray, groups: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Which rows (N, d) a column shows to be copies, (N,) bool; `copies` (N,) is how often the group has each row."""
    copied = np.zeros(len(both), bool)
    for column in both.T if copies.max() > 1 else ():
        distinct, place, counts = np.unique(column, return_inverse=True, return_counts=True)
        of_one_group = _of_one_group(place, groups)
        repeated = (of_one_group & (counts > 1))[place]
        if (_continuous(distinct) or of_one_group.all()) and np.all(copies[repeated] == counts[place][repeated]):
            copied |= repeated
    return copied


def _of_one_group(place: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Whether one group only has each of the values whose numbers are `place` (N,)."""
    lowest, highest = np.full(place.max() + 1, groups.max() + 1), np.full(place.max() + 1, -1)
    np.minimum.at(lowest, place, groups)
    np.maximum.at(highest, place, groups)
    return lowest >= highest


def _copies_by_frequency(both: np.ndarray, groups: np.ndarray) -> np.ndarray | None:
    """Whether equal rows of a group are copies, (N,) bool, from how often others are equal; None where it is unclear.

    Args:
        both: (N, d) int, the ranks of the values.
        groups: (N,) int.
    """
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    varying = (both != both[first[number.reshape(-1)]]).any(axis=0)  # within a group, that is
    both = both[:, varying] if varying.any() else both
    within, across = _how_often_equal(both, groups)
    if within <= MORE_THAN_FREQUENCIES * across:
        return np.zeros(len(both), bool)
    equal, near = _equal_and_near(both, groups)
    if near > equal * (3 ** both.shape[1] - 1) / 2:  # as among rounded values that are close in a group
        return np.zeros(len(both), bool)
    places = [np.unique(column, return_inverse=True)[1] for column in both.T]
    fine = any(_of_one_group(place, groups).mean() > 0.5 for place in places)
    return np.ones(len(both), bool) if fine and near < 0.1 * equal else None


def _equal_and_near(both: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Pairs of rows (N, d) of one group that are equal, and pairs that differ by one rank at most in each column."""
    from scipy.spatial import cKDTree

    labelled, counts = np.unique(np.column_stack([3 * groups, both]), axis=0, return_counts=True)
    tree = cKDTree(labelled)
    close = tree.count_neighbors(tree, 1.0, p=np.inf, weights=(counts.astype("float64"),) * 2)
    same = np.square(counts.astype("float64")).sum()
    return same - len(both), close - same
