"""How few layers have to be traced to know the curve at the real depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_LAYERS_TRACED_WHOLE = 96
"""About 20 s at a sixth of a second a layer; the layers of every published model that have a pattern need fewer."""
LONGEST_PERIOD = 64


@dataclass(frozen=True, slots=True)
class Depths:
    """Two shallow depths to extend from, or one: the real depth itself (`deep` is None)."""

    shallow: int
    deep: int | None


def pattern(layers: Sequence[object]) -> tuple[int, int]:
    """(prefix, period) with the smallest sum, such that behind the prefix each layer is like the one a period before.

    `layers` holds what makes a layer alike another.
    """
    count = len(layers)
    best = (count, 1)
    for period in range(1, min(count // 2, LONGEST_PERIOD) + 1):
        prefix = count - period
        while prefix > 0 and layers[prefix - 1] == layers[prefix - 1 + period]:
            prefix -= 1
        if prefix + period < sum(best):
            best = (prefix, period)
    return best


def depths(layers: Sequence[object], *, trained_from_the_end: int = 0, checkpoint_every: int = 1) -> Depths | None:
    """The depths to trace; None when there is no pattern and too many layers to trace them all.

    Each half of the shallow depth has to hold what stands at its end (the prefix in front, the trained layers of
    `freeze` behind) and one whole period (`extend`). Where every n-th layer is checkpointed, the pattern repeats after
    the least common multiple.
    """
    count = len(layers)
    prefix, period = pattern(layers)
    period = math.lcm(period, checkpoint_every)
    trained = trained_from_the_end if trained_from_the_end < count else 0
    needed = 2 * (max(prefix, trained) + period)
    shallow = needed + (count - needed) % period
    if shallow + period < count:
        return Depths(shallow, shallow + period)
    return Depths(count, None) if count <= MOST_LAYERS_TRACED_WHOLE else None
