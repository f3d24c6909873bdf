"""Which of many plans no other beats."""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_Ranks = NDArray[np.int32]
_Mask = NDArray[np.bool_]

_PAIRS: Final = 65_536
"""Up to so many pairs of rows are compared at once, one by one."""


def front(values: Floats) -> NDArray[np.intp]:
    """Positions of the rows [plans, objectives] that no other row beats, less being better; of equal rows the first.

    Divide and conquer in lexicographic order (Kung, Luccio and Preparata 1975, "On Finding the Maxima of a Set of
    Vectors"): O(n log^(d-2) n) in the worst case of n plans and d objectives, that of no plan beaten.
    """
    ranks = [np.unique(column, return_inverse=True)[1].reshape(-1).astype(np.int32) for column in values.T]
    told_apart = sorted({column.tobytes(): column for column in ranks if column.any()}.values(), key=np.max)[::-1]
    if not told_apart:
        return np.zeros(min(1, len(values)), dtype=np.intp)
    rows = np.stack(told_apart)
    order = np.lexsort(rows[::-1])
    new = np.append(True, (np.diff(rows[:, order]) != 0).any(axis=0))
    order = order[new]
    return np.sort(order[_unbeaten(rows[:, order])])


def _unbeaten(rows: _Ranks) -> NDArray[np.intp]:
    """Positions of the unbeaten of distinct rows [objectives, plans] in lexicographic order: only earlier ones beat."""
    count = rows.shape[1]
    if count * count <= _PAIRS:
        return np.flatnonzero(_nowhere_above(rows, rows).sum(axis=0) == 1)
    half = count // 2
    early = _unbeaten(rows[:, :half])
    late = half + _unbeaten(rows[:, half:])
    return np.concatenate((early, late[~_beaten(rows[1:, early], rows[1:, late])]))


def _beaten(by: _Ranks, rows: _Ranks) -> _Mask:
    """Which of `rows` some column of `by` is nowhere above, both [objectives, plans]: halves of the last objective."""
    beaten = np.zeros(rows.shape[1], dtype=np.bool_)
    if not by.shape[1] or not rows.shape[1]:
        return beaten
    if len(rows) < 2:
        return cast("_Mask", (rows >= by.min(axis=1, keepdims=True)).all(axis=0))
    if by.shape[1] * rows.shape[1] <= _PAIRS:
        return cast("_Mask", _nowhere_above(by, rows).any(axis=0))
    if len(rows) == 2:
        return _beaten_in_two(by, rows)
    if by[-1].max() <= rows[-1].min():
        return _beaten(by[:-1], rows[:-1])
    both = np.concatenate((by[-1], rows[-1]))
    middle = max(int(np.median(both)), int(both.min()) + 1)
    low_by, low = by[-1] < middle, rows[-1] < middle
    beaten[low] = _beaten(by[:, low_by], rows[:, low])
    beaten[~low] = _beaten(by[:-1, low_by], rows[:-1, ~low])
    open_ = np.flatnonzero(~low & ~beaten)
    beaten[open_] = _beaten(by[:, ~low_by], rows[:, open_])
    return beaten


def _nowhere_above(by: _Ranks, rows: _Ranks) -> _Mask:
    """[by, rows]: whether each column of `by` is nowhere above each column of `rows`."""
    below = by[0][:, None] <= rows[0]
    for ours, theirs in zip(by[1:], rows[1:], strict=True):
        below &= ours[:, None] <= theirs
    return below


def _beaten_in_two(by: _Ranks, rows: _Ranks) -> _Mask:
    """`_beaten` of two objectives: the least second one among those that are not above in the first."""
    order = np.argsort(by[0])
    least = cast("_Ranks", np.minimum.accumulate(by[1, order]))  # pyright: ignore[reportUnknownMemberType]
    reach = cast("_Ranks", np.searchsorted(by[0, order], rows[0], side="right"))
    return (reach > 0) & (least[np.maximum(reach, 1) - 1] <= rows[1])


def first_of(*keys: NDArray[Any]) -> int:
    """The position of the lexicographically smallest plan: by the first key, among equals by the second, ..."""
    positions = np.arange(len(keys[0]))
    for key in keys:
        values = key[positions]
        positions = positions[values == values.min()]
    return int(positions[0])
