"""Which of many plans no other beats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def front(values: Floats) -> NDArray[np.intp]:
    """Positions of the rows [plans, objectives] that no other row beats, less being better; of equal rows the first.

    In lexicographic order a row can only be beaten by one before it, so that the first of what remains always stays.
    """
    order = np.lexsort(values.T[::-1])
    kept: list[int] = []
    while order.size:
        first = order[0]
        kept.append(int(first))
        order = order[~(values[order] >= values[first]).all(axis=1)]
    return np.array(sorted(kept), dtype=np.intp)


def first_of(*keys: NDArray[Any]) -> int:
    """The position of the lexicographically smallest plan: by the first key, among equals by the second, ..."""
    positions = np.arange(len(keys[0]))
    for key in keys:
        values = key[positions]
        positions = positions[values == values.min()]
    return int(positions[0])
